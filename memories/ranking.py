"""From candidates to scores: signals, their weights, and what a score means. Pure functions over columns of numbers.

The order is a weighted sum of signals; how well the best one fits is that sum, calibrated to the probability that a hit
answers. Weights and calibration are fitted by `manage.py fit_ranking` and lie in `ranking.json` with their provenance.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray

from memories.dates import Period, periods_in
from memories.entities import query_keys
from memories.lexical import Word, query_terms, words

Column = NDArray[np.float64]

# In this order in every matrix of signals. The first ones are z-scored over the pool, so that they say how far a
# candidate stands out among the others; what is z-scored is 0 for a candidate as good as the average.
SIGNALS = (
    "similarity",  # cosine of the local vectors, the query's words weighted by their rarity
    "lexical",  # BM25, as a share of what a text with all the query's words would get
    "coverage",  # share of the query's rarity that stands in the text
    "entities",  # share of the rarity of the things that the query names
    "provider",  # cosine of a provider's vectors
    "before",  # the evidence for the memory before it in its run, ...
    "after",
    "second_before",  # ... for the one before that
    "second_after",
    "answers",  # how well the memory before it fits, where that one asks
    "run",  # the mean of the three best others in its run
    "speaker",  # 1: said by the one known speaker that the query names
    "time",  # 0..1: happened when the query says
    "asks",  # 1: a question itself
    "length",  # ln of how much longer it is than usual
    "says_when",  # 1: names a time, and the query asks for one
)
# A turn of a conversation answers by other signs than a fact that stands for itself: a long turn tells more, a long
# fact does not. So there are weights for each; fitted apart, MRR on the coding set's held-out half rose from 68 to 74.
# What fits the query itself is weighed alike for all candidates of a pool, by how many of them are of which kind:
# otherwise a fact would outrank a message that has more of the query's words.
KINDS = ("fact", "message")
COLUMNS = tuple(f"{kind}.{signal}" for kind in KINDS for signal in SIGNALS)
_ALIKE = frozenset(("similarity", "lexical", "coverage", "entities", "provider", "speaker", "time"))
# The logit of a score is a weighted sum of these and an intercept. A plain sum means much in one pool and little in
# another: fitted with it on our sets, scores of other conversations were 13 points off on average, and are 1 off now.
CALIBRATED = (
    "slope",  # of the log of a candidate's share in the softmax over the pool
    "similarity",  # the best among the first ten
    "coverage",  # likewise
)
# What a person or the writer said of a memory, and its age. Each moves it by at most so much, in the unit of the sum,
# where the best two of a pool are typically 0.5 apart.
NUDGES = {"quality": 0.15, "confidence": 0.1, "importance": 0.1, "pinned": 0.15, "recency": 0.1}
# For a query that asks for what is newest.
_NEWEST_RECENCY = 0.6
_HALF_LIFE_DAYS = 60.0
# Mean and spread of a signal in a usual pool, and how many such candidates every pool is thought to hold beside its
# own: among three memories nothing stands out by their own mean and spread.
_ORDINARY = {
    "similarity": (0.08, 0.077),
    "lexical": (0.02, 0.045),
    "coverage": (0.035, 0.07),
    "entities": (0.01, 0.07),
}
_PRIOR = 20
_ENOUGH = 100
_ORDINARY_LENGTH = 12

_ASKS_WHEN = re.compile(
    r"\b(?:when|how long|what (?:day|date|month|year|time)|which (?:day|date|month|year)|wann|wie lange"
    r"|когда|как долго)\b|いつ|何時|何日|何月|什么时候|何时|多久|几点|哪天",
    re.IGNORECASE,
)
_ASKS_NEWEST = re.compile(
    r"\b(?:now|nowadays|currently|current|latest|newest|most recent(?:ly)?|these days|at the moment|right now|today"
    r"|still|aktuell\w*|derzeit|jetzt|heute|zurzeit|neueste[nrs]?|сейчас|теперь|последн\w+)\b|今|現在|最新|现在|目前",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Question:
    """What can be read from a query without looking at any memory."""

    text: str
    terms: Sequence[str]
    words: Sequence[Word]
    keys: Sequence[str]
    periods: Sequence[Period]
    asks_when: bool
    asks_newest: bool
    asked_at: datetime

    @classmethod
    def of(cls, text: str, asked_at: datetime) -> "Question":
        """`asked_at` in the asker's time zone: "yesterday" is the day before it."""
        return cls(
            text=text,
            terms=query_terms(text),
            words=words(text),
            keys=query_keys(text),
            periods=periods_in(text, asked_at),
            asks_when=_ASKS_WHEN.search(text) is not None,
            asks_newest=_ASKS_NEWEST.search(text) is not None,
            asked_at=asked_at,
        )

    def names(self, person: str) -> bool:
        """Whether it names somebody by the first word of their name."""
        first = _first_word(person)
        return any(word.text.partition("'")[0] == first for word in self.words)


