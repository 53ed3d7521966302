"""Fits the ranking on sets, and says how good it is on what it was not fitted on.

Conversations are left out one by one: the figures of each come from weights that were fitted on all the others. Of a
set that is split only the fitted half is ever fitted on, and only the held-out half measured. The weights that are
written are fitted on everything that may be.

What a score means is fitted after that, on sums that come from weights which had not seen the question either: of a
question's own fit every sum would look too sure.
"""

from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from mem0stack.evaluation import metrics
from mem0stack.evaluation.logit import Array, Choice, fit_choice, fit_logistic, logistic
from mem0stack.evaluation.metrics import Answered
from mem0stack.evaluation.run import loaded
from mem0stack.evaluation.sets import EvaluationSet, Question, read_sets
from mem0stack.lib.errors import InvalidArgument

_TOP_K = 50
# The hits that a caller sees who names no number: what a score means is fitted on them.
_SHOWN = 10
_PARTS = 5
_WRONG_AT_MOST = 0.02


@dataclass(frozen=True)
class Asked:
    """A question with its candidates: their keys; a row of signals for each; what nudges add, whatever the weights; and
    the plain columns that the calibration looks at."""

    of: str  # the set's name
    fold: str  # what is left out together
    question: Question
    keys: Sequence[str]
    signals: Array
    nudges: Array
    plain: Array

    @property
    def may_be_fitted(self) -> bool:
        return not self.question.is_held_out

    @cached_property
    def choice(self) -> Choice:
        is_gold = np.array([key in self.question.answers for key in self.keys], dtype=bool)
        return Choice(self.signals, is_gold, self.nudges)

    def ranked(self, weights: Array) -> "Ranked":
        sums = self.signals @ weights + self.nudges
        best = np.argsort(-sums, kind="stable")[:_TOP_K]
        shown = best[:_SHOWN]
        most = self.plain[shown].max(axis=0) if len(shown) else np.zeros(self.plain.shape[1])
        features = np.column_stack([sums[best], np.tile(most, (len(best), 1))])
        return Ranked(self, [self.keys[place] for place in best], features, self.choice.is_gold[best])


@dataclass(frozen=True)
class Ranked:
    """A question's best 50: of each what its score is made from (the sum, then the most of each plain column among the
    first ten), and whether it answers."""

    asked: Asked
    keys: Sequence[str]
    features: Array
    is_gold: NDArray[np.bool_]


@dataclass(frozen=True)
class Calibration:
    """From the features of a hit to the probability that it answers; under the line nothing does."""

    slopes: Array
    intercept: float
    line: float

    def scores(self, ranked: Ranked) -> Array:
        return logistic(ranked.features @ self.slopes + self.intercept)


def fit_ranking(paths: Sequence[Path], progress: Progress) -> dict[str, Any]:
    """What the weights file holds, as `memories.ranking` reads it, with provenance and held-out figures. Raises
    InvalidArgument, ScratchError."""
    sets = read_sets(paths)
    with loaded(sets, paths, progress) as evaluation:
        total = sum(len(space.questions) for each in sets for space in each.spaces)
        said = iter(progress.track(evaluation.run("pools"), total=total + 1, description="Candidates"))
        names = next(said)
        asked = list(_asked(sets, said, len(names["signals"])))
    weights = _weights(asked)
    unseen = ranked_unseen(asked)
    calibration = calibrate([each for each in unseen if each.asked.may_be_fitted])
    return {
        "weights": dict(zip(names["signals"], weights.round(4).tolist(), strict=True)),
        "calibration": {
            "intercept": round(calibration.intercept, 4),
            **dict(zip(["slope", *names["plain"]], calibration.slopes.round(4).tolist(), strict=True)),
        },
        "answerable": round(calibration.line, 4),
        "fitted_on": [
            {
                "name": each.name,
                "sha256": each.digest,
                "questions": sum(one.of == each.name and one.may_be_fitted for one in asked),
            }
            for each in sets
        ],
        "fitted_at": datetime.now(UTC).date().isoformat(),
        "held_out": held_out(unseen),
    }


