"""The one way memories are found, for every door.

Two arms look at the rows that the caller may see and that pass the filters: exact vector search, and BM25 over the
postings. Their scores are summed. One statement finds the best, a second one reads their rows. Where a provider embeds
too, its vectors say how similar a memory is, as far as there are any and it answers in time.
"""

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import structlog
from django.db import connection
from django.db.models import Q, Value
from pgvector import HalfVector
from pgvector.django import MaxInnerProduct

from accounts.actors import Actor, acting_as
from accounts.models import Scope, User
from mem0stack.lib.errors import InvalidArgument
from mem0stack.lib.metrics import SEARCH_STAGE_SECONDS, SEARCHES_DEGRADED
from memories import access, embedding_spaces, statistics, texts
from memories.embedding_spaces import FarQuery
from memories.embeddings import Vector, embed_query
from memories.filters import EVERYTHING, Filter, fields_named, to_q
from memories.lexical import query_terms
from memories.models import AccessAction, Memory, Share
from memories.providers import ProviderAway
from memories.querysets import MemoryQuerySet, ReceivedShare, name_in_anothers_space

log = structlog.get_logger(__name__)

MAX_QUERY = 2_000
MAX_TOP_K = 100
MAX_EXPAND = 5
# BM25's constants, as measured on conversations: short texts want little saturation and little length correction.
_K1, _B = 0.6, 0.3
_VECTOR_WEIGHT, _LEXICAL_WEIGHT = 0.3, 0.7
# Below this nothing found so far was ever the answer.
_ANSWERABLE = 0.2


@dataclass(frozen=True)
class Hit:
    """A memory, how well it fits (0..1), and what that is made of."""

    memory: Memory
    score: float
    signals: Mapping[str, float]
    neighbours: Sequence[Memory] = ()


@dataclass(frozen=True)
class SearchResult:
    """The whole answer, best first. `degraded` names parts that were away; `truncated` says that `token_budget`, and
    nothing else, has cut hits off."""

    hits: Sequence[Hit]
    answerable: bool
    degraded: Sequence[str]
    truncated: bool
    took_ms: float


@dataclass(frozen=True)
class _Candidate:
    owner_id: int
    memory_id: UUID
    score: float
    signals: Mapping[str, float]


@dataclass(frozen=True)
class _Arm:
    """SQL with its parameters."""

    sql: str
    parameters: tuple[Any, ...]


def search(
    actor: Actor,
    query: str,
    *,
    filters: Filter = EVERYTHING,
    top_k: int = 10,
    threshold: float = 0.0,
    namespace: str | None = None,
    as_of: datetime | None = None,
    expand: int = 0,
    token_budget: int | None = None,
) -> SearchResult:
    """What this actor remembers about `query`.

    A `namespace` covers itself and `personal`; none, or `*`, covers everything visible. Superseded and rejected
    memories stay out unless a filter names `standing`; `as_of` asks what was true then. `expand` adds that many
    neighbours on each side in a hit's run. `token_budget` (of about 4 characters each) is a ceiling for the texts.
    Raises InvalidArgument, Forbidden.
    """
    started = time.perf_counter()
    actor.require(Scope.READ)
    texts.check_time("as_of", as_of)
    _check(query, top_k=top_k, threshold=threshold, expand=expand, token_budget=token_budget)
    project = _project(actor, namespace)
    # Before the transaction, and so are the terms: it holds database work only.
    with SEARCH_STAGE_SECONDS.labels("embed").time():
        vector, terms = embed_query(query), query_terms(query)
        far, degraded = _far(query)
    with acting_as(actor):
        with SEARCH_STAGE_SECONDS.labels("candidates").time():
            shares = Share.objects.received(actor)
            arms = _arms(actor, shares, vector, filters=filters, project=project, as_of=as_of)
            owners = [actor.owner_id, *{share.owner_id for share in shares}]
            best = _best(actor, owners, arms, far, terms, top_k=top_k)
        with SEARCH_STAGE_SECONDS.labels("read").time():
            hits = _read([candidate for candidate in best if candidate.score >= threshold])
            if expand:
                hits = _with_neighbours(hits, Memory.objects.visible_to(actor).searchable(as_of=as_of), expand)
    kept = _fit(hits, token_budget)
    access.note(actor, AccessAction.SEARCH, (memory for hit in kept for memory in (hit.memory, *hit.neighbours)))
    took_ms = (time.perf_counter() - started) * 1000
    log.debug("searched", owner_id=actor.owner_id, hits=len(kept), took_ms=round(took_ms, 2))
    return SearchResult(
        hits=kept,
        answerable=bool(kept) and kept[0].score >= _ANSWERABLE,
        degraded=degraded,
        truncated=len(kept) < len(hits),
        took_ms=round(took_ms, 2),
    )