@dataclass(frozen=True)
class Pool:
    """The candidates of a search, as columns of equal length."""

    ids: Sequence[UUID]
    owner_ids: Sequence[int]
    speakers: Sequence[str | None]
    similarity: Column
    lexical: Column
    coverage: Column
    entities: Column
    provider: Column  # NaN where there is no vector
    is_message: NDArray[np.bool_]
    run: NDArray[np.int64]  # 0 for what is in no run
    seq: NDArray[np.int64]
    event_at: Column  # seconds since 1970
    asks: Column
    says_when: Column
    length: Column  # in terms
    quality: Column
    confidence: Column
    importance: Column
    pinned: Column

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, places: Sequence[int]) -> "Pool":
        """These candidates alone, in this order."""
        columns: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, column in columns.items():
            is_array = isinstance(column, np.ndarray)
            columns[name] = column[list(places)] if is_array else [column[place] for place in places]
        return Pool(**columns)


@dataclass(frozen=True)
class Signal:
    """What one signal said of a hit (`value`), and what of the score is due to it (`share`)."""

    value: float
    share: float


@dataclass(frozen=True)
class Ranked:
    """Places in the pool, best first, with scores in 0..1 and what each is made of."""

    places: NDArray[np.int64]
    scores: Column
    values: Mapping[str, Column]
    contributions: Mapping[str, Column]
    base: float

    def explain(self, rank: int) -> dict[str, Signal]:
        """The signals of the hit at this rank; their shares and that of `base` sum to its score.

        A share is an integrated gradient along the straight way from no evidence to all of it, which for a logistic
        function of a sum is in closed form (Sundararajan, Taly, Yan 2017, "Axiomatic Attribution for Deep Networks").
        """
        place = self.places[rank]
        at_nothing = _logistic(self.base)
        logits = {name: float(column[place]) for name, column in self.contributions.items()}
        moved = sum(logits.values())
        slope = (float(self.scores[rank]) - at_nothing) / moved if abs(moved) > 1e-9 else at_nothing * (1 - at_nothing)
        said = {
            name: Signal(value=float(self.values[name][place]), share=logit * slope) for name, logit in logits.items()
        }
        return {"base": Signal(value=self.base, share=at_nothing)} | said


@dataclass(frozen=True)
class Ranking:
    """A weight for each of COLUMNS, and how a weighted sum becomes a probability."""

    weights: Mapping[str, float]
    # For each of CALIBRATED; and `intercept`, what remains without any.
    calibration: Mapping[str, float]
    answerable: float
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def rank(self, question: Question, pool: Pool) -> Ranked:
        """The whole pool in order."""
        matrix = signals(question, pool)
        weights = np.array([self.weights[name] for name in COLUMNS]).reshape(len(KINDS), 1, -1)
        nudged = nudges(question, pool)
        weighted = matrix * (weights * _parts_of_kinds(pool)).sum(axis=0)
        parts = dict(zip(SIGNALS, weighted.T, strict=True)) | nudged
        sums: Column = np.sum(list(parts.values()), axis=0)
        places = np.argsort(-sums, kind="stable")
        slopes = np.array([self.calibration[name] for name in CALIBRATED])
        logits = evidence(sums, pool.similarity, pool.coverage) @ slopes
        slope, base = slopes[0], self.calibration["intercept"]
        # What is not a candidate's own: how well the pool fits, and how much there is to stand out from.
        fit = logits - slope * sums
        parts = {name: slope * part for name, part in parts.items()} | {"fit": fit}
        scores = _logistic_all(base + logits[places])
        values = dict(zip(SIGNALS, matrix.T, strict=True)) | nudged | _raw_values(pool) | {"fit": fit}
        return Ranked(places, scores, values=values, contributions=parts, base=base)


