"""Writers and searchers while every process is killed and paused at random: `make soak ARGS="--minutes 30 --seed 7"`.

The same runs for about a minute in the tests. What it prints at the end was counted by the clients, not by the service.
`--bridges KILLS` kills stdio bridges and their server instead (tests/storm.py).
"""

import argparse
import contextlib
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.progress import Progress, TextColumn

from mem0stack.embedded.service import load as load_state
from mem0stack.lib.home import Home
from tests.load import LONGEST_S, Load, Seen, as_superuser, assert_true, wait_for_drained_outbox
from tests.mcp_server_at_the_edge import EdgeProcess
from tests.running import RunningService, running_service
from tests.storm import storm

# How often each is drawn. A killed supervisor is the dearest: somebody has to call `up`.
KILLS = {"web": 2, "web worker": 4, "worker": 3, "postgres": 3, "backend": 3, "valkey": 3, "supervisor": 1}
PAUSES = {"web worker": 2, "worker": 2, "postgres": 2, "valkey": 3}
_BACK_WITHIN_S = 60


class Havoc:
    """Does one thing to one part at a time, and counts what it did."""

    def __init__(self, service: RunningService, rng: random.Random) -> None:
        self._service = service
        self._rng = rng
        self.done: Counter[str] = Counter()
        self._left: list[tuple[str, str]] = []

    def strike(self) -> str:
        """Kill or pause something; returns what, when it is done."""
        if not self._left:
            # Each at least once in a round, in an order of its own.
            for verb, parts in (("kill", KILLS), ("pause", PAUSES)):
                self._left += [(verb, part) for part, weight in parts.items() for _ in range(weight)]
            self._rng.shuffle(self._left)
        verb, part = self._left.pop()
        victims = self._processes(part)
        if not victims:
            return ""
        if verb == "kill":
            self._signal([self._rng.choice(victims)], signal.SIGKILL)
            if part == "supervisor":
                time.sleep(self._rng.uniform(0, 1))
                self._service.up()
        else:
            with _stopped(victims):
                time.sleep(self._rng.uniform(0.3, 3))
        self.done[f"{verb} {part}"] += 1
        return f"{verb} {part}"

    def _processes(self, part: str) -> list[psutil.Process]:
        """Whom to kill one of, or to pause all of."""
        pids = children(self._service)
        try:
            if part == "supervisor":
                return [psutil.Process((self._service.pids or {})["supervisor"])]
            if part == "web worker":
                return [one for one in psutil.Process(pids["web"]).children() if _is_granian(one)]
            if part == "backend":
                return [one for one in psutil.Process(pids["postgres"]).children() if "mem0_app" in _words(one)]
            return [psutil.Process(pids[part])]
        except (psutil.Error, KeyError):
            return []

    def _signal(self, processes: list[psutil.Process], number: int) -> None:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)


@contextlib.contextmanager
def _stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """They hang inside: they live, hold their sockets, and do nothing."""
    every = [*processes, *(child for one in processes for child in _children(one))]
    for process in every:
        with contextlib.suppress(psutil.Error):
            process.suspend()
    try:
        yield
    finally:
        for process in every:
            with contextlib.suppress(psutil.Error):
                process.resume()


def hanging(service: RunningService, part: str) -> contextlib.AbstractContextManager[None]:
    """This child, with all below it, hangs inside."""
    return _stopped([psutil.Process(children(service)[part])])


def children(service: RunningService) -> dict[str, int]:
    """The pids of what the supervisor keeps, as of now."""
    found = load_state(Home(service.home))
    return {name: child.pid for name, child in found.children.items()} if found else {}


def wait_until_well(service: RunningService, timeout_s: float = _BACK_WITHIN_S) -> float:
    """Seconds until every part is ready and `/health/` says so."""
    began = time.monotonic()
    with service.client(timeout=15) as client:
        while True:
            found = load_state(Home(service.home))
            if found and found.is_healthy:
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/health/").json()["status"] == "ok":
                        return time.monotonic() - began
            assert time.monotonic() - began < timeout_s, f"not well within {timeout_s} s: {service.status()}"
            time.sleep(0.1)


def sizes(service: RunningService) -> dict[str, tuple[float, int]]:
    """Memory in MB (the sum of its processes) and open files, of each part."""
    found = {}
    pids = children(service) | {"supervisor": (service.pids or {})["supervisor"]}
    for name, pid in pids.items():
        boss = psutil.Process(pid)
        every = [boss] if name == "supervisor" else [boss, *_children(boss)]
        memory = files = 0
        for process in every:
            with contextlib.suppress(psutil.Error):
                # Shared buffers would count once for every backend of PostgreSQL.
                memory += process.memory_full_info().uss
                files += process.num_fds()
        found[name] = (memory / 2**20, files)
    return found