def _check(query: str, *, top_k: int, threshold: float, expand: int, token_budget: int | None) -> None:
    if not query.strip():
        raise InvalidArgument("query is empty; ask in a few words.", errors={"query": ["empty"]})
    if len(query) > MAX_QUERY:
        raise InvalidArgument(
            f"query has {len(query)} characters; at most {MAX_QUERY} are read.", errors={"query": ["long"]}
        )
    if "\x00" in query or any("\ud800" <= character <= "\udfff" for character in query):
        raise InvalidArgument("query holds a NUL character or half a surrogate pair.", errors={"query": ["invalid"]})
    if not 1 <= top_k <= MAX_TOP_K:
        raise InvalidArgument(f"top_k is 1 to {MAX_TOP_K}.", errors={"top_k": [f"1 to {MAX_TOP_K}"]})
    if not 0 <= threshold <= 1:
        raise InvalidArgument("threshold is a number from 0 to 1.", errors={"threshold": ["0 to 1"]})
    if not 0 <= expand <= MAX_EXPAND:
        raise InvalidArgument(f"expand is 0 to {MAX_EXPAND}.", errors={"expand": [f"0 to {MAX_EXPAND}"]})
    if token_budget is not None and token_budget < 1:
        raise InvalidArgument("token_budget is 1 or more.", errors={"token_budget": ["1 or more"]})


def _far(query: str) -> tuple[FarQuery | None, Sequence[str]]:
    """The query in the provider's space, where there is one, and the part that was away when it should have told."""
    try:
        return embedding_spaces.query_vector(query), ()
    except ProviderAway as away:
        SEARCHES_DEGRADED.labels("embedder").inc()
        log.debug("search_without_embedder", reason=away.reason)
        return None, ("embedder",)


def _project(actor: Actor, namespace: str | None) -> str | None:
    """The name of the project to search; None for everything visible."""
    if namespace is None or namespace == "*":
        return None
    name = texts.clean_namespace(namespace)
    actor.require_namespace(name)
    return name


def _arms(
    actor: Actor,
    shares: Sequence[ReceivedShare],
    vector: Vector,
    *,
    filters: Filter,
    project: str | None,
    as_of: datetime | None,
) -> list[_Arm]:
    """The rows that can be an answer, with their distance to the query, as parts with an index each."""
    text = HalfVector(vector).to_text()
    is_limited = bool(shares) or actor.namespaces is not None or as_of is not None or filters != EVERYTHING
    if is_limited or (project is not None and name_in_anothers_space(project)):
        rows = Memory.objects.arms(actor, shares)
        return [_compiled(_within(arm, actor, filters, project, as_of), text) for arm in rows]
    arm = _plain_arm(in_project=project is not None)
    values = {_OWNER: actor.owner_id, _PROJECT: project, _VECTOR: text}
    return [_Arm(arm.sql, tuple(values.get(parameter, parameter) for parameter in arm.parameters))]


# Stand-ins for the values of a statement that is put together once.
_OWNER, _PROJECT, _VECTOR = 0, "the project", "the vector"


@cache
def _plain_arm(*, in_project: bool) -> _Arm:
    """What most searches ask, one's own without filters: building it takes the ORM as long as all else here."""
    anybody = Actor.of(User(pk=_OWNER), door="rest")
    rows = _within(Memory.objects.arms(anybody, ())[0], anybody, EVERYTHING, _PROJECT if in_project else None, None)
    return _compiled(rows, _VECTOR)


def _compiled(rows: MemoryQuerySet, vector: str) -> _Arm:
    distance = MaxInnerProduct("embedding", Value(vector))
    chosen = rows.order_by().annotate(distance=distance).values_list("id", "owner_id", "distance")
    return _Arm(*chosen.query.sql_with_params())


def _within(
    arm: MemoryQuerySet, actor: Actor, filters: Filter, project: str | None, as_of: datetime | None
) -> MemoryQuerySet:
    """The rows of an arm that can be an answer: every condition is inside the arm, never applied afterwards."""
    named = fields_named(filters)
    rows = arm.searchable(as_of=as_of, any_state="state" in named, any_standing="standing" in named)
    if project is not None:
        rows = rows.in_project(actor, project)
    return rows if filters == EVERYTHING else rows.filter(to_q(filters, actor.owner_id))


