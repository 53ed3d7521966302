"""What makes a word rare: an owner's counts, folded by the worker, against the postings they are counted from."""

import random
from collections import Counter
from functools import partial
from typing import Any

import pytest
from django.db.models import Count

from accounts.actors import Actor, acting_as
from memories import outbox, services, statistics
from memories.models import MemoryTerm, OwnerStatistics, OwnerTerm
from memories.services import NewMemory
from memories.statistics import Corpus, corpus_of
from tests.memories.reading import at_once

pytestmark = pytest.mark.django_db

WRITERS = 15  # and the worker: the pool has 16 connections


def counted(actor: Actor) -> dict[str, int]:
    with acting_as(actor):
        return dict(OwnerTerm.objects.filter(owner_id=actor.owner_id).values_list("term", "df"))


def in_postings(actor: Actor) -> dict[str, int]:
    with acting_as(actor):
        mine = MemoryTerm.objects.filter(owner_id=actor.owner_id)
        return dict(mine.values_list("term").annotate(df=Count("memory_id")))


def corpus(actor: Actor, *terms: str) -> Corpus:
    with acting_as(actor):
        return corpus_of(actor.owner_id, terms)


def row(actor: Actor) -> OwnerStatistics:
    with acting_as(actor):
        return OwnerStatistics.objects.get(owner_id=actor.owner_id)


def add(actor: Actor, *contents: str) -> list[Any]:
    return [services.add(actor, NewMemory(content)).memory_id for content in contents]


def test_counts_are_those_of_the_postings_after_adds_changes_and_deletions(alice: Actor) -> None:
    ids = add(alice, "The port is 5433.", "The port of the proxy is 8080.", "Zebras walk.")
    assert counted(alice) == {}
    outbox.drain(alice.owner_id)
    assert counted(alice) == in_postings(alice)
    assert counted(alice)["port"] == 2

    services.update(alice, ids[1], {"content": "The proxy sleeps."})
    outbox.drain(alice.owner_id)
    assert counted(alice) == in_postings(alice)
    assert (counted(alice)["port"], "8080" in counted(alice)) == (1, False)

    services.delete(alice, ids[2])
    outbox.drain(alice.owner_id)
    assert counted(alice) == in_postings(alice)
    assert row(alice).memories == row(alice).counted_memories == 2
    # It can be restored, and keeps its postings until it is purged.
    assert counted(alice)["zebra"] == 1

    services.restore(alice, ids[2])
    outbox.drain(alice.owner_id)
    assert counted(alice) == in_postings(alice)


def test_terms_are_counted_again_when_a_twentieth_of_the_memories_has_changed_and_not_before(alice: Actor) -> None:
    services.add_many(alice, [NewMemory(f"Note {n} of the day.") for n in range(100)])
    outbox.drain(alice.owner_id)
    assert (row(alice).counted_memories, row(alice).changes) == (100, 0)

    add(alice, *(f"Zebra number {n}." for n in range(5)))
    outbox.drain(alice.owner_id)
    assert (row(alice).memories, row(alice).counted_memories, row(alice).changes) == (105, 100, 5)
    assert "zebra" not in counted(alice)

    add(alice, "One zebra more.")
    outbox.drain(alice.owner_id)
    assert (row(alice).memories, row(alice).counted_memories, row(alice).changes) == (106, 106, 0)
    assert counted(alice) == in_postings(alice)
    assert counted(alice)["zebra"] == 6


def test_a_new_owner_borrows_what_is_usual(alice: Actor) -> None:
    usual = max(statistics._usual_shares(), key=lambda term: statistics._usual_shares()[term])
    nothing = corpus(alice, usual, "zxqv")
    assert (nothing.memories, nothing.mean_length, set(nothing.known)) == (50, 12, set())
    assert 0 < nothing.rarity(usual) < nothing.rarity("zxqv")

    add(alice, *(f"zxqv {n}" for n in range(25)))
    outbox.drain(alice.owner_id)
    some = corpus(alice, usual, "zxqv")
    assert (some.memories, some.frequencies["zxqv"], set(some.known)) == (50, 25, {"zxqv"})
    assert some.frequencies[usual] == pytest.approx(nothing.frequencies[usual] / 2)


def test_an_owner_of_many_borrows_nothing(alice: Actor) -> None:
    usual = max(statistics._usual_shares(), key=lambda term: statistics._usual_shares()[term])
    services.add_many(alice, [NewMemory(f"zxqv {n}") for n in range(60)])
    outbox.drain(alice.owner_id)
    found = corpus(alice, usual, "zxqv")
    assert (found.memories, found.frequencies) == (60, {"zxqv": 60})
    assert found.rarity("zxqv") < 0.01


def test_a_words_rarity_is_that_of_its_rarest_term_and_low_without_any() -> None:
    found = Corpus(
        memories=100, mean_length=12, frequencies={"pool": 40, "psycopg": 2}, known=(), has_vector_index=False
    )
    assert found.rarity_of_word(["psycopg", "pool"]) == found.rarity("psycopg")
    assert 0 < found.rarity_of_word(()) < found.rarity("psycopg")
    assert found.with_terms({}) is found
    assert found.with_terms({"wal": 7}).rarity("wal") < found.rarity("wal")


def test_words_of_others_do_not_count(alice: Actor, bob: Actor) -> None:
    ids = add(bob, *(f"zebra {n}" for n in range(20)))
    add(alice, "A lonely zebra.")
    services.share(bob, grantee="alice", memory_id=ids[0])
    for owner in (alice, bob):
        outbox.drain(owner.owner_id)
    assert (counted(alice)["zebra"], counted(bob)["zebra"]) == (1, 20)
    # Not even by asking for the other's id.
    with acting_as(alice):
        assert not OwnerTerm.objects.filter(owner_id=bob.owner_id).exists()
        assert set(corpus_of(bob.owner_id, ["zebra"]).known) == set()


@pytest.mark.django_db(transaction=True)
def test_writers_of_one_owner_lose_nothing_while_the_worker_counts(alice: Actor, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  no secret
    words = ["deploy", "database", "friday", "migration", "index", "pool", "cache", "worker", "token", "retry"]
    texts = [[f"{writer}-{n}: {' '.join(rng.sample(words, 5))}" for n in range(12)] for writer in range(WRITERS)]

    def write(mine: list[str]) -> None:
        ids = add(alice, *mine[:8])
        services.add_many(alice, [NewMemory(text) for text in mine[8:]])
        services.update(alice, ids[0], {"content": f"changed: {mine[0]}"})
        services.delete(alice, ids[1])

    def count() -> None:
        for _ in range(20):
            outbox.drain(alice.owner_id)

    results = at_once([*(partial(write, mine) for mine in texts), count])
    assert results == [None] * (WRITERS + 1)
    outbox.drain(alice.owner_id)
    assert row(alice).memories == WRITERS * 11
    with acting_as(alice):
        statistics.count_terms(alice.owner_id)
    # What is deleted can be restored, and keeps its postings until it is purged.
    said = Counter(word for mine in texts for text in mine for word in text.split()[1:])
    found = counted(alice)
    assert found == in_postings(alice)
    assert (found["databas"], found["chang"]) == (said["database"], WRITERS)
