"""The provider tier of embeddings: spaces of vectors that a provider made, beside the local ones, always there.

Every memory that is to be embedded has a row without a vector, made by the outbox or by `reembed`; whoever fills it
calls the provider outside of any transaction. Searches ask the one active space, and do without it when they must.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from celery import current_app
from django.db import connection, transaction
from django.db.models.functions import Now

from accounts.actors import Actor, acting_as
from mem0stack.lib import valkey
from mem0stack.lib.bulk import as_json
from memories import outbox, providers
from memories.embeddings import MAX_CHARACTERS
from memories.models import COVERED_DIMENSIONS, EmbeddingSpace, Event, OutboxEvent, Purpose, SpaceState
from memories.providers import Provider, ProviderAway, Vector

log = structlog.get_logger(__name__)

# How long the active space is taken as read. What a switch leaves behind must outlive it.
GOOD_FOR_S = 1.0
# Providers take about 300,000 tokens in one request.
_BATCH_CHARACTERS = 500_000
# What is too long for a model at MAX_CHARACTERS, as Chinese may be, is not at this length.
_SHORT_CHARACTERS = 2_000
_CHUNK = 5_000
_REMEMBERED_QUERIES = 1_000
_QUERY_KEPT_S = 24 * 3600
_NUDGED = valkey.key("embeddings-nudged")
_NUDGE_LASTS_S = 5
_NUDGE_WAITS_S = 0.2


@dataclass(frozen=True)
class Space:
    """Where vectors of one model are."""

    id: UUID
    kind: str
    model: str
    dimensions: int

    @property
    def is_wide(self) -> bool:
        return self.dimensions > COVERED_DIMENSIONS


@dataclass(frozen=True)
class FarQuery:
    """A query's vector in the active space."""

    space: Space
    vector: Vector


@dataclass(frozen=True)
class Filled:
    """What became of one batch: how many got a vector, how many the provider will not take, or changed meanwhile."""

    embedded: int
    refused: int
    changed: int

    @property
    def taken(self) -> int:
        return self.embedded + self.refused + self.changed


@dataclass(frozen=True)
class Coverage:
    """How much of all memories a space holds. `missing` have no vector yet; `refused` the provider will not take."""

    space: Space
    state: str
    embedded: int
    missing: int
    refused: int


# Asking ---------------------------------------------------------------------------------------------------------------


def active() -> Space | None:
    """The space that searches ask, or None. Costs a statement a second at most."""
    return _in_use().get(SpaceState.ACTIVE)


def query_vector(text: str) -> FarQuery | None:
    """The query in the active space, None without one. Waits for the provider's budget at most; raises ProviderAway."""
    space = active()
    if space is None:
        return None
    if (known := _queries.get((space.id, text))) is not None:
        return FarQuery(space, known)
    provider = _provider_of(space)
    return FarQuery(space, provider.within_budget(lambda: _query_vector(provider, space, text)))


def forget() -> None:
    """Read the active space anew at the next question, and forget queries."""
    _known.at = float("-inf")
    _queries.clear()


def _provider_of(space: Space) -> Provider:
    """Whom to ask for vectors of this space. Raises ProviderAway where that is nobody."""
    provider = providers.configured(Purpose.EMBEDDER)
    if provider is None:
        raise ProviderAway("unusable", "There is an active space and no embedder to ask.")
    if provider.kind != space.kind:
        # It might answer all the same: some servers look at no name, and their vectors would fit and mean nothing.
        raise ProviderAway("unusable", f"The active space is of {space.kind}, not of {provider.kind}: reembed.")
    return provider


def _query_vector(provider: Provider, space: Space, text: str) -> Vector:
    """In a thread of its own, which may go on when nobody waits any more: what it learns is kept all the same."""
    name = valkey.key("query-vector", space.id, providers.fingerprint(text))
    vector = _shared(name, space.dimensions)
    if vector is None:
        vector = provider.embed_query(text, model=space.model, dimensions=space.dimensions)
        _share(name, vector)
    _queries.put((space.id, text), vector)
    return vector


def _shared(name: str, dimensions: int) -> Vector | None:
    found = valkey.ask("provider", lambda client: client.get(name), otherwise=None)
    if not isinstance(found, bytes) or len(found) != 4 * dimensions:
        return None
    return np.frombuffer(found, dtype=np.float32)


def _share(name: str, vector: Vector) -> None:
    raw = vector.astype(np.float32).tobytes()
    valkey.ask("provider", lambda client: client.set(name, raw, ex=_QUERY_KEPT_S), otherwise=None)


