"""The pool of a search: what each arm finds, what stands beside it, what must never be in it, and what it costs."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from django.db import connection
from django.utils import timezone

from accounts.actors import Actor, acting_as
from accounts.services import set_timezone
from memories import candidates, outbox, services
from memories.candidates import Scope, pool_of, wanted
from memories.filters import EVERYTHING, NATIVE, Filter, parse
from memories.models import Share
from memories.ranking import Pool, Question
from memories.search import pool, search
from memories.services import NewMemory
from memories.statistics import Corpus
from tests.people import People

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def add(actor: Actor, content: str, **fields: Any) -> UUID:
    return services.add(actor, NewMemory(content, **fields)).memory_id


def conversation(actor: Actor, *lines: str, **fields: Any) -> list[UUID]:
    made = [NewMemory(line, kind="message", **({"run_id": "r"} | fields)) for line in lines]
    return [one.memory_id for one in services.add_many(actor, made)]


def count_terms(*actors: Actor) -> None:
    """What the worker does: until then no word is known to be the owner's."""
    for actor in actors:
        outbox.drain(actor.owner_id)


def best(actor: Actor, query: str, **options: Any) -> str:
    return search(actor, query, **options).hits[0].memory.content


def from_each_arm(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Arms so short that what they find shows which of them found it."""
    monkeypatch.setattr(candidates, "_FROM_EACH_ARM", size)


def pool_in(actor: Actor, query: str, *, filters: Filter = EVERYTHING, project: str | None = None) -> Pool:
    """As search gathers it, by words and things alone: the vector is nobody's."""
    with acting_as(actor):
        scope = Scope(actor, Share.objects.received(actor), filters=filters, project=project)
        question = Question.of(query, NOW)
        frequencies = dict.fromkeys(question.terms, 1.0)
        corpus = Corpus(100, 12, frequencies, frozenset(frequencies), has_vector_index=False)
        vector = np.zeros(256, dtype=np.float32)
        vector[0] = 1
        return pool_of(scope, wanted(vector, question, (), corpus, None), at_least=0)


# --- what a search costs


@contextmanager
def statements() -> Iterator[list[str]]:
    """Those about memories, in their order."""
    sent: list[str] = []

    def note(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if "memories_" in str(sql):
            sent.append(str(sql))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield sent


def test_a_search_is_four_statements_and_one_more_for_a_word_the_owner_has_not(alice: Actor) -> None:
    for n in range(30):
        add(alice, f"The webhook of service {n} retries.", run_id="r")
    count_terms(alice)
    with statements() as sent:
        search(alice, "webhook retries", top_k=20)
    shares, corpus, pooled, rows = sent
    assert "memories_share" in shares
    assert "memories_ownerterm" in corpus
    assert pooled.startswith("WITH posting")
    assert '"memories_memory"."content"' in rows

    with statements() as sent:
        search(alice, "webhok retries", top_k=20)
    assert len(sent) == 5
    assert "char_length(term)" in sent[2]


def test_postings_are_read_for_the_rarest_words_up_to_a_limit_and_for_one_at_least() -> None:
    question = Question.of("zebra walks through common database", NOW)
    frequencies = {"zebra": 3.0, "walk": 12_000.0, "common": 19_000.0, "databas": 400_000.0}
    corpus = Corpus(500_000, 12, frequencies, frozenset(frequencies), has_vector_index=False)
    vector = np.zeros(256, dtype=np.float32)
    looked_up = wanted(vector, question, (), corpus, None).words
    assert [word.term for word in looked_up if word.term in frequencies] == ["zebra", "walk"]
    assert sum(word.weight for word in looked_up) < 1

    alone = wanted(vector, Question.of("database", NOW), (), corpus, None).words
    assert [word.term for word in alone] == ["databas"]
    assert alone[0].weight == pytest.approx(1)


def test_as_many_are_found_as_are_asked_for(alice: Actor) -> None:
    for n in range(130):
        add(alice, f"Note {n} about {'the port' if n % 2 else 'a dog'}.")
    assert len(search(alice, "the port", top_k=100).hits) == 100


# --- what each arm finds


def test_neighbours_of_what_is_found_are_in_the_pool(alice: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    from_each_arm(monkeypatch, 1)
    lines = ["far", "second before", "first before", "zxqv", "first after", "second after", "far away"]
    ids = conversation(alice, *lines)
    add(alice, "in no run")
    found = pool_in(alice, "zxqv")
    assert set(ids[1:6]) <= set(found.ids)
    by_words = {one: share for one, share in zip(found.ids, found.coverage, strict=True) if share}
    assert by_words == {ids[3]: pytest.approx(1)}
    # One more may have come by its vector, with two beside it.
    assert len(found) <= 7


def test_a_thing_is_found_by_another_name(alice: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    from_each_arm(monkeypatch, 1)
    wanted_one = add(alice, "Look into memories/services/adding.py for the lock.")
    for n in range(20):
        add(alice, f"Adding number {n} to {n}.")
    found = pool_in(alice, "adding.py")
    assert dict(zip(found.ids, found.entities, strict=True))[wanted_one] == pytest.approx(1)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("webhok signature", "The webhook is signed by the key of the shop.", id="typo"),
        pytest.param("k8s upgrade", "Kubernetes is upgraded in spring.", id="synonym"),
        pytest.param(
            "Wo liegt die Sicherung der Datenbank?", "Backups of the database go to Helsinki.", id="translation"
        ),
    ],
)
def test_what_a_word_may_also_mean_is_found(alice: Actor, query: str, expected: str) -> None:
    for text in (
        "The webhook is signed by the key of the shop.",
        "Kubernetes is upgraded in spring.",
        "Backups of the database go to Helsinki.",
        "Our dog is called Rex.",
        "Lunch is at noon.",
    ):
        add(alice, text)
    count_terms(alice)
    assert best(alice, query) == expected


# --- when


def test_what_happened_on_the_day_that_is_asked_for_comes_first(alice: Actor) -> None:
    for day in (3, 10, 17, 24):
        at = datetime(2026, 11, day, 15, tzinfo=UTC)
        add(alice, f"The deploy was rolled back, for the reason number {day}.", event_at=at)
    assert best(alice, "why was the deploy rolled back on 10 November", asked_at=NOW).endswith("number 10.")
    assert best(alice, "why was the deploy rolled back yesterday", asked_at=NOW).endswith("number 24.")
    earlier = NOW - timedelta(days=7)
    assert best(alice, "why was the deploy rolled back yesterday", asked_at=earlier).endswith("number 17.")


def test_yesterday_is_in_the_time_zone_of_who_asks(people: People) -> None:
    user = people.alice.user
    question, _ = pool(people.alice.actor, "what broke yesterday", asked_at=NOW)
    assert question.periods[0].start == datetime(2026, 11, 24, tzinfo=UTC)
    actor = Actor.of(set_timezone(user, "Pacific/Auckland"), door="rest")
    question, _ = pool(actor, "what broke yesterday", asked_at=NOW)
    assert question.periods[0].start == datetime(2026, 11, 24, 11, tzinfo=UTC)


# --- what must never be there


@pytest.fixture
def team(alice: Actor, bob: Actor) -> list[UUID]:
    """A conversation of Alice's in a namespace that Bob sees; only the middle has the word."""
    ids = conversation(alice, "hello there", "zxqv is the word", "see you", namespace="team")
    services.share(alice, grantee="bob", namespace="team")
    return ids


def test_neighbours_are_found_in_a_shared_namespace(alice: Actor, bob: Actor, team: list[UUID]) -> None:
    for project in (None, "alice/team"):
        found = pool_in(bob, "zxqv", project=project)
        assert set(found.ids) == set(team)
        assert set(found.owner_ids) == {alice.owner_id}
    question, found = pool(bob, "zxqv")
    assert len(set(found.run[list(range(3))])) == 1
    assert [hit.memory.id for hit in search(bob, "zxqv is the word", top_k=1).hits] == [team[1]]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"state": "paused"}, id="paused"),
        pytest.param({"state": "archived"}, id="archived"),
        pytest.param({"expires_at": timezone.now() - timedelta(minutes=1)}, id="expired"),
        pytest.param({"standing": "rejected"}, id="rejected"),
    ],
)
def test_a_neighbour_that_no_longer_counts_is_in_no_pool(
    alice: Actor, bob: Actor, team: list[UUID], changes: dict[str, Any]
) -> None:
    services.update(alice, team[0], changes)
    services.delete(alice, team[2])
    for actor in (alice, bob):
        assert list(pool_in(actor, "zxqv").ids) == [team[1]]


