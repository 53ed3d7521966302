"""The pool of a search: what may be an answer, found by each arm and beside it, in one statement.

Each arm looks only at rows that the caller may see and that pass the filters: those nearest by vector, those with the
rarest of the query's words (BM25 over the postings), and the neighbours of both in their runs.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from functools import cache
from typing import Any
from uuid import UUID

import numpy as np
from django.db import connection
from django.db.models.expressions import RawSQL
from pgvector import HalfVector

from accounts.actors import Actor
from accounts.models import User
from mem0stack.lib import prepared
from memories import vector_indexes
from memories.embedding_spaces import FarQuery
from memories.embeddings import Vector
from memories.expansion import Expanded
from memories.filters import EVERYTHING, Filter, fields_named, to_q
from memories.models import PERSONAL, Memory, Namespace
from memories.querysets import MemoryQuerySet, ReceivedShare, name_in_anothers_space
from memories.ranking import Pool, Question
from memories.statistics import Corpus

# Of each arm. Sixty held 97 % of the memories that answer, two hundred 99.7 % with the same result in the end.
_FROM_EACH_ARM = 60
# Neighbours on each side.
_REACH = 2
# BM25's constants, as measured on conversations: short texts want little saturation and little length correction.
_K1, _B = 0.6, 0.3
# Postings read for a query: past that its commonest words are left out. 20,000 of them take about 10 ms.
_MAX_POSTINGS = 20_000
# Memories read for a thing that the query names, the newest first.
_MAX_MENTIONS = 1_000


@dataclass(frozen=True)
class Scope:
    """Which rows can be an answer."""

    actor: Actor
    shares: Sequence[ReceivedShare]
    filters: Filter = EVERYTHING
    project: str | None = None
    # Of the same project, another namespace of the actor's; see `NamespaceQuerySet.other_name`.
    other_name: str = ""
    as_of: datetime | None = None

    @property
    def is_plain(self) -> bool:
        """One's own memories without filters: what most searches ask, with a statement that is put together once."""
        if self.shares or self.actor.namespaces is not None or self.as_of is not None or self.filters != EVERYTHING:
            return False
        return self.project is None or not name_in_anothers_space(self.project)

    @property
    def is_wide(self) -> bool:
        """Nothing but a project narrows it: of the nearest by an index, most can be an answer."""
        return self.actor.namespaces is None and self.as_of is None and self.filters == EVERYTHING


@dataclass(frozen=True)
class Word:
    """A term to look for, what it adds at most, and which word of the query it stands for."""

    term: str
    weight: float
    part: int


@dataclass(frozen=True)
class Wanted:
    """What is looked for: a unit vector, words whose best weights sum to 1, keys of entities, and where a provider
    embeds too, its vector."""

    vector: Vector
    words: Sequence[Word]
    has_alternatives: bool
    keys: Sequence[str]
    corpus: Corpus
    far: FarQuery | None = None


def wanted(
    vector: Vector, question: Question, also: Sequence[Expanded], corpus: Corpus, far: FarQuery | None
) -> Wanted:
    """The words that are looked up, rarest first: as many as have `_MAX_POSTINGS` postings together, at least one.

    What stands for a word of the query and is not there itself weighs as the likeliest that is.
    """
    parts = {term: part for part, term in enumerate(question.terms)}
    words = [Word(term, corpus.rarity(term), part) for term, part in parts.items()]
    words += [Word(one.term, one.weight * corpus.rarity(one.term), parts[one.of]) for one in also]
    there = [word for word in words if word.term in corpus.known]
    found = {word.part for word in there}
    total = sum(max((word.weight for word in there if word.part == part), default=0.0) for part in found)
    total += sum(corpus.rarity(term) for term, part in parts.items() if part not in found)
    kept: list[Word] = []
    postings = 0.0
    for word in sorted(words, key=lambda word: corpus.frequencies.get(word.term, 0.0)):
        postings += corpus.frequencies.get(word.term, 0.0)
        if kept and postings > _MAX_POSTINGS:
            break
        kept.append(replace(word, weight=word.weight / (total or 1.0)))
    return Wanted(vector, kept, len(words) > len(parts), question.keys, corpus, far)


