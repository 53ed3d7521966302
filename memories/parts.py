"""How each part that the service stands on is: what health, the metrics and an agent's `memory_status` say of it."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as DeadlineError
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from django.db import DatabaseError, connection
from psycopg_pool import PoolTimeout

from mem0stack.lib import valkey
from memories import embedding_spaces, providers
from memories.models import Purpose
from memories.tasks import HEARTBEAT

PROBE_TIMEOUT_S = 0.5
# Asked by anybody and as often as they like, so the parts are looked at once a second at most.
_GOOD_FOR_S = 1.0


@dataclass(frozen=True)
class Part:
    """How one dependency is: ok, degraded, down, or absent when nobody wants it. `detail` says what is wrong, and holds
    no address and no name."""

    status: str
    ms: float
    detail: str = ""

    @property
    def is_ok(self) -> bool:
        return self.status in ("ok", "absent")

    def shown(self) -> dict[str, Any]:
        """As JSON, for anybody."""
        shown: dict[str, Any] = {"status": self.status, "ms": self.ms}
        return shown | {"detail": self.detail} if self.detail else shown


def overall(parts: Mapping[str, Part]) -> str:
    """`down` without the database, `ok` with everything, else `degraded`."""
    if not parts["database"].is_ok:
        return "down"
    return "ok" if all(part.is_ok for part in parts.values()) else "degraded"


class _Down(Exception):
    """A probe's finding; its text is for whoever asks."""

    status = "down"


class _Degraded(_Down):
    status = "degraded"


class _Absent(_Down):
    status = "absent"


def recent_parts() -> dict[str, Part]:
    """How the parts are, or were less than a second ago."""
    with _recent.lock:
        if time.monotonic() - _recent.at > _GOOD_FOR_S:
            _recent.parts, _recent.at = probe_parts(), time.monotonic()
        return _recent.parts


def probe_parts() -> dict[str, Part]:
    """Looks at all parts at once; returns within half a second, whatever hangs."""
    probes: dict[str, Callable[[], None]] = {
        # The parameters are read here: each thread has a connection of its own.
        "database": partial(_probe_database, connection.get_connection_params()),
        "cache": _probe_cache,
        "worker": _probe_worker,
        "embedder": _probe_embedder,
    }
    began = time.monotonic()
    running = {name: _executor.submit(_timed, probe) for name, probe in probes.items()}
    return {name: _outcome(future, began + PROBE_TIMEOUT_S) for name, future in running.items()}


class _Recent:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at = float("-inf")
        self.parts: dict[str, Part] = {}


_recent = _Recent()
# A probe that hangs ends by its own time-outs after two seconds at most; others find a free thread meanwhile.
_executor = ThreadPoolExecutor(max_workers=12, thread_name_prefix="health")


def _timed(probe: Callable[[], None]) -> Part:
    began = time.perf_counter()
    try:
        probe()
    except _Down as error:
        return Part(error.status, _ms_since(began), str(error))
    return Part("ok", _ms_since(began))


def _outcome(future: Future[Part], deadline: float) -> Part:
    try:
        return future.result(max(0.0, deadline - time.monotonic()))
    except DeadlineError:
        future.cancel()
        return Part("down", PROBE_TIMEOUT_S * 1000, "No answer within half a second.")


def _probe_database(params: dict[str, Any]) -> None:
    # Not through the pool: its threads may all be busy, and a dead one would have to be waited for.
    try:
        with psycopg.connect(**{**params, "connect_timeout": 2}, autocommit=True) as direct:
            direct.execute("SELECT 1")
    except psycopg.Error as error:
        raise _Down("It does not answer.") from error


def _probe_cache() -> None:
    try:
        valkey.client().ping()
    except valkey.FAILURES as error:
        raise _Down("It does not answer. Writes and searches go on without it.") from error


def _probe_worker() -> None:
    try:
        heartbeat = valkey.client().get(HEARTBEAT)
    except valkey.FAILURES as error:
        raise _Down("It gets no work without the cache, which is its queue. Work waits in the outbox.") from error
    if heartbeat is None:
        raise _Down("No sign of life for half a minute. Work waits in the outbox.")


def _probe_embedder() -> None:
    """As its last calls went: to ask it anew each second would cost its owner money."""
    try:
        space, provider = embedding_spaces.active(), providers.configured(Purpose.EMBEDDER)
    except (DatabaseError, PoolTimeout) as error:
        raise _Down("Not to be seen without the database.") from error
    finally:
        connection.close()
    if provider is None and space is None:
        raise _Absent("")
    if provider is None:
        raise _Down("None is configured, though vectors of one are there. Searches use the local embedder.")
    if provider.trouble:
        raise _Down("Its settings cannot be used; `manage.py doctor` says why. Searches use the local embedder.")
    if providers.is_paused(Purpose.EMBEDDER):
        raise _Down("It failed just now, or asked for a pause. Searches use the local embedder.")
    if space is None:
        raise _Degraded("It is configured and not in use yet: run `manage.py reembed`.")


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)
