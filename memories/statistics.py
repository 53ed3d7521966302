"""How many memories an owner has and how long they are: what BM25 needs to know beside the postings.

Writers only append outbox events; the worker folds them into one row per owner. A counter that writers themselves
raised would make five agents of one owner wait for each other, and deadlock over words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from mem0stack.lib import prepared
from memories import outbox, vector_indexes
from memories.models import OutboxEvent


@dataclass(frozen=True)
class Corpus:
    """Number of memories, and their mean length in terms; neither is ever 0."""

    memories: int
    mean_length: float


def corpus_of(owner_ids: Sequence[int]) -> Corpus:
    """The corpus that these owners' memories make, as of the last fold; a new owner looks like one average memory."""
    with prepared.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(memories), 0), coalesce(sum(terms), 0) FROM memories_ownerstatistics"
            " WHERE owner_id = ANY(%s)",
            [list(owner_ids)],
        )
        memories, terms = cursor.fetchone()
    if memories <= 0 or terms <= 0:
        return Corpus(memories=1, mean_length=_TYPICAL_LENGTH)
    return Corpus(memories=int(memories), mean_length=float(terms) / float(memories))


_TYPICAL_LENGTH = 12.0


def fold(owner_id: int, events: Sequence[OutboxEvent]) -> None:
    """Add the events' numbers to the owner's row, in the transaction that marks them as delivered."""
    memories = sum(event.payload.get("memories", 0) for event in events)
    terms = sum(event.payload.get("terms", 0) for event in events)
    if not memories and not terms:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO memories_ownerstatistics AS s (id, owner_id, memories, terms, updated_at)"
            " VALUES (gen_random_uuid(), %s, %s, %s, statement_timestamp())"
            " ON CONFLICT (owner_id) DO UPDATE SET memories = s.memories + excluded.memories,"
            " terms = s.terms + excluded.terms, updated_at = excluded.updated_at"
            " RETURNING memories, vector_index_at IS NOT NULL",
            [owner_id, memories, terms],
        )
        total, is_indexed = cursor.fetchone()
    vector_indexes.consider(total, is_indexed=is_indexed)


outbox.register("statistics", fold, kinds={"memory"})