class _Queries:
    """The last queries' vectors, of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._vectors: OrderedDict[tuple[UUID, str], Vector] = OrderedDict()

    def get(self, name: tuple[UUID, str]) -> Vector | None:
        with self._lock:
            if name in self._vectors:
                self._vectors.move_to_end(name)
            return self._vectors.get(name)

    def put(self, name: tuple[UUID, str], vector: Vector) -> None:
        with self._lock:
            self._vectors[name] = vector
            if len(self._vectors) > _REMEMBERED_QUERIES:
                self._vectors.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._vectors.clear()


class _Known:
    def __init__(self) -> None:
        self.at = float("-inf")
        self.spaces: dict[str, Space] = {}


_queries = _Queries()
_known = _Known()


def _in_use() -> dict[str, Space]:
    """The active space and the one that is being built, by their states."""
    now = time.monotonic()
    if now - _known.at >= GOOD_FOR_S:
        _known.spaces = _read_in_use()
        _known.at = now
    return _known.spaces


def _read_in_use() -> dict[str, Space]:
    rows = EmbeddingSpace.objects.filter(state__in=[SpaceState.ACTIVE, SpaceState.BUILDING])
    return {row.state: _space(row) for row in rows}


def _space(row: EmbeddingSpace) -> Space:
    return Space(row.id, row.kind, row.model, row.dimensions)


# Writing --------------------------------------------------------------------------------------------------------------


def take_up(owner_id: int, events: Sequence[OutboxEvent]) -> None:
    """Note what is to be embedded. Here, inside the outbox's transaction, nobody is called."""
    ids = [event.payload["memory_id"] for event in events if event.payload["event"] != Event.DELETE]
    if not ids:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            f"{_MISSING} AND memory.owner_id = %s AND memory.id = ANY(%s::uuid[]) {_UNLESS_THERE}",
            [[SpaceState.ACTIVE, SpaceState.BUILDING], owner_id, ids],
        )
        cursor.execute(
            "SELECT EXISTS (SELECT FROM memories_memoryembedding AS e JOIN memories_embeddingspace AS s"
            " ON s.id = e.space_id AND s.state = 'active' WHERE e.owner_id = %s AND e.memory_id = ANY(%s::uuid[])"
            " AND e.embedding IS NULL)",
            [owner_id, ids],
        )
        (is_waiting,) = cursor.fetchone()
    if is_waiting:
        transaction.on_commit(_nudge, robust=True)


outbox.register("embeddings", take_up, kinds={"memory"}, wanting=lambda: bool(_in_use()))

# A row for each memory of a space that has none; whoever deleted one may restore it, and then it is embedded.
_MISSING = f"""
    INSERT INTO memories_memoryembedding (owner_id, memory_id, space_id, memory_version, is_wide, problem)
    SELECT memory.owner_id, memory.id, space.id, 0, space.dimensions > {COVERED_DIMENSIONS}, ''
    FROM memories_embeddingspace AS space, memories_memory AS memory
    WHERE space.state = ANY(%s) AND memory.state <> 'deleted'
"""  # noqa: S608
_UNLESS_THERE = "ON CONFLICT (owner_id, memory_id, space_id) DO NOTHING"


def _nudge() -> None:
    """Have the worker fill the active space soon. A nudge that is lost is made good by beat."""

    def send(client: Any) -> None:
        if client.set(_NUDGED, 1, nx=True, ex=_NUDGE_LASTS_S):
            current_app.send_task("memories.tasks.embed_waiting", countdown=_NUDGE_WAITS_S)

    valkey.ask("nudge", send, otherwise=None)


def catch_up() -> None:
    """Embed what waits in the active space, as far as the provider lets us: the next round comes by itself."""
    valkey.ask("forget_nudge", lambda client: client.delete(_NUDGED), otherwise=0)
    space = _read_in_use().get(SpaceState.ACTIVE)
    if space is None:
        return
    with alone(space) as is_alone:
        try:
            provider = _provider_of(space)
            while is_alone and fill(space, provider).taken:
                pass
        except ProviderAway as away:
            log.info("embedding_put_off", reason=away.reason, retry_after_s=away.retry_after_s)


@contextmanager
def alone(space: Space) -> Iterator[bool]:
    """Whether nobody else fills this space now; nobody does while this lasts. Two would pay twice for every vector."""
    number = int.from_bytes(hashlib.sha256(f"fill {space.id}".encode()).digest()[:8], "big", signed=True)
    with connection.cursor() as cursor:
        # Of the session, so that it ends with the process, however that ends.
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
        (is_alone,) = cursor.fetchone()
    try:
        yield bool(is_alone)
    finally:
        if is_alone:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [number])


