"""Work that goes on after the reply: begun in the write's transaction, taken up by the worker from the outbox."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from celery import current_app
from django.db import transaction
from django.db.models.functions import Now

from accounts.actors import Actor
from mem0stack.lib import valkey
from memories import outbox, providers
from memories.models import Memory, Operation, OperationKind, OperationState, OutboxEvent

EVENT = "operation"


def begin_extraction(actor: Actor, memory_ids: Sequence[UUID]) -> UUID:
    """Have facts drawn from these sources, which the actor has just stored. In the caller's transaction.

    It belongs to who asked, also where the sources lie in another's space: its work is done in their name.
    """
    own = Memory.objects.filter(owner_id=actor.owner_id, id__in=set(memory_ids))
    namespaces = set(own.values_list("namespace_id", flat=True))
    operation = Operation.objects.create(
        owner_id=actor.owner_id,
        namespace_id=namespaces.pop() if len(namespaces) == 1 else None,
        kind=OperationKind.EXTRACT,
        sources=list(dict.fromkeys(memory_ids)),
    )
    outbox.write(actor.owner_id, [outbox.NewEvent(kind=EVENT, payload={"operation_id": str(operation.id)})])
    return operation.id


def take_up(owner_id: int, events: Sequence[OutboxEvent]) -> None:
    """Hand them to the worker, once what the outbox notes of it has committed; without a model end them here.

    The model is called in a task of its own: never inside the outbox's transaction. A task that gets lost is sent
    again by beat.
    """
    ids = [event.payload["operation_id"] for event in events]
    if providers.configured("model") is not None:
        transaction.on_commit(lambda: send(owner_id, ids), robust=True)
        return
    waiting = Operation.objects.filter(owner_id=owner_id, id__in=ids, state=OperationState.WAITING)
    waiting.update(state=OperationState.SKIPPED, error="no_model", updated_at=Now())


def send(owner_id: int, ids: Sequence[UUID | str]) -> None:
    """Tell the worker to do these operations now. If the broker is away they wait for beat."""

    def tell(_: Any) -> None:
        for one in ids:
            current_app.send_task("memories.tasks.extract", [owner_id, str(one)])

    valkey.ask("nudge", tell, otherwise=None)


outbox.register("operations", take_up, kinds={EVENT})