def pool_of(scope: Scope, wanted: Wanted, *, at_least: int) -> Pool:
    """The candidates with their signals' raw values, in one statement; `at_least` so many where there are.

    An owner's vector index is asked where there is one, and a scan where it has not found enough: it looks at 20,000
    rows, and a project may have none among them. Runs inside `acting_as(scope.actor)`.
    """
    far = wanted.far
    values: dict[Any, Any] = {
        _Slot.VECTOR: HalfVector(wanted.vector).to_text(),
        _Slot.OWNER: scope.actor.owner_id,
        _Slot.OWNERS: [scope.actor.owner_id, *{share.owner_id for share in scope.shares}],
        _Slot.TERMS: [word.term for word in wanted.words],
        _Slot.WEIGHTS: [word.weight for word in wanted.words],
        _Slot.PARTS: [word.part for word in wanted.words],
        _Slot.MEAN_LENGTH: wanted.corpus.mean_length,
        _Slot.KEYS: list(wanted.keys),
        _Slot.MEMORIES: float(wanted.corpus.memories),
        _Slot.EACH: max(_FROM_EACH_ARM, at_least),
    }
    if far is not None:
        values |= {_Slot.FAR_VECTOR: HalfVector(far.vector).to_text(), _Slot.SPACE: far.space.id}
    if wanted.corpus.has_vector_index and scope.is_wide:
        values[_Slot.NAMESPACES] = _namespaces_of(scope)
        rows = _rows(scope, wanted, values, _Nearest.BY_INDEX)
        if not rows or rows[0][0] < values[_Slot.EACH]:
            rows = _rows(scope, wanted, values, _Nearest.IN_NAMESPACES)
    else:
        rows = _rows(scope, wanted, values, _Nearest.BY_SCAN)
    return _as_pool(rows)


class _Nearest(Enum):
    """How the nearest of one's own memories are found."""

    BY_SCAN = auto()
    BY_INDEX = auto()
    IN_NAMESPACES = auto()  # a scan that knows them, and reads no others


def _rows(scope: Scope, wanted: Wanted, values: dict[Any, Any], nearest: _Nearest) -> list[tuple[Any, ...]]:
    is_plain = scope.is_plain and wanted.far is None
    has_alternatives = wanted.has_alternatives
    if is_plain:
        in_project = scope.project is not None
        statement = _plain_statement(in_project=in_project, has_alternatives=has_alternatives, nearest=nearest)
        values = values | {
            _ANY_OWNER: scope.actor.owner_id,
            _ANY_PROJECT: scope.project,
            _ANY_OTHER_NAME: scope.other_name,
        }
    else:
        statement = _statement(scope, wanted.far, has_alternatives=has_alternatives, nearest=nearest)
    # The index of one owner serves a plan that knows the owner, and namespaces are many or few rows: nothing prepared.
    is_prepared = is_plain and nearest is _Nearest.BY_SCAN
    if is_prepared or nearest is _Nearest.BY_INDEX:
        with connection.cursor() as cursor:
            cursor.execute(_PLANNED_ONCE if is_prepared else vector_indexes.SEARCH_SETTINGS)
    with prepared.cursor() if is_prepared else connection.cursor() as cursor:
        cursor.execute(statement.text, _filled(statement.parameters, values))
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


# Planning takes longer than the search of a few thousand memories (2.6 of 7 ms), and PostgreSQL would do it each time,
# since it believes a plan for all owners to be dearer. All steps have an index for every size of owner; a plan that was
# made while the table was small would scan it, and stay until the next ANALYZE.
_PLANNED_ONCE = "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off"


def _namespaces_of(scope: Scope) -> list[UUID]:
    """The actor's own namespaces that make up the project, none without one."""
    if scope.project is None:
        return []
    own = Namespace.objects.filter(owner_id=scope.actor.owner_id, name__in=[scope.project, scope.other_name, PERSONAL])
    return list(own.values_list("id", flat=True))