def fill(space: Space, provider: Provider) -> Filled:
    """Embed one batch of what waits in this space. Raises ProviderAway, and then nothing has changed."""
    waiting = _waiting(space, provider.batch_size)
    if not waiting:
        return Filled(0, 0, 0)
    # No transaction is open while the provider is asked.
    vectors = _embedded(provider, space, [text for *_, text in waiting])
    rows = [
        {
            "owner_id": owner_id,
            "memory_id": memory_id,
            "version": version,
            "embedding": vector,
            "problem": "" if vector is not None else "rejected",
        }
        for (owner_id, memory_id, version, _), vector in zip(waiting, vectors, strict=True)
    ]
    refused = sum(vector is None for vector in vectors)
    with acting_as(Actor.system("embeddings: fill")), connection.cursor() as cursor:
        # The lock on the memory makes a writer wait who changes the text just now, or makes us see that it has changed:
        # then it waits for its next turn, as it should.
        cursor.execute(
            """
            WITH given AS (
                SELECT * FROM json_to_recordset(%s) AS g
                    (owner_id bigint, memory_id uuid, version integer, embedding halfvec, problem text)
            ), current AS MATERIALIZED (
                SELECT memory.owner_id, memory.id FROM memories_memory AS memory
                JOIN given ON given.owner_id = memory.owner_id AND given.memory_id = memory.id
                    AND given.version = memory.version
                ORDER BY memory.owner_id, memory.id FOR SHARE OF memory
            )
            UPDATE memories_memoryembedding AS e
            SET embedding = given.embedding, memory_version = given.version, problem = given.problem
            FROM given JOIN current ON current.owner_id = given.owner_id AND current.id = given.memory_id
            WHERE e.owner_id = given.owner_id AND e.memory_id = given.memory_id AND e.space_id = %s
            """,
            [as_json(rows), space.id],
        )
        written = cursor.rowcount
    changed = len(waiting) - written
    return Filled(embedded=max(0, written - refused), refused=refused, changed=changed)


def _waiting(space: Space, limit: int) -> list[tuple[int, UUID, int, str]]:
    """The next memories without a vector: owner, id, version, and the text as the local vector has it."""
    with acting_as(Actor.system("embeddings: what waits")), connection.cursor() as cursor:
        cursor.execute(
            "SELECT e.owner_id, e.memory_id, m.version,"
            " left(CASE WHEN m.speaker <> '' THEN m.speaker || ': ' ELSE '' END || m.content, %s)"
            " FROM memories_memoryembedding AS e"
            " JOIN memories_memory AS m ON m.owner_id = e.owner_id AND m.id = e.memory_id"
            " WHERE e.space_id = %s AND e.embedding IS NULL AND e.problem = '' AND m.state <> 'deleted'"
            " ORDER BY e.owner_id, e.space_id, e.memory_id LIMIT %s",
            [MAX_CHARACTERS, space.id, limit],
        )
        rows = cursor.fetchall()
    taken: list[tuple[int, UUID, int, str]] = []
    characters = 0
    for row in rows:
        characters += len(row[3])
        if taken and characters > _BATCH_CHARACTERS:
            break
        taken.append(row)
    return taken


def _embedded(provider: Provider, space: Space, texts: Sequence[str]) -> list[Vector | None]:
    """A vector for each text, None for what the provider will not take even when it is short."""

    def ask(some: Sequence[str]) -> list[Vector]:
        return provider.embed(some, model=space.model, dimensions=space.dimensions)

    def halved(some: Sequence[str]) -> list[Vector | None]:
        try:
            return list(ask(some))
        except ProviderAway as away:
            if away.reason != "rejected":
                raise
        if len(some) > 1:
            middle = len(some) // 2
            return halved(some[:middle]) + halved(some[middle:])
        if len(some[0]) > _SHORT_CHARACTERS:
            return halved([some[0][:_SHORT_CHARACTERS]])
        return [None]

    try:
        return list(ask(texts))
    except ProviderAway as away:
        if away.reason != "rejected":
            raise
    # Is it one of the texts, or everything? Nobody should call all memories unfit since a setting is wrong.
    ask(["memory"])
    return halved(texts)


# Changing models ------------------------------------------------------------------------------------------------------


def begin(kind: str, model: str, dimensions: int) -> tuple[Space, bool]:
    """The space for this model, to be built unless it is the active one; and whether it is. What was being built
    otherwise is given up. For GOOD_FOR_S other processes write without a word to it: `note_missing` after that."""
    with transaction.atomic():
        row, _ = EmbeddingSpace.objects.select_for_update().get_or_create(
            kind=kind, model=model, dimensions=dimensions, defaults={"state": SpaceState.RETIRED}
        )
        if row.state != SpaceState.ACTIVE:
            building = EmbeddingSpace.objects.filter(state=SpaceState.BUILDING).exclude(id=row.id)
            building.update(state=SpaceState.RETIRED)
            EmbeddingSpace.objects.filter(id=row.id).update(state=SpaceState.BUILDING)
    return _space(row), row.state == SpaceState.ACTIVE


