"""Doing again what follows from memories' texts: terms, vectors, entities. After an upgrade that reads texts otherwise.

Nothing depends on it: what was written by an older release is found as that release would have found it.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np

from accounts.actors import Actor, acting_as
from accounts.models import User
from memories import outbox
from memories.models import Event, Memory, MemoryTerm, Mention, State
from memories.services import rows
from memories.services.changing import derived_columns
from memories.services.locking import again_after_deadlock

_BATCH = 100
# What half precision and another machine's arithmetic may differ by. Another model differs everywhere.
_SAME_WITHIN = 0.004


@dataclass(frozen=True)
class Reindexed:
    """One batch: how many memories were read, and how many of them were written anew."""

    memories: int
    changed: int


def owners_of_memories() -> list[tuple[int, str, int]]:
    """Id, name and number of memories of everybody who has any, deleted ones included."""
    with acting_as(Actor.system("reindex: owners")):
        return [
            (user_id, name, number)
            for user_id, name in User.objects.order_by("id").values_list("id", "username")
            if (number := Memory.objects.filter(owner_id=user_id).count())
        ]


def reindex(owner_id: int) -> Iterator[Reindexed]:
    """Bring every memory of an owner up to date, a batch a transaction; only what differs is written.

    Each batch locks its memories, so it may run beside writers, be stopped anywhere, and be run again. Neither version
    nor history tells of it: nobody changed what the memory says.
    """
    last: UUID | None = None
    while True:
        last, done = again_after_deadlock(partial(_reindex_after, owner_id, last))
        if last is None:
            return
        yield done


def _reindex_after(owner_id: int, last: UUID | None) -> tuple[UUID | None, Reindexed]:
    with acting_as(Actor.system("reindex")):
        wanted = Memory.objects.filter(owner_id=owner_id)
        if last is not None:
            wanted = wanted.filter(id__gt=last)
        memories = list(wanted.order_by("id").select_for_update(of=("self",), no_key=True)[:_BATCH])
        if not memories:
            return None, Reindexed(0, 0)
        ids = [memory.id for memory in memories]
        postings: dict[UUID, dict[str, tuple[int, int]]] = defaultdict(dict)
        mine: dict[str, Any] = {"owner_id": owner_id, "memory_id__in": ids}
        for memory_id, term, *numbers in MemoryTerm.objects.filter(**mine).values_list(
            "memory_id", "term", "tf", "length"
        ):
            postings[memory_id][term] = (numbers[0], numbers[1])
        mentions: dict[UUID, set[UUID]] = defaultdict(set)
        for memory_id, entity_id in Mention.objects.filter(**mine).values_list("memory_id", "entity_id"):
            mentions[memory_id].add(entity_id)
        changed = [one for one in memories if _renew(one, postings[one.id], mentions[one.id])]
    return ids[-1], Reindexed(len(memories), len(changed))


def _renew(memory: Memory, postings: dict[str, tuple[int, int]], mentions: set[UUID]) -> bool:
    """Write what differs of a locked memory; whether anything did."""
    columns = derived_columns(memory)
    derived = rows.derive(memory)
    # What tells duplicates apart stays as it is: two memories that were different must not become one.
    del columns["content_hash"]
    new_columns = {name: value for name, value in columns.items() if not _is_same(getattr(memory, name), value)}
    had_terms = memory.term_count
    for name, value in new_columns.items():
        setattr(memory, name, value)
    if new_columns:
        Memory.objects.filter(owner_id=memory.owner_id, id=memory.id).update(**new_columns)
    terms = rows.postings_of(derived.terms, memory.tags)
    is_stale = postings != {term: (tf, memory.term_count) for term, tf in terms.items()}
    if is_stale or mentions != set(rows.entities_by_id(memory.owner_id, derived.entities)):
        rows.remove_derived(memory, with_vectors=False)
        rows.write_derived(memory.owner_id, [(memory, derived)])
    elif not new_columns:
        return False
    longer = memory.term_count - had_terms if memory.state != State.DELETED else 0
    outbox.write(memory.owner_id, [outbox.event_for(memory.id, Event.UPDATE, terms=longer)])
    return True


def _is_same(old: Any, new: Any) -> bool:
    if isinstance(new, np.ndarray):
        return bool(np.abs(np.asarray(old, np.float32) - new).max() <= _SAME_WITHIN)
    return bool(old == new)
