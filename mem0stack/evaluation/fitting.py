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
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from mem0stack.evaluation import metrics
from mem0stack.evaluation.logit import Array, Choice, NothingToFit, fit_choice, fit_logistic, logistic
from mem0stack.evaluation.metrics import Answered
from mem0stack.evaluation.run import loaded, slice_order
from mem0stack.evaluation.sets import ELSEWHERE, EvaluationSet, Question, read_sets
from mem0stack.lib.errors import InvalidArgument
from memories import ranking

_TOP_K = 50
# The hits that a caller sees who names no number: what a score means is fitted on them.
_SHOWN = 10
_PARTS = 5
_WRONG_AT_MOST = 0.02
_FOUND = 5
# What the weights are where the sets say nothing: chosen by hand, before anything was fitted.
_HAND = {
    "similarity": 0.5,
    "lexical": 0.5,
    "entities": 0.1,
    # Measured with all-MiniLM-L6-v2 (docs/embeddings.md): more finds more paraphrases, and fewer answers in languages
    # that the model does not know; and the calibration knows nothing of it.
    "provider": 0.5,
    "before": 0.4,
    "after": 0.3,
    "second_before": 0.16,
    "second_after": 0.12,
    "run": 0.7,
    "speaker": 1.2,
    "time": 4.0,
}
_SIGNAL_OF = [column.rpartition(".")[2] for column in ranking.COLUMNS]
_BY_HAND = np.array([_HAND.get(signal, 0.0) for signal in _SIGNAL_OF])
_SPEAKS_FOR = np.array([signal not in ("asks", "length") for signal in _SIGNAL_OF])


@dataclass(frozen=True)
class Candidates:
    """A pool: keys; a row of signals for each; what nudges add, whatever the weights; and the plain columns that the
    calibration looks at."""

    keys: Sequence[str]
    signals: Array
    nudges: Array
    similarity: Array
    coverage: Array

    def ranked(self, weights: Array, answers: frozenset[str]) -> "Ranked":
        sums = self.signals @ weights + self.nudges
        places = np.argsort(-sums, kind="stable")
        keys = [self.keys[place] for place in places[:_TOP_K]]
        features = ranking.evidence(sums, self.similarity, self.coverage)[places[:_TOP_K]]
        return Ranked(keys, features, np.array([key in answers for key in keys], dtype=bool))


@dataclass(frozen=True)
class Ranked:
    """The best 50: of each what its score is made from, and whether it answers."""

    keys: Sequence[str]
    features: Array
    is_gold: NDArray[np.bool_]


@dataclass(frozen=True)
class Asked:
    """A question with its candidates, and with a few of them, as an owner of a few memories would have it."""

    of: str  # the set's name
    fold: str  # what is left out together
    question: Question
    pool: Candidates
    few: Candidates

    @property
    def is_own(self) -> bool:
        return self.question.kind != ELSEWHERE

    @property
    def may_be_fitted(self) -> bool:
        return not self.question.is_held_out

    @cached_property
    def choice(self) -> Choice:
        is_gold = np.array([key in self.question.answers for key in self.pool.keys], dtype=bool)
        return Choice(self.pool.signals, is_gold, self.pool.nudges)

    def answered(self, weights: Array) -> "Answer":
        answers = self.question.answers
        return Answer(self, self.pool.ranked(weights, answers), self.few.ranked(weights, answers))


@dataclass(frozen=True)
class Answer:
    asked: Asked
    ranked: Ranked
    of_few: Ranked


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
        said = list(progress.track(evaluation.run("pools"), total=total, description="Candidates"))
    asked = list(_asked(sets, iter(said)))
    weights = _weights(asked)
    unseen = answered_unseen(asked)
    calibration = calibrate([each for each in unseen if each.asked.may_be_fitted])
    return {
        "weights": dict(zip(ranking.COLUMNS, weights.round(4).tolist(), strict=True)),
        "calibration": {
            "intercept": round(calibration.intercept, 4),
            **dict(zip(ranking.CALIBRATED, calibration.slopes.round(4).tolist(), strict=True)),
        },
        "answerable": round(calibration.line, 4),
        "fitted_on": [
            {
                "name": each.name,
                "sha256": each.digest,
                "questions": sum(one.of == each.name and one.may_be_fitted and one.is_own for one in asked),
            }
            for each in sets
        ],
        "fitted_at": datetime.now(UTC).date().isoformat(),
        "held_out": held_out(unseen),
    }


