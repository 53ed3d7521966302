"""Memories by their ids, and the newest ones: what every door shows that does not search."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import F, Q, Window
from django.db.models.functions import RowNumber

from accounts.actors import Actor, acting_as
from accounts.models import Scope
from mem0stack.lib.errors import InvalidArgument
from mem0stack.lib.pagination import cut, seal, unseal
from memories import access, projects
from memories.filters import EVERYTHING, Filter, to_q
from memories.models import AccessAction, Memory, MemoryHistory, Relation

MAX_IDS = 100
MAX_LISTED = 100
MAX_HOPS = 3
# Relations of one memory that are shown, over all hops.
MAX_RELATED = 20
# Of all memories that are asked for together, in one hop.
_MAX_LINKS = 2_000
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
    project = projects.wanted(actor, namespace)
    with acting_as(actor):
        arms = [arm.searchable().filter(to_q(filters, actor.owner_id)) for arm in Memory.objects.arms(actor)]
        if project is not None:
            other_name = projects.other_name(actor, project)
            arms = [arm.in_project(actor, project, other_name) for arm in arms]
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
        related = _related(actor, own, hops) if hops and own else {}
    access.note(actor, AccessAction.READ, found.values())
    return {
        one: Detail(found[one], changes.get(one, ()), related.get(one, ()))
        for one in dict.fromkeys(ids)
        if one in found
    }


def _changes(actor: Actor, ids: Sequence[UUID], each: int) -> dict[UUID, list[MemoryHistory]]:
    """The last `each` changes of each memory, newest first: one statement."""
    nth = Window(RowNumber(), partition_by=F("memory_id"), order_by=F("id").desc())
    rows = MemoryHistory.objects.filter(owner_id=actor.owner_id, memory_id__in=ids).annotate(nth=nth)
    changes: dict[UUID, list[MemoryHistory]] = defaultdict(list)
    for change in rows.filter(nth__lte=each).order_by("-id"):
        changes[change.memory_id].append(change)
    return changes


def _related(actor: Actor, starts: Sequence[UUID], hops: int) -> dict[UUID, list[Related]]:
    """From each memory breadth first, each other one once, the nearest first: one statement a hop, and one for all."""
    links = _links(actor, starts, hops)
    steps = {start: _steps(links, start, hops) for start in starts}
    reached = {memory_id for some in steps.values() for _, memory_id, _ in some}
    rows = Memory.objects.owned_by(actor).alive().filter(id__in=reached).with_names()
    memories = {memory.id: memory for memory in rows}
    return {
        start: [Related(relation, memories[one], hop) for relation, one, hop in some if one in memories]
        for start, some in steps.items()
    }


def _links(actor: Actor, starts: Sequence[UUID], hops: int) -> dict[UUID, list[tuple[str, UUID]]]:
    """What each memory within so many hops is linked to, as seen from it."""
    links: dict[UUID, list[tuple[str, UUID]]] = defaultdict(list)
    seen, edge = set(starts), set(starts)
    known = Relation.objects.known_to(actor).order_by("created_at", "id")
    for _ in range(hops):
        touching = known.filter(Q(source_id__in=edge) | Q(target_id__in=edge))
        found = touching.values_list("source_id", "relation", "target_id")[:_MAX_LINKS]
        reached: set[UUID] = set()
        for source, relation, target in found:
            # One that both ends were asked about is found by each.
            if source in edge:
                links[source].append((relation, target))
            if target in edge:
                links[target].append((f"{relation} (from)", source))
            reached |= {source, target}
        edge = reached - seen
        seen |= edge
        if not edge:
            break
    return links


def _steps(links: Mapping[UUID, Sequence[tuple[str, UUID]]], start: UUID, hops: int) -> list[tuple[str, UUID, int]]:
    steps: list[tuple[str, UUID, int]] = []
    seen, edge = {start}, [start]
    for hop in range(1, hops + 1):
        nearer, edge = edge, []
        for relation, one in (link for memory_id in nearer for link in links.get(memory_id, ())):
            if one not in seen and len(steps) < MAX_RELATED:
                seen.add(one)
                edge.append(one)
                steps.append((relation, one, hop))
    return steps