def _best(
    actor: Actor,
    owners: Sequence[int],
    arms: Sequence[_Arm],
    far: FarQuery | None,
    terms: Sequence[str],
    *,
    top_k: int,
) -> list[_Candidate]:
    """The best by the sum of both arms' scores, in one statement: exact, whatever the filters."""
    within = " UNION ALL ".join(f"({arm.sql})" for arm in arms)
    within_params = [parameter for arm in arms for parameter in arm.parameters]
    corpus = statistics.corpus_of(actor.owner_id, terms)
    far_arm, far_params = _far_arm(actor, far, is_shared=len(arms) > 1) if far else ("", [])
    with connection.cursor() as cursor:
        # The arms meet in a GROUP BY, not in a join: a planner without statistics, as after a large load, would join
        # them row by row, and take seconds.
        cursor.execute(
            # S608: `within` is what the ORM made, with its parameters beside it; the rest is made of fixed parts.
            f"""
            WITH posting AS MATERIALIZED (
                SELECT owner_id, memory_id, term,
                    tf / (tf + {_K1}::float8 * ({1 - _B}::float8 + {_B}::float8 * length / %s::float8)) AS weight
                FROM memories_memoryterm WHERE owner_id = ANY(%s) AND term = ANY(%s)
            ), rarity AS MATERIALIZED (
                SELECT term, idf / sum(idf) OVER () AS share
                FROM (
                    SELECT term, ln(1 + (greatest(%s, df) - df + 0.5::float8) / (df + 0.5::float8)) AS idf
                    FROM (SELECT term, count(*) AS df FROM posting GROUP BY term) AS counted
                ) AS rare
            ), named (owner_id, id, lexical) AS MATERIALIZED (
                SELECT owner_id, memory_id, sum(weight * share)
                FROM posting JOIN rarity USING (term) GROUP BY owner_id, memory_id
            ), candidate (id, owner_id, distance) AS (
                {within}
            ), seen (id, owner_id, cosine, far, lexical) AS (
                ({_ALL_ROWS if far else _ROWS_THAT_CAN_WIN})
                UNION ALL
                SELECT id, owner_id, NULL, NULL, lexical FROM named
                {far_arm}
            ), scored (owner_id, id, cosine, far, lexical) AS (
                SELECT owner_id, id, max(cosine), max(far), sum(lexical)
                FROM seen GROUP BY owner_id, id HAVING max(cosine) IS NOT NULL
            )
            {_SCALED if far else _AS_IT_IS}
            ORDER BY {_VECTOR_WEIGHT}::float8 * greatest(0, cosine) + {_LEXICAL_WEIGHT}::float8 * lexical DESC, id
            LIMIT %s
            """,  # noqa: S608
            [
                corpus.mean_length,
                list(owners),
                list(terms),
                corpus.memories,
                *within_params,
                *(far_params if far else [top_k]),
                top_k,
            ],
        )
        found = cursor.fetchall()
    return [_candidate(*row) for row in found]


_ALL_ROWS = "SELECT id, owner_id, -distance, NULL::float8, 0 FROM candidate"
# Of the rows without any of the query's words only the nearest top_k can be among the best, so the others need not be
# grouped: a third of the time for an owner of 40,000. The order is that of the end, so the result is the same.
_ROWS_THAT_CAN_WIN = """
    SELECT id, owner_id, -distance, NULL::float8, 0 FROM candidate
    ORDER BY (id IN (SELECT id FROM named)) DESC, greatest(0, -distance) DESC, id
    LIMIT (SELECT count(*) FROM named) + %s
"""
_AS_IT_IS = "SELECT owner_id, id, cosine, lexical FROM scored"
# Cosines of two models are not on one scale, and the weights are for the local one's. So a provider's cosine counts by
# how far it stands out among all that have one, in the local cosine's mean and spread over the same memories; a memory
# without one keeps its local cosine, and can win by it. See docs/adr/0007.
_SCALED = """
    , scale AS (
        SELECT avg(cosine) AS cosine_mean, stddev_pop(cosine) AS cosine_spread,
            avg(far) AS far_mean, nullif(stddev_pop(far), 0) AS far_spread
        FROM scored WHERE far IS NOT NULL
    ), scaled AS (
        SELECT owner_id, id, lexical,
            coalesce(cosine_mean + cosine_spread * (far - far_mean) / far_spread, cosine) AS cosine
        FROM scored CROSS JOIN scale
    )
    SELECT owner_id, id, cosine, lexical FROM scaled
"""


