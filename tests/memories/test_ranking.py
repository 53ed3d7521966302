"""From candidates to scores: what each signal says, and what may be believed of a score."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.actors import Actor
from mem0stack.evaluation.sets import read_sets
from memories import ranking, services
from memories.ranking import COLUMNS, NUDGES, SIGNALS, Pool, Question, Ranked
from memories.search import search
from memories.services import NewMemory

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = 86_400.0
SETS = Path(__file__).parent.parent / "evaluation"

_AT_REST: dict[str, Any] = {
    "similarity": 0.1, "lexical": 0.0, "coverage": 0.0, "entities": 0.0, "provider": np.nan, "is_message": False,
    "run": 0, "seq": 0, "event_at": NOW.timestamp() - 400 * DAY, "asks": 0.0, "says_when": 0.0, "length": 12.0,
    "quality": 0.5, "confidence": 0.5, "importance": 0.5, "pinned": 0.0,
}  # fmt: skip
_KINDS = {"is_message": np.bool_, "run": np.int64, "seq": np.int64}


def made(size: int, *, speakers: list[str | None] | None = None, **columns: Any) -> Pool:
    """So many candidates for which nothing speaks, but for these columns: a value for all, or one for each."""
    filled = {
        name: np.array(np.broadcast_to(columns.get(name, value), size), dtype=_KINDS.get(name, np.float64))
        for name, value in _AT_REST.items()
    }
    return Pool([UUID(int=n) for n in range(size)], [1] * size, speakers or [None] * size, **filled)


def asked(text: str = "which port does the database use") -> Question:
    return Question.of(text, NOW)


def signal(name: str, question: Question, pool: Pool) -> list[float]:
    return [float(value) for value in ranking.signals(question, pool)[:, SIGNALS.index(name)]]


def ranked(pool: Pool, question: Question | None = None) -> Ranked:
    return ranking.current().rank(question or asked(), pool)


# --- what the signals say


def test_neighbours_are_found_by_place_and_run_in_whatever_order_they_come() -> None:
    pool = made(7, run=[1, 1, 1, 2, 2, 0, 0], seq=[4, 2, 3, 3, 5, 2, 3], lexical=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    alone = replace(pool, run=np.zeros(7, dtype=np.int64))
    support = sum(np.array(signal(name, asked(), pool)) for name in ("similarity", "lexical", "coverage")) / 3

    assert signal("before", asked(), pool) == pytest.approx([support[2], 0, support[1], 0, 0, 0, 0])
    assert signal("after", asked(), pool) == pytest.approx([0, support[2], support[0], 0, 0, 0, 0])
    assert signal("second_before", asked(), pool) == pytest.approx([support[1], 0, 0, 0, support[3], 0, 0])
    assert signal("second_after", asked(), pool) == pytest.approx([0, support[0], 0, support[4], 0, 0, 0])
    for name in ("before", "after", "second_before", "second_after", "run"):
        assert signal(name, asked(), alone) == [0] * 7


def test_a_run_supports_its_memories_by_the_best_three_others() -> None:
    pool = made(8, run=[1, 1, 1, 1, 1, 2, 2, 3], lexical=[0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.4, 0.8])
    support = sum(np.array(signal(name, asked(), pool)) for name in ("similarity", "lexical", "coverage")) / 3

    for place, others in enumerate([[4, 2, 3], [0, 4, 2], [0, 4, 3], [0, 4, 2], [0, 2, 3], [6], [5], []]):
        assert signal("run", asked(), pool)[place] == pytest.approx(sum(support[other] for other in others) / 3)


def test_what_follows_a_question_that_fits_may_be_its_answer() -> None:
    pool = made(5, run=1, seq=[0, 1, 2, 3, 4], asks=[1, 0, 0, 1, 0], coverage=[0.9, 0.1, 0.1, 0.0, 0.0])
    support = sum(np.array(signal(name, asked(), pool)) for name in ("similarity", "lexical", "coverage")) / 3

    # Neither after what asks nothing, nor after a question that does not fit.
    assert support[3] < 0
    assert signal("answers", asked(), pool) == pytest.approx([0, support[0], 0, 0, 0])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("What did Ana paint?", [1, 0, 1, 0], id="one is named"),
        pytest.param("what is ana's job", [1, 0, 1, 0], id="without a capital, in the genitive"),
        pytest.param("What did Ana say to Ben?", [0, 0, 0, 0], id="two are named"),
        pytest.param("What did Carla paint?", [0, 0, 0, 0], id="somebody who said nothing"),
        pytest.param("What did the banana cost?", [0, 0, 0, 0], id="a word that holds a name"),
    ],
)
def test_who_said_it_counts_where_exactly_one_speaker_is_named(query: str, expected: list[float]) -> None:
    pool = made(4, speakers=["Ana Lima", "Ben", "Ana Lima", None])
    assert signal("speaker", asked(query), pool) == expected


@pytest.mark.parametrize(
    ("query", "asks_when", "asks_newest"),
    [
        pytest.param("when did we move the office", True, False, id="when"),
        pytest.param("How long does the freeze last?", True, False, id="how long"),
        pytest.param("wann war der Umzug", True, False, id="German: when"),
        pytest.param("когда мы переехали", True, False, id="Russian: when"),
        pytest.param("引っ越しはいつですか", True, False, id="Japanese: when"),
        pytest.param("我们什么时候搬家", True, False, id="Chinese: when"),
        pytest.param("what is the current port", False, True, id="current"),
        pytest.param("welcher Port gilt jetzt", False, True, id="German: now"),
        pytest.param("какой порт сейчас", False, True, id="Russian: now"),
        pytest.param("現在のポート", False, True, id="Japanese: at present"),
        pytest.param("最新的端口", False, True, id="Chinese: newest"),
        pytest.param("whenever the cache knows nothing", False, False, id="words that begin alike"),
    ],
)
def test_a_question_shows_whether_it_asks_for_a_time_or_for_what_is_newest(
    query: str, asks_when: bool, asks_newest: bool
) -> None:
    question = asked(query)
    assert (question.asks_when, question.asks_newest) == (asks_when, asks_newest)


def test_a_text_that_names_a_time_counts_for_questions_that_ask_for_one_alone() -> None:
    pool = made(2, says_when=[1, 0])
    assert signal("says_when", asked("when did we move"), pool) == [1, 0]
    assert signal("says_when", asked("why did we move"), pool) == [0, 0]


def test_what_happened_when_the_question_says_comes_first() -> None:
    days_ago = np.array([30, 1.1, 200])
    pool = made(3, event_at=NOW.timestamp() - days_ago * DAY)
    assert ranked(pool, asked("what broke yesterday")).places[0] == 1
    assert signal("time", asked("what broke"), pool) == [0, 0, 0]


# --- nudges


def test_nudges_stay_within_their_bounds() -> None:
    ends = {name: np.array([0, 0.5, 1]) for name in ("quality", "confidence", "importance", "pinned")}
    pool = made(3, event_at=NOW.timestamp() - np.array([-5, 0, 9_999]) * DAY, **ends)
    for name, column in ranking.nudges(asked(), pool).items():
        assert (np.abs(column) <= NUDGES[name]).all(), name


def test_the_newer_counts_more_where_the_newest_is_asked_for() -> None:
    pool = made(2, event_at=NOW.timestamp() - np.array([300, 1]) * DAY, similarity=[0.32, 0.3])
    assert list(ranked(pool, asked("which port is current")).places) == [1, 0]
    for query in ("which port is current", "which port is it"):
        newer = ranking.nudges(asked(query), pool)["recency"]
        assert newer[1] > newer[0]


def test_nudges_decide_between_equals_and_never_against_evidence() -> None:
    for name in ("quality", "confidence", "importance", "pinned"):
        assert list(ranked(made(2, **{name: [0.0, 1.0]})).places) == [1, 0], name
    every = {name: [0.0, 1.0] for name in ("quality", "confidence", "importance", "pinned")}
    every["event_at"] = [NOW.timestamp() - 9_999 * DAY, NOW.timestamp()]
    assert list(ranked(made(2, **every)).places) == [1, 0]
    assert list(ranked(made(2, coverage=[1.0, 0.0], lexical=[0.9, 0.0], **every)).places) == [0, 1]


# --- scores


@pytest.mark.parametrize("size", [0, 1, 2])
@pytest.mark.parametrize("provider", [[np.nan], [0.5], [np.nan, 0.5]], ids=["without", "with", "for some"])
@pytest.mark.parametrize("value", [0.0, 1.0], ids=["nothing fits", "all fits"])
def test_small_pools_have_scores_that_are_numbers(size: int, provider: list[float], value: float) -> None:
    some = dict.fromkeys(("similarity", "lexical", "coverage", "entities"), value)
    found = ranked(made(size, provider=np.resize(provider, size), **some))

    assert len(found.places) == len(found.scores) == size
    assert np.isfinite(found.scores).all()
    for rank in range(size):
        assert all(np.isfinite([one.value, one.share]).all() for one in found.explain(rank).values())


_share = st.floats(0, 1)
_candidate = st.fixed_dictionaries(
    {
        "similarity": st.floats(-1, 1),
        **dict.fromkeys(("lexical", "coverage", "entities", "quality", "confidence", "importance"), _share),
        "provider": st.one_of(st.just(np.nan), st.floats(-1, 1)),
        **dict.fromkeys(("asks", "says_when", "pinned"), st.sampled_from([0.0, 1.0])),
        "is_message": st.booleans(),
        "run": st.integers(0, 3),
        "seq": st.integers(0, 9),
        "event_at": st.floats(0, 2e9),
        "length": st.integers(0, 5_000),
    }
)


@given(rows=st.lists(_candidate, min_size=2, max_size=40))
def test_nudges_exchange_only_what_is_as_close_as_they_are_large(rows: list[dict[str, Any]]) -> None:
    found = ranked(_pool_of(rows))
    evidence = np.sum([found.contributions[name] for name in SIGNALS], axis=0)[found.places]
    # A pin and age only raise; the others reach as far below 0 as above.
    reach = sum(NUDGES.values()) + sum(NUDGES[name] for name in ("quality", "confidence", "importance"))
    assert (np.diff(evidence) <= ranking.current().calibration["slope"] * reach + 1e-9).all()


def _pool_of(rows: list[dict[str, Any]]) -> Pool:
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    return made(len(rows), speakers=[("Ana", "Ben", None)[n % 3] for n in range(len(rows))], **columns)


@given(
    rows=st.lists(_candidate, max_size=40),
    query=st.sampled_from(["port", "when did Ana paint yesterday", "what is the current port", "вчера"]),
)
def test_of_any_pool_scores_lie_in_0_to_1_fall_and_are_the_sum_of_their_shares(
    rows: list[dict[str, Any]], query: str
) -> None:
    found = ranked(_pool_of(rows), asked(query))

    assert sorted(found.places) == list(range(len(rows)))
    assert (np.diff(found.scores) <= 1e-12).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    for rank in range(len(rows)):
        told = found.explain(rank)
        assert set(told) == {"base", "fit", *SIGNALS, *NUDGES}
        assert sum(one.share for one in told.values()) == pytest.approx(found.scores[rank], abs=1e-9)


@pytest.mark.django_db
def test_a_lone_memory_is_likely_for_its_own_text_and_unlikely_for_another(alice: Actor) -> None:
    services.add(alice, NewMemory("The database listens on port 5433."))
    own = search(alice, "The database listens on port 5433.").hits[0].score
    asked_for = search(alice, "which port does the database listen on").hits[0].score
    other = search(alice, "birthday of my grandmother").hits[0].score
    assert own > 0.5
    assert asked_for > 0.5
    assert other < 0.1


# --- what ships


def test_what_ships_weighs_every_signal_of_every_kind() -> None:
    shipped = ranking.load()
    assert set(shipped.weights) == set(COLUMNS)
    assert set(shipped.calibration) == {*ranking.CALIBRATED, "intercept"}
    assert shipped.calibration["slope"] > 0
    assert 0 < shipped.answerable < 1


def test_what_ships_was_fitted_on_the_sets_as_they_are() -> None:
    told = {one["name"]: one["sha256"] for one in ranking.load().provenance["fitted_on"]}
    assert told == {one.name: one.digest for one in read_sets([SETS / name for name in told])}
    assert set(told) == {"coding", "conversations"}


def test_a_ranking_of_another_file_holds_inside_and_no_longer() -> None:
    shipped = ranking.current()
    other = replace(shipped, answerable=0.99)
    with ranking.using(other):
        assert ranking.current() is other
    assert ranking.current() is shipped
