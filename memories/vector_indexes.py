"""Vector indexes of owners with many memories: one partial HNSW index for each, built and dropped by the worker.

A scan of one owner's vectors is exact and costs by their number: 17 ms at 40,000, 42 at 100,000. One HNSW index for all
owners is no way out, since the owner is a filter that is applied afterwards (0.6 of 10 results were left); an index
that holds a single owner's rows is. It costs each of that owner's writes some milliseconds, so it is only for the
large. `OwnerStatistics.vector_index_at` says that there is one: searches look there, and nowhere else.

The service's role may not make indexes, so this goes over a connection of the owner of the tables. A worker that has no
address for it builds none, and everything is scanned.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg
import structlog
from celery import current_app
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from accounts.actors import Actor, acting_as
from mem0stack.lib import valkey
from mem0stack.lib.metrics import VECTOR_INDEX_BUILD_SECONDS
from memories.models import OwnerStatistics

log = structlog.get_logger(__name__)

# Below this share of VECTOR_INDEX_FROM an index goes again: an owner at the line does not have it built and dropped.
_KEPT_ABOVE = 0.75
# Of the 60 nearest of 100,000 texts people wrote, ef_search 200 finds 98 % so, and 97 with ef_construction 128.
_BUILD = "m = 16, ef_construction = 200"
# What a build takes for each row; what is beyond the bound is built on disk, several times slower.
_BUILD_BYTES_EACH = 1_300
_BUILD_MB = (64, 1_536)
# For a transaction that asks an index. Two hundred held 98 % of the 60 nearest of 100,000; the scan goes on, up to
# 20,000 rows, when conditions have left too few of them.
SEARCH_SETTINGS = (
    "SET LOCAL hnsw.ef_search = 200; SET LOCAL hnsw.iterative_scan = relaxed_order;"
    " SET LOCAL hnsw.max_scan_tuples = 20000"
)
_ONE_BUILDER = 0x6D656D30_484E5357  # "mem0HNSW"
_NUDGED = valkey.key("vector-indexes-nudged")
_NUDGE_LASTS_S = 60


@dataclass(frozen=True)
class Coverage:
    """Owners that have an index, and owners that are to have one and have none yet."""

    indexed: int
    missing: int


def name_of(owner_id: int) -> str:
    return f"memory_hnsw_{owner_id:d}"


def consider(memories: int, *, is_indexed: bool) -> None:
    """Have the worker look soon, when an owner who has so many memories now is on the wrong side of a line. To be
    called in the transaction that counted them; a nudge that is lost is made good by beat."""
    if _is_small(memories) if is_indexed else _is_large(memories):
        transaction.on_commit(_nudge, robust=True)


def maintain() -> int:
    """Build and drop until every owner has what their number of memories asks for; how many were built or dropped.

    Safe to run twice: one in the whole instance does it, others return at once. What a killed build has left behind
    goes first. Takes seconds to minutes for each index; nobody waits for it, neither readers nor writers.
    """
    if not settings.DATABASE_OWNER_ROLE:
        _say_that_nobody_builds()
        return 0
    with _as_owner() as database, _alone(database) as is_alone:
        return _maintain(database) if is_alone else 0


def coverage() -> Coverage:
    """How many owners are above the line, with and without their index."""
    with acting_as(Actor.system("vector indexes: coverage")):
        rows = list(OwnerStatistics.objects.values_list("memories", "vector_index_at"))
    indexed = sum(at is not None for _, at in rows)
    return Coverage(indexed, missing=sum(at is None and _is_large(memories) for memories, at in rows))


def _is_large(memories: int) -> bool:
    line: int = settings.VECTOR_INDEX_FROM
    return 0 < line <= memories


def _is_small(memories: int) -> bool:
    """Too small to keep an index; with VECTOR_INDEX_FROM=0 everybody is."""
    line: int = settings.VECTOR_INDEX_FROM
    return line == 0 or memories < _KEPT_ABOVE * line


def _nudge() -> None:
    def send(client: Any) -> None:
        if client.set(_NUDGED, 1, nx=True, ex=_NUDGE_LASTS_S):
            current_app.send_task("memories.tasks.maintain_vector_indexes")

    valkey.ask("nudge", send, otherwise=None)


# What is there, and what should be ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Owner:
    memories: int
    is_marked: bool


def _maintain(database: "psycopg.Connection[Any]") -> int:
    there, owners = _indexes(database), _owners()
    valid = {owner_id for owner_id, is_valid in there.items() if is_valid}
    changed = 0
    for owner_id in there.keys() - valid:
        _drop(database, owner_id, why="unfinished")
    for owner_id, owner in owners.items():
        # Whoever restored a dump, or dropped an index by hand, may have left the two apart.
        if owner.is_marked != (owner_id in valid):
            _mark(owner_id, owner_id in valid)
    for owner_id in valid:
        if owner_id not in owners or _is_small(owners[owner_id].memories):
            _drop(database, owner_id, why="small")
            changed += 1
    # The largest first: their searches are the slowest.
    for owner_id, owner in sorted(owners.items(), key=lambda one: -one[1].memories):
        if _is_large(owner.memories) and owner_id not in valid:
            changed += _build(database, owner_id, owner.memories)
    return changed


def _indexes(database: "psycopg.Connection[Any]") -> dict[int, bool]:
    """The owners whose index is there, and whether it is whole."""
    rows = database.execute(
        "SELECT substring(c.relname FROM '\\d+$')::bigint, i.indisvalid AND i.indisready FROM pg_index AS i"
        " JOIN pg_class AS c ON c.oid = i.indexrelid"
        " WHERE i.indrelid = 'memories_memory'::regclass AND c.relname ~ '^memory_hnsw_\\d+$'"
    )
    return dict(rows.fetchall())


def _owners() -> dict[int, _Owner]:
    """Those that have an index by what searches are told, or may be large enough for one."""
    with acting_as(Actor.system("vector indexes: owners")):
        rows = OwnerStatistics.objects.filter(
            Q(vector_index_at__isnull=False) | Q(memories__gte=_KEPT_ABOVE * settings.VECTOR_INDEX_FROM)
        )
        found = rows.values_list("owner_id", "memories", "vector_index_at")
        return {owner_id: _Owner(memories, at is not None) for owner_id, memories, at in found}


def _mark(owner_id: int, is_indexed: bool) -> None:
    """Tell searches: before an index goes, and after it has come. One that relies on an index that is not there gives
    the same answer, slowly."""
    with acting_as(Actor.system("vector indexes: mark")):
        row = OwnerStatistics.objects.filter(owner_id=owner_id, vector_index_at__isnull=is_indexed)
        row.update(vector_index_at=Now() if is_indexed else None)


# Building and dropping ------------------------------------------------------------------------------------------------


def _build(database: "psycopg.Connection[Any]", owner_id: int, memories: int) -> bool:
    megabytes = min(max(memories * _BUILD_BYTES_EACH // 2**20, _BUILD_MB[0]), _BUILD_MB[1])
    log.info("vector_index_begun", owner_id=owner_id, memories=memories, memory_mb=megabytes)
    began = time.monotonic()
    try:
        database.execute(f"SET maintenance_work_mem = '{megabytes:d}MB'")
        # The numbers are in the text: an index has no parameters.
        database.execute(
            f"CREATE INDEX CONCURRENTLY {name_of(owner_id)} ON memories_memory"
            f" USING hnsw (embedding halfvec_cosine_ops) WITH ({_BUILD})"
            f" WHERE owner_id = {owner_id:d} AND state = 'active'"
        )
    except psycopg.Error as error:
        # What there is of it is dropped in the next round, and nothing relies on it before.
        log.warning("vector_index_failed", owner_id=owner_id, error=type(error).__name__)
        if database.broken:
            raise
        return False
    _mark(owner_id, True)
    seconds = time.monotonic() - began
    VECTOR_INDEX_BUILD_SECONDS.set(seconds)
    log.info("vector_index_built", owner_id=owner_id, memories=memories, seconds=round(seconds, 1))
    return True


def _drop(database: "psycopg.Connection[Any]", owner_id: int, *, why: str) -> None:
    _mark(owner_id, False)
    database.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name_of(owner_id)}")
    log.info("vector_index_dropped", owner_id=owner_id, why=why)


# The owner of the tables ----------------------------------------------------------------------------------------------


@cache
def _say_that_nobody_builds() -> None:
    """Once a process."""
    log.warning("vector_indexes_need_owner", hint="Set DATABASE_OWNER_URL for the worker; until then all is scanned.")


@contextmanager
def _as_owner() -> Iterator["psycopg.Connection[Any]"]:
    """A connection of its own beside the pool, where each statement is its own transaction, as CONCURRENTLY wants."""
    params = {
        **connection.get_connection_params(),
        "user": settings.DATABASE_OWNER_ROLE,
        "password": settings.DATABASE_OWNER_PASSWORD or None,
        # A build waits for every transaction that is older than it. Its worker may be killed meanwhile, and then
        # nobody would want the rest of it. One process: parallel ones want more shared memory than containers have.
        "options": "-c lock_timeout=0 -c statement_timeout=0 -c client_connection_check_interval=5s"
        " -c max_parallel_maintenance_workers=0",
    }
    with psycopg.connect(**params, autocommit=True) as database:
        yield database


@contextmanager
def _alone(database: "psycopg.Connection[Any]") -> Iterator[bool]:
    """Whether nobody else builds now; nobody does while this connection lasts."""
    row = database.execute("SELECT pg_try_advisory_lock(%s)", [_ONE_BUILDER]).fetchone()
    yield bool(row and row[0])
