"""Looks at every part of a service from outside, as whoever runs it would, and says what is wrong and how to mend it.

It creates and changes nothing, but that the home's key is noted as used: it is a client like any other.
"""

import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as AnyDatabaseError
from django.db import connection
from psycopg_pool import PoolTimeout

from accounts.actors import Actor, acting_as
from mem0stack import checks
from mem0stack.embedded import directory, prepare, service
from mem0stack.embedded.account import EmbeddedError
from mem0stack.lib import valkey
from mem0stack.lib.home import Home
from memories import embedding_spaces, providers, vector_indexes
from memories.models import Purpose
from memories.providers import ProviderAway
from memories.tasks import HEARTBEAT

_TIMEOUT_S = 5
# The worker looks into every outbox each 10 seconds; what waits longer than this has been tried and failed.
_OLDEST_WAITING_S = 120


@dataclass(frozen=True)
class Finding:
    """What was seen of one part; `mend` says what to do when it is not ok."""

    part: str
    ok: bool
    seen: str
    mend: str = ""
    ms: float = 0.0


class Wrong(Exception):
    """A check's bad news, with the mend."""

    def __init__(self, seen: str, mend: str) -> None:
        super().__init__(seen)
        self.seen, self.mend = seen, mend


def examine(home: Home) -> list[Finding]:
    """One finding for each part, in the order in which they depend on one another."""
    looks: list[tuple[str, str, Callable[[], str]]] = [
        ("settings", "", _settings),
        ("home", "", lambda: _home(home)),
        ("disk", "home", lambda: _disk(home)),
        ("processes", "home", lambda: _processes(home)),
        ("database", "settings", _database),
        ("row security", "database", _row_security),
        ("schema", "database", _schema),
        ("cache", "settings", _cache),
        ("worker", "cache", _worker),
        ("outbox", "schema", _outbox),
        ("vector indexes", "schema", _vector_indexes),
        ("embedder", "schema", _embedder),
        ("web", "", lambda: _web(home)),
        ("client", "web", lambda: _client(home)),
    ]
    found: dict[str, Finding] = {}
    for part, needs, look in looks:
        if needs and not found[needs].ok:
            found[part] = Finding(part, False, f"Not to be seen without: {needs}.", f"Mend that first: {needs}.")
        else:
            found[part] = _look(part, look)
    return list(found.values())


def _look(part: str, look: Callable[[], str]) -> Finding:
    began = time.perf_counter()
    seen, mend, ok = "", "", False
    try:
        seen, ok = look(), True
    except Wrong as wrong:
        seen, mend = wrong.seen, wrong.mend
    except EmbeddedError as error:
        seen, mend = str(error), "Do as it says."
    return Finding(part, ok, seen, mend, round((time.perf_counter() - began) * 1000, 1))


def _settings() -> str:
    found = run_checks(tags=[checks.TAG])
    if found:
        raise Wrong("; ".join(f"{one.id}: {one.msg}" for one in found), " ".join(one.hint or "" for one in found))
    return "They fit together."


def _home(home: Home) -> str:
    if not home.root.is_dir():
        raise Wrong(f"{home.root} does not exist.", "Name the service's home with --home, or make one: manage.py up.")
    if not os.access(home.root, os.R_OK | os.W_OK | os.X_OK):
        raise Wrong(f"{home.root} may not be read and written.", "Run as the user who runs the service.")
    return str(home.root)


def _disk(home: Home) -> str:
    directory.check_disk(home)
    return f"{shutil.disk_usage(home.root).free // 2**20} MB are free."


def _processes(home: Home) -> str:
    found = service.load(home)
    if not service.is_supervised(home):
        if not (settings.EMBEDDED_POSTGRES or settings.EMBEDDED_VALKEY):
            return "No supervisor here; both servers are your own."
        left = len(service.leftovers(home))
        gone = f"Its supervisor is gone and {left} process(es) go on without it." if left else "Nothing runs."
        raise Wrong(gone, "manage.py up --detach")
    if found is None or not found.is_healthy:
        ill = [name for name, child in sorted(found.children.items()) if not child.is_healthy] if found else []
        raise Wrong(
            f"Not well: {', '.join(ill) or 'the start is not over'}.",
            f"It is being restarted; if that does not end, read {home.logs}/{ill[0] if ill else 'supervisor'}.log.",
        )
    restarts = sum(child.restarts for child in found.children.values())
    return f"{', '.join(sorted(found.children))} run; {restarts} restart(s) since the start."


