"""What must follow from a write: an event in the same transaction, handed to every consumer afterwards, in order.

A consumer is a function of (owner_id, events) that registers under a name at start, whichever floor it lives on. It
runs inside the transaction that marks its deliveries done, so what it writes to PostgreSQL happens exactly once; what
it does elsewhere may happen again and must bear it.
"""

import threading
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

import structlog
from celery import current_app
from django.contrib.postgres.aggregates import ArrayAgg
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from accounts.actors import Actor, acting_as
from mem0stack.lib import disk, valkey
from mem0stack.lib.bulk import insert_many
from mem0stack.lib.metrics import OUTBOX_DELIVERIES
from memories.models import OutboxDelivery, OutboxEvent, Relation

log = structlog.get_logger(__name__)

BATCH = 500
# Seconds until the next try, after the first failure, the second, ...; past the last of them an event is dead. About
# half an hour in all: a consumer whose own server restarts loses nothing, and a bad event does not block for a day.
BACK_OFF_S = (1, 5, 25, 125, 600, 600, 600)
MAX_ATTEMPTS = len(BACK_OFF_S) + 1
KEEP_DONE = timedelta(hours=1)
# A nudge that got lost with its broker or worker holds back others for no longer than this.
_NUDGE_LASTS_S = 5
_NUDGE_WAITS_S = 0.1

Consumer = Callable[[int, Sequence[OutboxEvent]], None]
_consumers: dict[str, Consumer] = {}
# Of consumers that want some kinds of event only, or events at some times only.
_kinds: dict[str, frozenset[str]] = {}
_wanting: dict[str, Callable[[], bool]] = {}


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


@dataclass(frozen=True)
class Backlog:
    """What one consumer has not done: how many events wait, how many are dead, since when, and of which errors."""

    consumer: str
    waiting: int
    dead: int
    oldest: datetime
    reasons: tuple[str, ...]


def register(
    name: str, consumer: Consumer, *, kinds: Collection[str] | None = None, wanting: Callable[[], bool] | None = None
) -> None:
    """Have `consumer` called with every event from now on, or with those of these kinds.

    `wanting` is asked in each write's transaction, and what is written while it is false the consumer never hears of:
    for what most instances do not use, and nobody should pay a delivery for.
    """
    _consumers[name] = consumer
    if wanting is not None:
        _wanting[name] = wanting
    if kinds is not None:
        _kinds[name] = frozenset(kinds)


def write(owner_id: int, events: Sequence[NewEvent]) -> None:
    """Add events to the owner's outbox, in the caller's transaction, and nudge the worker once it has committed."""
    if not events:
        return
    # Every change to a memory passes here, and the purge, which makes room, does not.
    disk.require_room()
    rows = [OutboxEvent(owner_id=owner_id, kind=event.kind, payload=event.payload) for event in events]
    insert_many(rows)
    names = [name for name in _consumers if name not in _wanting or _wanting[name]()]
    insert_many(
        [
            OutboxDelivery(owner_id=owner_id, event=row, consumer=name)
            for row in rows
            for name in names
            if name not in _kinds or row.kind in _kinds[name]
        ]
    )
    _nudge_after_commit(owner_id)


def owners_with_work() -> list[int]:
    """The owners whose outbox has something waiting that may be tried now."""
    with acting_as(Actor.system("outbox: who has work")):
        waiting = OutboxDelivery.objects.filter(
            Q(not_before=None) | Q(not_before__lte=Now()), state=OutboxDelivery.DeliveryState.WAITING
        )
        return list(waiting.values_list("owner_id", flat=True).distinct())


def drain(owner_id: int) -> int:
    """Hand what waits in this owner's outbox to its consumers; returns how many deliveries were made.

    An event that failed holds back the later ones of its owner and consumer until it is done or dead.
    """
    _forget_nudge(owner_id)
    actor = Actor.system(f"outbox of owner {owner_id}")
    delivered = 0
    for name, consumer in _consumers.items():
        made = BATCH
        # A batch that was not full was the last one: what committed since has nudged again.
        while made == BATCH:
            made = _deliver(actor, owner_id, name, consumer)
            OUTBOX_DELIVERIES.labels(name, "done").inc(made)
            delivered += made
    return delivered


