"""The load generator, a process of its own: `python -m mem0stack.bench.load`, steered by JSON lines.

It reads its settings, then one job after the other. It says `{"ready": true}` when a job is prepared, waits for a line,
and answers with every sample. Closed loops send the next call when the reply is there; the open loop sends at drawn
moments, whatever the replies do, and counts from the moment that was drawn: a slow reply cannot hide the ones behind.
"""

import asyncio
import gc
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from mem0stack.bench import BenchError
from mem0stack.bench.calls import BATCH, Call, Calls, User
from mem0stack.bench.client import Connection, Reply
from mem0stack.bench.corpus import Owner, owners_of, size_class

_TIMEOUT_S = 10.0
_KEPT = 40
# The event loop wakes up to a millisecond late: it is woken earlier, and the rest is waited for in small steps.
_WAKE_EARLY_S = 0.0015
# Of the open loop: four fifths are searches.
_MIX = {"search": 0.8, "create": 0.05, "get": 0.05, "update": 0.05, "delete": 0.05}
_DELETES_PER_SECOND = 300


@dataclass(frozen=True)
class Sample:
    """One call: its kind, whose it was, how long it took, and what was wrong with the reply."""

    call: str
    size: str
    ms: float
    wrong: str | None


@dataclass(frozen=True)
class Measured:
    """What one job gave. `cpu_s` is the generator's own; `late_ms` how late it sent at worst (99th percentile)."""

    samples: Sequence[Sample]
    wall_s: float
    cpu_s: float
    late_ms: float = 0.0


class Generator:
    """The other process, as its parent sees it."""

    def __init__(self, url: str, *, owners: Sequence[Owner], keys: Sequence[str], cwd: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mem0stack.bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd
        )
        sizes = [owner.size for owner in owners]
        self._write({"url": url, "sizes": sizes, "seed": owners[0].seed, "keys": list(keys)})

    def prepare(self, **job: Any) -> None:
        """`open=seconds`, or `call=kind, clients=n, seconds=s`. Returns when nothing is left to do but to send."""
        self._write(job)
        self._read()

    def run(self) -> Measured:
        self._write({})
        found = self._read()
        return Measured(**found | {"samples": [Sample(*sample) for sample in found["samples"]]})

    def close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _write(self, message: Any) -> None:
        assert self._process.stdin is not None  # noqa: S101  it is a pipe
        self._process.stdin.write(orjson.dumps(message) + b"\n")
        self._process.stdin.flush()

    def _read(self) -> Any:
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("The load generator has ended; what it said is above.")
        return orjson.loads(line)


@dataclass
class _Planned:
    at_s: float
    kind: str
    user: User
    call: Call


