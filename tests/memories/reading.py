"""What the database holds after a write, as its owner sees it; and many callers at once."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from django.db import connection, models

from accounts.actors import Actor, acting_as
from memories.entities import entities_of
from memories.lexical import document_terms
from memories.models import Memory, MemoryHistory, MemoryTerm, Mention, OutboxEvent, OwnerStatistics
from memories.services.rows import embedded_text, postings_of


def stored(actor: Actor, memory_id: UUID) -> Memory:
    with acting_as(actor):
        return Memory.objects.select_related("namespace", "app").get(owner_id=actor.owner_id, id=memory_id)


def count(actor: Actor, model: type[models.Model]) -> int:
    with acting_as(actor):
        return model._default_manager.filter(owner_id=actor.owner_id).count()


def categories(actor: Actor, memory_id: UUID) -> list[str]:
    with acting_as(actor):
        return sorted(stored(actor, memory_id).category_links.values_list("category__name", flat=True))


def postings(actor: Actor, memory_id: UUID) -> dict[str, int]:
    with acting_as(actor):
        return dict(MemoryTerm.objects.filter(owner_id=actor.owner_id, memory_id=memory_id).values_list("term", "tf"))


def expected_postings(memory: Memory) -> dict[str, int]:
    return postings_of(document_terms(embedded_text(memory)), memory.tags)


def mentions(actor: Actor, memory_id: UUID) -> set[str]:
    """The keys of what this memory is known to name."""
    with acting_as(actor):
        mine = Mention.objects.filter(owner_id=actor.owner_id, memory_id=memory_id)
        return set(mine.values_list("entity__key", flat=True))


def expected_mentions(memory: Memory) -> set[str]:
    return {key for thing in entities_of(memory.content, memory.speaker) for key in thing.keys}


def history(actor: Actor, memory_id: UUID) -> list[MemoryHistory]:
    with acting_as(actor):
        return list(MemoryHistory.objects.filter(owner_id=actor.owner_id, memory_id=memory_id).order_by("id"))


def events(actor: Actor, memory_id: UUID) -> list[tuple[str, int]]:
    return [(entry.event, entry.version) for entry in history(actor, memory_id)]


def outbox_events(actor: Actor) -> list[OutboxEvent]:
    with acting_as(actor):
        return list(OutboxEvent.objects.filter(owner_id=actor.owner_id).order_by("id"))


def statistics(actor: Actor) -> tuple[int, int]:
    with acting_as(actor):
        row = OwnerStatistics.objects.filter(owner_id=actor.owner_id).first()
    return (row.memories, row.terms) if row else (0, 0)


def true_statistics(actor: Actor) -> tuple[int, int]:
    with acting_as(actor):
        alive = Memory.objects.filter(owner_id=actor.owner_id).alive()
        found = alive.aggregate(memories=models.Count("id"), terms=models.Sum("term_count"))
    return found["memories"], found["terms"] or 0


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Every call in a thread with a connection of its own, started together; their results, or what they raised."""
    connection.close()  # the pool has as many connections as there are threads
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        gate.wait(timeout=10)
        try:
            return call()
        except Exception as error:  # noqa: BLE001  a result like any other: the test says which one it wants
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls, timeout=60))