def backlog(*, consumer: str | None = None, owner_id: int | None = None) -> list[Backlog]:
    """What is not done yet, for each consumer that has such events, by name."""
    with acting_as(Actor.system("outbox: backlog")):
        found = (
            _of(consumer, owner_id)
            .exclude(state=OutboxDelivery.DeliveryState.DONE)
            .order_by("consumer")
            .values("consumer")
            .annotate(
                waiting=Count("id", filter=Q(state=OutboxDelivery.DeliveryState.WAITING)),
                dead=Count("id", filter=Q(state=OutboxDelivery.DeliveryState.DEAD)),
                oldest=Min("event__created_at"),
                reasons=ArrayAgg("reason", filter=~Q(reason=""), distinct=True, default=[]),
            )
        )
        return [Backlog(**row | {"reasons": tuple(row["reasons"])}) for row in found]


def replay(*, consumer: str | None = None, owner_id: int | None = None, ids: Collection[UUID] | None = None) -> int:
    """Have dead events tried again, from the first attempt on and before what waits behind them; returns how many.

    What was delivered meanwhile stays delivered, so a consumer meets a replayed event later than it happened.
    """
    with acting_as(Actor.system("outbox: replay")):
        dead = _of(consumer, owner_id).filter(state=OutboxDelivery.DeliveryState.DEAD)
        if ids is not None:
            dead = dead.filter(id__in=ids)
        revived = list(
            dead.select_for_update(of=("self",)).order_by("owner_id", "event_id").values_list("id", "owner_id")
        )
        OutboxDelivery.objects.filter(id__in=[pk for pk, _ in revived]).update(
            state=OutboxDelivery.DeliveryState.WAITING, attempts=0, not_before=None, reason="", updated_at=Now()
        )
        for owner in {owner for _, owner in revived}:
            _nudge_after_commit(owner)
    log.info("outbox_replayed", deliveries=len(revived), consumer=consumer, owner_id=owner_id)
    return len(revived)


def prune() -> int:
    """Remove events that every consumer is done with, an hour after they happened; returns how many."""
    with acting_as(Actor.system("outbox: prune")):
        unfinished = OutboxDelivery.objects.filter(owner_id=OuterRef("owner_id"), event_id=OuterRef("id")).exclude(
            state=OutboxDelivery.DeliveryState.DONE
        )
        # Deliveries go with their event by the foreign key.
        pruned, _ = OutboxEvent.objects.filter(~Exists(unfinished), created_at__lt=Now() - KEEP_DONE).delete()
        return pruned


def _of(consumer: str | None, owner_id: int | None) -> QuerySet[OutboxDelivery]:
    rows = OutboxDelivery.objects.all()
    if consumer is not None:
        rows = rows.filter(consumer=consumer)
    return rows if owner_id is None else rows.filter(owner_id=owner_id)


def _deliver(actor: Actor, owner_id: int, name: str, consumer: Consumer) -> int:
    """One batch in one transaction; how many deliveries were made. When it fails as a whole, one event at a time up to
    the bad one, so that it harms none before it."""
    try:
        return _hand_over(actor, owner_id, name, consumer)
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
    made = 0
    try:
        while made < BATCH and _hand_over_first(actor, owner_id, name, consumer):
            made += 1
    except (DatabaseError, InterfaceError) as error:
        # Not the event's fault, or nothing could be noted of it: it keeps its place and its attempts.
        log.warning("outbox_interrupted", owner_id=owner_id, consumer=name, error=type(error).__name__)
    return made


def _hand_over(actor: Actor, owner_id: int, name: str, consumer: Consumer) -> int:
    with acting_as(actor):
        claimed = _claim(owner_id, name, BATCH)
        if claimed:
            consumer(owner_id, _events(owner_id, claimed))
            _mark_done(owner_id, claimed)
        return len(claimed)


def _hand_over_first(actor: Actor, owner_id: int, name: str, consumer: Consumer) -> bool:
    """The first event alone, and what became of it, under one lock: nobody else tries it in between."""
    with acting_as(actor):
        claimed = _claim(owner_id, name, 1)
        if not claimed:
            return False
        try:
            with transaction.atomic():
                consumer(owner_id, _events(owner_id, claimed))
                with connection.cursor() as cursor:
                    # What would only fail at the commit fails here, where it can be noted.
                    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except Exception as error:  # noqa: BLE001
            _note_failure(claimed[0], error)
            return False
        _mark_done(owner_id, claimed)
        return True