def _far_arm(actor: Actor, far: FarQuery, *, is_shared: bool) -> tuple[str, list[Any]]:
    """The cosines of the provider's vectors: the actor's own from their index, and those of shared memories one by one,
    since row-level security looks at each of them."""
    cosine = "-(e.embedding <#> %s::halfvec)"
    # What stands in the index's own condition, or it would not be used.
    held = "e.embedding IS NOT NULL" if far.space.is_wide else "e.embedding IS NOT NULL AND NOT e.is_wide"
    vector = HalfVector(far.vector).to_text()
    sql = f"""UNION ALL
        SELECT e.memory_id, e.owner_id, NULL, {cosine}, 0 FROM memories_memoryembedding AS e
        WHERE e.owner_id = %s AND e.space_id = %s AND {held}"""  # noqa: S608
    params: list[Any] = [vector, actor.owner_id, far.space.id]
    if is_shared:
        sql += f""" UNION ALL
            SELECT e.memory_id, e.owner_id, NULL, {cosine}, 0 FROM candidate AS c
            JOIN memories_memoryembedding AS e ON e.owner_id = c.owner_id AND e.memory_id = c.id AND e.space_id = %s
            WHERE c.owner_id <> %s AND e.embedding IS NOT NULL"""  # noqa: S608
        params += [vector, far.space.id, actor.owner_id]
    return sql, params


def _candidate(owner_id: int, memory_id: UUID, cosine: float, lexical: float) -> _Candidate:
    """A cosine is between unit vectors, and BM25 is put as a share of the most that any text could get for the query:
    both lie in 0..1 and mean the same from one query to the next."""
    signals = {
        "vector": _VECTOR_WEIGHT * min(1.0, max(0.0, cosine)),
        "lexical": _LEXICAL_WEIGHT * min(1.0, lexical),
    }
    return _Candidate(owner_id, memory_id, score=sum(signals.values()), signals=signals)


def _read(best: Sequence[_Candidate]) -> list[Hit]:
    """The rows of the best, in one query."""
    if not best:
        return []
    owners, ids = {candidate.owner_id for candidate in best}, [candidate.memory_id for candidate in best]
    rows = {memory.id: memory for memory in Memory.objects.all().named_by_id(owners, ids)}
    return [
        Hit(
            memory=rows[candidate.memory_id],
            score=round(candidate.score, 4),
            signals={name: round(share, 4) for name, share in candidate.signals.items()},
        )
        for candidate in best
        if candidate.memory_id in rows
    ]


def _with_neighbours(hits: Sequence[Hit], rows: MemoryQuerySet, reach: int) -> list[Hit]:
    """The hits, each in a run with up to `reach` of the rows before and after it, in their order."""
    placed = [hit.memory for hit in hits if hit.memory.run_id is not None]
    if not placed:
        return list(hits)
    near = Q()
    for memory in placed:
        near |= _same_run(memory) & Q(seq__range=(max(0, _seq(memory) - reach), _seq(memory) + reach))
    runs: dict[tuple[object, ...], list[Memory]] = defaultdict(list)
    for memory in rows.filter(near).with_names().order_by("seq", "id"):
        runs[_run(memory)].append(memory)
    return [
        replace(
            hit, neighbours=[other for other in runs.get(_run(hit.memory), ()) if _is_near(hit.memory, other, reach)]
        )
        for hit in hits
    ]


def _is_near(memory: Memory, other: Memory, reach: int) -> bool:
    return other.id != memory.id and abs(_seq(other) - _seq(memory)) <= reach


def _run(memory: Memory) -> tuple[object, ...]:
    return memory.owner_id, memory.namespace_id, memory.run_id


def _seq(memory: Memory) -> int:
    # Whatever is in a run has a place: the services give it one.
    return memory.seq or 0


def _same_run(memory: Memory) -> Q:
    return Q(owner_id=memory.owner_id, namespace_id=memory.namespace_id, run_id=memory.run_id)


def _fit(hits: Sequence[Hit], token_budget: int | None) -> list[Hit]:
    """As many of the best as fit the budget, whole. A token is about four characters."""
    if token_budget is None:
        return list(hits)
    kept: list[Hit] = []
    left = token_budget
    for hit in hits:
        left -= sum(math.ceil(len(memory.content) / 4) for memory in (hit.memory, *hit.neighbours))
        if left < 0:
            break
        kept.append(hit)
    return kept
