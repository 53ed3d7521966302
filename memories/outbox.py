"""What must follow from a write: an event in the same transaction, handed to every consumer afterwards, in order.

A consumer is a function of (owner_id, events) that registers under a name at start, whichever floor it lives on. It
runs inside the transaction that marks its deliveries done, so what it writes to PostgreSQL happens exactly once; what
it does elsewhere may happen again and must bear it.
"""

import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from celery import current_app
from django.core.cache import cache
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Now
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from accounts.actors import Actor, acting_as
from mem0stack.lib.bulk import insert_many
from mem0stack.lib.metrics import CACHE_FAILURES, OUTBOX_DELIVERIES
from memories.models import OutboxDelivery, OutboxEvent

log = structlog.get_logger(__name__)

BATCH = 500
MAX_ATTEMPTS = 5
KEEP_DONE = timedelta(hours=1)
# A nudge that got lost with its broker or worker holds back others for no longer than this.
_NUDGE_LASTS_S = 5

Consumer = Callable[[int, Sequence[OutboxEvent]], None]
_consumers: dict[str, Consumer] = {}


class _ToNudge(threading.local):
    """The owners that this thread's transaction has written events for, so that a thousand events are one nudge."""

    def __init__(self) -> None:
        self.owners: set[int] = set()


_to_nudge = _ToNudge()


@dataclass(frozen=True)
class NewEvent:
    """An event before it has a row: its kind, and a payload of ids and numbers, never of text."""

    kind: str
    payload: dict[str, Any]


def register(name: str, consumer: Consumer) -> None:
    """Have `consumer` called with every event from now on."""
    _consumers[name] = consumer


def write(owner_id: int, events: Sequence[NewEvent]) -> None:
    """Add events to the owner's outbox, in the caller's transaction, and nudge the worker once it has committed."""
    if not events:
        return
    rows = [OutboxEvent(owner_id=owner_id, kind=event.kind, payload=event.payload) for event in events]
    insert_many(rows)
    insert_many([OutboxDelivery(owner_id=owner_id, event=row, consumer=name) for row in rows for name in _consumers])
    _to_nudge.owners.add(owner_id)
    transaction.on_commit(lambda: _nudge(owner_id), robust=True)


def owners_with_work() -> list[int]:
    """The owners whose outbox has something waiting."""
    with acting_as(Actor.system("outbox: who has work")):
        waiting = OutboxDelivery.objects.filter(state=OutboxDelivery.DeliveryState.WAITING)
        return list(waiting.values_list("owner_id", flat=True).distinct())


def drain(owner_id: int) -> int:
    """Hand everything that waits in this owner's outbox to its consumers; returns how many deliveries were made."""
    _forget_nudge(owner_id)
    actor = Actor.system(f"outbox of owner {owner_id}")
    delivered = 0
    for name, consumer in _consumers.items():
        claimed = size = BATCH
        # A batch that was not full was the last one: what committed since has nudged again.
        while claimed == size:
            claimed, size = _deliver(actor, owner_id, name, consumer)
            OUTBOX_DELIVERIES.labels(name, "done").inc(claimed)
            delivered += claimed
    return delivered


def prune() -> int:
    """Remove events that every consumer is done with, an hour after they happened; returns how many."""
    with acting_as(Actor.system("outbox: prune")):
        unfinished = OutboxDelivery.objects.filter(owner_id=OuterRef("owner_id"), event_id=OuterRef("id")).exclude(
            state=OutboxDelivery.DeliveryState.DONE
        )
        # Deliveries go with their event by the foreign key.
        pruned, _ = OutboxEvent.objects.filter(~Exists(unfinished), created_at__lt=Now() - KEEP_DONE).delete()
        return pruned


