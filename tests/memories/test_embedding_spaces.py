"""The provider tier: what is embedded when, how searches use it, and what they do without it."""

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import override_settings

from accounts.actors import Actor, acting_as
from mem0stack import doctor
from mem0stack.lib import resilience
from memories import embedding_spaces, outbox, providers
from memories.embedding_spaces import Space
from memories.models import EmbeddingSpace, MemoryEmbedding
from memories.providers import Provider, ProviderAway
from memories.ranking import Signal
from memories.search import SearchResult, search
from memories.services import NewMemory, add, delete, restore, share, update
from tests.openai_server import OpenAIServer, openai_server
from tests.people import People

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def fake() -> Iterator[OpenAIServer]:
    given = settings.PROVIDERS["embedder"]
    with openai_server() as server:
        given = given | {"kind": "compatible", "base_url": server.url, "model": "m", "dimensions": 32, "batch_size": 4}
        given |= {"timeout_ms": 1_000, "query_budget_ms": 400}
        with override_settings(PROVIDERS=settings.PROVIDERS | {"embedder": given}):
            forget_all()
            yield server
    forget_all()


def forget_all() -> None:
    providers.close()
    embedding_spaces.forget()
    resilience._circuits = resilience.Circuits()


def provider() -> Provider:
    found = providers.configured("embedder")
    assert found is not None
    return found


def build(*, dimensions: int = 32, model: str = "m", switch: bool = True) -> Space:
    space, _ = embedding_spaces.begin("compatible", model, dimensions)
    embedding_spaces.forget()
    embedding_spaces.note_missing(space)
    while embedding_spaces.fill(space, provider()).taken:
        pass
    if switch:
        embedding_spaces.switch(space)
    return space


def drain(actor: Actor) -> None:
    """What the worker does."""
    outbox.drain(actor.owner_id)
    embedding_spaces.catch_up()


def rows_of(actor: Actor) -> list[MemoryEmbedding]:
    with acting_as(actor):
        return list(MemoryEmbedding.objects.filter(owner_id=actor.owner_id).order_by("memory_id"))


def texts(found: SearchResult) -> list[str]:
    return [hit.memory.content for hit in found.hits]


def remember(actor: Actor, *contents: str, **fields: Any) -> list[Any]:
    return [add(actor, NewMemory(content=content, **fields)).memory_id for content in contents]