def _claim(owner_id: int, name: str, size: int) -> list[OutboxDelivery]:
    """The next deliveries of this owner and consumer, locked, up to the first that is to be tried later."""
    with connection.cursor() as cursor:
        # What a crash takes back is taken back whole, work and mark alike, so nobody need wait for the disk here.
        cursor.execute("SET LOCAL synchronous_commit = off")
    # Without SKIP LOCKED: a second worker waits for the first one's batch, so events stay in order.
    waiting = (
        OutboxDelivery.objects.filter(owner_id=owner_id, consumer=name, state=OutboxDelivery.DeliveryState.WAITING)
        .order_by("event_id")
        .select_for_update()[:size]
    )
    claimed = list(waiting)
    if any(delivery.not_before is not None for delivery in claimed):
        with connection.cursor() as cursor:
            cursor.execute("SELECT statement_timestamp()")
            [now] = cursor.fetchone()
        claimed = list(takewhile(lambda one: one.not_before is None or one.not_before <= now, claimed))
    return claimed


def _events(owner_id: int, claimed: Sequence[OutboxDelivery]) -> list[OutboxEvent]:
    ids = [delivery.event_id for delivery in claimed]
    return list(OutboxEvent.objects.filter(owner_id=owner_id, id__in=ids).order_by("id"))


def _mark_done(owner_id: int, claimed: Sequence[OutboxDelivery]) -> None:
    OutboxDelivery.objects.filter(owner_id=owner_id, id__in=[delivery.id for delivery in claimed]).update(
        state=OutboxDelivery.DeliveryState.DONE, not_before=None, updated_at=Now()
    )


def _note_failure(failed: OutboxDelivery, error: Exception) -> None:
    """Put a locked delivery off, or bury it."""
    attempts = failed.attempts + 1
    dead = attempts >= MAX_ATTEMPTS
    OutboxDelivery.objects.filter(owner_id=failed.owner_id, id=failed.id).update(
        attempts=attempts,
        not_before=None if dead else Now() + timedelta(seconds=BACK_OFF_S[attempts - 1]),
        # The type only: a message may quote what somebody wrote.
        reason=type(error).__name__,
        state=OutboxDelivery.DeliveryState.DEAD if dead else OutboxDelivery.DeliveryState.WAITING,
        updated_at=Now(),
    )
    OUTBOX_DELIVERIES.labels(failed.consumer, "dead" if dead else "failed").inc()
    log.warning(
        "outbox_delivery_failed",
        owner_id=failed.owner_id,
        consumer=failed.consumer,
        error=type(error).__name__,
        attempts=attempts,
        dead=dead,
    )


def _nudge_after_commit(owner_id: int) -> None:
    _to_nudge.owners.add(owner_id)
    transaction.on_commit(lambda: _nudge(owner_id), robust=True)


def _nudge(owner_id: int) -> None:
    """Tell the worker, unless a nudge is under way that it has not begun to follow: a busy writer sends few.

    If the broker is away the event waits for the next nudge: it is safe in its row.
    """
    if owner_id in _to_nudge.owners:
        _to_nudge.owners.discard(owner_id)
        valkey.ask("nudge", lambda client: _send_nudge(client, owner_id), otherwise=None)


def _send_nudge(client: Any, owner_id: int) -> None:
    if client.set(_nudged(owner_id), 1, nx=True, ex=_NUDGE_LASTS_S):
        # Not at once: what the owner writes in the next moment then needs no nudge of its own.
        current_app.send_task("memories.tasks.drain_outbox", [owner_id], countdown=_NUDGE_WAITS_S)


def _forget_nudge(owner_id: int) -> None:
    # Before anything is claimed: what commits from now on nudges again.
    valkey.ask("forget_nudge", lambda client: client.delete(_nudged(owner_id)), otherwise=0)


def _nudged(owner_id: int) -> str:
    return valkey.key("outbox-nudged", owner_id)


def event_of(relation: Relation, event: str) -> NewEvent:
    """What consumers learn of a relation that was made or taken away: all of it, since then there is no row to read."""
    ends = {"source_id": str(relation.source_id), "target_id": str(relation.target_id)}
    return NewEvent(
        kind="relation",
        payload={"relation_id": str(relation.id), "event": event, "relation": relation.relation} | ends,
    )


def event_for(memory_id: UUID, event: str, **numbers: int) -> NewEvent:
    """What consumers learn of a change to a memory; they read the row itself when they want more."""
    return NewEvent(kind="memory", payload={"memory_id": str(memory_id), "event": event} | numbers)
