from typing import Any
from uuid import UUID, uuid4

import pytest

from accounts.actors import Actor, acting_as
from mem0stack.lib.errors import Conflict, InvalidArgument, Mem0Error, NotFound, NothingValid
from memories import services
from memories.models import IdempotencyKey, Memory, MemoryHistory
from memories.services import NewMemory, Outcome, Refused, Step, Written
from tests.memories.reading import count, events, stored

pytestmark = pytest.mark.django_db


def adding(content: str, **options: Any) -> Step:
    return Step("add", new=NewMemory(content, **options))


def updating(memory_id: UUID, **changes: Any) -> Step:
    return Step("update", memory_id=memory_id, changes=changes)


def deleting(memory_id: UUID) -> Step:
    return Step("delete", memory_id=memory_id)


def told(outcomes: list[Outcome]) -> list[str]:
    return [outcome.event if isinstance(outcome, Written) else outcome.error.code for outcome in outcomes]


def add(actor: Actor, content: str) -> UUID:
    return services.add(actor, NewMemory(content)).memory_id


def test_the_valid_ones_are_written_and_the_others_say_why(alice: Actor, bob: Actor) -> None:
    mine, doomed, foreign = add(alice, "Mine."), add(alice, "Doomed."), add(bob, "Bob's.")
    outcomes = services.batch(
        alice,
        [
            adding("New."),
            adding(""),
            updating(mine, tags=["x"]),
            updating(foreign, tags=["x"]),
            updating(mine, content="Doomed."),
            deleting(doomed),
            deleting(doomed),
            adding("mine again", namespace="*"),
            updating(mine, colour="red"),
            adding("Mine."),
        ],
    )
    assert told(outcomes) == [
        *("ADD", "invalid_argument", "UPDATE", "not_found", "conflict", "DELETE", "not_found"),
        *("invalid_argument", "invalid_argument", "CONFIRM"),
    ]
    assert stored(alice, mine).tags == ["x"]
    assert stored(alice, doomed).state == "deleted"
    assert stored(bob, foreign).tags == []


def test_operations_on_one_memory_are_done_in_their_order(alice: Actor) -> None:
    first = add(alice, "First.")
    outcomes = services.batch(
        alice,
        [
            updating(first, content="Second."),
            adding("First."),
            updating(first, content="Third."),
            adding("Second."),
            deleting(first),
            adding("Third."),
        ],
    )
    assert told(outcomes) == ["UPDATE", "ADD", "UPDATE", "ADD", "DELETE", "ADD"]
    assert events(alice, first) == [("ADD", 1), ("UPDATE", 2), ("UPDATE", 3), ("DELETE", 4)]


ATOMIC: dict[str, tuple[Step, type[Mem0Error]]] = {
    "an addition": (adding(" "), InvalidArgument),
    "a change of nothing there": (updating(uuid4(), tags=["x"]), NotFound),
    "a deletion of nothing there": (deleting(uuid4()), NotFound),
    "a change that is none": (updating(uuid4(), colour="red"), InvalidArgument),
}


@pytest.mark.parametrize(("bad", "error"), ATOMIC.values(), ids=ATOMIC)
def test_an_atomic_batch_is_done_whole_or_not_at_all(alice: Actor, bad: Step, error: type[Mem0Error]) -> None:
    mine = add(alice, "Mine.")
    with pytest.raises(error) as refused:
        services.batch(alice, [updating(mine, tags=["x"]), adding("New."), bad, deleting(mine)], atomic=True)
    assert refused.value.detail.startswith("Operation 2: ")
    assert refused.value.detail.endswith(" Nothing was written.")
    assert stored(alice, mine).version == 1
    assert (count(alice, Memory), count(alice, MemoryHistory)) == (1, 1)
    good = [updating(mine, tags=["x"]), adding("New."), deleting(mine)]
    assert told(services.batch(alice, good, atomic=True)) == ["UPDATE", "ADD", "DELETE"]


def test_a_batch_in_which_nothing_is_valid_is_refused(alice: Actor) -> None:
    with pytest.raises(NothingValid) as refused:
        services.batch(alice, [adding(""), deleting(uuid4())], idempotency_key="k")
    assert refused.value.status == 422
    assert {place: error["code"] for place, error in (refused.value.errors or {}).items()} == {
        "0": "invalid_argument",
        "1": "not_found",
    }
    assert count(alice, IdempotencyKey) == 0


@pytest.mark.parametrize("size", [0, 1001])
def test_a_batch_has_1_to_1000_operations(alice: Actor, size: int) -> None:
    with pytest.raises(InvalidArgument, match="1 to 1000"):
        services.batch(alice, [adding(f"{n}") for n in range(size)])


