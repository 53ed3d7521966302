"""How many memories an owner has, how long they are, and in how many each term stands: what makes a word rare.

Writers only append outbox events; the worker folds them into one row per owner and counts the terms anew, from the
postings, when a twentieth of the memories has changed. A counter that writers themselves raised would make five agents
of one owner wait for each other, and deadlock over words.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import orjson
from django.db import connection

from mem0stack.lib import prepared
from memories import outbox, vector_indexes
from memories.models import OutboxEvent

# Below so many memories an owner's own counts say little, and are blended with what is usual.
_ENOUGH = 50
# The share of texts that a word is in which lexical drops: an article, a pronoun.
_COMMON = 0.35
_TYPICAL_LENGTH = 12.0
# Terms are counted anew after so many changes for each memory there was: it costs about 1 us a posting.
_RECOUNT_AT = 0.05


@dataclass(frozen=True)
class Corpus:
    """What is known of an owner's memories: their number, mean length in terms, and how many hold each term asked for.

    None of the numbers is ever 0; an owner of few memories is filled up with an average one's.
    """

    memories: float
    mean_length: float
    frequencies: Mapping[str, float]
    known: Collection[str]  # terms that are the owner's own, not borrowed
    has_vector_index: bool

    def with_terms(self, frequencies: Mapping[str, float]) -> "Corpus":
        """Knowing of more of the owner's terms."""
        if not frequencies:
            return self
        return replace(
            self, frequencies={**self.frequencies, **frequencies}, known=frozenset((*self.known, *frequencies))
        )

    def rarity(self, term: str) -> float:
        """BM25's inverse document frequency, ln(1 + (n - df + 1/2) / (df + 1/2)): 0 for what is everywhere."""
        return _idf(self.memories, self.frequencies.get(term, 0.0))

    def rarity_of_word(self, terms: Sequence[str]) -> float:
        """Of a word with these terms: its rarest one's; of a word that has none, as articles have, a low one."""
        if not terms:
            return _idf(self.memories, _COMMON * self.memories)
        return max(map(self.rarity, terms))


def corpus_of(owner_id: int, terms: Sequence[str]) -> Corpus:
    """The owner's memories as of the last count, one query."""
    with prepared.cursor() as cursor:
        cursor.execute(
            "SELECT s.memories, s.terms, s.counted_memories, ("
            "   SELECT json_object_agg(t.term, t.df) FROM memories_ownerterm AS t"
            "   WHERE t.owner_id = s.owner_id AND t.term = ANY(%s)"
            "), s.vector_index_at IS NOT NULL FROM memories_ownerstatistics AS s WHERE s.owner_id = %s",
            [list(terms), owner_id],
        )
        memories, length, counted, found, has_vector_index = cursor.fetchone() or (0, 0, 0, None, False)
    mean_length = float(length) / memories if memories > 0 and length > 0 else _TYPICAL_LENGTH
    borrowed = max(0, _ENOUGH - counted)
    known = frozenset(found or ())
    frequencies: dict[str, float] = dict(found or {})
    if borrowed:
        usual = _usual_shares()
        frequencies = {term: frequencies.get(term, 0) + borrowed * usual.get(term, 0.0) for term in terms}
    return Corpus(
        memories=max(1, counted + borrowed),
        mean_length=mean_length,
        frequencies=frequencies,
        known=known,
        has_vector_index=has_vector_index,
    )


def fold(owner_id: int, events: Sequence[OutboxEvent]) -> None:
    """Add the events' numbers to the owner's row, in the transaction that marks them as delivered."""
    memories = sum(event.payload.get("memories", 0) for event in events)
    terms = sum(event.payload.get("terms", 0) for event in events)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO memories_ownerstatistics AS s (id, owner_id, memories, terms, changes, updated_at)"
            " VALUES (gen_random_uuid(), %s, %s, %s, %s, statement_timestamp())"
            " ON CONFLICT (owner_id) DO UPDATE SET memories = s.memories + excluded.memories,"
            " terms = s.terms + excluded.terms, changes = s.changes + excluded.changes,"
            " updated_at = excluded.updated_at"
            " RETURNING s.memories, s.changes, s.counted_memories, s.vector_index_at IS NOT NULL",
            [owner_id, memories, terms, len(events)],
        )
        total, changes, counted, is_indexed = cursor.fetchone()
    vector_indexes.consider(total, is_indexed=is_indexed)
    if changes > _RECOUNT_AT * counted:
        count_terms(owner_id)


def count_terms(owner_id: int) -> None:
    """Count an owner's terms from the postings. Only rows that differ are written: about 1 us a posting, so 0.3 s for
    10,000 memories."""
    with connection.cursor() as cursor:
        # Ten seconds and more for 400,000 memories: what keeps requests short would have it tried again for ever.
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(
            """
            WITH counted AS MATERIALIZED (
                SELECT term, count(*) AS df FROM memories_memoryterm WHERE owner_id = %(owner)s GROUP BY term
            ), gone AS (
                DELETE FROM memories_ownerterm AS t WHERE t.owner_id = %(owner)s
                AND NOT EXISTS (SELECT 1 FROM counted WHERE counted.term = t.term)
            ), kept AS (
                INSERT INTO memories_ownerterm AS t (owner_id, term, df)
                SELECT %(owner)s, term, df FROM counted ORDER BY term
                ON CONFLICT (owner_id, term) DO UPDATE SET df = excluded.df WHERE t.df <> excluded.df
            )
            UPDATE memories_ownerstatistics SET counted_memories = memories, changes = 0 WHERE owner_id = %(owner)s
            """,
            {"owner": owner_id},
        )


def _idf(memories: float, frequency: float) -> float:
    # Counts are a little old, and a term may stand in more memories than there were.
    frequency = min(frequency, memories)
    return math.log(1 + (memories - frequency + 0.5) / (frequency + 0.5))


@cache
def _usual_shares() -> Mapping[str, float]:
    """The share of memories that common terms stand in, from the conversations and facts search is evaluated with."""
    shares: dict[str, float] = orjson.loads((Path(__file__).parent / "usual_terms.json").read_bytes())
    return shares


outbox.register("statistics", fold, kinds={"memory"})
