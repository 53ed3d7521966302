"""`/metrics`: the figures of all processes added up, and those that are read when somebody asks.

prometheus_client's multi-process mode shows nothing but what processes have written into files; so what the database
knows is a collector of our own on the same fresh registry.
"""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import structlog
from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from psycopg_pool import PoolTimeout
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.actors import Actor, acting_as
from accounts.authentication import actor_of
from accounts.models import Scope
from mem0stack.lib import disk, valkey
from mem0stack.lib.errors import Forbidden
from memories import parts, vector_indexes
from memories.vector_indexes import Coverage

log = structlog.get_logger(__name__)

_LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
_LOOPBACK_NAMES = {"127.0.0.1", "[::1]", "localhost"}
# A proxy on this machine has its address, and must not open to the world what is for this machine.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")
_LIVE_FILE = re.compile(r"gauge_live[a-z]*_(\d+)\.db")
# Celery's list, as its settings name it.
_QUEUE = f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}{settings.CELERY_TASK_DEFAULT_QUEUE}"
# Several collectors ask, and the answers cost statements.
_STORED_FOR_S = 10.0
# Above this many rows a sample of pages stands for them.
_COUNTED_ROWS = 50_000


class _MayReadMetrics(BasePermission):
    """This machine itself, or a staff member with the scope `admin` on a key that is limited to no namespace."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if _is_this_machine(request):
            return True
        actor = actor_of(request)
        actor.require(Scope.ADMIN)
        actor.require_every_namespace("Metrics")
        if not actor.person.is_staff:
            raise Forbidden("Metrics are about everybody's memories; ask with a staff member's key.")
        return True


class _Anything(BaseContentNegotiation):
    """Collectors ask for formats that REST does not have, and take this one."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class Metrics(APIView):
    """The figures in Prometheus' text format."""

    permission_classes = (_MayReadMetrics,)
    content_negotiation_class = _Anything
    # No part of the API's description.
    schema = None

    def get_authenticators(self) -> list[BaseAuthentication]:
        # Without the database, too, this machine learns how things are.
        return [] if _is_this_machine(self.request) else super().get_authenticators()

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(page(), content_type=CONTENT_TYPE_LATEST)


def page() -> bytes:
    """Everything that is exported, in Prometheus' text format."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    fresh = CollectorRegistry()
    if directory:
        _forget_dead(Path(directory))
        MultiProcessCollector(fresh)  # type: ignore[no-untyped-call]
    else:
        fresh.register(REGISTRY)
    fresh.register(_Asked())
    return generate_latest(fresh)


def _is_this_machine(request: HttpRequest | Request) -> bool:
    """Whether a program on this machine asks directly: by address, by name, and with no sign of a proxy."""
    if settings.BEHIND_PROXY or request.META.get("REMOTE_ADDR") not in _LOOPBACK:
        return False
    name, _ = split_domain_port(request.META.get("HTTP_HOST", ""))
    return name in _LOOPBACK_NAMES and not any(header in request.headers for header in _FORWARDED)


def _forget_dead(directory: Path) -> None:
    """Drop the live gauges of processes that have ended, however: granian restarts its own, and tells nobody."""
    for path in directory.glob("gauge_live*.db"):
        named = _LIVE_FILE.fullmatch(path.name)
        if named and not psutil.pid_exists(int(named[1])):
            # Another scrape may have been faster.
            with contextlib.suppress(FileNotFoundError):
                mark_process_dead(int(named[1]))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class _Figures:
    """What the database says; None for what it did not say."""

    outbox: list[tuple[str, int, int, float]] | None
    memories: list[tuple[str, float]] | None
    bytes: int | None
    embeddings: list[tuple[str, str, float]] | None = None
    vector_indexes: Coverage | None = None


class _Asked(Collector):
    """What is read when a collector asks."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("mem0_part_up", "1 when the part answers, else 0, as at /health/.", labels=["part"])
        took = GaugeMetricFamily("mem0_part_seconds", "How long the part took to answer.", labels=["part"])
        found = parts.recent_parts()
        for name, part in found.items():
            up.add_metric([name], float(part.is_ok))
            took.add_metric([name], part.ms / 1000)
        yield from (up, took)
        yield GaugeMetricFamily("mem0_disk_free_bytes", "Free space on the disk of the home.", value=disk.free_bytes())
        depth = valkey.ask("queue_depth", lambda client: client.llen(_QUEUE), otherwise=None)
        if depth is not None:
            yield GaugeMetricFamily("mem0_queue_depth", "Tasks that wait for the worker.", value=depth)
        if found["database"].is_ok:
            yield from _stored(_figures())


