"""The service that is measured: a home of its own, started, filled, killed and removed by the bench."""

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings

from mem0stack.bench import BenchError
from mem0stack.bench.corpus import Owner
from mem0stack.embedded import service
from mem0stack.embedded.scratch import ScratchError, ScratchService, ask, one
from mem0stack.lib.home import Home

_FILLERS = 2
_BACK_WITHIN_S = 60.0
_TABLES = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class
WHERE relkind = 'r' AND (starts_with(relname, 'memories_') OR starts_with(relname, 'graph_')) ORDER BY 2 DESC
"""


class Host(ScratchService):
    """One service in one home."""

    def __init__(self, home: Path, port: int, owners: Sequence[Owner]) -> None:
        super().__init__(home, port)
        self._corpus = (",".join(str(owner.size) for owner in owners), str(owners[0].seed))
        self._indexes_from = settings.VECTOR_INDEX_FROM

    def up(self, *, with_indexes: bool = True) -> float:
        """Seconds until everything was ready. An index slows down what is loaded by the ten thousand."""
        self._indexes_from = settings.VECTOR_INDEX_FROM if with_indexes else 0
        return super().up()

    def first_memory(self) -> float:
        """Seconds from a write by a new client to the answer of a search that finds it."""
        began = time.perf_counter()
        text = "The release train leaves on Tuesdays."
        ask(self.url, self.api_key, "POST", "/api/v2/memories/", {"content": text})
        found = ask(self.url, self.api_key, "POST", "/api/v2/search/", {"query": "when does the release train leave"})
        if [hit["content"] for hit in found["results"]] != [text]:
            raise BenchError(f"The first memory was not found: {found}")
        return time.perf_counter() - began

    def fill(self, owners: Sequence[Owner], progress: Callable[[int], None]) -> list[str]:
        """Stores every owner's memories from two processes. Returns the owners' keys, in their order."""
        shares = _balanced(owners, _FILLERS)
        # One pipe for all: a line is short enough to be written whole.
        reader, writer = os.pipe()
        fillers = [self._job("fill", ",".join(str(each.number) for each in share), writer) for share in shares]
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

    def await_indexes(self) -> float:
        """Seconds until every large owner had a vector index."""
        missing = "SELECT count(*) FROM memories_ownerstatistics WHERE memories >= %d AND vector_index_at IS NULL"
        if not self._indexes_from:
            return 0.0
        return self.await_none(missing % self._indexes_from, what="build the vector indexes")

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
        ask(self.url, key, "POST", "/api/v2/search/", {"query": query}, timeout_s=15.0)
        return (time.perf_counter() - began) * 1000

    def sizes(self) -> dict[str, int]:
        """Bytes of every table with its indexes."""
        with self.database() as database:
            return {name: size for name, size in database.execute(_TABLES).fetchall() if size}

    def memories(self) -> int:
        with self.database() as database:
            return int(one(database, "SELECT count(*) FROM memories_memory"))

    def sql_floor(self, seconds: float) -> dict[str, Any]:
        process = self._job("floor", str(seconds))
        output, _ = process.communicate()
        if process.returncode:
            raise BenchError("The searches' SQL could not be run by itself; the reason is above.")
        found: dict[str, Any] = orjson.loads(output)
        return found

    def curve(self, searches: int, progress: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
        """What so many searches of each owner cost, the owners one after another; told of each as it is known."""
        process = self._job("curve", str(searches))
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

    def _job(self, job: str, argument: str, output: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
        return self.inside("mem0stack.bench.inside", job, *self._corpus, argument, stdout=output)

    def _serves(self) -> bool:
        """One call of each kind; a connection each, as after a break."""
        content = f"back at {time.time_ns()}"
        try:
            made = ask(self.url, self.api_key, "POST", "/api/v2/memories/", {"content": content})
            path = f"/api/v2/memories/{made['id']}/"
            ask(self.url, self.api_key, "GET", path)
            ask(self.url, self.api_key, "PATCH", path, {"content": f"{content}, and changed"})
            ask(self.url, self.api_key, "POST", "/api/v2/search/", {"query": "back"})
            ask(self.url, self.api_key, "GET", "/api/v2/memories/")
            ask(self.url, self.api_key, "DELETE", path)
        except (OSError, http.client.HTTPException, ScratchError):
            return False
        return True

    def _environ(self) -> dict[str, str]:
        return super()._environ() | {"VECTOR_INDEX_FROM": str(self._indexes_from)}


def _balanced(owners: Sequence[Owner], parts: int) -> list[list[Owner]]:
    """The owners in so many parts of about the same size."""
    found: list[list[Owner]] = [[] for _ in range(parts)]
    for owner in sorted(owners, key=lambda each: -each.size):
        min(found, key=lambda part: sum(each.size for each in part)).append(owner)
    return [part for part in found if part]
