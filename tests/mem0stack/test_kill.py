"""`kill -9` of anything, at any moment: the service comes back and has everything that it acknowledged.

The order of kills is drawn from a seed, which is printed; MEM0_TEST_SEED=N repeats one.
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import psutil
import psycopg
import pytest

from mem0stack.embedded import postgres
from mem0stack.embedded.service import CHILDREN, load
from mem0stack.lib.home import Home
from tests.running import RunningService, running_service, wait_until_gone

_BACK_WITHIN_S = 30.0


class Writer:
    """Writes all the time, and remembers what was acknowledged."""

    def __init__(self, service: RunningService) -> None:
        self._service = service
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write_on, daemon=True)
        self._connection_info = {
            "host": str(service.home / "run" / "pg"),
            "dbname": postgres.DATABASE,
            "user": postgres.OWNER,
        }
        self.acknowledged: list[int] = []
        with psycopg.connect(**self._connection_info) as connection:  # type: ignore[arg-type]
            connection.execute("CREATE TABLE IF NOT EXISTS kill_test (id bigint PRIMARY KEY)")

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join(30)

    def lost(self) -> set[int]:
        acknowledged = set(self.acknowledged)  # before looking: the writer goes on
        with psycopg.connect(**self._connection_info) as connection:  # type: ignore[arg-type]
            stored = {row[0] for row in connection.execute("SELECT id FROM kill_test")}
        return acknowledged - stored

    def _write_on(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(psycopg.Error), psycopg.connect(**self._connection_info) as connection:  # type: ignore[arg-type]
                while not self._stopping.is_set():
                    number = time.time_ns()
                    connection.execute("INSERT INTO kill_test VALUES (%s)", [number])
                    connection.commit()
                    self.acknowledged.append(number)
                    time.sleep(0.005)
            time.sleep(0.02)


@pytest.fixture(scope="module")
def rng(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  draws what to kill


@pytest.fixture(scope="module")
def victim() -> Iterator[RunningService]:
    with running_service() as running:
        yield running


@pytest.fixture
def writer(victim: RunningService) -> Iterator[Writer]:
    with Writer(victim) as running:
        _until(lambda: bool(running.acknowledged))
        yield running


def _until(is_so: Callable[[], bool], timeout_s: float = _BACK_WITHIN_S) -> float:
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < timeout_s, "not back in time"
        time.sleep(0.02)
    return time.monotonic() - began


def _pids(service: RunningService) -> dict[str, int]:
    found = load(Home(service.home))
    assert found is not None
    return {name: child.pid for name, child in found.children.items()} | {"supervisor": found.supervisor.pid}


def _is_back(service: RunningService, writer: Writer, killed: set[int]) -> bool:
    found = load(Home(service.home))
    if found is None or not found.is_healthy or killed & {child.pid for child in found.children.values()}:
        return False
    count = len(writer.acknowledged)
    try:
        if httpx.get(f"{service.url}/health/live", timeout=2).status_code != 200:
            return False
    except httpx.HTTPError:
        return False
    return len(writer.acknowledged) > count


def _kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _kill_and_wait(service: RunningService, writer: Writer, pids: set[int]) -> float:
    _kill(*pids)
    seconds = _until(lambda: _is_back(service, writer, pids))
    assert writer.lost() == set()
    return seconds


@pytest.mark.parametrize("name", CHILDREN)
def test_a_killed_child_comes_back(
    name: str, victim: RunningService, writer: Writer, figure: Callable[[str, float], None]
) -> None:
    figure(f"back after kill -9 of {name}", _kill_and_wait(victim, writer, {_pids(victim)[name]}))


def test_several_children_killed_at_once_come_back(
    victim: RunningService, writer: Writer, rng: random.Random, figure: Callable[[str, float], None]
) -> None:
    for count in (2, 3, len(CHILDREN)):
        names = rng.sample(CHILDREN, count)
        pids = _pids(victim)
        figure(
            f"back after kill -9 of {', '.join(names)} at once",
            _kill_and_wait(victim, writer, {pids[name] for name in names}),
        )


def test_killed_web_workers_are_replaced(
    victim: RunningService, writer: Writer, rng: random.Random, figure: Callable[[str, float], None]
) -> None:
    web = _pids(victim)["web"]
    workers = [process.pid for process in psutil.Process(web).children() if "granian" in " ".join(process.cmdline())]
    assert len(workers) == 2
    figure("back after kill -9 of one web worker", _kill_and_wait(victim, writer, {rng.choice(workers)}))
    assert _pids(victim)["web"] == web
    # The server may give up when all are gone; then it is replaced as a whole.
    workers = [process.pid for process in psutil.Process(web).children()]
    figure("back after kill -9 of all web workers", _kill_and_wait(victim, writer, set(workers)))


def test_a_killed_database_backend_costs_nothing_acknowledged(
    victim: RunningService, writer: Writer, rng: random.Random, figure: Callable[[str, float], None]
) -> None:
    postmaster = psutil.Process(_pids(victim)["postgres"])
    backends = [process.pid for process in postmaster.children() if "mem0_" in " ".join(process.cmdline())]
    figure("back after kill -9 of a database backend", _kill_and_wait(victim, writer, {rng.choice(backends)}))


def test_kills_at_random_moments_lose_nothing(
    victim: RunningService, writer: Writer, rng: random.Random, figure: Callable[[str, float], None]
) -> None:
    """Also while it is still coming back from the kill before."""
    for _ in range(8):
        time.sleep(rng.uniform(0, 1.5))
        found = load(Home(victim.home))
        if found and found.children:
            _kill(found.children[rng.choice(sorted(found.children))].pid)
    figure("back after eight kills at random moments", _until(lambda: _is_back(victim, writer, set())))
    assert writer.lost() == set()


@pytest.mark.parametrize("also", [(), ("postgres",), ("web", "worker"), CHILDREN], ids=lambda names: "+".join(names))
def test_after_a_killed_supervisor_the_next_up_takes_over(
    also: tuple[str, ...], victim: RunningService, writer: Writer, figure: Callable[[str, float], None]
) -> None:
    before = _pids(victim)
    _kill(before["supervisor"], *(before[name] for name in also))
    time.sleep(0.3)
    if not also:
        assert httpx.get(f"{victim.url}/health/live").status_code == 200, "the children go on without it"
        assert victim.manage("status").returncode == 3
    began = time.monotonic()
    victim.up()
    _until(lambda: _is_back(victim, writer, set(before.values())))
    figure(f"`up` after kill -9 of {', '.join(['supervisor', *also])}", time.monotonic() - began)
    assert writer.lost() == set()
    for pid in before.values():
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_down_works_after_a_killed_supervisor(victim: RunningService, writer: Writer) -> None:
    _kill(_pids(victim)["supervisor"])
    result = victim.manage("down")
    assert result.returncode == 0
    assert "left behind" in result.stdout
    assert wait_until_gone(victim.home, 0) == []
    victim.up()
    assert writer.lost() == set()
