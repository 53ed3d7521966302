"""Memories by their ids, and the newest ones: what every door shows that does not search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from accounts.actors import Actor, acting_as
from accounts.models import Scope
from mem0stack.lib.errors import InvalidArgument
from mem0stack.lib.pagination import cut, seal, unseal
from memories import access, texts
from memories.filters import EVERYTHING, Filter, to_q
from memories.models import AccessAction, Memory, MemoryHistory, Relation

MAX_IDS = 100
MAX_LISTED = 100
MAX_HOPS = 3
# Relations of one memory that are shown, over all hops.
MAX_RELATED = 20
_NEWEST = "-created_at"


@dataclass(frozen=True)
class Newest:
    """Rows `with_names`, newest first, and the cursor of what comes after them; None at the end."""

    memories: Sequence[Any]
    cursor: str | None


@dataclass(frozen=True)
class Related:
    """A memory that another one leads to: `relation` as seen from there, `hops` relations away."""

    relation: str
    memory: Any
    hops: int


@dataclass(frozen=True)
class Detail:
    """One memory with what its owner may know of it; history and relations of a shared one are empty."""

    memory: Any
    history: Sequence[MemoryHistory]
    related: Sequence[Related]


def newest(
    actor: Actor,
    *,
    filters: Filter = EVERYTHING,
    namespace: str | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> Newest:
    """The memories that can be an answer, newest first: of a project and `personal`, or everything visible.

    `limit` is 1..100. Raises InvalidArgument, Forbidden.
    """
    actor.require(Scope.READ)
    if not 1 <= limit <= MAX_LISTED:
        raise InvalidArgument(f"limit is 1 to {MAX_LISTED}.", errors={"limit": [f"1 to {MAX_LISTED}"]})
    place = f"newest of {actor.owner_id}"
    after = unseal(cursor, _NEWEST, place=place) if cursor else None
    project = None if namespace in (None, "*") else texts.clean_namespace(str(namespace))
    if project is not None:
        actor.require_namespace(project)
    with acting_as(actor):
        arms = [arm.searchable().filter(to_q(filters, actor.owner_id)) for arm in Memory.objects.arms(actor)]
        if project is not None:
            arms = [arm.in_project(actor, project) for arm in arms]
        rows, more = cut([arm.with_names() for arm in arms], order=_NEWEST, size=limit, cursor=after)
    # To look through one's own says nothing of use; that another has seen them is for their owner to know.
    access.note(actor, AccessAction.LIST, (memory for memory in rows if memory.owner_id != actor.owner_id))
    return Newest(rows, seal(rows[-1], _NEWEST, place=place) if more else None)


def details(actor: Actor, ids: Sequence[UUID], *, history: int = 0, hops: int = 0) -> dict[UUID, Detail]:
    """These memories by their ids, as far as the actor may see them, each with its last changes and, up to 20, the
    memories that `hops` relations lead to. A few statements, however many ids. Raises InvalidArgument."""
    actor.require(Scope.READ)
    if len(ids) > MAX_IDS or not 0 <= hops <= MAX_HOPS:
        raise InvalidArgument(f"At most {MAX_IDS} ids, and 0 to {MAX_HOPS} hops of relations, are read at once.")
    with acting_as(actor):
        rows = Memory.objects.visible_to(actor).alive().filter(id__in=list(ids)).with_names()
        found = {memory.id: memory for memory in rows}
        own = [memory.id for memory in found.values() if memory.owner_id == actor.owner_id]
        changes = _changes(actor, own, history) if history and own else {}
        related = {one: _related(actor, one, hops) for one in own} if hops else {}
    access.note(actor, AccessAction.READ, found.values())
    return {
        one: Detail(found[one], changes.get(one, ()), related.get(one, ()))
        for one in dict.fromkeys(ids)
        if one in found
    }


def _changes(actor: Actor, ids: Sequence[UUID], each: int) -> dict[UUID, list[MemoryHistory]]:
    """The last `each` changes of each memory, newest first."""
    changes: dict[UUID, list[MemoryHistory]] = {}
    of_all = MemoryHistory.objects.filter(owner_id=actor.owner_id).select_related("by")
    for memory_id in ids:
        changes[memory_id] = list(of_all.filter(memory_id=memory_id).order_by("-id")[:each])
    return changes


def _related(actor: Actor, start: UUID, hops: int) -> list[Related]:
    """Breadth first, each memory once, the nearest first."""
    seen, edge = {start}, [start]
    steps: list[tuple[str, UUID, int]] = []
    known = Relation.objects.known_to(actor).order_by("created_at", "id")
    for hop in range(1, hops + 1):
        reached: list[UUID] = []
        for end, other, word in (("source_id", "target_id", "{}"), ("target_id", "source_id", "{} (from)")):
            found = known.filter(**{f"{end}__in": edge}).values_list("relation", other)
            for relation, memory_id in found[: MAX_RELATED + len(seen)]:
                if memory_id not in seen and len(steps) < MAX_RELATED:
                    seen.add(memory_id)
                    reached.append(memory_id)
                    steps.append((word.format(relation), memory_id, hop))
        edge = reached
        if not edge:
            break
    rows = Memory.objects.owned_by(actor).alive().filter(id__in=[step[1] for step in steps]).with_names()
    memories = {memory.id: memory for memory in rows}
    return [Related(relation, memories[one], hop) for relation, one, hop in steps if one in memories]
