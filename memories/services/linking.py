"""How memories of one owner hang together, said by hand."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.db.models import Q

from accounts.actors import Actor, acting_as
from accounts.models import Scope
from mem0stack.lib.errors import Forbidden, InvalidArgument, NotFound
from memories import outbox
from memories.models import Event, Memory, Relation, RelationKind, Standing
from memories.services import changing, rows
from memories.services.locking import again_after_deadlock, lock_rows
from memories.services.once import once
from memories.services.outcomes import Outcome, Step, Written, raise_refused

__all__ = ["BY_HAND", "link", "unlink"]

# Where an inferred fact comes from, the service knows and nobody else.
BY_HAND = tuple(kind for kind in RelationKind.values if kind != RelationKind.DERIVED_FROM)
# Said of one it is said of the other: stored as it was said first, and known in both directions.
_MUTUAL = frozenset({RelationKind.RELATES_TO, RelationKind.CONTRADICTS})


def link(
    actor: Actor, source_id: UUID, target_id: UUID, relation: str, *, idempotency_key: str | None = None
) -> Written:
    """Say that one memory of the actor's own is `relation` another; `made_id` is the relation's id.

    What was said before is CONFIRM, and nothing is written. `supersedes` has the source take the target's place, as
    `superseded_by` does (SUPERSEDE where only that was left to do); a rejected target stays rejected. Raises
    InvalidArgument, NotFound, Forbidden (a shared one), Conflict (they would supersede each other in a circle; a used
    idempotency key).
    """
    actor.require(Scope.WRITE)
    if relation not in BY_HAND:
        raise InvalidArgument(f"relation is one of {', '.join(BY_HAND)}.", errors={"relation": ["unknown"]})
    if source_id == target_id:
        raise InvalidArgument("A memory has no relation to itself; name two.", errors={"target": ["itself"]})

    def write() -> list[Outcome]:
        source, target = _both(actor, source_id, target_id)
        made = _known(actor, source_id, target_id, relation)
        event: str = Event.CONFIRM
        if made is None:
            made = Relation(owner_id=actor.owner_id, source_id=source_id, relation=relation, target_id=target_id)
            made.save(force_insert=True)
            event = Event.LINK
            _record(actor, made, event, source, target)
        if relation == RelationKind.SUPERSEDES and _supersede(actor, target, source_id) and event == Event.CONFIRM:
            event = Event.SUPERSEDE
        return [Written(source_id, event, made_id=made.id)]

    return _once(actor, idempotency_key, {"link": [source_id, relation, target_id]}, write)


def unlink(actor: Actor, relation_id: UUID, *, idempotency_key: str | None = None) -> Written:
    """Take back a relation between memories of the actor's own.

    What was superseded by it is current again, or gives its place to the last other memory that is said to supersede
    it. Raises NotFound, and Forbidden for `derived_from`, which stays as long as both memories do.
    """
    actor.require(Scope.WRITE)

    def write() -> list[Outcome]:
        gone = Relation.objects.known_to(actor).filter(id=relation_id).first()
        if gone is None:
            raise _unknown()
        if gone.relation not in BY_HAND:
            raise Forbidden(
                "derived_from says where an inferred memory comes from, and stays. Delete the memory instead."
            )
        others = _other_successors(actor, gone) if gone.relation == RelationKind.SUPERSEDES else []
        source, target = _both(actor, gone.source_id, gone.target_id, also=others)
        # Under both locks: whoever takes it back at this moment has done so, or waits for us.
        if not Relation.objects.filter(owner_id=actor.owner_id, id=relation_id).delete()[0]:
            raise _unknown()
        _record(actor, gone, Event.UNLINK, source, target)
        if gone.relation == RelationKind.SUPERSEDES and target.superseded_by_id == source.id:
            _reinstate(actor, target, others)
        return [Written(gone.source_id, Event.UNLINK, made_id=relation_id)]

    return _once(actor, idempotency_key, {"unlink": relation_id}, write)


def _once(actor: Actor, key: str | None, request: dict[str, Any], write: Callable[[], list[Outcome]]) -> Written:
    def whole() -> Written:
        with acting_as(actor):
            return raise_refused(once(actor, key, lambda: request, write)[0])

    return again_after_deadlock(whole)


def _both(actor: Actor, source_id: UUID, target_id: UUID, *, also: Sequence[UUID] = ()) -> tuple[Memory, Memory]:
    """Both memories, locked with the others in the order that all writers keep to."""
    lock_rows(actor, [source_id, target_id, *also])
    return rows.lock_own(actor, source_id), rows.lock_own(actor, target_id)


def _known(actor: Actor, source_id: UUID, target_id: UUID, relation: str) -> Relation | None:
    said = Q(source_id=source_id, target_id=target_id)
    if relation in _MUTUAL:
        said |= Q(source_id=target_id, target_id=source_id)
    return Relation.objects.filter(said, owner_id=actor.owner_id, relation=relation).order_by("id").first()


def _record(actor: Actor, relation: Relation, event: str, source: Memory, target: Memory) -> None:
    """In the history of both, each naming the other; and for consumers."""
    of_source = {"relation": relation.relation, "target": str(target.id)}
    of_target = {"relation": relation.relation, "source": str(source.id)}
    is_made = event == Event.LINK
    rows.record_all(
        actor,
        [
            (memory, event, None if is_made else said, said if is_made else None)
            for memory, said in ((source, of_source), (target, of_target))
        ],
    )
    outbox.write(actor.owner_id, [outbox.event_of(relation, event)])


def _supersede(actor: Actor, target: Memory, source_id: UUID) -> bool:
    """Have the source take the target's place; False when it has it, or when the target was never true."""
    if target.standing == Standing.REJECTED or target.superseded_by_id == source_id:
        return False
    raise_refused(_change(actor, target, {"superseded_by": source_id}))
    return True


def _other_successors(actor: Actor, gone: Relation) -> list[UUID]:
    """Who else is said to supersede the target, the last first."""
    own = Memory.objects.owned_by(actor).alive().values("id")
    said = Relation.objects.filter(
        owner_id=actor.owner_id, target_id=gone.target_id, relation=RelationKind.SUPERSEDES, source_id__in=own
    )
    return list(said.exclude(id=gone.id).order_by("-id").values_list("source_id", flat=True))


def _reinstate(actor: Actor, target: Memory, others: Sequence[UUID]) -> None:
    for successor in others:
        # One that the target supersedes meanwhile, itself or through others, is refused.
        if isinstance(_change(actor, target, {"superseded_by": successor}), Written):
            return
    raise_refused(_change(actor, target, {"standing": Standing.CURRENT}))


def _change(actor: Actor, memory: Memory, changes: dict[str, Any]) -> Outcome:
    return changing.apply(actor, Step("update", memory_id=memory.id, changes=changes))


def _unknown() -> NotFound:
    return NotFound("There is no such relation, or none between memories that you may see. List your relations.")