def held_out(unseen: Sequence[Answer]) -> dict[str, dict[str, Any]]:
    """By set: figures by slice, and the reliability of the scores. Conversations whole, of split sets the half that is
    held out. Nothing that a figure is made of has seen its question, the calibration included."""
    outcomes: dict[str, dict[str, list[Answered]]] = defaultdict(lambda: defaultdict(list))
    scored: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for tested, rest in _parted(unseen):
        calibration = calibrate(rest)
        for answer in tested:
            asked, ranked = answer.asked, answer.ranked
            scores = calibration.scores(ranked)
            is_answerable = bool(len(scores)) and bool(scores[0] >= calibration.line)
            for slice_ in asked.question.slices:
                outcomes[asked.of][slice_].append(Answered(ranked.keys, asked.question.answers, is_answerable))
            if asked.is_own:
                scored[asked.of] += zip(scores[:_SHOWN].tolist(), ranked.is_gold[:_SHOWN].tolist(), strict=True)
    return {
        name: {
            "figures": {
                slice_: metrics.figures(slices[slice_]).to_json() for slice_ in sorted(slices, key=slice_order)
            },
            "reliability": [asdict(one) for one in metrics.reliability(scored[name])],
        }
        for name, slices in outcomes.items()
    }


def calibrate(answers: Sequence[Answer]) -> Calibration:
    """Fitted on the first ten hits of each question, among all candidates and among a few. The line is the highest at
    which at most 2 % of the questions whose answer is among the first five hits are called unanswerable: who is told
    that nothing answers when nothing that does was found has lost nothing."""
    pools = [ranked for answer in answers for ranked in (answer.ranked, answer.of_few)]
    slopes, intercept = fit_logistic(
        np.concatenate([ranked.features[:_SHOWN] for ranked in pools]),
        np.concatenate([ranked.is_gold[:_SHOWN] for ranked in pools]),
    )
    without_line = Calibration(slopes, intercept, line=0.0)
    best = sorted(
        float(without_line.scores(answer.ranked)[0]) for answer in answers if answer.ranked.is_gold[:_FOUND].any()
    )
    return Calibration(slopes, intercept, line=best[int(_WRONG_AT_MOST * len(best))])


def answered_unseen(asked: Sequence[Asked]) -> list[Answer]:
    """Every question answered by weights that it had no part in."""
    found = []
    for fold in dict.fromkeys(each.fold for each in asked if each.may_be_fitted):
        weights = _weights([each for each in asked if each.fold != fold])
        found += [each.answered(weights) for each in asked if each.fold == fold]
    if kept := [each for each in asked if not each.may_be_fitted]:
        weights = _weights(asked)
        found += [each.answered(weights) for each in kept]
    return found


def _parted(unseen: Sequence[Answer]) -> Iterator[tuple[list[Answer], list[Answer]]]:
    """What is measured, and what its calibration may be fitted on."""
    may = [answer for answer in unseen if answer.asked.may_be_fitted]
    for fold in dict.fromkeys(answer.asked.fold for answer in may if answer.asked.question.is_held_out is None):
        yield [each for each in may if each.asked.fold == fold], [each for each in may if each.asked.fold != fold]
    if kept := [answer for answer in unseen if not answer.asked.may_be_fitted]:
        yield kept, may


def _weights(asked: Sequence[Asked]) -> Array:
    choices = [each.choice for each in asked if each.may_be_fitted]
    weights, is_free = np.zeros(len(_BY_HAND)), np.ones(len(_BY_HAND), dtype=bool)
    try:
        while True:
            free = [replace(choice, signals=choice.signals[:, is_free]) for choice in choices]
            weights[is_free] = fit_choice(free, prior=_BY_HAND[is_free])
            # What speaks for a memory must not count against it, however few questions say so: that is chance.
            if not (is_absurd := (weights < 0) & _SPEAKS_FOR).any():
                return weights
            is_free &= ~is_absurd
            weights[is_absurd] = 0.0
    except NothingToFit as error:
        raise InvalidArgument(
            "Nothing is left to fit on. Name two conversations or more, or a set that is split in halves."
        ) from error


def _asked(sets: Sequence[EvaluationSet], said: Iterator[Mapping[str, Any]]) -> Iterator[Asked]:
    for each in sets:
        for space in each.spaces:
            for number, question in enumerate(space.questions):
                fold = space.name
                if question.is_held_out is not None:
                    fold += " held out" if question.is_held_out else f" {number % _PARTS}"
                pool, few = map(_candidates, next(said)["pools"])
                yield Asked(each.name, fold, question, pool, few)


def _candidates(said: Mapping[str, Any]) -> Candidates:
    width = len(ranking.COLUMNS)
    table = np.frombuffer(b64decode(said["table"]), dtype=np.float64).reshape(len(said["keys"]), width + 3)
    return Candidates(said["keys"], table[:, :width], *table[:, width:].T)