def test_a_neighbour_that_was_not_shared_is_in_no_pool(alice: Actor, bob: Actor, charlie: Actor) -> None:
    ids = conversation(alice, "hello there", "zxqv is the word", "see you", namespace="secret")
    services.share(alice, grantee="bob", memory_id=ids[1])
    assert list(pool_in(bob, "zxqv").ids) == [ids[1]]
    assert list(pool_in(charlie, "zxqv").ids) == []


def test_a_neighbour_in_another_project_or_run_is_in_no_pool(alice: Actor) -> None:
    (here,) = conversation(alice, "zxqv is the word", namespace="shop", seq=1)
    conversation(alice, "the same run elsewhere", namespace="other", seq=2)
    conversation(alice, "another run here", namespace="shop", run_id="s", seq=2)
    found = pool_in(alice, "zxqv", project="shop")
    runs = dict(zip(found.ids, found.run, strict=True))
    assert len(found) == 2  # by its vector the other run is there, and it is another
    assert [run for one, run in runs.items() if one != here] != [runs[here]]
    for query in ("zxqv", "nothing of it"):
        assert {hit.memory.namespace_name for hit in search(alice, query, namespace="shop").hits} == {"shop"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("arm", ["words", "things", "neighbours"])
def test_a_filter_holds_in_every_arm(alice: Actor, arm: str) -> None:
    """What is found by this arm alone has the tag or is not there."""
    text = {"words": "zxqv is a word", "things": "see memories/zxqv.py", "neighbours": "hello"}[arm]
    kept, left = (conversation(alice, text, "zxqv", run_id=tag, tags=[tag])[0] for tag in ("yes", "no"))
    found = pool_in(alice, "zxqv.py zxqv", filters=parse({"tags": "yes"}, NATIVE))
    assert kept in found.ids
    assert left not in found.ids
    assert {left, kept} <= set(pool_in(alice, "zxqv.py zxqv").ids)


def test_things_that_others_memories_name_find_nothing(alice: Actor, bob: Actor) -> None:
    shared = add(alice, "See memories/services/adding.py for the lock.", namespace="team")
    services.share(alice, grantee="bob", namespace="team")
    found = pool_in(bob, "memories/services/adding.py")
    # It is found, by its words; what it names is its owner's.
    assert list(found.ids) == [shared]
    assert list(found.entities) == [0]
