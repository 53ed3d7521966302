"""Each part is taken away while clients write and search: what was acknowledged is there once, and nobody waits long.

`Load` asserts the rest of it: a refusal is a 503 or 507 in our shape with Retry-After, and what was found is right.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from mem0stack.embedded import valkey
from mem0stack.embedded.account import server_account
from mem0stack.lib.disk import RESERVED_BYTES
from mem0stack.lib.home import Home
from tests.load import LONGEST_S, Load, as_superuser, assert_true, wait_for_drained_outbox
from tests.running import Launcher, RunningService, free_port, prepared_service, running_service, wait_for
from tests.soak import children, hanging, soak, wait_until_well

Figure = Callable[[str, float], None]
# Short enough to wait for in a test, and above the three seconds that a request waits for a connection.
_DEADLINE_S = 5


@pytest.fixture(scope="module")
def frail() -> Iterator[RunningService]:
    """A service whose parts are taken away and come back."""
    with running_service() as running:
        yield running


@contextlib.contextmanager
def loaded(service: RunningService, seed: int, *, writers: int = 3) -> Iterator[Load]:
    """Clients are at work inside; at the end all is well, and everything that they were told is true."""
    wait_until_well(service)
    with Load(service, seed, writers=writers) as load:
        load.wait_for_writes(20)
        yield load
        wait_until_well(service)
        load.wait_for_writes(20)
    assert_true(service, load.seen)
    wait_for_drained_outbox(service)
    assert load.seen.longest() < LONGEST_S


def metric(service: RunningService, name: str) -> float:
    """The sample whose name and labels are `name`; 0 where there is none."""
    with service.client() as client:
        page = client.get("/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def log_lines(service: RunningService, name: str, event: str) -> int:
    return (service.home / "logs" / f"{name}.log").read_text(errors="replace").count(f'"event": "{event}"')


def medium(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]


@contextlib.contextmanager
def without_supervisor(service: RunningService) -> Iterator[None]:
    """Nothing that dies is started anew inside."""
    boss = psutil.Process((service.pids or {})["supervisor"])
    boss.suspend()
    try:
        yield
    finally:
        boss.resume()


def test_postgres_killed_and_back_after_three_seconds(frail: RunningService, seed: int, figure: Figure) -> None:
    before = metric(frail, 'mem0_database_failures_total{code="unavailable"}')
    with loaded(frail, seed) as load, without_supervisor(frail):
        os.kill(children(frail)["postgres"], signal.SIGKILL)
        time.sleep(3)
        with frail.client() as client:
            assert client.get("/health/live").status_code == 200
            assert client.get("/health/ready").status_code == 503
            assert client.get("/health/").json()["status"] == "down"
        # Long enough for three requests of one process to wait in vain, were it still away.
    assert set(load.seen.failures()) <= {503}
    figure("longest without a write, PostgreSQL killed and away for 3 s", load.seen.longest_gap("write"))
    assert metric(frail, 'mem0_database_failures_total{code="unavailable"}') >= before


def test_postgres_away_for_longer_is_refused_at_once(frail: RunningService, seed: int, figure: Figure) -> None:
    opened = log_lines(frail, "web", "circuit_opened")
    with loaded(frail, seed + 1) as load, without_supervisor(frail):
        os.kill(children(frail)["postgres"], signal.SIGKILL)
        time.sleep(6)
        asked_at = time.monotonic()
        assert metric(frail, 'mem0_breaker_open{part="postgres"}') == 1
        time.sleep(2)
    refused = [call.seconds for call in load.seen.calls if call.outcome == 503 and call.began > asked_at]
    figure("median refusal without PostgreSQL", medium(refused))
    assert medium(refused) < 2, "after the first ones nobody waits for the pool"
    assert log_lines(frail, "web", "circuit_opened") > opened
    assert metric(frail, 'mem0_database_failures_total{code="unavailable"}') > 0


def test_postgres_hangs_for_three_seconds(frail: RunningService, seed: int, figure: Figure) -> None:
    with loaded(frail, seed + 2) as load, hanging(frail, "postgres"):
        time.sleep(3)
    assert set(load.seen.failures()) <= {503}
    figure("longest without a write, PostgreSQL hanging for 3 s", load.seen.longest_gap("write"))


def test_a_statement_that_hangs_is_ended_at_the_deadline(seed: int, figure: Figure) -> None:
    """Its server neither answers nor closes: PostgreSQL's own time-out cannot help, and libpq has none."""
    with prepared_service() as service:
        service.launcher = Launcher(environ={"REQUEST_DEADLINE_S": str(_DEADLINE_S)})
        service.up()
        with Load(service, seed, writers=4, searchers=1) as load:
            load.wait_for_writes(20)
            with as_superuser(service) as database:
                database.execute("BEGIN")
                database.execute("LOCK TABLE memories_outboxevent IN ACCESS EXCLUSIVE MODE")
                time.sleep(1)  # every writer is in the middle of its statement
                with hanging(service, "postgres"):
                    time.sleep(_DEADLINE_S + 3)
                    late = metric(service, 'mem0_late_requests_total{phase="work"}')
                with contextlib.suppress(psycopg.Error):
                    database.execute("ROLLBACK")
            wait_until_well(service)
            load.wait_for_writes(20)
        assert late >= 1
        assert log_lines(service, "web", "request_late") >= late
        assert_true(service, load.seen)
        wait_for_drained_outbox(service)
        cut = [call.seconds for call in load.seen.calls if call.outcome == 503]
        figure(f"longest request over a hanging PostgreSQL, deadline {_DEADLINE_S} s", max(cut))
        assert max(cut) < 2 * _DEADLINE_S + 6
        assert not (set(load.seen.failures()) - {503})
        _a_body_that_trickles(service)