class _Slot(Enum):
    """Where a search's own value goes in a statement."""

    VECTOR = auto()
    OWNERS = auto()
    TERMS = auto()
    WEIGHTS = auto()
    PARTS = auto()
    MEAN_LENGTH = auto()
    FAR_VECTOR = auto()
    SPACE = auto()
    OWNER = auto()
    EACH = auto()
    KEYS = auto()
    MEMORIES = auto()
    NAMESPACES = auto()


@dataclass(frozen=True)
class _Sql:
    """A piece of SQL with its parameters, some of them slots."""

    text: str
    parameters: tuple[Any, ...] = ()


# What stands for the owner and the project while the ORM makes the plain statement.
_ANY_OWNER, _ANY_PROJECT, _ANY_OTHER_NAME = 0, "the project", "its other name"


@cache
def _plain_statement(*, in_project: bool, has_alternatives: bool, nearest: _Nearest = _Nearest.BY_SCAN) -> _Sql:
    """Of one's own memories without filters, for any owner: building it takes the ORM as long as all else here."""
    anybody = Actor.of(User(pk=_ANY_OWNER), door="rest")
    scope = Scope(anybody, (), project=_ANY_PROJECT if in_project else None, other_name=_ANY_OTHER_NAME)
    return _statement(scope, None, has_alternatives=has_alternatives, nearest=nearest)


def _statement(
    scope: Scope, far: FarQuery | None, *, has_alternatives: bool, nearest: _Nearest = _Nearest.BY_SCAN
) -> _Sql:
    """All arms, what is beside their hits, and the columns of both.

    Every step but the arms themselves goes row by row over keys (LATERAL with OFFSET 0, which the planner does not
    rearrange) or groups: without statistics, as after a large load, it would join row by row what is not to be joined
    so, and take seconds (docs/adr/0006).
    """
    arms = [_within(arm, scope) for arm in Memory.objects.arms(scope.actor, scope.shares)]
    parts = [
        ("posting", _POSTINGS),
        ("named (owner_id, id, lexical, coverage)", _NAMED_BY_PARTS if has_alternatives else _NAMED),
        ("near_by_vector", _nearest(arms) if nearest is _Nearest.BY_SCAN else _nearest_known(scope, arms, nearest)),
        ("best_by_words", _probed(arms, "SELECT owner_id, id, -lexical AS place FROM named")),
        ("mentioned", _MENTIONED),
        ("naming (owner_id, id, entities)", _NAMING),
        ("best_by_entities", _probed(arms, "SELECT owner_id, id, -entities AS place FROM naming")),
    ]
    if far is not None:
        parts.append(("far", _far_distances(arms, far)))
        parts.append(("near_by_far_vector", _probed(arms, "SELECT owner_id, id, distance AS place FROM far")))
    hits = " UNION ".join(f"SELECT owner_id, id FROM {name}" for name, _ in parts if name.startswith(("near", "best")))
    parts += [("hit", _Sql(hits)), ("beside", _beside(arms)), ("scored", _SCORED)]
    head = ", ".join(f"{name} AS MATERIALIZED ({part.text})" for name, part in parts)
    columns = _COLUMNS if far is None else _FAR_COLUMNS
    parameters = tuple(parameter for _, part in parts for parameter in part.parameters)
    return _Sql(f"WITH {head} {columns.text}", parameters + columns.parameters)


def _union(arms: Sequence[_Sql]) -> _Sql:
    parameters = tuple(parameter for arm in arms for parameter in arm.parameters)
    return _Sql(" UNION ALL ".join(f"({arm.text})" for arm in arms), parameters)


def _compiled(arms: Sequence[MemoryQuerySet], *columns: str, **conditions: Any) -> _Sql:
    """The rows of every arm under more conditions, as one SELECT of these columns."""
    made = []
    for arm in arms:
        text, parameters = arm.filter(**conditions).order_by().values_list(*columns).query.sql_with_params()
        made.append(_Sql(text, tuple(parameters)))
    return _union(made)