def note_missing(space: Space) -> int:
    """Make a row for every memory that this space lacks, owner by owner; how many were made."""
    made = 0
    with acting_as(Actor.system("embeddings: owners")), connection.cursor() as cursor:
        cursor.execute("SELECT id FROM accounts_user ORDER BY id")
        owners = [owner_id for (owner_id,) in cursor.fetchall()]
    for owner_id in owners:
        while count := _note_missing(space, owner_id):
            made += count
            if count < _CHUNK:
                break
    return made


def _note_missing(space: Space, owner_id: int) -> int:
    with acting_as(Actor.system("embeddings: what is missing")), connection.cursor() as cursor:
        cursor.execute(
            f"{_MISSING} AND space.id = %s AND memory.owner_id = %s AND NOT EXISTS ("
            " SELECT FROM memories_memoryembedding AS e"
            " WHERE e.owner_id = memory.owner_id AND e.memory_id = memory.id AND e.space_id = space.id)"
            f" LIMIT {_CHUNK} {_UNLESS_THERE}",
            [[SpaceState.ACTIVE, SpaceState.BUILDING], space.id, owner_id],
        )
        return int(cursor.rowcount)


def count_waiting(space: Space) -> int:
    """How many memories wait for their vector in this space."""
    with acting_as(Actor.system("embeddings: count")), connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM memories_memoryembedding AS e"
            " JOIN memories_memory AS m ON m.owner_id = e.owner_id AND m.id = e.memory_id AND m.state <> 'deleted'"
            " WHERE e.space_id = %s AND e.embedding IS NULL AND e.problem = ''",
            [space.id],
        )
        return int(cursor.fetchone()[0])


def switch(space: Space) -> None:
    """Have searches ask this space from now on; the one before is retired, and keeps its vectors."""
    with transaction.atomic():
        list(EmbeddingSpace.objects.select_for_update().order_by("id"))
        retiring = EmbeddingSpace.objects.filter(state=SpaceState.ACTIVE).exclude(id=space.id)
        retiring.update(state=SpaceState.RETIRED)
        EmbeddingSpace.objects.filter(id=space.id).update(state=SpaceState.ACTIVE, activated_at=Now())
    forget()
    log.info("embedding_space_activated", model=space.model, dimensions=space.dimensions)
    _nudge()


def drop_retired() -> int:
    """Remove the vectors of retired spaces, a few thousand at a time; how many. A search that has just learnt of such
    a space must have ended: call it no sooner than GOOD_FOR_S after a switch."""
    gone = 0
    for row in EmbeddingSpace.objects.filter(state=SpaceState.RETIRED):
        while count := _drop_some(row.id):
            gone += count
    return gone


def _drop_some(space_id: UUID) -> int:
    with acting_as(Actor.system("embeddings: drop")), connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM memories_memoryembedding WHERE (owner_id, memory_id, space_id) IN ("
            " SELECT owner_id, memory_id, space_id FROM memories_memoryembedding WHERE space_id = %s LIMIT %s)",
            [space_id, _CHUNK],
        )
        return int(cursor.rowcount)


def coverage() -> list[Coverage]:
    """Every space with what it holds, the active one first. Counts everything: for people, not for every request."""
    with acting_as(Actor.system("embeddings: coverage")), connection.cursor() as cursor:
        cursor.execute(
            """
            WITH total AS (SELECT count(*) AS memories FROM memories_memory WHERE state <> 'deleted'),
            held AS (
                SELECT e.space_id, count(e.embedding) AS embedded, count(*) FILTER (WHERE e.problem <> '') AS refused
                FROM memories_memoryembedding AS e
                JOIN memories_memory AS m ON m.owner_id = e.owner_id AND m.id = e.memory_id AND m.state <> 'deleted'
                GROUP BY e.space_id
            )
            SELECT s.id, s.kind, s.model, s.dimensions, s.state, coalesce(embedded, 0), coalesce(refused, 0), memories
            FROM memories_embeddingspace AS s CROSS JOIN total LEFT JOIN held ON held.space_id = s.id
            ORDER BY s.state, s.created_at
            """
        )
        return [
            Coverage(Space(*row[:4]), row[4], embedded=row[5], missing=row[7] - row[5] - row[6], refused=row[6])
            for row in cursor.fetchall()
        ]


def size_of_work() -> dict[str, Any]:
    """How many memories there are, and how many characters of them would be sent."""
    with acting_as(Actor.system("embeddings: size")), connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), coalesce(sum(least(length(content), %s)), 0) FROM memories_memory"
            " WHERE state <> 'deleted'",
            [MAX_CHARACTERS],
        )
        memories, characters = cursor.fetchone()
        return {"memories": int(memories), "characters": int(characters)}
