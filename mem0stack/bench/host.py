"""The service that is measured: a home of its own, started, filled, killed and removed by the bench."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import psycopg
from django.conf import settings

from mem0stack.bench import BenchError
from mem0stack.bench.corpus import Owner
from mem0stack.embedded import postgres, service
from mem0stack.lib.home import Home

_FILLERS = 2
_BACK_WITHIN_S = 60.0
# The indexes of a million memories are built for a quarter of an hour.
_WORKER_WITHIN_S = 3_600
# These would lead it to somebody else's data.
_FOREIGN = ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "NEO4J_URL", "SECRET_KEY", "MEM0_DB_ROLE", "MEM0_HOME")
_TABLES = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class
WHERE relkind = 'r' AND (starts_with(relname, 'memories_') OR starts_with(relname, 'graph_')) ORDER BY 2 DESC
"""


class Host:
    """One service in one home."""

    def __init__(self, home: Path, port: int, owners: Sequence[Owner]) -> None:
        self.home = home
        self._port = port
        self._corpus = (",".join(str(owner.size) for owner in owners), str(owners[0].seed))
        self._indexes_from = settings.VECTOR_INDEX_FROM
        self.url = ""
        self.api_key = ""

    def up(self, *, with_indexes: bool = True) -> float:
        """Seconds until everything was ready. An index slows down what is loaded by the ten thousand."""
        began = time.perf_counter()
        self._indexes_from = settings.VECTOR_INDEX_FROM if with_indexes else 0
        said = orjson.loads(self._manage("up", "--detach", "--json", "--port", str(self._port)))
        self.url, self.api_key = said["url"], said["api_key"]
        return time.perf_counter() - began

    def down(self) -> None:
        self._manage("down")

    def first_memory(self) -> float:
        """Seconds from a write by a new client to the answer of a search that finds it."""
        began = time.perf_counter()
        text = "The release train leaves on Tuesdays."
        _ask(self.url, self.api_key, "POST", "/api/v2/memories/", {"content": text})
        found = _ask(self.url, self.api_key, "POST", "/api/v2/search/", {"query": "when does the release train leave"})
        if [hit["content"] for hit in found["results"]] != [text]:
            raise BenchError(f"The first memory was not found: {found}")
        return time.perf_counter() - began

    def fill(self, owners: Sequence[Owner], progress: Callable[[int], None]) -> list[str]:
        """Stores every owner's memories from two processes. Returns the owners' keys, in their order."""
        shares = _balanced(owners, _FILLERS)
        # One pipe for all: a line is short enough to be written whole.
        reader, writer = os.pipe()
        fillers = [self._inside("fill", ",".join(str(one.number) for one in share), writer) for share in shares]
        os.close(writer)
        keys: dict[int, str] = {}
        try:
            with os.fdopen(reader) as lines:
                for said in map(orjson.loads, lines):
                    if "key" in said:
                        keys[said["owner"]] = said["key"]
                    progress(said.get("stored", 0))
        except BaseException:
            for filler in fillers:
                filler.kill()
            raise
        finally:
            failed = [filler for filler in fillers if filler.wait()]
        if failed:
            raise BenchError("The memories could not be stored; the reason is above.")
        return [keys[owner.number] for owner in owners]

    def settle(self) -> float:
        """What autovacuum and the worker would do in the next minutes, done now: then it is measured as it will be.
        Returns the seconds until the outbox was empty."""
        waiting = "SELECT count(*) FROM memories_outboxdelivery WHERE state = 'waiting'"
        drained_s = self._wait_for_none(waiting, what="empty the outbox")
        with self.database() as database:
            database.execute("VACUUM (ANALYZE)")
        with self.database(postgres.SUPERUSER) as database:
            database.execute("CHECKPOINT")
        return drained_s

    def await_indexes(self) -> float:
        """Seconds until every large owner had a vector index."""
        missing = "SELECT count(*) FROM memories_ownerstatistics WHERE memories >= %d AND vector_index_at IS NULL"
        if not self._indexes_from:
            return 0.0
        return self._wait_for_none(missing % self._indexes_from, what="build the vector indexes")

    def forget_pages(self) -> None:
        """Have the machine forget what it keeps of the database's files, while PostgreSQL is down: what is read next
        comes from the disk."""
        for path in Home(self.home).postgres_data.rglob("*"):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)

    def search_ms(self, key: str, query: str) -> float:
        began = time.perf_counter()
        _ask(self.url, key, "POST", "/api/v2/search/", {"query": query})
        return (time.perf_counter() - began) * 1000

    def sizes(self) -> dict[str, int]:
        """Bytes of every table with its indexes."""
        with self.database() as database:
            return {name: size for name, size in database.execute(_TABLES).fetchall() if size}

    def memories(self) -> int:
        with self.database() as database:
            return int(_one(database, "SELECT count(*) FROM memories_memory"))

    def sql_floor(self, seconds: float) -> dict[str, Any]:
        process = self._inside("floor", str(seconds))
        output, _ = process.communicate()
        if process.returncode:
            raise BenchError("The searches' SQL could not be run by itself; the reason is above.")
        found: dict[str, Any] = orjson.loads(output)
        return found

    def curve(self, searches: int, progress: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
        """What so many searches of each owner cost, the owners one after another; told of each as it is known."""
        process = self._inside("curve", str(searches))
        assert process.stdout is not None  # noqa: S101  it is a pipe
        rows = []
        for line in process.stdout:
            rows.append(orjson.loads(line))
            progress(rows[-1])
        if process.wait():
            raise BenchError("The searches could not be run; the reason is above.")
        return rows

    def kill(self, part: str) -> float:
        """Seconds from `kill -9` of a part until it is well and every kind of call succeeds."""
        state = service.load(Home(self.home))
        if state is None:
            raise BenchError(f"{self.home} has no state of a running service.")
        killed = state.children[part].pid
        began = time.perf_counter()
        os.kill(killed, signal.SIGKILL)
        while time.perf_counter() - began < _BACK_WITHIN_S:
            state = service.load(Home(self.home))
            if state and state.is_healthy and state.children[part].pid != killed and self._serves():
                return time.perf_counter() - began
            time.sleep(0.01)
        raise BenchError(f"After kill -9 of {part} the service was not back within {_BACK_WITHIN_S:.0f} seconds.")

    def database(self, role: str = postgres.OWNER) -> psycopg.Connection[Any]:
        directory = str(Home(self.home).postgres_socket_dir)
        return psycopg.connect(host=directory, dbname=postgres.DATABASE, user=role, autocommit=True)

    def _wait_for_none(self, count: str, *, what: str) -> float:
        began = time.perf_counter()
        with self.database() as database:
            while _one(database, count):
                if time.perf_counter() - began > _WORKER_WITHIN_S:
                    raise BenchError(f"The worker does not {what}; {self.home}/logs/worker.log tells more.")
                time.sleep(0.2)
        return time.perf_counter() - began

    def _serves(self) -> bool:
        """One call of each kind; a connection each, as after a break."""
        content = f"back at {time.time_ns()}"
        try:
            made = _ask(self.url, self.api_key, "POST", "/api/v2/memories/", {"content": content})
            path = f"/api/v2/memories/{made['id']}/"
            _ask(self.url, self.api_key, "GET", path)
            _ask(self.url, self.api_key, "PATCH", path, {"content": f"{content}, and changed"})
            _ask(self.url, self.api_key, "POST", "/api/v2/search/", {"query": "back"})
            _ask(self.url, self.api_key, "GET", "/api/v2/memories/")
            _ask(self.url, self.api_key, "DELETE", path)
        except (OSError, http.client.HTTPException, BenchError):
            return False
        return True

    def _manage(self, *words: str) -> str:
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(  # noqa: S603  our own program
            command, capture_output=True, text=True, check=False, env=self._environ(), cwd=settings.BASE_DIR
        )
        if done.returncode:
            raise BenchError(f"`manage.py {words[0]}` ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
        lines = done.stdout.strip().splitlines()
        return lines[-1] if lines else ""

    def _inside(self, job: str, argument: str, output: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "mem0stack.bench.inside", job, *self._corpus, argument]
        environ = self._environ() | {"DJANGO_SETTINGS_MODULE": "mem0stack.settings", "LOG_LEVEL": "WARNING"}
        return subprocess.Popen(command, stdout=output, env=environ, cwd=settings.BASE_DIR)  # noqa: S603

    def _environ(self) -> dict[str, str]:
        foreign = {name + ending for name in _FOREIGN for ending in ("", "_FILE")}
        kept = {name: value for name, value in os.environ.items() if name not in foreign}
        return kept | {"MEM0_HOME": str(self.home), "VECTOR_INDEX_FROM": str(self._indexes_from)}


def _balanced(owners: Sequence[Owner], parts: int) -> list[list[Owner]]:
    """The owners in so many parts of about the same size."""
    found: list[list[Owner]] = [[] for _ in range(parts)]
    for owner in sorted(owners, key=lambda one: -one.size):
        min(found, key=lambda part: sum(one.size for one in part)).append(owner)
    return [part for part in found if part]


def _ask(url: str, key: str, method: str, path: str, body: Any = None) -> Any:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
    try:
        payload = None if body is None else orjson.dumps(body)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request(method, path, body=payload, headers=headers)
        reply = connection.getresponse()
        text = reply.read()
        if not 200 <= reply.status < 300:
            raise BenchError(f"{method} {path} was answered with {reply.status}.")
        return orjson.loads(text)
    finally:
        connection.close()


def _one(database: psycopg.Connection[Any], statement: str) -> Any:
    row = database.execute(statement).fetchone()
    return row[0] if row else None
