"""Work that goes on after the reply: begun in the write's transaction, taken up by the worker from the outbox."""

from collections.abc import Sequence
from uuid import UUID

from django.db.models.functions import Now

from accounts.actors import Actor
from memories import outbox
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
    )
    payload = {"operation_id": str(operation.id), "memory_ids": [str(one) for one in dict.fromkeys(memory_ids)]}
    outbox.write(actor.owner_id, [outbox.NewEvent(kind=EVENT, payload=payload)])
    return operation.id


def take_up(owner_id: int, events: Sequence[OutboxEvent]) -> None:
    """End what cannot be done: this version has no model to extract with.

    With a model this is where a task is sent that calls it: never here, inside the outbox's transaction.
    """
    waiting = Operation.objects.filter(
        owner_id=owner_id, id__in=[event.payload["operation_id"] for event in events], state=OperationState.WAITING
    )
    waiting.update(state=OperationState.SKIPPED, error="no_model", updated_at=Now())


outbox.register("operations", take_up, kinds={EVENT})