def _a_body_that_trickles(service: RunningService) -> None:
    """More slow senders than there are threads: all are told, and then others are served."""
    head = f"POST /api/v2/search/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.api_key}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", service.port))) for _ in range(24)]
        for sender in slow:
            sender.sendall(head.encode())
        began = time.monotonic()
        for _ in range(4):  # a byte now and then
            time.sleep(0.5)
            for sender in slow:
                sender.sendall(b" ")
        told = 0
        for sender in slow:
            sender.settimeout(3 * _DEADLINE_S + 20)
            # Those for whom there was no thread are hung up on, when their process starts anew.
            with contextlib.suppress(ConnectionError):
                said = sender.recv(2000).decode()
                told += said.startswith("HTTP/1.1 408") and '"code":"timeout"' in said
        assert time.monotonic() - began < 3 * _DEADLINE_S + 20
        assert told >= 12
        # They still hold their sockets, and nobody waits for them any more.
        wait_until_well(service)
        with service.client(timeout=LONGEST_S) as client:
            assert client.post("/api/v2/search/", json={"query": "anything"}).status_code == 200
    assert metric(service, 'mem0_late_requests_total{phase="body"}') >= told
    assert log_lines(service, "web", "process_stuck") >= 1


def test_a_valkey_that_hangs_slows_no_more_than_three_writes(frail: RunningService, seed: int, figure: Figure) -> None:
    opened, closed = (log_lines(frail, "web", f"circuit_{state}") for state in ("opened", "closed"))
    with loaded(frail, seed + 3) as load:
        before = [call.seconds for call in load.seen.calls if call.kind == "write"]
        with hanging(frail, "valkey"):
            time.sleep(1)
            from_here = time.monotonic()
            time.sleep(3)
            until_here = time.monotonic()
            with frail.client() as client:
                said = client.get("/health/").json()
            assert (said["status"], said["parts"]["cache"]["status"]) == ("degraded", "down")
            assert metric(frail, 'mem0_breaker_open{part="valkey"}') == 1
            assert metric(frail, 'mem0_cache_failures_total{operation="nudge"}') > 10
        # It is tried again five seconds after it was given up, by whoever writes then.
        wait_for(lambda: log_lines(frail, "web", "circuit_closed") > closed)
    during = [c.seconds for c in load.seen.calls if c.kind == "write" and from_here < c.began < until_here]
    assert not load.seen.failures()
    figure("median write while Valkey hangs", medium(during))
    assert medium(during) < 5 * medium(before) + 0.05
    assert 1 <= log_lines(frail, "web", "circuit_opened") - opened <= 8


def test_a_killed_valkey_costs_nothing(frail: RunningService, seed: int) -> None:
    with loaded(frail, seed + 4) as load:
        killed: set[int] = set()
        for _ in range(3):
            # Fifty writes may be done before the next one has started.
            wait_for(lambda: "valkey" in children(frail) and children(frail)["valkey"] not in killed)
            now = children(frail)["valkey"]
            killed.add(now)
            os.kill(now, signal.SIGKILL)
            load.wait_for_writes(50)
    assert not load.seen.failures()


def test_a_thousand_writes_without_the_worker(frail: RunningService, seed: int, figure: Figure) -> None:
    wait_until_well(frail)
    with Load(frail, seed + 5, writers=4, searchers=1, pause_s=0) as load, hanging(frail, "worker"):
        load.wait_for_writes(1000, timeout_s=120)
        assert metric(frail, "mem0_outbox_oldest_waiting_seconds") > 0
        os.kill(children(frail)["worker"], signal.SIGKILL)
    assert not load.seen.failures()
    assert_true(frail, load.seen)
    figure("outbox empty after 1,000 writes without a worker", wait_for_drained_outbox(frail))


def test_without_valkey_it_starts_and_serves_and_catches_up_later(seed: int, figure: Figure) -> None:
    """REDIS_URL names a server that refuses: neither cache nor queue, and everything is still right."""
    with prepared_service() as service:
        port = free_port()
        service.launcher = Launcher(environ={"REDIS_URL": f"redis://127.0.0.1:{port}/0"})
        service.up()
        with Load(service, seed, writers=2, searchers=1) as load:
            load.wait_for_writes(200)
            with service.client() as client:
                said = client.get("/health/").json()
            assert (said["status"], said["parts"]["cache"]["status"]) == ("degraded", "down")
            _doctor_says(service, "cache", "Check REDIS_URL")
        assert not load.seen.failures()
        assert_true(service, load.seen)
        binary = valkey.binary(Home(service.home), server_account(lambda text: None))
        words = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        with subprocess.Popen(words, cwd=service.home, stdout=subprocess.DEVNULL) as server:
            try:
                figure("outbox empty after Valkey came for the first time", wait_for_drained_outbox(service, 90))
            finally:
                service.manage("down")
                server.terminate()