def test_a_batch_of_1000_is_written(alice: Actor) -> None:
    assert len(services.add_many(alice, [NewMemory(f"Memory {n}.") for n in range(1000)])) == 1000
    assert count(alice, Memory) == 1000


# --- once


def test_the_same_key_and_request_give_the_same_answer_and_write_nothing(alice: Actor) -> None:
    first = services.add(alice, NewMemory("Once.", metadata={"a": 1, "b": 2}), idempotency_key="k")
    again = services.add(alice, NewMemory("Once.", metadata={"b": 2, "a": 1}), idempotency_key="k")
    assert again == first
    assert again.event == "ADD"
    assert (count(alice, Memory), count(alice, MemoryHistory)) == (1, 1)


def test_yes_sent_twice_under_one_key_is_one_message(alice: Actor) -> None:
    new = NewMemory("yes", kind="message", run_id="r")
    assert len({services.add(alice, new, idempotency_key="k").memory_id for _ in range(3)}) == 1
    assert count(alice, Memory) == 1


OTHER = {
    "content": NewMemory("Twice."),
    "a tag": NewMemory("Once.", tags=["t"]),
    "a label": NewMemory("Once.", user_id="u"),
}


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
def test_the_same_key_for_another_request_is_a_conflict(alice: Actor, other: NewMemory) -> None:
    services.add(alice, NewMemory("Once."), idempotency_key="k")
    with pytest.raises(Conflict, match="another request"):
        services.add(alice, other, idempotency_key="k")
    assert count(alice, Memory) == 1


def test_a_key_is_the_owners(alice: Actor, bob: Actor) -> None:
    services.add(alice, NewMemory("Once."), idempotency_key="k")
    assert services.add(bob, NewMemory("Something else."), idempotency_key="k").event == "ADD"


def test_a_write_that_failed_leaves_its_key_free(alice: Actor) -> None:
    services.add(alice, NewMemory("yes", kind="message", run_id="r", seq=0))
    with pytest.raises(Conflict):
        services.add(alice, NewMemory("no", kind="message", run_id="r", seq=0), idempotency_key="k")
    assert services.add(alice, NewMemory("no", kind="message", run_id="r", seq=1), idempotency_key="k").event == "ADD"


def test_every_kind_of_write_is_done_once(alice: Actor) -> None:
    memory_id = add(alice, "First.")
    for _ in range(2):
        assert services.update(alice, memory_id, {"content": "Second."}, idempotency_key="u").event == "UPDATE"
    for _ in range(2):
        assert services.delete(alice, memory_id, idempotency_key="d").event == "DELETE"
    for _ in range(2):
        assert services.restore(alice, memory_id, idempotency_key="r").event == "RESTORE"
    assert events(alice, memory_id) == [("ADD", 1), ("UPDATE", 2), ("DELETE", 3), ("RESTORE", 4)]
    with pytest.raises(Conflict, match="another request"):
        services.delete(alice, memory_id, idempotency_key="r")


def test_a_batch_with_refusals_gives_the_same_answer_again(alice: Actor) -> None:
    mine = add(alice, "Mine.")
    operations = [
        adding("New."),
        adding("half \ud800"),
        adding("enormous", metadata={"n": 10**40}),
        Step("update", memory_id=mine, changes={"tags": ["x"]}, expected_version=7),
        updating(mine, metadata={"a": "\ud800"}),
        deleting(uuid4()),
        updating(mine, tags=["y"]),
    ]
    first = services.batch(alice, operations, idempotency_key="k")
    again = services.batch(alice, operations, idempotency_key="k")
    assert told(first) == [
        *("ADD", "invalid_argument", "invalid_argument", "conflict", "invalid_argument", "not_found", "UPDATE")
    ]
    for one, other in zip(first, again, strict=True):
        if isinstance(one, Refused):
            assert isinstance(other, Refused)
            assert (other.error.code, other.error.status, other.error.detail) == (
                *(one.error.code, one.error.status, one.error.detail),
            )
        else:
            assert other == one
    assert stored(alice, mine).version == 2
    with pytest.raises(Conflict, match="another request"):
        services.batch(alice, operations[:-1], idempotency_key="k")


@pytest.mark.parametrize("key", ["", " ", "k" * 256, "a\nb", "\ud800", "a\x00"])
def test_a_key_is_printable_and_short(alice: Actor, key: str) -> None:
    with pytest.raises(InvalidArgument, match="255 printable"):
        services.add(alice, NewMemory("X."), idempotency_key=key)
    assert count(alice, Memory) == 0


def test_the_longest_key_is_kept(alice: Actor) -> None:
    services.add(alice, NewMemory("X."), idempotency_key="k" * 255)
    with acting_as(alice):
        assert IdempotencyKey.objects.get(owner_id=alice.owner_id).key == "k" * 255
