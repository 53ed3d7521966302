"""The two models that are fitted, by Newton's method in numpy; both losses are convex, so there is one answer.

Which of a question's candidates answers it: a conditional logit (McFadden 1974), softmax over the candidates of one
question. How likely a hit answers: a logistic regression, which for one feature is Platt's scaling (1999).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

L2 = 0.001
_STEPS = 100
_FLAT = 1e-9

Array = NDArray[np.float64]
_Derivatives = tuple[float, Array, Array]


class NothingToFit(Exception):
    """No question has an answer among its candidates."""


@dataclass(frozen=True)
class Choice:
    """One question's candidates: a row of signals for each, which of them answer, and what is added to their scores
    whatever the weights are."""

    signals: Array
    is_gold: NDArray[np.bool_]
    offsets: Array


def fit_choice(choices: Sequence[Choice], l2: float = L2, prior: Array | None = None) -> Array:
    """The weights that make the chosen ones likeliest: cross-entropy, the probability of a question shared equally by
    its gold, averaged over questions, plus `l2` times the square of their distance to `prior` (0 without one), which is
    what a weight is where the questions say nothing of it. Questions with no gold among their
    candidates say nothing about the order and are passed over. Raises NothingToFit when none is left."""
    useful = [choice for choice in choices if choice.is_gold.any() and not choice.is_gold.all()]
    if not useful:
        raise NothingToFit
    signals = np.concatenate([choice.signals for choice in useful])
    target = np.concatenate([choice.is_gold / choice.is_gold.sum() for choice in useful])
    offsets = np.concatenate([choice.offsets for choice in useful])
    sizes = [len(choice.is_gold) for choice in useful]
    starts, questions = np.cumsum([0, *sizes[:-1]]), len(useful)
    expected_weights = np.zeros(signals.shape[1]) if prior is None else prior

    def derivatives(weights: Array) -> _Derivatives:
        scores = signals @ weights + offsets
        scores -= np.repeat(np.maximum.reduceat(scores, starts), sizes)
        likely = np.exp(scores)
        totals = np.add.reduceat(likely, starts)
        likely /= np.repeat(totals, sizes)
        expected = np.add.reduceat(likely[:, None] * signals, starts)
        loss = (np.log(totals).sum() - target @ scores) / questions + l2 * ((weights - expected_weights) ** 2).sum()
        gradient = (likely - target) @ signals / questions + 2 * l2 * (weights - expected_weights)
        hessian = (signals.T @ (likely[:, None] * signals) - expected.T @ expected) / questions
        return float(loss), gradient, hessian + 2 * l2 * np.eye(len(weights))

    return _minimum(derivatives, signals.shape[1])


def fit_logistic(features: Array, is_true: NDArray[np.bool_], l2: float = L2) -> tuple[Array, float]:
    """Slopes and intercept of P(true) = 1 / (1 + exp(-(features @ slopes + intercept))); the intercept is free of
    `l2`."""
    rows = np.column_stack([features, np.ones(len(features))])
    penalty = np.full(rows.shape[1], l2)
    penalty[-1] = 1e-9  # keeps the matrix invertible where one side has no row

    def derivatives(weights: Array) -> _Derivatives:
        scores = rows @ weights
        likely = logistic(scores)
        loss = (np.logaddexp(0, scores) - is_true * scores).mean() + penalty @ weights**2
        gradient = (likely - is_true) @ rows / len(rows) + 2 * penalty * weights
        hessian = rows.T @ ((likely * (1 - likely))[:, None] * rows) / len(rows) + 2 * np.diag(penalty)
        return float(loss), gradient, hessian

    found = _minimum(derivatives, rows.shape[1])
    return found[:-1], float(found[-1])


def logistic(scores: Array) -> Array:
    found: Array = np.exp(-np.logaddexp(0, -scores))
    return found


def _minimum(derivatives: Callable[[Array], _Derivatives], size: int) -> Array:
    """Newton's steps, each halved until it goes down."""
    weights = np.zeros(size)
    loss, gradient, hessian = derivatives(weights)
    for _ in range(_STEPS):
        if np.abs(gradient).max() < _FLAT:
            break
        step = np.linalg.solve(hessian, gradient)
        length = 1.0
        while length > _FLAT:
            after = derivatives(weights - length * step)
            if after[0] <= loss - 1e-4 * length * float(gradient @ step):
                break
            length /= 2
        else:
            break  # no step goes down any more: the rest is rounding
        weights = weights - length * step
        loss, gradient, hessian = after
    return weights