def _database() -> str:
    params = {**connection.get_connection_params(), "connect_timeout": 3}
    try:
        with psycopg.connect(**params, autocommit=True) as direct:
            (version,) = direct.execute("SHOW server_version").fetchone() or ("",)
    except psycopg.Error as error:
        where = "the home's PostgreSQL" if settings.EMBEDDED_POSTGRES else "the PostgreSQL of DATABASE_URL"
        mend = f"manage.py up --detach; its log is {settings.HOME.logs}/postgres.log."
        if not settings.EMBEDDED_POSTGRES:
            mend = "Check address, password and firewall; has manage.py bootstrap_db been run?"
        raise Wrong(f"No answer from {where} ({type(error).__name__}).", mend) from error
    try:
        connection.ensure_connection()
    except ImproperlyConfigured as error:
        raise Wrong(str(error), "Set DATABASE_URL as it says and restart.") from error
    return f"PostgreSQL {str(version).split()[0]}; row-level security binds the role {params['user']}."


def _row_security() -> str:
    rows = _ask(
        "SELECT c.relname, c.relrowsecurity, EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid)"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'owner_id' AND NOT a.attisdropped"
        " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace ORDER BY 1"
    )
    bare = [name for name, is_on, has_policy in rows if not (is_on and has_policy)]
    if bare or not rows:
        raise Wrong(
            f"Without row-level security: {', '.join(bare)}." if bare else "There is no table of anybody's.",
            "manage.py migrate; if that changes nothing, the database was changed by hand: restore a dump.",
        )
    if _ask("SELECT EXISTS (SELECT FROM memories_memory)") != [(False,)]:
        raise Wrong("Memories are visible to nobody in particular.", "Stop the service, and report this weakness.")
    return f"{len(rows)} tables show nothing without an actor."


def _schema() -> str:
    pending, _ = prepare.pending_migrations()
    if pending:
        raise Wrong(f"{len(pending)} migration(s) are missing: {', '.join(pending[:3])}.", "manage.py up --detach")
    return "As this code wants it."


def _cache() -> str:
    try:
        valkey.client().ping()
    except valkey.FAILURES as error:
        embedded = f"manage.py up --detach; its log is {settings.HOME.logs}/valkey.log."
        raise Wrong(
            f"No answer ({type(error).__name__}). Writes and searches go on without it.",
            embedded if settings.EMBEDDED_VALKEY else "Check REDIS_URL, and the server that it names.",
        ) from error
    return "It answers."


def _worker() -> str:
    try:
        is_alive = valkey.client().get(HEARTBEAT) is not None
    except valkey.FAILURES as error:
        raise Wrong(f"The cache went away ({type(error).__name__}).", "Ask again.") from error
    if not is_alive:
        raise Wrong(
            "No sign of life for half a minute. Writes and searches go on, their work waits.",
            f"manage.py status; its log is {settings.HOME.logs}/worker.log.",
        )
    return "It does its periodic work."


def _outbox() -> str:
    [(waiting, dead, age)] = _ask(
        "SELECT count(*) FILTER (WHERE delivery.state = 'waiting'), count(*) FILTER (WHERE delivery.state = 'dead'),"
        " coalesce(extract(epoch FROM clock_timestamp()"
        "     - min(event.created_at) FILTER (WHERE delivery.state = 'waiting')), 0)"
        " FROM memories_outboxdelivery AS delivery JOIN memories_outboxevent AS event"
        " ON event.owner_id = delivery.owner_id AND event.id = delivery.event_id"
    )
    if waiting and age > _OLDEST_WAITING_S:
        raise Wrong(
            f"{waiting} deliveries wait, the oldest for {age:.0f} seconds.",
            f"See to the worker; {settings.HOME.logs}/worker.log tells which consumer fails.",
        )
    given_up = f" {dead} were given up; worker.log has their reasons." if dead else ""
    return f"{waiting} deliveries wait.{given_up}"


def _vector_indexes() -> str:
    try:
        found = vector_indexes.coverage()
    except (AnyDatabaseError, PoolTimeout) as error:
        raise Wrong(f"The database refuses ({type(error.__cause__ or error).__name__}).", "Ask again.") from error
    line = settings.VECTOR_INDEX_FROM
    if found.missing and not settings.DATABASE_OWNER_ROLE:
        raise Wrong(
            f"{found.missing} owner(s) with {line} memories or more have none, so their searches are slow.",
            "Set DATABASE_OWNER_URL for the worker: the owner of the tables makes them.",
        )
    being_built = f"; {found.missing} are still to be built, worker.log tells of them" if found.missing else ""
    return f"{found.indexed} owner(s) have one, from {line} memories on{being_built}."