def held_out(unseen: Sequence[Ranked]) -> dict[str, dict[str, Any]]:
    """By set: figures by slice, and the reliability of the scores. Conversations whole, of split sets the half that is
    held out. Nothing that a figure is made of has seen its question, the calibration included."""
    outcomes: dict[str, dict[str, list[Answered]]] = defaultdict(lambda: defaultdict(list))
    scored: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for tested, rest in _parted(unseen):
        calibration = calibrate(rest)
        for ranked in tested:
            asked, scores = ranked.asked, calibration.scores(ranked)
            is_answerable = bool(len(scores)) and bool(scores[0] >= calibration.line)
            for slice_ in asked.question.slices:
                outcomes[asked.of][slice_].append(Answered(ranked.keys, asked.question.answers, is_answerable))
            scored[asked.of] += zip(scores[:_SHOWN].tolist(), ranked.is_gold[:_SHOWN].tolist(), strict=True)
    return {
        name: {
            "figures": {slice_: metrics.figures(found).to_json() for slice_, found in slices.items()},
            "reliability": [asdict(one) for one in metrics.reliability(scored[name])],
        }
        for name, slices in outcomes.items()
    }


def calibrate(ranked: Sequence[Ranked]) -> Calibration:
    """Fitted on the first ten hits of each question. The line is the highest at which at most 2 % of the questions that
    have an answer are called unanswerable, by the sets that hold unanswerable ones, where there are any."""
    features = np.concatenate([each.features[:_SHOWN] for each in ranked])
    is_gold = np.concatenate([each.is_gold[:_SHOWN] for each in ranked])
    slopes, intercept = fit_logistic(features, is_gold)
    open_calibration = Calibration(slopes, intercept, line=0.0)
    telling = {each.asked.of for each in ranked if not each.asked.question.answers}
    best = sorted(
        float(open_calibration.scores(each)[0]) if each.keys else 0.0
        for each in ranked
        if each.asked.question.answers and (not telling or each.asked.of in telling)
    )
    return Calibration(slopes, intercept, line=best[int(_WRONG_AT_MOST * len(best))])


def ranked_unseen(asked: Sequence[Asked]) -> list[Ranked]:
    """Every question ranked by weights that it had no part in."""
    found = []
    for fold in dict.fromkeys(each.fold for each in asked if each.may_be_fitted):
        weights = _weights([each for each in asked if each.fold != fold])
        found += [each.ranked(weights) for each in asked if each.fold == fold]
    if kept := [each for each in asked if not each.may_be_fitted]:
        weights = _weights(asked)
        found += [each.ranked(weights) for each in kept]
    return found


def _parted(unseen: Sequence[Ranked]) -> Iterator[tuple[list[Ranked], list[Ranked]]]:
    """What is measured, and what its calibration may be fitted on."""
    may = [each for each in unseen if each.asked.may_be_fitted]
    for fold in dict.fromkeys(each.asked.fold for each in may if each.asked.question.is_held_out is None):
        yield (
            [each for each in may if each.asked.fold == fold],
            [each for each in may if each.asked.fold != fold],
        )
    if kept := [each for each in unseen if not each.asked.may_be_fitted]:
        yield kept, may


def _weights(asked: Sequence[Asked]) -> Array:
    try:
        return fit_choice([each.choice for each in asked if each.may_be_fitted])
    except ValueError as error:
        raise InvalidArgument(
            f"Nothing is left to fit on: {error}. Name two conversations or more, or a set that is split in halves."
        ) from error


def _asked(sets: Sequence[EvaluationSet], said: Iterator[Mapping[str, Any]], width: int) -> Iterator[Asked]:
    for each in sets:
        for space in each.spaces:
            for number, question in enumerate(space.questions):
                pool = next(said)
                table = np.frombuffer(b64decode(pool["table"]), dtype=np.float64).reshape(len(pool["keys"]), -1)
                signals, nudges, plain = table[:, :width], table[:, width], table[:, width + 1 :]
                fold = space.name
                if question.is_held_out is not None:
                    fold += " held out" if question.is_held_out else f" {number % _PARTS}"
                yield Asked(each.name, fold, question, pool["keys"], signals, nudges, plain)