def _outer(column: str) -> RawSQL:
    """A column of the query around an arm."""
    return RawSQL(column, ())  # noqa: S611  fixed texts


def _nearest(arms: Sequence[MemoryQuerySet]) -> _Sql:
    """By exact inner product; the id decides between equals, so that the same search has the same answer."""
    return _nearest_of(_compiled(arms, "owner_id", "id", "embedding"))


def _nearest_known(scope: Scope, arms: Sequence[MemoryQuerySet], nearest: _Nearest) -> _Sql:
    """The same, of which the actor's own are known to be the nearest already: by their index, or within namespaces
    whose ids are in the statement, so that the planner knows whether they are many.

    `<=>`, which orders unit vectors as `<#>` does, is the index's operator; no index could serve the other.
    """
    own = _within(Memory.objects.owned_by(scope.actor), replace(scope, project=None))
    rows = _compiled([own], "owner_id", "id", "embedding", "namespace_id")
    operator = "<=>" if nearest is _Nearest.BY_INDEX else "<#>"
    in_project, namespaces = ("WHERE namespace_id = ANY(%s)", [_Slot.NAMESPACES]) if scope.project else ("", [])
    first = _Sql(
        f"""SELECT owner_id, id, embedding FROM ({rows.text}) AS own {in_project}
        ORDER BY embedding {operator} %s::halfvec LIMIT %s""",
        (*rows.parameters, *namespaces, _Slot.VECTOR, _Slot.EACH),
    )
    shared = [_compiled(arms[1:], "owner_id", "id", "embedding")] if arms[1:] else []
    return _nearest_of(_union([first, *shared]))


def _nearest_of(rows: _Sql) -> _Sql:
    return _Sql(
        f"SELECT owner_id, id FROM ({rows.text}) AS visible ORDER BY embedding <#> %s::halfvec, id LIMIT %s",
        (*rows.parameters, _Slot.VECTOR, _Slot.EACH),
    )


def _probed(arms: Sequence[MemoryQuerySet], found: str) -> _Sql:
    """The best of `found` (owner_id, id, place) that are in an arm: as many as are needed are looked at."""
    rows = _compiled(arms, "id", owner_id=_outer("found.owner_id"), id=_outer("found.id"))
    return _Sql(
        f"""SELECT found.owner_id, found.id FROM ({found} ORDER BY 3, 2) AS found
        CROSS JOIN LATERAL ({rows.text} OFFSET 0) AS visible ORDER BY found.place, found.id LIMIT %s""",
        (*rows.parameters, _Slot.EACH),
    )


def _beside(arms: Sequence[MemoryQuerySet]) -> _Sql:
    rows = _compiled(
        arms,
        "owner_id",
        "id",
        owner_id=_outer("placed.owner_id"),
        namespace_id=_outer("placed.namespace_id"),
        run_id=_outer("placed.run_id"),
        seq__gte=_outer(f"placed.seq - {_REACH}"),
        seq__lte=_outer(f"placed.seq + {_REACH}"),
    )
    return _Sql(
        f"""SELECT beside.owner_id, beside.id FROM hit
        CROSS JOIN LATERAL (
            SELECT owner_id, namespace_id, run_id, seq FROM memories_memory AS m
            WHERE m.owner_id = hit.owner_id AND m.id = hit.id AND m.run_id IS NOT NULL OFFSET 0
        ) AS placed
        CROSS JOIN LATERAL ({rows.text} OFFSET 0) AS beside""",
        rows.parameters,
    )