def _stored(figures: _Figures) -> Iterator[Metric]:
    if figures.outbox is not None:
        waiting = GaugeMetricFamily("mem0_outbox_waiting", "Deliveries that wait, by consumer.", labels=["consumer"])
        dead = GaugeMetricFamily("mem0_outbox_dead", "Deliveries given up, by consumer.", labels=["consumer"])
        for consumer, number_waiting, number_dead, _ in figures.outbox:
            waiting.add_metric([consumer], number_waiting)
            dead.add_metric([consumer], number_dead)
        age = max((age for *_, age in figures.outbox), default=0.0)
        oldest = GaugeMetricFamily(
            "mem0_outbox_oldest_waiting_seconds", "Age of the oldest event that waits; 0 when none does.", value=age
        )
        yield from (waiting, dead, oldest)
    if figures.memories is not None:
        memories = GaugeMetricFamily("mem0_memories", "Memories by state, estimated when many.", labels=["state"])
        for state, number in figures.memories:
            memories.add_metric([state], number)
        yield memories
    if figures.embeddings is not None:
        embeddings = GaugeMetricFamily(
            "mem0_embeddings",
            "A provider's vectors by state of their space: embedded, waiting or refused. Estimated when many.",
            labels=["space", "state"],
        )
        for space, state, number in figures.embeddings:
            embeddings.add_metric([space, state], number)
        yield embeddings
    if figures.vector_indexes is not None:
        indexes = GaugeMetricFamily(
            "mem0_vector_indexes",
            "Owners with many memories, by whether their vector index is there or missing.",
            labels=["state"],
        )
        indexes.add_metric(["there"], figures.vector_indexes.indexed)
        indexes.add_metric(["missing"], figures.vector_indexes.missing)
        yield indexes
    if figures.bytes is not None:
        yield GaugeMetricFamily("mem0_database_bytes", "Size of the database on disk.", value=figures.bytes)


class _Last:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at = float("-inf")
        self.figures = _Figures(None, None, None)


_last = _Last()


def _figures() -> _Figures:
    with _last.lock:
        if time.monotonic() - _last.at > _STORED_FOR_S:
            _last.figures = _Figures(
                _ask(_outbox), _ask(_memories), _ask(_bytes), _ask(_embeddings), _ask(_vector_indexes)
            )
            _last.at = time.monotonic()
        return _last.figures


def _ask(question: Callable[[Any], Any]) -> Any:
    try:
        with acting_as(Actor.system("metrics")), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '2s'")
            return question(cursor)
    except (AnyDatabaseError, PoolTimeout) as error:
        log.warning("metric_not_read", question=question.__name__, error=type(error.__cause__ or error).__name__)
        return None


def _outbox(cursor: Any) -> list[tuple[str, int, int, float]]:
    cursor.execute(
        "SELECT delivery.consumer, count(*) FILTER (WHERE delivery.state = 'waiting'),"
        " count(*) FILTER (WHERE delivery.state = 'dead'),"
        " coalesce(extract(epoch FROM clock_timestamp()"
        "     - min(event.created_at) FILTER (WHERE delivery.state = 'waiting')), 0)"
        " FROM memories_outboxdelivery AS delivery LEFT JOIN memories_outboxevent AS event"
        " ON event.owner_id = delivery.owner_id AND event.id = delivery.event_id AND delivery.state = 'waiting'"
        " GROUP BY delivery.consumer"
    )
    return [(consumer, waiting, dead, max(0.0, float(age))) for consumer, waiting, dead, age in cursor.fetchall()]


def _memories(cursor: Any) -> list[tuple[str, float]]:
    cursor.execute("SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = 'memories_memory'::regclass")
    (rows,) = cursor.fetchone()
    percent = min(100.0, 100.0 * _COUNTED_ROWS / rows) if rows else 100.0
    cursor.execute(
        "SELECT state, count(*) FROM memories_memory TABLESAMPLE SYSTEM (%s) REPEATABLE (1) GROUP BY state", [percent]
    )
    return [(state, round(number * 100.0 / percent)) for state, number in cursor.fetchall()]


def _embeddings(cursor: Any) -> list[tuple[str, str, float]]:
    cursor.execute("SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = 'memories_memoryembedding'::regclass")
    (rows,) = cursor.fetchone()
    percent = min(100.0, 100.0 * _COUNTED_ROWS / rows) if rows else 100.0
    cursor.execute(
        "SELECT s.state, CASE WHEN e.embedding IS NOT NULL THEN 'embedded' WHEN e.problem = '' THEN 'waiting'"
        " ELSE 'refused' END, count(*) FROM memories_memoryembedding AS e TABLESAMPLE SYSTEM (%s) REPEATABLE (1)"
        " JOIN memories_embeddingspace AS s ON s.id = e.space_id GROUP BY 1, 2",
        [percent],
    )
    counted = {(space, state): round(number * 100.0 / percent) for space, state, number in cursor.fetchall()}
    words = [("active", state) for state in ("embedded", "waiting", "refused")]
    return [(*word, counted.get(word, 0)) for word in dict.fromkeys([*words, *counted])]


def _vector_indexes(cursor: Any) -> Coverage:
    return vector_indexes.coverage()


def _bytes(cursor: Any) -> int:
    cursor.execute("SELECT pg_database_size(current_database())")
    (size,) = cursor.fetchone()
    return int(size)
