"""What was deleted long ago goes for good, with all that hangs on it, and nothing else does."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.actors import Actor, acting_as
from accounts.services import create_user
from memories import outbox, services
from memories.models import Entity, IdempotencyKey, Memory, MemoryHistory, MemoryTerm, Operation
from memories.services import NewMemory
from memories.services.purging import Purged, purge

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def alice() -> Actor:
    return Actor.of(create_user("alice"), door="command")


def _age(actor: Actor, memory_id: object, days: int) -> None:
    with acting_as(actor):
        Memory.objects.filter(owner_id=actor.owner_id, id=memory_id).update(
            deleted_at=timezone.now() - timedelta(days=days)
        )


def test_purge_takes_what_was_deleted_over_30_days_ago_and_leaves_the_rest(alice: Actor) -> None:
    old = services.add(alice, NewMemory("The old staging host was called anvil."))
    recent = services.add(alice, NewMemory("The new staging host is called hammer."))
    kept = services.add(alice, NewMemory("Production is never touched on a Friday."))
    for written, days in ((old, 31), (recent, 29)):
        services.delete(alice, written.memory_id)
        _age(alice, written.memory_id, days)

    assert purge(dry_run=True) == Purged(memories=1, idempotency_keys=0, operations=0)
    assert purge() == Purged(memories=1, idempotency_keys=0, operations=0)

    with acting_as(alice):
        assert set(Memory.objects.values_list("id", flat=True)) == {recent.memory_id, kept.memory_id}
        assert not MemoryHistory.objects.filter(memory_id=old.memory_id).exists()
        assert not MemoryTerm.objects.filter(memory_id=old.memory_id).exists()
    assert services.restore(alice, recent.memory_id).memory_id == recent.memory_id


def test_what_a_purged_memory_replaced_stays_superseded(alice: Actor) -> None:
    first = services.add(alice, NewMemory("We deploy by hand."))
    second = services.add(alice, NewMemory("We deploy from the pipeline."))
    services.update(alice, first.memory_id, {"superseded_by": second.memory_id})
    services.delete(alice, second.memory_id)
    _age(alice, second.memory_id, 31)

    assert purge().memories == 1

    with acting_as(alice):
        left = Memory.objects.get(id=first.memory_id)
        assert (left.standing, left.superseded_by_id) == ("superseded", None)


def test_purge_forgets_idempotency_keys_after_30_days(alice: Actor) -> None:
    services.add(alice, NewMemory("Remembered once."), idempotency_key="old")
    services.add(alice, NewMemory("Remembered today."), idempotency_key="new")
    with acting_as(alice):
        IdempotencyKey.objects.filter(key="old").update(created_at=timezone.now() - timedelta(days=31))

    assert purge() == Purged(memories=0, idempotency_keys=1, operations=0)

    with acting_as(alice):
        assert list(IdempotencyKey.objects.values_list("key", flat=True)) == ["new"]


def test_operations_that_ended_long_ago_go_and_those_that_wait_stay(alice: Actor) -> None:
    for text in ("Old.", "Recent."):
        services.add(alice, NewMemory(text), infer=True)
    outbox.drain(alice.owner_id)
    waiting = services.add(alice, NewMemory("Waiting."), infer=True).made_id
    old = timezone.now() - timedelta(days=31)
    with acting_as(alice):
        recent = Operation.objects.filter(owner_id=alice.owner_id, state="skipped").latest("created_at").id
        Operation.objects.filter(owner_id=alice.owner_id).exclude(id=recent).update(updated_at=old)

    assert purge(dry_run=True) == purge() == Purged(memories=0, idempotency_keys=0, operations=1)

    with acting_as(alice):
        assert set(Operation.objects.values_list("id", flat=True)) == {recent, waiting}


def test_an_entity_goes_when_no_memory_names_it_any_more(alice: Actor) -> None:
    old = services.add(alice, NewMemory("Priya keeps the notes in docs/old.md."))
    services.add(alice, NewMemory("Priya likes tea."))
    assert _entities(alice) == {"priya", "docs/old.md", "old.md"}
    services.delete(alice, old.memory_id)
    assert purge().entities == 0, "a deleted memory can be restored, with what it names"
    _age(alice, old.memory_id, 31)

    assert purge() == Purged(memories=1, idempotency_keys=0, operations=0, entities=2)

    assert _entities(alice) == {"priya"}


def test_what_is_just_being_written_about_is_left_to_the_next_purge(alice: Actor) -> None:
    written = services.add(alice, NewMemory("See docs/old.md."))
    services.update(alice, written.memory_id, {"content": "See nothing."})
    writing, may_end = threading.Event(), threading.Event()

    def write() -> None:
        with acting_as(alice):
            services.add(alice, NewMemory("Again docs/old.md."))
            writing.set()
            may_end.wait(10)
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert writing.wait(10)
    assert purge().entities == 0
    may_end.set()
    writer.join()
    assert purge().entities == 0
    assert _entities(alice) == {"docs/old.md", "old.md"}


def _entities(actor: Actor) -> set[str]:
    with acting_as(actor):
        return set(Entity.objects.values_list("key", flat=True))