def _far_distances(arms: Sequence[MemoryQuerySet], far: FarQuery) -> _Sql:
    """By a provider's vectors: the actor's own from their index, and those of shared memories one by one, since
    row-level security looks at each of them."""
    # What stands in the index's own condition, or it would not be used.
    held = "e.embedding IS NOT NULL" if far.space.is_wide else "e.embedding IS NOT NULL AND NOT e.is_wide"
    own = _Sql(
        f"""SELECT e.owner_id, e.memory_id AS id, e.embedding <#> %s::halfvec AS distance
        FROM memories_memoryembedding AS e WHERE e.owner_id = %s AND e.space_id = %s AND {held}""",
        (_Slot.FAR_VECTOR, _Slot.OWNER, _Slot.SPACE),
    )
    if len(arms) == 1:
        return own
    shared = _compiled(arms[1:], "owner_id", "id")
    looked_up = f"""SELECT shared.owner_id, shared.id, e.embedding <#> %s::halfvec AS distance
        FROM ({shared.text}) AS shared CROSS JOIN LATERAL (
            SELECT embedding FROM memories_memoryembedding AS e
            WHERE e.owner_id = shared.owner_id AND e.memory_id = shared.id AND e.space_id = %s AND {held} OFFSET 0
        ) AS e"""
    return _union([own, _Sql(looked_up, (_Slot.FAR_VECTOR, *shared.parameters, _Slot.SPACE))])


_POSTINGS = _Sql(
    f"""SELECT owner_id, memory_id, term,
        tf / (tf + {_K1}::float8 * ({1 - _B}::float8 + {_B}::float8 * length / %s::float8)) AS saturation
    FROM memories_memoryterm WHERE owner_id = ANY(%s) AND term = ANY(%s)""",
    (_Slot.MEAN_LENGTH, _Slot.OWNERS, _Slot.TERMS),
)
# A share of what a text with all words would have, so that it means the same from one query to the next.
_NAMED = _Sql(
    """SELECT owner_id, memory_id, sum(saturation * weight), sum(weight)
    FROM posting JOIN unnest(%s::text[], %s::float8[]) AS word (term, weight) USING (term)
    GROUP BY owner_id, memory_id""",
    (_Slot.TERMS, _Slot.WEIGHTS),
)
# Of a word and what else it may mean the best counts: the sum would count one thing twice.
_NAMED_BY_PARTS = _Sql(
    """SELECT owner_id, memory_id, sum(lexical), sum(weight) FROM (
        SELECT owner_id, memory_id, max(saturation * weight) AS lexical, max(weight) AS weight
        FROM posting JOIN unnest(%s::text[], %s::float8[], %s::int[]) AS word (term, weight, part) USING (term)
        GROUP BY owner_id, memory_id, part
    ) AS best GROUP BY owner_id, memory_id""",
    (_Slot.TERMS, _Slot.WEIGHTS, _Slot.PARTS),
)
# The actor's own: what somebody shares shows no entities. A thing that is in more memories than these says little.
_MENTIONED = _Sql(
    f"""SELECT DISTINCT e.key, m.memory_id FROM memories_entity AS e CROSS JOIN LATERAL (
        SELECT memory_id FROM memories_mention AS m WHERE m.owner_id = e.owner_id AND m.entity_id = e.id
        ORDER BY memory_id DESC LIMIT {_MAX_MENTIONS}
    ) AS m WHERE e.owner_id = %s AND e.key = ANY(%s)""",
    (_Slot.OWNER, _Slot.KEYS),
)
_NAMING = _Sql(
    """SELECT %s::bigint, memory_id, sum(rarity / total)
    FROM mentioned JOIN (
        SELECT key, rarity, sum(rarity) OVER () AS total FROM (
            SELECT key, ln(1 + (greatest(%s, count(*)) - count(*) + 0.5::float8) / (count(*) + 0.5::float8)) AS rarity
            FROM mentioned GROUP BY key
        ) AS counted
    ) AS rare USING (key) WHERE total > 0 GROUP BY memory_id""",
    (_Slot.OWNER, _Slot.MEMORIES),
)
_SCORED = _Sql(
    """SELECT owner_id, id, max(lexical) AS lexical, max(coverage) AS coverage, max(entities) AS entities
    FROM (
        SELECT owner_id, id, true AS is_chosen, 0::float8 AS lexical, 0::float8 AS coverage, 0::float8 AS entities
        FROM hit
        UNION ALL SELECT owner_id, id, true, 0, 0, 0 FROM beside
        UNION ALL SELECT owner_id, id, false, lexical, coverage, 0 FROM named
        UNION ALL SELECT owner_id, id, false, 0, 0, entities FROM naming
    ) AS seen GROUP BY owner_id, id HAVING bool_or(is_chosen)"""
)
_READ = """
SELECT (SELECT count(*) FROM near_by_vector),
    scored.owner_id, scored.id, m.speaker, -(m.embedding <#> %s::halfvec), lexical, coverage, entities, {far},
    CASE WHEN m.run_id IS NULL THEN 0
        ELSE hashtextextended(m.run_id, uuid_hash_extended(m.namespace_id, m.owner_id)) END,
    coalesce(m.seq, 0), extract(epoch FROM m.event_at)::float8, m.asks::int, m.says_when::int, m.term_count,
    m.quality, m.confidence, m.importance, (m.pinned_at IS NOT NULL)::int, m.kind = 'message'
FROM scored CROSS JOIN LATERAL (
    SELECT * FROM memories_memory AS m WHERE m.owner_id = scored.owner_id AND m.id = scored.id OFFSET 0
) AS m {joined}
"""
_COLUMNS = _Sql(_READ.format(far="NULL::float8", joined=""), (_Slot.VECTOR,))
_FAR_COLUMNS = _Sql(
    _READ.format(
        far="-(e.embedding <#> %s::halfvec)",
        joined="""LEFT JOIN LATERAL (
            SELECT embedding FROM memories_memoryembedding AS e
            WHERE e.owner_id = scored.owner_id AND e.memory_id = scored.id AND e.space_id = %s OFFSET 0
        ) AS e ON true""",
    ),
    (_Slot.VECTOR, _Slot.FAR_VECTOR, _Slot.SPACE),
)