def _deliver(actor: Actor, owner_id: int, name: str, consumer: Consumer) -> tuple[int, int]:
    """One batch in one transaction; how many deliveries were made, of how many at most. When it fails as a whole, one
    event at a time, so that a bad one harms no other."""
    try:
        return _hand_over(actor, owner_id, name, consumer, BATCH), BATCH
    except Exception as error:  # noqa: BLE001  a consumer may fail in any way; the delivery's row says so, and the log
        # Where, but not the message: it may quote what somebody wrote.
        last = traceback.extract_tb(error.__traceback__)[-1]
        log.warning(
            "outbox_batch_failed",
            owner_id=owner_id,
            consumer=name,
            error=type(error).__name__,
            at=f"{last.filename}:{last.lineno}",
        )
    try:
        return _hand_over(actor, owner_id, name, consumer, 1), 1
    except Exception as error:  # noqa: BLE001
        _note_failure(actor, owner_id, name, error)
        return 0, 1


def _hand_over(actor: Actor, owner_id: int, name: str, consumer: Consumer, size: int) -> int:
    with acting_as(actor):
        with connection.cursor() as cursor:
            # What a crash takes back is taken back whole, work and mark alike, so nobody need wait for the disk here.
            cursor.execute("SET LOCAL synchronous_commit = off")
        # Without SKIP LOCKED: a second worker waits for the first one's batch, so events stay in order.
        claimed = list(
            OutboxDelivery.objects.filter(owner_id=owner_id, consumer=name, state=OutboxDelivery.DeliveryState.WAITING)
            .order_by("event_id")
            .select_for_update()[:size]
        )
        if not claimed:
            return 0
        ids = [delivery.event_id for delivery in claimed]
        events = OutboxEvent.objects.filter(owner_id=owner_id, id__in=ids).order_by("id")
        consumer(owner_id, list(events))
        OutboxDelivery.objects.filter(owner_id=owner_id, id__in=[delivery.id for delivery in claimed]).update(
            state=OutboxDelivery.DeliveryState.DONE, updated_at=Now()
        )
        return len(claimed)


def _note_failure(actor: Actor, owner_id: int, name: str, error: Exception) -> None:
    with acting_as(actor):
        waiting = OutboxDelivery.objects.filter(
            owner_id=owner_id, consumer=name, state=OutboxDelivery.DeliveryState.WAITING
        )
        first = waiting.order_by("event_id").first()
        if first is None:
            return
        dead = first.attempts + 1 >= MAX_ATTEMPTS
        waiting.filter(id=first.id).update(
            attempts=F("attempts") + 1,
            # The type only: a message may quote what somebody wrote.
            reason=type(error).__name__,
            state=OutboxDelivery.DeliveryState.DEAD if dead else OutboxDelivery.DeliveryState.WAITING,
            updated_at=Now(),
        )
    OUTBOX_DELIVERIES.labels(name, "dead" if dead else "failed").inc()
    log.warning("outbox_delivery_failed", owner_id=owner_id, consumer=name, error=type(error).__name__, dead=dead)


def _nudge(owner_id: int) -> None:
    """Tell the worker, unless a nudge is under way that it has not begun to follow: a busy writer sends few.

    If the broker is away the event waits for the next nudge: it is safe in its row.
    """
    if owner_id not in _to_nudge.owners:
        return
    _to_nudge.owners.discard(owner_id)
    try:
        if cache.add(_nudged(owner_id), 1, timeout=_NUDGE_LASTS_S):
            current_app.send_task("memories.tasks.drain_outbox", [owner_id])
    except (BrokerError, RedisError, OSError) as error:
        CACHE_FAILURES.labels("nudge").inc()
        log.warning("outbox_nudge_failed", owner_id=owner_id, error=type(error).__name__)


def _forget_nudge(owner_id: int) -> None:
    # Before anything is claimed: what commits from now on nudges again.
    try:
        cache.delete(_nudged(owner_id))
    except (RedisError, OSError) as error:
        CACHE_FAILURES.labels("forget_nudge").inc()
        log.warning("outbox_nudge_not_forgotten", owner_id=owner_id, error=type(error).__name__)


def _nudged(owner_id: int) -> str:
    return f"outbox-nudged:{owner_id}"


def event_for(memory_id: UUID, event: str, **numbers: int) -> NewEvent:
    """What consumers learn of a change to a memory; they read the row itself when they want more."""
    return NewEvent(kind="memory", payload={"memory_id": str(memory_id), "event": event} | numbers)
