"""How good a ranking is. Pure functions: a ranking is a list of keys, best first, gold the keys that answer.

The share of the gold that is found counts, not whether any of it is: a question with four answers of which two are
among the first ten has a recall@10 of 0.5. Averages are over questions. Questions that nothing answers have no ranking
to be right about; they count in abstention alone.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

RECALL_AT = (5, 10, 20, 50)
HIT_AT = 5
NDCG_AT = 10
_BINS = 10


@dataclass(frozen=True)
class Answered:
    """One question's outcome. `is_answerable` is what search said itself; None for rankings that say nothing."""

    ranking: Sequence[str]
    gold: Collection[str]
    is_answerable: bool | None = None
    ms: float | None = None


@dataclass(frozen=True)
class Figures:
    """Of a number of questions; shares lie in 0..1, and are None where there was no question for them."""

    questions: int
    recall: dict[int, float | None]
    hit_at_5: float | None
    mrr: float | None
    ndcg_at_10: float | None
    abstained_right: float | None  # share of the questions that nothing answers
    abstained_wrong: float | None  # share of the questions that have an answer
    p50_ms: float | None
    p95_ms: float | None

    def to_json(self) -> dict[str, Any]:
        plain = asdict(self)
        recall = plain.pop("recall")
        return plain | {f"recall_at_{k}": share for k, share in recall.items()}


def figures(outcomes: Sequence[Answered]) -> Figures:
    answerable = [one for one in outcomes if one.gold]
    unanswerable = [one for one in outcomes if not one.gold]
    times = sorted(one.ms for one in outcomes if one.ms is not None)
    return Figures(
        questions=len(outcomes),
        recall={k: _mean([recall(one.ranking, one.gold, k) for one in answerable]) for k in RECALL_AT},
        hit_at_5=_mean([hit(one.ranking, one.gold, HIT_AT) for one in answerable]),
        mrr=_mean([reciprocal_rank(one.ranking, one.gold) for one in answerable]),
        ndcg_at_10=_mean([ndcg(one.ranking, one.gold, NDCG_AT) for one in answerable]),
        abstained_right=_mean([not one.is_answerable for one in unanswerable if one.is_answerable is not None]),
        abstained_wrong=_mean([not one.is_answerable for one in answerable if one.is_answerable is not None]),
        p50_ms=_percentile(times, 0.5),
        p95_ms=_percentile(times, 0.95),
    )


def recall(ranking: Sequence[str], gold: Collection[str], k: int) -> float:
    """The share of the gold among the first k."""
    return len(set(ranking[:k]).intersection(gold)) / len(gold)


def hit(ranking: Sequence[str], gold: Collection[str], k: int) -> float:
    """1 where any of the gold is among the first k, otherwise 0."""
    return float(not set(ranking[:k]).isdisjoint(gold))


def reciprocal_rank(ranking: Sequence[str], gold: Collection[str]) -> float:
    """1 / the place of the first that is gold, counted from 1; 0 where none is."""
    return next((1 / place for place, key in enumerate(ranking, start=1) if key in gold), 0.0)


def ndcg(ranking: Sequence[str], gold: Collection[str], k: int) -> float:
    """Discounted gain of the first k, every gold one worth 1, as a share of the most that is possible."""
    gain = sum(1 / math.log2(place + 1) for place, key in enumerate(ranking[:k], start=1) if key in gold)
    best = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(gold)) + 1))
    return gain / best


@dataclass(frozen=True)
class Bin:
    """Hits whose score lies in a tenth of 0..1: what was promised on average, and how many did answer."""

    low: float
    count: int
    mean_score: float | None
    share_relevant: float | None


def reliability(scored: Sequence[tuple[float, bool]]) -> list[Bin]:
    """Ten bins over (score, does it answer). A calibrated score is, in each bin, the share that answers."""
    found = []
    for number in range(_BINS):
        inside = [pair for pair in scored if min(int(pair[0] * _BINS), _BINS - 1) == number]
        scores, relevant = [score for score, _ in inside], [is_relevant for _, is_relevant in inside]
        found.append(Bin(number / _BINS, len(inside), _mean(scores), _mean(relevant)))
    return found


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that so many are not above."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
