"""Taking away for good what may be taken away after 30 days: deleted memories, idempotency keys, ended operations."""

from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db.models import QuerySet
from django.db.models.functions import Now

from accounts.actors import Actor, acting_as
from memories.models import IdempotencyKey, Memory, Operation, OperationState, State
from memories.querysets import MemoryQuerySet

log = structlog.get_logger(__name__)

RESTORABLE_FOR = timedelta(days=30)
KEYS_KEPT_FOR = timedelta(days=30)
OPERATIONS_KEPT_FOR = timedelta(days=30)
_CHUNK = 500


@dataclass(frozen=True)
class Purged:
    memories: int
    idempotency_keys: int
    operations: int


def purge(*, dry_run: bool = False) -> Purged:
    """Remove every owner's memories that were deleted over 30 days ago, with all that hangs on them, old keys and
    operations that have ended.

    In transactions of 500 rows, so that it can be stopped anywhere and run again. `dry_run` only counts.
    """
    if dry_run:
        with acting_as(Actor.system("purge: count")):
            return Purged(_overdue().count(), _old_keys().count(), _old_operations().count())
    memories = keys = operations = 0
    while count := _purge_memories():
        memories += count
    while count := _purge_keys():
        keys += count
    while count := _purge_operations():
        operations += count
    log.info("purged", memories=memories, idempotency_keys=keys, operations=operations)
    return Purged(memories, keys, operations)


def _overdue() -> MemoryQuerySet:
    rows: MemoryQuerySet = Memory.objects.filter(state=State.DELETED, deleted_at__lt=Now() - RESTORABLE_FOR)
    return rows


def _old_keys() -> QuerySet[IdempotencyKey]:
    return IdempotencyKey.objects.filter(created_at__lt=Now() - KEYS_KEPT_FOR)


def _old_operations() -> QuerySet[Operation]:
    going_on = (OperationState.WAITING, OperationState.RUNNING)
    return Operation.objects.exclude(state__in=going_on).filter(updated_at__lt=Now() - OPERATIONS_KEPT_FOR)


def _purge_memories() -> int:
    with acting_as(Actor.system("purge: memories")):
        rows = list(_overdue().select_for_update(skip_locked=True).values_list("owner_id", "id")[:_CHUNK])
        for owner_id in {owner_id for owner_id, _ in rows}:
            ids = [memory_id for owner, memory_id in rows if owner == owner_id]
            # What it once replaced stays superseded; only the pointer to the successor ends.
            Memory.objects.filter(owner_id=owner_id, superseded_by_id__in=ids).update(superseded_by_id=None)
            # History, terms, categories and shares go with it, by their foreign keys.
            Memory.objects.filter(owner_id=owner_id, id__in=ids).delete()
        return len(rows)


def _purge_keys() -> int:
    with acting_as(Actor.system("purge: idempotency keys")):
        ids = list(_old_keys().select_for_update(skip_locked=True).values_list("id", flat=True)[:_CHUNK])
        IdempotencyKey.objects.filter(id__in=ids).delete()
        return len(ids)


def _purge_operations() -> int:
    with acting_as(Actor.system("purge: operations")):
        ids = list(_old_operations().select_for_update(skip_locked=True).values_list("id", flat=True)[:_CHUNK])
        Operation.objects.filter(id__in=ids).delete()
        return len(ids)