@contextlib.contextmanager
def small_disk(service: RunningService, size_mb: int) -> Iterator[Path]:
    """The home lies on a disk of its own; gives the path of a file that may be made to fill it."""
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0755", "mem0-test", str(service.home)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"NOT SHOWN: a full disk. A small file system may not be mounted here: {mounted.stderr.strip()}")
    try:
        yield service.home / "ballast"
    finally:
        service.manage("down")
        subprocess.run(["/bin/umount", "-l", str(service.home)], check=True)


def fill(ballast: Path, leave_bytes: int) -> None:
    free = os.statvfs(ballast.parent).f_bavail * os.statvfs(ballast.parent).f_frsize
    with contextlib.suppress(OSError), ballast.open("ab") as file:
        block = bytes(2**20)
        for _ in range(max(0, free - leave_bytes) // len(block)):
            file.write(block)
        file.write(bytes(max(0, free - leave_bytes) % len(block)))


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT SHOWN: a full disk. Only root may mount a small file system")
def test_a_full_disk_refuses_writes_and_goes_on_reading(seed: int, figure: Figure) -> None:
    with prepared_service() as service, small_disk(service, 900) as ballast:
        service.up()
        wait_until_well(service)
        with Load(service, seed, writers=2, searchers=2) as load:
            load.wait_for_writes(50)

            fill(ballast, RESERVED_BYTES - 2**20)
            time.sleep(1.5)
            full_at, acknowledged = time.monotonic(), len(load.seen.acknowledged)
            time.sleep(3)
            assert len(load.seen.acknowledged) == acknowledged
            during = [call for call in load.seen.calls if call.began > full_at]
            assert {call.outcome for call in during if call.kind == "write"} == {507}
            assert {call.outcome for call in during if call.kind == "search"} == {200}
            assert metric(service, "mem0_disk_free_bytes") < RESERVED_BYTES
            assert metric(service, 'mem0_database_failures_total{code="storage_full"}') > 0
            assert log_lines(service, "web", "disk_full") >= 1
            _doctor_says(service, "disk", "Free some space")
            ballast.unlink()
            load.wait_for_writes(50)

            assert set(load.seen.failures()) <= {507}

            # Somebody else takes the very last byte: PostgreSQL's processes stop, and are started until they can. A
            # web process may end too, when its figures for /metrics meet a page of a file that has no room.
            fill(ballast, 0)
            acknowledged = len(load.seen.acknowledged)
            _write_until_it_stops(service)
            time.sleep(3)
            # A write that was under way when the last byte went may still have had room.
            assert len(load.seen.acknowledged) - acknowledged <= 10
            ballast.unlink()
            began = time.monotonic()
            wait_until_well(service)
            figure("well again after room was made on a disk that was full to the last byte", time.monotonic() - began)
            load.wait_for_writes(50)
        assert set(load.seen.failures()) <= {503, 507, "ReadError", "RemoteProtocolError", "ConnectError"}
        assert_true(service, load.seen)
        wait_for_drained_outbox(service)


def _write_until_it_stops(service: RunningService) -> None:
    with contextlib.suppress(psycopg.Error), as_superuser(service) as database:
        for _ in range(200):  # each wants a new segment of the log
            database.execute("SELECT pg_logical_emit_message(true, 'test', 'x'), pg_switch_wal()")


def _doctor_says(service: RunningService, part: str, advice: str) -> None:
    told = service.manage("doctor")
    assert told.returncode == 1
    assert part in told.stdout
    assert advice in " ".join(told.stdout.split())


def test_soak(frail: RunningService, seed: int, told: Callable[[str], None]) -> None:
    """A minute of what `make soak` does for as long as you like."""
    seconds = float(os.environ.get("MEM0_TEST_SOAK_SECONDS", "75"))
    for line in soak(frail, seed, seconds):
        told(line)


def test_the_loads_own_checks_see_a_lost_write(frail: RunningService, seed: int) -> None:
    """Whoever watches must be watched: a lost, a doubled and an unseen write are all told."""
    wait_until_well(frail)
    with Load(frail, seed + 6, writers=1, searchers=0) as load:
        load.wait_for_writes(5)
    assert_true(frail, load.seen)
    memory_id, content = next(iter(load.seen.acknowledged.items()))
    with frail.client() as client:
        client.post("/api/v2/memories/", json={"content": content, "user_id": "somebody"}).raise_for_status()
        with pytest.raises(AssertionError, match="there twice"):
            assert_true(frail, load.seen)
        client.delete(f"/api/v2/memories/{memory_id}/").raise_for_status()
    with pytest.raises(AssertionError, match="lost"):
        assert_true(frail, load.seen)