def _embedder() -> str:
    try:
        space, provider = embedding_spaces.active(), providers.configured(Purpose.EMBEDDER)
    except (AnyDatabaseError, PoolTimeout) as error:
        raise Wrong(f"The database refuses ({type(error.__cause__ or error).__name__}).", "Ask again.") from error
    if provider is None:
        if space is None:
            return "None is configured; the local one is always there."
        raise Wrong(
            f"Vectors of {space.model} are there, and no embedder to ask. Searches use the local one and say degraded.",
            "Configure it as docs/embeddings.md says, here and for the service.",
        )
    if space is None:
        raise Wrong("It is configured, and nothing is embedded by it yet.", "manage.py reembed")
    began = time.perf_counter()
    try:
        provider.embed(["doctor"], model=space.model, dimensions=space.dimensions, timeout_ms=_TIMEOUT_S * 1000)
    except ProviderAway as away:
        raise Wrong(
            f"It gives no answer that can be used ({away.reason}: {away}). Searches use the local one.",
            "See to its address, key, model and dimensions in the provider settings; what waits is embedded later.",
        ) from away
    took_ms = (time.perf_counter() - began) * 1000
    slow = "" if took_ms <= provider.query_budget_ms else f", more than the {provider.query_budget_ms} ms of a search"
    return f"{space.model} answers in {took_ms:.0f} ms{slow}."


def _ask(sql: str) -> Any:
    try:
        if "outbox" in sql:
            with acting_as(Actor.system("doctor")), connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall()
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()
    except (AnyDatabaseError, PoolTimeout, ImproperlyConfigured) as error:
        raise Wrong(f"The database refuses ({type(error.__cause__ or error).__name__}).", "Ask again.") from error


def _web(home: Home) -> str:
    status, _ = _call(home, "/health/live")
    if status != 200:
        raise Wrong(f"GET /health/live answers {status}.", f"Read {home.logs}/web.log; add the name to ALLOWED_HOSTS.")
    return _address(home)


def _client(home: Home) -> str:
    key = service.read_api_key(home)
    if key is None:
        raise Wrong(
            f"There is no readable key in {home.api_key_file}.",
            "manage.py up makes one at its next start; or run as the user who runs the service.",
        )
    if home.api_key_file.stat().st_mode & 0o077:
        raise Wrong(
            f"Others on this machine may read {home.api_key_file}.",
            f"chmod 600 {home.api_key_file}; if they should not know it, revoke the key and delete the file.",
        )
    status, me = _call(home, "/api/v2/me/", key)
    if status in (401, 403):
        raise Wrong(
            f"The key of {home.api_key_file} is refused ({status}).",
            "It was revoked, or is another database's: delete the file, and restart for a new one.",
        )
    if status != 200:
        raise Wrong(f"GET /api/v2/me/ answers {status}.", f"Read {home.logs}/web.log.")
    began = time.perf_counter()
    status, found = _call(home, "/api/v2/search/", key, {"query": "is everything well", "top_k": 1})
    if status != 200 or "results" not in found:
        raise Wrong(f"POST /api/v2/search/ answers {status}.", f"Read {home.logs}/web.log.")
    return f"{me['username']} is known, and a search took {(time.perf_counter() - began) * 1000:.0f} ms."


def _address(home: Home) -> str:
    found = service.load(home)
    if found:
        return found.url
    host = service.url_host(os.environ.get("MEM0_HOST") or "127.0.0.1")
    return f"http://{host}:{os.environ.get('MEM0_PORT') or 8000}"


def _nobody_answers(home: Home) -> tuple[str, str]:
    address = _address(home)
    port = int(address.rpartition(":")[2])
    if not service.is_supervised(home) and (holder := directory.holder(port)):
        return (
            f"{holder} has the port of {address}, and does not answer as this service.",
            f"Stop it, or choose another port: manage.py up --detach --port {port + 1}.",
        )
    return f"No answer from {address}.", f"manage.py up --detach; its log is {home.logs}/web.log."


def _call(home: Home, path: str, key: str | None = None, body: Any = None) -> tuple[int, Any]:
    request = urllib.request.Request(  # noqa: S310  http, as written in `_address`
        _address(home) + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {}),
    )
    # A proxy of the environment is for the world outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, {}
    except (OSError, ValueError) as error:
        raise Wrong(*_nobody_answers(home)) from error