def _within(arm: MemoryQuerySet, scope: Scope) -> MemoryQuerySet:
    """The rows of an arm that can be an answer: every condition is inside the arm, never applied afterwards."""
    named = fields_named(scope.filters)
    rows = arm.searchable(as_of=scope.as_of, any_state="state" in named, any_standing="standing" in named)
    if scope.project is not None:
        rows = rows.in_project(scope.actor, scope.project, scope.other_name)
    return rows if scope.filters == EVERYTHING else rows.filter(to_q(scope.filters, scope.actor.owner_id))


def _filled(parameters: Sequence[Any], values: Mapping[Any, Any]) -> list[Any]:
    return [values[one] if isinstance(one, Hashable) and one in values else one for one in parameters]


def _as_pool(rows: Sequence[tuple[Any, ...]]) -> Pool:
    columns = list(zip(*rows, strict=True)) if rows else [()] * 20
    _, owner_ids, ids, speakers = columns[:4]
    (similarity, lexical, coverage, named, far, run, seq, event_at, asks, says_when, length, *weights, messages) = (
        columns[4:]
    )
    quality, confidence, importance, pinned = (np.array(column, dtype=np.float64) for column in weights)
    return Pool(
        ids=ids,
        owner_ids=owner_ids,
        speakers=speakers,
        similarity=np.array(similarity, dtype=np.float64),
        lexical=np.array(lexical, dtype=np.float64),
        coverage=np.array(coverage, dtype=np.float64),
        entities=np.array(named, dtype=np.float64),
        provider=np.array(far, dtype=np.float64),
        is_message=np.array(messages, dtype=np.bool_),
        run=np.array(run, dtype=np.int64),
        seq=np.array(seq, dtype=np.int64),
        event_at=np.array(event_at, dtype=np.float64),
        asks=np.array(asks, dtype=np.float64),
        says_when=np.array(says_when, dtype=np.float64),
        length=np.array(length, dtype=np.float64),
        quality=quality,
        confidence=confidence,
        importance=importance,
        pinned=pinned,
    )
