"""Many writers at one moment, each in a thread with a connection of its own."""

import random
from collections import Counter
from functools import partial
from typing import Any

import pytest

from accounts.actors import Actor, acting_as
from mem0stack.lib.errors import Conflict, NotFound
from memories import outbox, services
from memories.models import App, Category, Entity, Memory, MemoryTerm, Namespace
from memories.services import NewMemory, Step, Written
from tests.memories.reading import (
    at_once,
    count,
    events,
    expected_mentions,
    expected_postings,
    history,
    mentions,
    postings,
    statistics,
    stored,
    true_statistics,
)

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS = 16
WORDS = ["deploy", "database", "friday", "migration", "index", "pool", "cache", "worker", "token", "retry"]


def written(results: list[Any]) -> list[Written]:
    """The results, none of which is an error."""
    assert [result for result in results if isinstance(result, Exception)] == []
    return results


def test_writers_of_one_owner_with_words_in_common_all_store_everything(alice: Actor, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  no secret
    each = [
        [NewMemory(f"{writer}-{n}: {' '.join(rng.sample(WORDS, 6))}", tags=rng.sample(WORDS, 2)) for n in range(12)]
        for writer in range(WRITERS)
    ]

    def write(mine: list[NewMemory]) -> list[Written]:
        singles = [services.add(alice, new) for new in mine[:6]]
        return singles + services.add_many(alice, mine[6:])

    results = at_once([partial(write, mine) for mine in each])
    ids = {one.memory_id for mine in results for one in written([*mine])}
    assert len(ids) == count(alice, Memory) == WRITERS * 12
    outbox.drain(alice.owner_id)
    assert statistics(alice) == true_statistics(alice) == (WRITERS * 12, true_statistics(alice)[1])
    with acting_as(alice):
        memories = list(Memory.objects.owned_by(alice))
        expected = sum(len(expected_postings(memory)) for memory in memories)
        assert MemoryTerm.objects.filter(owner_id=alice.owner_id).count() == expected


def test_writers_who_name_the_same_new_things_wait_for_each_other_and_not_in_a_circle(
    alice: Actor, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(seed)  # noqa: S311  no secret
    files = [f"docs/{word}.md" for word in WORDS]
    each = [
        [NewMemory(f"{n} of {writer}: {' '.join(rng.sample(files, 6))}") for n in range(6)] for writer in range(WRITERS)
    ]

    def write(mine: list[NewMemory]) -> list[Written]:
        return [services.add(alice, new) for new in mine[:3]] + services.add_many(alice, mine[3:])

    results = at_once([partial(write, mine) for mine in each])
    ids = {one.memory_id for mine in results for one in written([*mine])}
    assert "write_deadlocked" not in caplog.text
    for memory_id in ids:
        assert mentions(alice, memory_id) == expected_mentions(stored(alice, memory_id)) != set()
    assert count(alice, Entity) == 2 * len(files)


def test_the_same_text_at_once_is_one_memory(alice: Actor) -> None:
    results = written(
        at_once([partial(services.add, alice, NewMemory("Said by all.", tags=[f"t{n}"])) for n in range(WRITERS)])
    )
    assert len({one.memory_id for one in results}) == 1
    assert Counter(one.event for one in results) == {"ADD": 1, "CONFIRM": WRITERS - 1}
    memory = stored(alice, results[0].memory_id)
    assert sorted(memory.tags) == sorted(f"t{n}" for n in range(WRITERS))
    assert events(alice, memory.id) == [("ADD", 1), *(("CONFIRM", version) for version in range(2, WRITERS + 1))]
    assert postings(alice, memory.id) == expected_postings(memory)


def test_the_same_key_at_once_is_one_write_with_one_answer(alice: Actor) -> None:
    new = NewMemory("yes", kind="message", run_id="r")
    results = written(at_once([partial(services.add, alice, new, idempotency_key="k")] * WRITERS))
    assert len(set(results)) == 1
    assert results[0].event == "ADD"
    assert count(alice, Memory) == 1


def test_one_key_for_different_requests_at_once_serves_the_first(alice: Actor) -> None:
    results = at_once(
        [partial(services.add, alice, NewMemory(f"Text {n}."), idempotency_key="k") for n in range(WRITERS)]
    )
    assert sum(isinstance(result, Written) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == WRITERS - 1
    assert count(alice, Memory) == 1


def test_update_against_delete_has_one_consistent_end(alice: Actor) -> None:
    for round_ in range(8):
        first = services.add(alice, NewMemory(f"Contested {round_}."))
        changed, deleted = at_once(
            [
                partial(services.update, alice, first.memory_id, {"content": f"Changed {round_}."}),
                partial(services.delete, alice, first.memory_id),
            ]
        )
        memory = stored(alice, first.memory_id)
        assert isinstance(deleted, Written)
        assert memory.state == "deleted"
        was_changed = isinstance(changed, Written)
        assert was_changed or isinstance(changed, NotFound)
        assert memory.content == (f"Changed {round_}." if was_changed else f"Contested {round_}.")
        assert [version for _, version in events(alice, memory.id)] == list(range(1, memory.version + 1))
        assert postings(alice, memory.id) == expected_postings(memory)
    outbox.drain(alice.owner_id)
    assert statistics(alice) == (0, 0)


def test_of_many_updates_of_one_version_one_is_done(alice: Actor) -> None:
    first = services.add(alice, NewMemory("Version 1."))
    results = at_once(
        [
            partial(services.update, alice, first.memory_id, {"content": f"By {n}."}, expected_version=1)
            for n in range(WRITERS)
        ]
    )
    assert sum(isinstance(result, Written) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == WRITERS - 1
    assert stored(alice, first.memory_id).version == 2


def test_updates_of_one_memory_at_once_are_all_done(alice: Actor) -> None:
    first = services.add(alice, NewMemory("Counted."))
    written(
        at_once([partial(services.update, alice, first.memory_id, {"content": f"By {n}."}) for n in range(WRITERS)])
    )
    memory = stored(alice, first.memory_id)
    assert memory.version == WRITERS + 1
    entries = history(alice, memory.id)
    by_version = sorted(entries, key=lambda entry: entry.version)
    assert [entry.version for entry in by_version] == list(range(1, WRITERS + 2))
    assert all(
        now.before["content"] == then.after["content"] for then, now in zip(by_version, by_version[1:], strict=False)
    )
    assert postings(alice, memory.id) == expected_postings(memory)


def test_places_of_a_run_have_no_gap_and_no_double(alice: Actor) -> None:
    def write(writer: int) -> list[Written]:
        single = services.add(alice, NewMemory("yes", kind="message", run_id="r"))
        pair = [NewMemory(f"{writer}-{n}", kind="message", run_id="r") for n in range(2)]
        return [single, *services.add_many(alice, pair)]

    for result in at_once([partial(write, writer) for writer in range(WRITERS)]):
        written(result if isinstance(result, list) else [result])
    with acting_as(alice):
        places = Memory.objects.filter(owner_id=alice.owner_id, run_id="r").values_list("seq", flat=True)
        assert sorted(places) == list(range(WRITERS * 3))


def test_batches_over_the_same_memories_in_any_order_do_not_lock_each_other_out(alice: Actor, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  no secret
    ids = [services.add(alice, NewMemory(f"Memory {n}.")).memory_id for n in range(12)]

    def operations(writer: int) -> list[Step]:
        mine = rng.sample(ids, len(ids))
        changes: list[dict[str, Any]] = [
            {"tags": [f"w{writer}"], "namespace": rng.choice(["a", "b", "c"]), "categories": rng.sample(WORDS, 2)}
            for _ in mine
        ]
        return [
            Step("update", memory_id=memory_id, changes=change) for memory_id, change in zip(mine, changes, strict=True)
        ]

    batches = [operations(writer) for writer in range(8)]
    for result in at_once([partial(services.batch, alice, batch) for batch in batches]):
        written(result if isinstance(result, list) else [result])
    for memory_id in ids:
        versions = [version for _, version in events(alice, memory_id)]
        assert sorted(versions) == list(range(1, stored(alice, memory_id).version + 1))


def test_batches_of_the_same_additions_in_any_order_do_not_lock_each_other_out(alice: Actor, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  no secret
    texts = [f"Everybody says {n}." for n in range(30)]
    orders = [rng.sample(texts, len(texts)) for _ in range(8)]

    def write(order: list[str]) -> list[Written]:
        return services.add_many(
            alice, [NewMemory(text, tags=[str(hash(text) % 3)], categories=rng.sample(WORDS, 2)) for text in order]
        )

    for _ in range(2):  # the first time they are new, the second time all are known
        results = at_once([partial(write, order) for order in orders])
        for result in results:
            written(result if isinstance(result, list) else [result])
    assert count(alice, Memory) == len(texts)


def test_mixed_batches_do_not_lock_each_other_out(alice: Actor, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  no secret
    ids = [services.add(alice, NewMemory(f"Memory {n}.")).memory_id for n in range(6)]

    def operations() -> list[Step]:
        adds = [
            Step("add", new=NewMemory(f"Memory {n}.", namespace=rng.choice(["personal", "x", "y"]))) for n in range(6)
        ]
        updates = [Step("update", memory_id=one, changes={"tags": [rng.choice(WORDS)]}) for one in ids]
        return rng.sample(adds + updates, 12)

    batches = [operations() for _ in range(4)]
    for result in at_once([partial(services.batch, alice, batch) for batch in batches]):
        written(result if isinstance(result, list) else [result])


def test_two_memories_that_supersede_each_other_do_not_lock_each_other_out(alice: Actor) -> None:
    for round_ in range(5):
        a, b = (services.add(alice, NewMemory(f"{name} {round_}.")).memory_id for name in "ab")
        results = at_once(
            [
                partial(services.update, alice, a, {"superseded_by": b}),
                partial(services.update, alice, b, {"superseded_by": a}),
            ]
        )
        assert sorted(type(result).__name__ for result in results) == ["Conflict", "Written"]


def test_links_made_at_once_close_no_circle(alice: Actor) -> None:
    for round_ in range(5):
        a, b, c, d = (services.add(alice, NewMemory(f"{name} {round_}.")).memory_id for name in "abcd")
        links = [(a, b), (b, c), (c, d), (d, a)]
        results = at_once([partial(services.update, alice, old, {"superseded_by": new}) for old, new in links])
        assert sorted(type(result).__name__ for result in results) == ["Conflict", *["Written"] * 3]


def test_adding_against_deleting_the_same_text_always_ends_in_an_answer(alice: Actor) -> None:
    services.add(alice, NewMemory("Here and gone."))

    def add() -> list[Written]:
        return [services.add(alice, NewMemory("Here and gone.")) for _ in range(10)]

    def remove() -> None:
        for _ in range(10):
            services.delete_all(alice, everything=True)

    results = at_once([add, remove, add, remove])
    assert [result for result in results if isinstance(result, Exception)] == []
    outbox.drain(alice.owner_id)
    assert statistics(alice) == true_statistics(alice)


def test_delete_all_at_once_counts_each_memory_once(alice: Actor) -> None:
    services.add_many(alice, [NewMemory(f"Memory {n}.") for n in range(700)])
    results = at_once([partial(services.delete_all, alice, everything=True)] * 4)
    assert sum(results) == 700
    outbox.drain(alice.owner_id)
    assert statistics(alice) == (0, 0)


def test_one_new_name_for_all_is_made_once(alice: Actor) -> None:
    names = ["alpha", "beta", "gamma"]

    def write(writer: int) -> Written:
        new = NewMemory(f"By {writer}.", namespace=names[writer % 3], app=names[writer % 2], categories=names)
        return services.add(alice, new)

    written(at_once([partial(write, writer) for writer in range(WRITERS)]))
    assert [count(alice, model) for model in (Namespace, App, Category)] == [3, 2, 3]


def test_owners_do_not_wait_for_each_other(alice: Actor, bob: Actor, charlie: Actor) -> None:
    people = [alice, bob, charlie]
    written(at_once([partial(services.add, people[n % 3], NewMemory(f"By {n}.")) for n in range(15)]))
    assert [count(person, Memory) for person in people] == [5, 5, 5]
