"""Taking away for good what may be taken away after 30 days: deleted memories, idempotency keys, ended operations; and
entities, once no memory names them."""

from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from accounts.actors import Actor, acting_as
from accounts.models import User
from memories.models import Entity, IdempotencyKey, Memory, Mention, Operation, OperationState, State
from memories.querysets import MemoryQuerySet
from memories.services import rows

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
    entities: int = 0


def purge(*, dry_run: bool = False) -> Purged:
    """Remove every owner's memories that were deleted over 30 days ago, with all that hangs on them, old keys,
    operations that have ended, and entities without a memory.

    In transactions of 500 rows, so that it can be stopped anywhere and run again. `dry_run` only counts.
    """
    if dry_run:
        with acting_as(Actor.system("purge: count")):
            counted = (_overdue(), _old_keys(), _old_operations(), _unmentioned())
            return Purged(*(some.count() for some in counted))
    memories = keys = operations = entities = 0
    while count := _purge_memories():
        memories += count
    while count := _purge_keys():
        keys += count
    while count := _purge_operations():
        operations += count
    for owner_id in _owners_of_entities():
        while count := _purge_entities(owner_id):
            entities += count
    log.info("purged", memories=memories, idempotency_keys=keys, operations=operations, entities=entities)
    return Purged(memories, keys, operations, entities)


def _overdue() -> MemoryQuerySet:
    rows: MemoryQuerySet = Memory.objects.filter(state=State.DELETED, deleted_at__lt=Now() - RESTORABLE_FOR)
    return rows


def _old_keys() -> QuerySet[IdempotencyKey]:
    return IdempotencyKey.objects.filter(created_at__lt=Now() - KEYS_KEPT_FOR)


def _old_operations() -> QuerySet[Operation]:
    going_on = (OperationState.WAITING, OperationState.RUNNING)
    return Operation.objects.exclude(state__in=going_on).filter(updated_at__lt=Now() - OPERATIONS_KEPT_FOR)


def _unmentioned() -> QuerySet[Entity]:
    mentions = Mention.objects.filter(owner_id=OuterRef("owner_id"), entity_id=OuterRef("id"))
    return Entity.objects.filter(~Exists(mentions))


def _purge_memories() -> int:
    with acting_as(Actor.system("purge: memories")):
        found = list(_overdue().select_for_update(skip_locked=True).values_list("owner_id", "id")[:_CHUNK])
        for owner_id in {owner_id for owner_id, _ in found}:
            ids = [memory_id for owner, memory_id in found if owner == owner_id]
            # What it once replaced stays superseded; only the pointer to the successor ends.
            Memory.objects.filter(owner_id=owner_id, superseded_by_id__in=ids).update(superseded_by_id=None)
            # History, terms, mentions, categories and shares go with it, by their foreign keys.
            Memory.objects.filter(owner_id=owner_id, id__in=ids).delete()
        return len(found)


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


def _owners_of_entities() -> list[int]:
    with acting_as(Actor.system("purge: owners")):
        return list(
            User.objects.filter(Exists(Entity.objects.filter(owner_id=OuterRef("id")))).values_list("id", flat=True)
        )


def _purge_entities(owner_id: int) -> int:
    """Where somebody is just writing about entities of this owner, the next purge takes them."""
    with acting_as(Actor.system("purge: entities")):
        with connection.cursor() as cursor:
            # Not waited for: who waits for a lock of its own makes everybody behind it wait.
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [rows.entity_lock(owner_id)])
            if not cursor.fetchone()[0]:
                return 0
        ids = list(_unmentioned().filter(owner_id=owner_id).values_list("id", flat=True)[:_CHUNK])
        Entity.objects.filter(owner_id=owner_id, id__in=ids).delete()
        return len(ids)