def test_without_a_space_nobody_is_asked(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    remember(alice, "The database listens on port 5432.")
    drain(alice)
    found = search(alice, "database port")
    assert (len(found.hits), found.degraded) == (1, ())
    assert fake.calls == []
    assert rows_of(alice) == []


def test_a_space_is_filled_in_batches_and_searches_ask_it_once(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    remember(alice, *[f"Number {n} of the apples." for n in range(6)], "Quuxly zorble.")
    build()
    assert [len(call["body"]["input"]) for call in fake.calls] == [4, 3]
    # Words that the local table does not know, and which differ by their form: the provider's bag finds them.
    found = search(alice, "quuxly zorble!")
    assert texts(found)[0] == "Quuxly zorble."
    assert found.degraded == ()
    search(alice, "quuxly zorble!")
    embedding_spaces._queries.clear()
    search(alice, "quuxly zorble!")
    assert fake.embedded.count("quuxly zorble!") == 1, "kept in the process, and in the shared cache"


def test_the_providers_vector_decides_among_memories_that_have_one(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    remember(alice, "Cats are felines.", "Rain fell on Tuesday.", "The gate is green.", "Kittens purr softly.")
    before = search(alice, "felines gate", top_k=4, explain=True)
    assert {hit.signals["provider"] for hit in before.hits} == {Signal(value=0.0, share=0.0)}
    build()
    found = search(alice, "felines gate", top_k=4, explain=True)
    after = {hit.memory.content: hit.signals["provider"] for hit in found.hits}
    # The fake's cosine knows shared words alone, so the two without any come last, whatever the local table thinks.
    best, others = ("Cats are felines.", "The gate is green."), ("Rain fell on Tuesday.", "Kittens purr softly.")
    assert min(after[text].value for text in best) > max(after[text].value for text in others)
    assert min(after[text].share for text in best) > 0 > max(after[text].share for text in others)
    assert set(texts(found)[:2]) == set(best)


def test_a_memory_without_a_vector_is_found_all_the_same_and_then_gets_one(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    remember(alice, "Apples are red.", "Pears are green.", "Plums are blue.")
    build()
    [late] = remember(alice, "The sky over Berlin was grey yesterday.")
    found = search(alice, "sky over Berlin", top_k=10)
    assert len(found.hits) == 4
    assert texts(found)[0] == "The sky over Berlin was grey yesterday."
    drain(alice)
    assert [row.embedding is not None for row in rows_of(alice) if row.memory_id == late] == [True]
    assert len(search(alice, "sky over Berlin", top_k=10).hits) == 4


def test_another_text_takes_its_vector_away_at_once_and_other_tags_do_not(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    [memory_id] = remember(alice, "The port is 5432.")
    build()
    update(alice, memory_id, {"tags": ["db"]})
    drain(alice)
    assert rows_of(alice)[0].embedding is not None
    assert len(fake.calls) == 1
    update(alice, memory_id, {"content": "The port is 6543."})
    assert rows_of(alice)[0].embedding is None
    drain(alice)
    [row] = rows_of(alice)
    assert (row.embedding is not None, row.memory_version) == (True, 3)
    assert fake.embedded[-1] == "The port is 6543."


def test_a_vector_of_a_text_that_changed_meanwhile_is_not_stored(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    [memory_id] = remember(alice, "Old words.")
    space, _ = embedding_spaces.begin("compatible", "m", 32)
    embedding_spaces.note_missing(space)
    fake.delay_s = 0.5
    filled: list[embedding_spaces.Filled] = []

    def fill() -> None:
        filled.append(embedding_spaces.fill(space, provider()))
        connection.close()

    thread = threading.Thread(target=fill)
    thread.start()
    while not fake.calls:
        time.sleep(0.01)
    update(alice, memory_id, {"content": "New words."})
    thread.join()
    assert (filled[0].embedded, filled[0].changed) == (0, 1)
    assert rows_of(alice)[0].embedding is None
    fake.delay_s = 0
    assert embedding_spaces.fill(space, provider()).embedded == 1
    assert fake.embedded == ["Old words.", "New words."]


def test_what_is_deleted_costs_nothing_and_what_is_restored_is_embedded(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    build()
    [memory_id] = remember(alice, "Here and gone.")
    delete(alice, memory_id)
    drain(alice)
    assert fake.calls == []
    restore(alice, memory_id)
    drain(alice)
    assert fake.embedded == ["Here and gone."]


@pytest.mark.parametrize(
    "mode",
    ["stopped", "hanging", "trickling", "rate_limited", "failing", "unauthorized", "garbage", "wrong_dimensions"],
)
def test_whatever_the_provider_does_searches_and_writes_go_on(people: People, fake: OpenAIServer, mode: str) -> None:
    alice = people.alice.actor
    remember(alice, "The database listens on port 5432.", "The cache is Valkey.")
    build()
    if mode == "stopped":
        fake.stop()
    fake.mode = mode
    took = []
    for place in range(6):
        began = time.monotonic()
        found = search(alice, f"which port has the database, {place}?")
        took.append(time.monotonic() - began)
        assert (len(found.hits), list(found.degraded)) == (2, ["embedder"])
    # The budget is 0.4 s; after three failures nobody waits any more.
    assert max(took) < 2
    assert min(took[3:]) < 0.3
    [late] = remember(alice, "Written while it was away.")
    drain(alice)
    assert texts(search(alice, "written while away"))[0] == "Written while it was away."
    assert [row.embedding for row in rows_of(alice) if row.memory_id == late] == [None]

    fake.mode = "ok"
    if mode == "stopped":
        fake.start()
    forget_all()  # instead of the five seconds until it is tried again
    drain(alice)
    assert [row.embedding is not None for row in rows_of(alice) if row.memory_id == late] == [True]
    assert search(alice, "and now?").degraded == ()


def test_a_late_answer_is_good_for_whoever_asks_again(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    remember(alice, "One.")
    build()
    fake.delay_s = 0.7
    assert search(alice, "a slow one").degraded == ("embedder",)
    time.sleep(1.0)
    assert search(alice, "a slow one").degraded == ()


def test_a_text_that_the_provider_refuses_is_left_out_and_found_locally(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    remember(alice, *[f"Fine text {n}." for n in range(3)], "Unbearable text.", "Long " * 500 + "unbearable words.")
    fake.refused_word = "nbearable"
    space = build()
    [coverage] = embedding_spaces.coverage()
    assert (coverage.space, coverage.embedded, coverage.refused, coverage.missing) == (space, 4, 1, 0)
    fake.refused_word = ""
    assert "Unbearable text." in texts(search(alice, "unbearable text"))


def test_a_provider_that_refuses_everything_condemns_no_text(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    remember(alice, "memory one", "memory two")
    fake.refused_word = "memory"
    with pytest.raises(ProviderAway, match="400"):
        build()
    assert [row.problem for row in rows_of(alice)] == ["", ""]


def test_another_model_is_built_beside_and_switched_to_and_the_old_one_dropped(
    people: People, fake: OpenAIServer
) -> None:
    alice = people.alice.actor
    ids = remember(alice, "Apples are red.", "Pears are green.")
    old = build()
    new = build(model="n", dimensions=32, switch=False)
    assert embedding_spaces.active() == old
    embedding_spaces.switch(new)
    assert embedding_spaces.active() == new
    assert search(alice, "apples").degraded == ()
    assert fake.calls[-1]["body"]["model"] == "n"
    assert {row.space_id for row in rows_of(alice)} == {old.id, new.id}
    assert embedding_spaces.drop_retired() == 2
    assert {row.space_id for row in rows_of(alice)} == {new.id}
    assert len(search(alice, "apples").hits) == len(ids)
    # Back again: the same space, filled anew.
    assert build() == old
    assert dict(EmbeddingSpace.objects.values_list("model", "state")) == {"m": "active", "n": "retired"}


def test_more_dimensions_than_an_index_holds(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    fake.dimensions = 3_072
    remember(alice, "Quuxly zorble.", "Another thing.")
    build(dimensions=3_072)
    assert all(row.is_wide for row in rows_of(alice))
    assert texts(search(alice, "zorble quuxly"))[0] == "Quuxly zorble."


def test_shared_memories_rank_by_their_vectors_and_strangers_see_none(people: People, fake: OpenAIServer) -> None:
    alice, bob, charlie = people.alice.actor, people.bob.actor, people.charlie.actor
    [shown, _] = remember(alice, "Quuxly zorble for Bob.", "Quuxly zorble for nobody.")
    remember(bob, "Bob's own quuxly.")
    share(alice, grantee="bob", memory_id=shown)
    build()
    with acting_as(bob):
        seen = set(MemoryEmbedding.objects.filter(owner_id=alice.owner_id).values_list("memory_id", flat=True))
    assert seen == {shown}
    with acting_as(charlie):
        assert not MemoryEmbedding.objects.filter(owner_id=alice.owner_id).exists()
    found = search(bob, "quuxly zorble")
    assert found.degraded == ()
    assert "Quuxly zorble for Bob." in texts(found)
    assert "Quuxly zorble for nobody." not in texts(found)
    assert not {"Quuxly zorble for Bob.", "Quuxly zorble for nobody."} & set(texts(search(charlie, "quuxly zorble")))


def test_the_owners_vectors_are_read_from_their_index_alone(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    remember(alice, *[f"Number {n}." for n in range(8)])
    space = build()
    with acting_as(alice), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute(
            "EXPLAIN SELECT memory_id, -(embedding <#> %s::halfvec) FROM memories_memoryembedding"
            " WHERE owner_id = %s AND space_id = %s AND embedding IS NOT NULL AND NOT is_wide",
            [str([0.1] * 32), alice.owner_id, space.id],
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index Only Scan using embedding_scan" in plan, plan


def test_another_kind_of_provider_is_not_asked_for_vectors_of_the_old_one(people: People, fake: OpenAIServer) -> None:
    alice = people.alice.actor
    remember(alice, "One.")
    build()
    calls = len(fake.calls)
    given = settings.PROVIDERS["embedder"] | {"kind": "openai", "key": "sk-x"}
    with override_settings(PROVIDERS=settings.PROVIDERS | {"embedder": given}):
        forget_all()
        assert search(alice, "one").degraded == ("embedder",)
        remember(alice, "Two.")
        drain(alice)
    assert len(fake.calls) == calls


def test_the_doctor_calls_it_once_and_says_how_it_is(people: People, fake: OpenAIServer) -> None:
    with pytest.raises(doctor.Wrong) as not_begun:
        doctor._embedder()
    assert not_begun.value.mend == "manage.py reembed"
    remember(people.alice.actor, "One.")
    build()
    calls = len(fake.calls)
    assert re.match(r"m answers in \d+ ms", doctor._embedder())
    assert len(fake.calls) == calls + 1
    fake.mode = "unauthorized"
    with pytest.raises(doctor.Wrong, match="unauthorized") as refused:
        doctor._embedder()
    assert "key" in refused.value.mend
    fake.mode = "ok"
    with override_settings(PROVIDERS=settings.PROVIDERS | {"embedder": settings.PROVIDERS["embedder"] | {"kind": ""}}):
        providers.forget()
        with pytest.raises(doctor.Wrong, match="no embedder to ask"):
            doctor._embedder()
