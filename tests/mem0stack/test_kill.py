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
import pytest

from mem0stack.embedded.service import CHILDREN, load
from mem0stack.lib.home import Home
from tests.running import RunningService, running_service, wait_until_gone

_BACK_WITHIN_S = 30.0


class Writer:
    """Stores memories over REST all the time, and remembers which were acknowledged."""

    def __init__(self, service: RunningService) -> None:
        self._service = service
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write_on, daemon=True)
        self.acknowledged: list[str] = []
        self.failed_at = 0.0

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join(30)

    def lost(self) -> set[str]:
        acknowledged = set(self.acknowledged)  # before looking: the writer goes on
        stored: set[str] = set()
        url: str | None = "/api/v2/memories/?page_size=500"
        with self._service.client() as client:
            while url:
                page = client.get(url).raise_for_status().json()
                stored.update(memory["id"] for memory in page["results"])
                url = page["next"]
        return acknowledged - stored

    def _write_on(self) -> None:
        # A connection for each, so that every web process gets its share.
        limits = httpx.Limits(max_keepalive_connections=0)
        with self._service.client(timeout=5.0, limits=limits) as client:
            while not self._stopping.is_set():
                content = f"The build of {time.time_ns()} passed."
                with contextlib.suppress(httpx.TransportError):
                    answer = client.post("/api/v2/memories/", json={"content": content})
                    if answer.status_code == 201:
                        self.acknowledged.append(answer.json()["id"])
                        time.sleep(0.005)
                        continue
                    # While PostgreSQL is away an error is right; a success with no memory, or a 4xx, is not.
                    assert answer.status_code >= 500, answer.text
                self.failed_at = time.monotonic()
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
        _wait_until_well(victim, running, set())
        yield running


def pids_of(service: RunningService) -> dict[str, int]:
    found = load(Home(service.home))
    assert found is not None
    return {name: child.pid for name, child in found.children.items()} | {"supervisor": found.supervisor.pid}


def _wait_until_well(service: RunningService, writer: Writer, killed: set[int]) -> float:
    """Returns the moment since which every part lives and every write succeeds: seen for a second."""
    deadline = time.monotonic() + _BACK_WITHIN_S
    healthy_since: float | None = None
    while time.monotonic() < deadline:
        found = load(Home(service.home))
        if found is None or not found.is_healthy or killed & {child.pid for child in found.children.values()}:
            healthy_since = None
        elif healthy_since is None:
            healthy_since, count = time.monotonic(), len(writer.acknowledged)
        else:
            well_since = max(healthy_since, writer.failed_at)
            if time.monotonic() - well_since > 1 and len(writer.acknowledged) > count:
                return well_since
        time.sleep(0.02)
    raise AssertionError(f"not back within {_BACK_WITHIN_S} seconds")


def _kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_and_wait(service: RunningService, writer: Writer, pids: set[int]) -> float:
    """Seconds until the service was well again, and stayed so; nothing acknowledged is lost."""
    began = time.monotonic()
    _kill(*pids)
    seconds = _wait_until_well(service, writer, pids) - began
    assert writer.lost() == set()
    return seconds


@pytest.mark.parametrize("name", CHILDREN)
def test_a_killed_child_comes_back(
    name: str, victim: RunningService, writer: Writer, figure: Callable[[str, float], None]
) -> None:
    figure(f"back after kill -9 of {name}", kill_and_wait(victim, writer, {pids_of(victim)[name]}))


def test_several_children_killed_at_once_come_back(
    victim: RunningService, writer: Writer, rng: random.Random, figure: Callable[[str, float], None]
) -> None:
    for count in (2, 3, len(CHILDREN)):
        names = rng.sample(CHILDREN, count)
        pids = pids_of(victim)
        figure(
            f"back after kill -9 of {', '.join(names)} at once",
            kill_and_wait(victim, writer, {pids[name] for name in names}),
        )


def test_killed_web_workers_are_replaced(
    victim: RunningService, writer: Writer, rng: random.Random, figure: Callable[[str, float], None]
) -> None:
    web = pids_of(victim)["web"]
    workers = [process.pid for process in psutil.Process(web).children() if "granian" in " ".join(process.cmdline())]
    assert len(workers) == 2
    figure("back after kill -9 of one web worker", kill_and_wait(victim, writer, {rng.choice(workers)}))
    assert pids_of(victim)["web"] == web
    # The server may give up when all are gone; then it is replaced as a whole.
    workers = [process.pid for process in psutil.Process(web).children()]
    figure("back after kill -9 of all web workers", kill_and_wait(victim, writer, set(workers)))


def test_a_killed_database_backend_costs_nothing_acknowledged(
    victim: RunningService, writer: Writer, rng: random.Random, figure: Callable[[str, float], None]
) -> None:
    postmaster = psutil.Process(pids_of(victim)["postgres"])
    backends = [process.pid for process in postmaster.children() if "mem0_" in " ".join(process.cmdline())]
    figure("back after kill -9 of a database backend", kill_and_wait(victim, writer, {rng.choice(backends)}))


def test_kills_at_random_moments_lose_nothing(
    victim: RunningService, writer: Writer, rng: random.Random, figure: Callable[[str, float], None]
) -> None:
    """Also while it is still coming back from the kill before."""
    for _ in range(8):
        time.sleep(rng.uniform(0, 1.5))
        found = load(Home(victim.home))
        if found and found.children:
            _kill(found.children[rng.choice(sorted(found.children))].pid)
    began = time.monotonic()
    figure("back after the last of eight kills at random moments", _wait_until_well(victim, writer, set()) - began)
    assert writer.lost() == set()


@pytest.mark.parametrize("also", [(), ("postgres",), ("web", "worker"), CHILDREN], ids=lambda names: "+".join(names))
def test_after_a_killed_supervisor_the_next_up_takes_over(
    also: tuple[str, ...], victim: RunningService, writer: Writer, figure: Callable[[str, float], None]
) -> None:
    before = pids_of(victim)
    _kill(before["supervisor"], *(before[name] for name in also))
    time.sleep(0.3)
    if not also:
        assert httpx.get(f"{victim.url}/health/live").status_code == 200, "the children go on without it"
        assert victim.manage("status").returncode == 3
    began = time.monotonic()
    victim.up()
    seconds = time.monotonic() - began
    figure(f"`up` after kill -9 of {', '.join(['supervisor', *also])}", seconds)
    _wait_until_well(victim, writer, set(before.values()))
    assert writer.lost() == set()
    for pid in before.values():
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_down_works_after_a_killed_supervisor(victim: RunningService, writer: Writer) -> None:
    _kill(pids_of(victim)["supervisor"])
    result = victim.manage("down")
    assert result.returncode == 0
    assert "left behind" in result.stdout
    assert wait_until_gone(victim.home, 0) == []
    victim.up()
    _wait_until_well(victim, writer, set())
    assert writer.lost() == set()