@dataclass
class _Load:
    """What lives as long as the generator."""

    host: str
    port: int
    users: list[User]
    calls: Calls
    draw: random.Random
    _connections: dict[object, list[Connection]] = field(default_factory=dict)

    @property
    def largest(self) -> int:
        return max(user.owner.size for user in self.users)

    async def closed(self, kind: str, clients: int, seconds: float) -> list[Sample]:
        """So many clients, each of which calls for a user drawn anew once it has its reply."""
        samples: list[Sample] = []
        end = time.perf_counter() + seconds

        async def client(number: int) -> None:
            while time.perf_counter() < end:
                user = self.draw.choice(self.users)
                try:
                    call = self.calls.make(kind, user)
                except IndexError:
                    return
                samples.append(await self._timed(kind, user, call, (kind, number)))

        await asyncio.gather(*(client(number) for number in range(clients)))
        return samples

    def plan(self, seconds: float) -> list[tuple[float, str, User]]:
        """Poisson arrivals: two a second by each user."""
        planned = []
        for user in self.users:
            at_s = self.draw.expovariate(2)
            while at_s < seconds:
                kind = self.draw.choices(list(_MIX), list(_MIX.values()))[0]
                planned.append((at_s, kind, user))
                at_s += self.draw.expovariate(2)
        return sorted(planned, key=lambda one: one[0])

    async def open(self, planned: Sequence[_Planned]) -> tuple[list[Sample], float]:
        samples: list[Sample] = []
        late: list[float] = []
        began = time.perf_counter() + 0.05

        async def send(one: _Planned) -> None:
            due = began + one.at_s
            late.append((time.perf_counter() - due) * 1000)
            samples.append(await self._timed(one.kind, one.user, one.call, one.user.owner.number, since=due))

        running = []
        for one in planned:
            wait = began + one.at_s - time.perf_counter()
            if wait > _WAKE_EARLY_S:
                await asyncio.sleep(wait - _WAKE_EARLY_S)
            while time.perf_counter() < began + one.at_s:
                await asyncio.sleep(0)
            running.append(asyncio.create_task(send(one)))
        await asyncio.gather(*running)
        late.sort()
        return samples, late[int(len(late) * 0.99)] if late else 0.0

    async def stock(self, *, doomed: int, users: Sequence[User]) -> None:
        """Memories of the bench's own, for those calls that need one."""
        for user in users:
            for ids, wanted in ((user.kept, _KEPT), (user.doomed, doomed)):
                while (missing := wanted - len(ids)) > 0:
                    call = self.calls.batch(user, min(missing, BATCH), keep=ids)
                    if wrong := call.check(await self._send(call, "stock")):
                        raise BenchError(f"A batch for {user.owner.name}: {wrong}.")

    async def _timed(
        self, kind: str, user: User, call: Call, connection: object, *, since: float | None = None
    ) -> Sample:
        began = time.perf_counter() if since is None else since
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                reply = await self._send(call, connection)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            ms = (time.perf_counter() - began) * 1000
            return Sample(kind, "", ms, f"no reply ({type(error).__name__})")
        ms = (time.perf_counter() - began) * 1000
        return Sample(kind, size_class(user.owner, self.largest), ms, call.check(reply))

    async def _send(self, call: Call, of: object) -> Reply:
        """Over an idle connection of this user or client, or a new one."""
        idle = self._connections.setdefault(of, [])
        connection = idle.pop() if idle else Connection(self.host, self.port)
        reply = await connection.call(call.request)
        idle.append(connection)
        return reply


async def _serve() -> None:
    given = _read()
    address = urlsplit(given["url"])
    seed = given["seed"]
    users = [User(owner, key) for owner, key in zip(owners_of(given["sizes"], seed), given["keys"], strict=True)]
    draw = random.Random(seed)  # noqa: S311  no secret
    load = _Load(address.hostname or "", address.port or 80, users, Calls(seed), draw)
    while job := _read():
        planned: list[_Planned] = []
        if "open" in job:
            moments = load.plan(job["open"])
            for user in users:
                doomed = sum(kind == "delete" and who is user for _, kind, who in moments)
                await load.stock(doomed=doomed, users=[user])
            planned = [_Planned(at_s, kind, user, load.calls.make(kind, user)) for at_s, kind, user in moments]
        elif job["call"] == "delete":
            await load.stock(doomed=round(_DELETES_PER_SECOND * job["seconds"] / len(users)), users=users)
        elif job["call"] in ("get", "update"):
            await load.stock(doomed=0, users=users)
        gc.collect()
        gc.disable()
        _write({"ready": True})
        _read()
        began, cpu = time.perf_counter(), time.process_time()
        late = 0.0
        if "open" in job:
            samples, late = await load.open(planned)
        else:
            samples = await load.closed(job["call"], job["clients"], job["seconds"])
        measured = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu, "late_ms": late}
        gc.enable()
        _write(measured | {"samples": [(one.call, one.size, one.ms, one.wrong) for one in samples]})


def _read() -> Any:
    line = sys.stdin.readline()
    return orjson.loads(line) if line.strip() else None


def _write(message: Any) -> None:
    sys.stdout.write(orjson.dumps(message).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve())
