"""A service for one purpose: in a home of its own, with nothing of anybody else's, gone without a trace afterwards.

The bench measures one, evaluation fills one with its sets. What has to run inside the product, with that home's
database, runs as a process of its own: the Django of the command that calls belongs to another home.
"""

import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import psycopg
from django.conf import settings

from mem0stack.embedded import directory, postgres
from mem0stack.lib.home import Home

# The vector indexes of a million memories are built for a quarter of an hour.
_WORKER_WITHIN_S = 3_600
# These would lead it to somebody else's data.
_FOREIGN = ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "NEO4J_URL", "SECRET_KEY", "MEM0_DB_ROLE", "MEM0_HOME")


class ScratchError(Exception):
    """Why the service does not do what it is there for, in a sentence."""


class ScratchService:
    """One service in one home. `url` and `api_key` are known once it is up."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.url = ""
        self.api_key = ""
        self._port = port

    def up(self) -> float:
        """Seconds until everything was ready."""
        began = time.perf_counter()
        said = orjson.loads(self._manage("up", "--detach", "--json", "--port", str(self._port)))
        self.url, self.api_key = said["url"], said["api_key"]
        return time.perf_counter() - began

    def down(self) -> None:
        self._manage("down")

    def remove(self) -> None:
        """Ends it, whatever state it is in, and removes its home."""
        try:
            self.down()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def reembed(self) -> None:
        """Has the embedder that the environment names make the vectors of everything, and searches ask it."""
        self._manage("reembed")

    def settle(self) -> float:
        """What autovacuum and the worker would do in the next minutes, done now: then it is measured as it will be.
        Returns the seconds until the outbox was empty."""
        waiting = "SELECT count(*) FROM memories_outboxdelivery WHERE state = 'waiting'"
        drained_s = self.await_none(waiting, what="empty the outbox")
        with self.database() as database:
            database.execute("VACUUM (ANALYZE)")
        with self.database(postgres.SUPERUSER) as database:
            database.execute("CHECKPOINT")
        return drained_s

    def await_none(self, count: str, *, what: str) -> float:
        """Seconds until a count is 0 that the worker brings down; `what` it should do is for the error."""
        began = time.perf_counter()
        with self.database() as database:
            while one(database, count):
                if time.perf_counter() - began > _WORKER_WITHIN_S:
                    raise ScratchError(f"The worker does not {what}; {self.home}/logs/worker.log tells more.")
                time.sleep(0.2)
        return time.perf_counter() - began

    def database(self, role: str = postgres.OWNER) -> psycopg.Connection[Any]:
        directory = str(Home(self.home).postgres_socket_dir)
        return psycopg.connect(host=directory, dbname=postgres.DATABASE, user=role, autocommit=True)

    def inside(self, module: str, *words: str, **pipes: Any) -> "subprocess.Popen[bytes]":
        """A process of `python -m module` whose Django belongs to this home."""
        command = [sys.executable, "-m", module, *words]
        environ = self._environ() | {"DJANGO_SETTINGS_MODULE": "mem0stack.settings", "LOG_LEVEL": "WARNING"}
        return subprocess.Popen(command, env=environ, cwd=settings.BASE_DIR, **pipes)  # noqa: S603  our own program

    def _manage(self, *words: str) -> str:
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(  # noqa: S603  our own program
            command, capture_output=True, text=True, check=False, env=self._environ(), cwd=settings.BASE_DIR
        )
        if done.returncode:
            raise ScratchError(f"`manage.py {words[0]}` ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
        lines = done.stdout.strip().splitlines()
        return lines[-1] if lines else ""

    def _environ(self) -> dict[str, str]:
        foreign = {name + ending for name in _FOREIGN for ending in ("", "_FILE")}
        kept = {name: value for name, value in os.environ.items() if name not in foreign}
        return kept | {"MEM0_HOME": str(self.home)}


@contextmanager
def scratch_service(purpose: str) -> Iterator[ScratchService]:
    """A running service on a free port, ended and removed however the block ends: Ctrl-C and SIGTERM included."""
    # Not a directory of mkdtemp: PostgreSQL of root runs as another account, which must be able to get in.
    home = Path(tempfile.gettempdir()) / f"mem0-{purpose}-{os.getpid()}"
    service = ScratchService(home, directory.free_port())
    with _interruptible():
        try:
            service.up()
            yield service
        finally:
            with _undisturbed():
                service.remove()


def ask(url: str, key: str, method: str, path: str, body: Any = None, *, timeout_s: float = 5.0) -> Any:
    """The JSON that a service answers with. Raises ScratchError on a status that is no success, OSError and
    HTTPException where no whole answer comes."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_s)
    try:
        payload = None if body is None else orjson.dumps(body)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request(method, path, body=payload, headers=headers)
        reply = connection.getresponse()
        text = reply.read()
        if not 200 <= reply.status < 300:
            raise ScratchError(f"{method} {path} was answered with {reply.status}: {text[:300].decode()}")
        return orjson.loads(text)
    finally:
        connection.close()


def one(database: psycopg.Connection[Any], statement: str) -> Any:
    row = database.execute(statement).fetchone()
    return row[0] if row else None


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does."""
    with _handling({signal.SIGTERM: _interrupt}):
        yield


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not stop the cleaning up."""
    with _handling({signal.SIGTERM: signal.SIG_IGN, signal.SIGINT: signal.SIG_IGN}):
        yield


@contextmanager
def _handling(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