def connections(service: RunningService) -> int:
    with as_superuser(service) as database:
        [(count,)] = database.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'mem0_app'").fetchall()
        return int(count)


def soak(
    service: RunningService, seed: int, seconds: float, tell: Callable[[float, str, Seen], None] = lambda *_: None
) -> list[str]:
    """Runs it, asserts what must hold, and returns the figures as lines."""
    rng = random.Random(seed)  # noqa: S311  no secret
    havoc = Havoc(service, rng)
    wait_until_well(service)
    with Load(service, rng.getrandbits(32)) as load:
        load.wait_for_writes(50)
        before, connections_before = sizes(service), connections(service)
        began = time.monotonic()
        while (past := time.monotonic() - began) < seconds:
            tell(past, havoc.strike(), load.seen)
            time.sleep(rng.uniform(0.5, 3.5))
        back_s = wait_until_well(service)
        load.wait_for_writes(50)
    seen = load.seen
    drained_s = wait_for_drained_outbox(service)
    after, connections_after = sizes(service), connections(service)
    lines = [f"soak of {seconds:.0f} s with seed {seed}: {len(seen.acknowledged)} acknowledged, each there once"]
    for kind in ("write", "search"):
        times = seen.seconds(kind)
        p50, p95, p99 = (1000 * times[int(len(times) * part)] for part in (0.5, 0.95, 0.99))
        lines.append(
            f"{kind}: {len(times)} well, p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms, max {times[-1]:.1f} s, "
            f"longest without a success {seen.longest_gap(kind):.1f} s"
        )
    failed = ", ".join(f"{outcome}: {count}" for outcome, count in seen.failures().most_common()) or "none"
    lines.append(f"failures: {failed}; retries {seen.retries}; longest request {seen.longest():.1f} s")
    lines.append("done to it: " + ", ".join(f"{what} {count}" for what, count in sorted(havoc.done.items())))
    lines.append(f"well again after {back_s:.1f} s, outbox empty after {drained_s:.1f} s")
    lines += [
        f"{name}: {before[name][0]:.0f} MB, {before[name][1]} files before; {memory:.0f} MB, {files} files after"
        for name, (memory, files) in after.items()
    ]
    lines.append(f"connections: {connections_before} before, {connections_after} after")
    try:
        assert_true(service, seen)
        assert seen.longest() < LONGEST_S, f"a request took {seen.longest():.1f} s"
        for name, (_, files) in after.items():
            assert files < 2 * before[name][1] + 300, f"{name} has {files} open files, {before[name][1]} before"
        assert connections_after <= 3 * 16, f"{connections_after} connections"
    except AssertionError as error:
        error.add_note("\n".join(lines))
        raise
    return lines


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _is_granian(process: psutil.Process) -> bool:
    return "granian" in _words(process)


def _soak_with(bar: Progress, wanted: argparse.Namespace) -> list[str]:
    task = bar.add_task("soak", total=wanted.minutes * 60, last="starting")

    def tell(past: float, what: str, seen: Seen) -> None:
        failed = sum(seen.failures().values())
        bar.update(task, completed=past, last=f"{len(seen.acknowledged)} written, {failed} failed; {what}")

    with running_service() as service:
        return soak(service, wanted.seed, wanted.minutes * 60, tell)


def _storm_with(bar: Progress, kept: Path, wanted: argparse.Namespace) -> list[str]:
    task = bar.add_task("bridges", total=wanted.bridges, last="starting")

    def tell(kills: int, writes: int) -> None:
        bar.update(task, completed=kills, last=f"{writes} acknowledged")

    with EdgeProcess(kept / "server.db", wanted.seed) as server:
        return storm(server, kept / "bridge", wanted.seed, kills=wanted.bridges, clients=4, tell=tell)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))  # noqa: S311
    parser.add_argument("--bridges", type=int, default=0, metavar="KILLS", help="kill bridges and their server instead")
    wanted = parser.parse_args()
    console = Console()
    progress = Progress(*Progress.get_default_columns(), TextColumn("{task.fields[last]}"), console=console)
    with tempfile.TemporaryDirectory() as kept, progress as bar:
        # Where `running_service` looks for static files of an earlier start; it has a home of its own.
        os.environ["MEM0_HOME"] = kept
        lines = _storm_with(bar, Path(kept), wanted) if wanted.bridges else _soak_with(bar, wanted)
    for line in lines:
        console.print(line, highlight=False)


if __name__ == "__main__":
    main()