def load(path: Path | None = None) -> Ranking:
    """The ranking in a file of `fit_ranking`; without one, what ships."""
    if path is None:
        return _shipped()
    said = orjson.loads(path.read_bytes())
    return Ranking(
        weights=said["weights"],
        calibration=said["calibration"],
        answerable=said["answerable"],
        provenance={name: value for name, value in said.items() if name not in ("weights", "calibration")},
    )


def current() -> Ranking:
    return _current.get() or _shipped()


@contextmanager
def using(ranking: Ranking) -> Iterator[None]:
    """Searches of this context rank by it: for evaluating weights that do not ship."""
    token = _current.set(ranking)
    try:
        yield
    finally:
        _current.reset(token)


_current: ContextVar[Ranking | None] = ContextVar("ranking", default=None)


@cache
def _shipped() -> Ranking:
    return load(Path(__file__).parent / "ranking.json")


def evidence(sums: Column, similarity: Column, coverage: Column) -> Column:
    """What a score is made from, a row for each candidate and a column for each of CALIBRATED.

    A small pool is filled up with candidates for which nothing speaks, with a sum of 0: who is alone does not stand
    out.
    """
    size = len(sums)
    if not size:
        return np.zeros((0, len(CALIBRATED)))
    top = max(float(sums.max()), 0.0)
    missing = max(0, _ENOUGH - size) * np.exp(-top)
    margin = sums - top - np.log(np.exp(sums - top).sum() + missing)
    places = np.argsort(-sums, kind="stable")
    return np.column_stack([margin, np.full(size, _best(similarity, places)), np.full(size, _best(coverage, places))])


def signals(question: Question, pool: Pool) -> Column:
    """A row for each candidate, a column for each of SIGNALS."""
    size = len(pool)
    similarity, lexical, coverage = (_z(pool, name) for name in ("similarity", "lexical", "coverage"))
    support = (similarity + lexical + coverage) / 3
    beside = _beside(pool, support)
    columns = {
        "similarity": similarity,
        "lexical": lexical,
        "coverage": coverage,
        "entities": _z(pool, "entities"),
        "provider": _z_where_known(pool.provider),
        "before": beside[-1],
        "after": beside[1],
        "second_before": beside[-2],
        "second_after": beside[2],
        "answers": _beside(pool, np.maximum(0.0, support) * pool.asks)[-1],
        "run": _support(pool.run, support),
        "speaker": _said_by(question, pool),
        "time": _timely(question, pool),
        "asks": pool.asks,
        "length": np.log1p(pool.length) - np.log1p(_ORDINARY_LENGTH),
        "says_when": pool.says_when if question.asks_when else np.zeros(size),
    }
    return np.column_stack([columns[name] for name in SIGNALS])


def columns(question: Question, pool: Pool) -> Column:
    """A row for each candidate, a column for each of COLUMNS: the sum is linear in their weights."""
    return np.hstack(list(signals(question, pool) * _parts_of_kinds(pool)))


def _parts_of_kinds(pool: Pool) -> Column:
    """How much of each kind's weight counts, (kinds, candidates, signals): of one's own kind all, where candidates are
    weighed alike each kind's share of the pool."""
    is_alike = np.array([signal in _ALIKE for signal in SIGNALS])
    share = pool.is_message.mean() if len(pool) else 0.0
    is_message = pool.is_message[:, None].astype(np.float64)
    of_messages: Column = np.where(is_alike, share, is_message)
    return np.stack([1 - of_messages, of_messages])


def nudges(question: Question, pool: Pool) -> dict[str, Column]:
    """What quality, confidence, importance, a pin and age add to the sum; bounded by NUDGES."""
    age_days = np.maximum(0.0, question.asked_at.timestamp() - pool.event_at) / 86_400
    recency = _NEWEST_RECENCY if question.asks_newest else NUDGES["recency"]
    return {
        "quality": NUDGES["quality"] * (2 * pool.quality - 1),
        "confidence": NUDGES["confidence"] * (2 * pool.confidence - 1),
        "importance": NUDGES["importance"] * (2 * pool.importance - 1),
        "pinned": NUDGES["pinned"] * pool.pinned,
        "recency": recency * np.exp2(-age_days / _HALF_LIFE_DAYS),
    }


def _raw_values(pool: Pool) -> dict[str, Column]:
    """What a reader of an explanation can make something of, where that is not the signal itself."""
    return {
        "similarity": pool.similarity,
        "lexical": pool.lexical,
        "coverage": pool.coverage,
        "entities": pool.entities,
        "provider": np.nan_to_num(pool.provider),
        "asks": pool.asks,
        "length": pool.length,
        "says_when": pool.says_when,
        "quality": pool.quality,
        "confidence": pool.confidence,
        "importance": pool.importance,
        "pinned": pool.pinned,
    }


def _z(pool: Pool, name: str) -> Column:
    """Standard scores over the pool, as if `_PRIOR` ordinary candidates were in it too."""
    values: Column = getattr(pool, name)
    mean, spread = _ORDINARY[name]
    size = len(values)
    total = size + _PRIOR
    centre = (values.sum() + _PRIOR * mean) / total
    variance = (((values - centre) ** 2).sum() + _PRIOR * (spread**2 + (mean - centre) ** 2)) / total
    scored: Column = (values - centre) / np.sqrt(variance)
    return scored


def _z_where_known(values: Column) -> Column:
    """Standard scores among those that have a value; of models nothing is known beforehand."""
    known = ~np.isnan(values)
    scored = np.zeros_like(values)
    if known.sum() > 1 and (spread := values[known].std()) > 1e-9:
        scored[known] = (values[known] - values[known].mean()) / spread
    return scored


def _beside(pool: Pool, evidence: Column) -> dict[int, Column]:
    """For each of the two places before and after: the evidence for who is there in the same run, 0 for nobody."""
    size = len(pool)
    order = np.lexsort((pool.seq, pool.run))
    run, seq, sorted_evidence = pool.run[order], pool.seq[order], evidence[order]
    found = {}
    for offset in (-2, -1, 1, 2):
        column = np.zeros(size)
        # Who is `offset` places on is at most as many rows on, since a run's rows lie in the order of their places.
        for step in range(1, abs(offset) + 1):
            here, there = (
                (slice(None, -step), slice(step, None)) if offset > 0 else (slice(step, None), slice(None, -step))
            )
            meets = (run[here] == run[there]) & (run[here] != 0) & (seq[there] - seq[here] == offset)
            column[order[here][meets]] = sorted_evidence[there][meets]
        found[offset] = column
    return found


def _support(run: NDArray[np.int64], evidence: Column) -> Column:
    """The mean of the three best others of a candidate's run, where a missing one counts 0."""
    support = np.zeros(len(run))
    order = np.lexsort((-evidence, run))
    ordered, best = run[order], evidence[order]
    is_first = np.r_[True, ordered[1:] != ordered[:-1]][: len(run)]
    group = np.cumsum(is_first) - 1
    rank = np.arange(len(run)) - np.flatnonzero(is_first)[group]
    three = np.bincount(group, weights=best * (rank < 3))[group]
    fourth = np.bincount(group, weights=best * (rank == 3))[group]
    # Who is among the three best counts the fourth instead of itself.
    others = np.where(rank < 3, three - best + fourth, three)
    support[order] = np.where(ordered == 0, 0.0, others / 3)
    return support


def _said_by(question: Question, pool: Pool) -> Column:
    known = {speaker for speaker in pool.speakers if speaker}
    named = [speaker for speaker in known if question.names(speaker)]
    if len(named) != 1:
        return np.zeros(len(pool))
    return np.array([float(speaker == named[0]) for speaker in pool.speakers])


@lru_cache(maxsize=1024)
def _first_word(name: str) -> str:
    found = _WORD.search(name.casefold())
    return found[0] if found else name


def _timely(question: Question, pool: Pool) -> Column:
    near = np.zeros(len(pool))
    for period in question.periods:
        near = np.maximum(near, period.nearness(pool.event_at))
    return near


def _best(values: Column, places: NDArray[np.int64]) -> float:
    return float(values[places[:10]].max()) if len(places) else 0.0


def _logistic(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def _logistic_all(logits: Column) -> Column:
    scores: Column = 1 / (1 + np.exp(-logits))
    return scores
