"""`manage.py doctor`: green over a whole service, and red with the right advice when a part is taken away."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis

from mem0stack.embedded import postgres
from mem0stack.lib.home import Home
from tests.running import RunningService, running_service

PARTS = ["settings", "home", "disk", "processes", "database", "row security"]
PARTS += ["schema", "cache", "worker", "outbox", "vector indexes", "embedder", "web", "client"]


@pytest.fixture(scope="module")
def ill() -> Iterator[RunningService]:
    """A service whose parts are taken away and given back."""
    with running_service() as running:
        yield running


def examine(service: RunningService, **environ: str) -> tuple[int, dict[str, dict[str, Any]]]:
    result = service.manage("doctor", "--json", timeout=60, **environ)
    assert result.stderr == ""
    said = json.loads(result.stdout)
    parts = {part["part"]: part for part in said["parts"]}
    assert list(parts) == PARTS
    assert said["ok"] == all(part["ok"] for part in parts.values()) == (result.returncode == 0)
    for part in parts.values():
        assert part["ok"] == (part["mend"] == ""), part
        assert part["seen"], part
    assert service.api_key not in result.stdout
    return result.returncode, parts


def wrong(parts: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, part in parts.items() if not part["ok"]]


def wait_until_well(service: RunningService) -> None:
    deadline = time.monotonic() + 60
    while True:
        status, parts = examine(service)
        if status == 0:
            return
        assert time.monotonic() < deadline, parts
        time.sleep(0.5)


def supervisor(service: RunningService) -> psutil.Process:
    assert service.pids is not None
    assert service.pids["supervisor"] is not None
    return psutil.Process(service.pids["supervisor"])


def paused(service: RunningService, name: str) -> list[psutil.Process]:
    """The supervisor first, so that it starts nothing anew; then the part with all below it."""
    pid = service.status()["pids"][name]
    part = psutil.Process(pid)
    found = [supervisor(service), part, *part.children(recursive=True)]
    for process in found:
        process.suspend()
    return found


def as_superuser(service: RunningService) -> psycopg.Connection[Any]:
    socket_dir = str(Home(service.home).postgres_socket_dir)
    return psycopg.connect(host=socket_dir, dbname="mem0", user=postgres.SUPERUSER, autocommit=True)


def memories(service: RunningService) -> list[tuple[Any, ...]]:
    """How many rows every table of the service has."""
    with as_superuser(service) as database:
        names = [name for (name,) in database.execute("SELECT relname FROM pg_stat_user_tables ORDER BY 1").fetchall()]
        return [(name, database.execute(f"SELECT count(*) FROM {name}").fetchone()) for name in names]  # type: ignore[call-overload]  # noqa: S608


def test_over_a_whole_service_it_is_green_and_creates_nothing(ill: RunningService) -> None:
    wait_until_well(ill)
    before = memories(ill)
    files = {path for path in ill.home.rglob("*") if "postgres" not in path.parts}
    status, parts = examine(ill)
    assert (status, wrong(parts)) == (0, [])
    assert "a search took" in parts["client"]["seen"]
    assert memories(ill) == before
    assert {path for path in ill.home.rglob("*") if "postgres" not in path.parts} == files


def test_for_people_it_prints_a_table(ill: RunningService) -> None:
    wait_until_well(ill)
    result = ill.manage("doctor")
    assert result.returncode == 0
    assert result.stderr == ""
    assert all(part in result.stdout for part in PARTS)
    assert "WRONG" not in result.stdout


def test_without_the_worker(ill: RunningService) -> None:
    stopped = paused(ill, "worker")
    try:
        # Instead of the half minute after which Valkey forgets it.
        with redis.Redis(unix_socket_path=str(Home(ill.home).valkey_socket)) as valkey:
            valkey.delete(*valkey.keys("*worker-alive"))
        status, found = examine(ill)
        assert (status, wrong(found)) == (1, ["worker"])
        assert "worker.log" in found["worker"]["mend"]
        table = ill.manage("doctor")
        assert (table.returncode, "WRONG" in table.stdout) == (1, True)
    finally:
        for process in stopped:
            process.resume()
    wait_until_well(ill)


def test_without_valkey(ill: RunningService) -> None:
    stopped = paused(ill, "valkey")
    try:
        status, parts = examine(ill)
        assert (status, wrong(parts)) == (1, ["cache", "worker"])
        assert "valkey.log" in parts["cache"]["mend"]
        assert "cache" in parts["worker"]["mend"]
    finally:
        for process in stopped:
            process.resume()
    wait_until_well(ill)


def test_without_the_web(ill: RunningService) -> None:
    stopped = paused(ill, "web")
    try:
        status, parts = examine(ill)
        assert (status, wrong(parts)) == (1, ["web", "client"])
        assert "web.log" in parts["web"]["mend"]
    finally:
        for process in stopped:
            process.resume()
    wait_until_well(ill)


def test_without_postgres(ill: RunningService) -> None:
    boss = supervisor(ill)
    boss.suspend()
    try:
        os.kill(ill.status()["pids"]["postgres"], signal.SIGQUIT)
        time.sleep(1)
        status, parts = examine(ill)
        assert status == 1
        without_it = ["database", "row security", "schema", "outbox", "vector indexes", "embedder", "client"]
        assert wrong(parts) == ["processes", *without_it]
        assert "postgres.log" in parts["database"]["mend"]
        assert "Mend that first: database." in parts["schema"]["mend"]
        # Who calls was known a moment ago; what he remembers is not.
        assert re.fullmatch(r"(GET|POST) /api/v2/\S+ answers 503\.", parts["client"]["seen"])
    finally:
        boss.resume()
    wait_until_well(ill)


@pytest.mark.parametrize(
    ("breaking", "mending", "part", "advice"),
    [
        pytest.param(
            "ALTER TABLE memories_memory DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE memories_memory ENABLE ROW LEVEL SECURITY",
            "row security",
            "restore a dump",
            id="a table without row-level security",
        ),
        pytest.param(
            "UPDATE django_migrations SET app = 'away' WHERE app = 'memories'",
            "UPDATE django_migrations SET app = 'memories' WHERE app = 'away'",
            "schema",
            "manage.py up",
            id="a missing migration",
        ),
        pytest.param(
            "ALTER ROLE mem0_app BYPASSRLS",
            "ALTER ROLE mem0_app NOBYPASSRLS",
            "database",
            "DATABASE_URL",
            id="a mighty role",
        ),
    ],
)
def test_a_database_that_is_not_as_it_should_be(
    ill: RunningService, breaking: str, mending: str, part: str, advice: str
) -> None:
    with as_superuser(ill) as database:
        database.execute(breaking)  # type: ignore[call-overload]
        try:
            status, parts = examine(ill)
        finally:
            database.execute(mending)  # type: ignore[call-overload]
    assert status == 1
    assert part in wrong(parts)
    assert advice in parts[part]["mend"]
    wait_until_well(ill)


def test_an_old_event_that_still_waits(ill: RunningService) -> None:
    with as_superuser(ill) as database:
        database.execute(
            "WITH event AS (INSERT INTO memories_outboxevent (id, owner_id, kind, payload, created_at)"
            " SELECT gen_random_uuid(), min(id), 'memory', '{}', now() - interval '1 hour' FROM accounts_user"
            " RETURNING id, owner_id)"
            " INSERT INTO memories_outboxdelivery"
            " (id, owner_id, event_id, consumer, state, attempts, reason, updated_at)"
            " SELECT gen_random_uuid(), owner_id, id, 'nobody', 'waiting', 0, '', now() FROM event"
        )
        try:
            status, parts = examine(ill)
        finally:
            database.execute("DELETE FROM memories_outboxdelivery WHERE consumer = 'nobody'")
    assert (status, wrong(parts)) == (1, ["outbox"])
    assert "worker" in parts["outbox"]["mend"]


def test_a_key_that_is_refused_or_missing(ill: RunningService) -> None:
    file = ill.home / "api_key"
    kept = file.read_text()
    try:
        file.write_text("m0_aaaaaaaa" + "b" * 32)
        _, parts = examine(ill)
        assert wrong(parts) == ["client"]
        assert "delete the file" in parts["client"]["mend"]
        file.unlink()
        _, parts = examine(ill)
        assert wrong(parts) == ["client"]
    finally:
        file.write_text(kept)
        file.chmod(0o600)
    wait_until_well(ill)


def test_settings_that_make_no_sense(ill: RunningService) -> None:
    status, parts = examine(ill, LOG_FORMAT="xml")
    assert (status, wrong(parts)[0]) == (1, "settings")
    assert "json or console" in parts["settings"]["mend"]


def test_a_disk_with_little_room(ill: RunningService) -> None:
    """As it looks from the doctor's process: its own file system is small, or what is left of it."""
    status, parts = examine(ill, PYTHONPATH=str(_little_room(ill)))
    assert (status, wrong(parts)) == (1, ["disk"])
    assert "7 MB are free" in parts["disk"]["seen"]
    assert "Free some space" in parts["disk"]["seen"]


def _little_room(service: RunningService) -> Path:
    """A directory for PYTHONPATH: Python runs its sitecustomize.py at every start."""
    place = service.home / "little-room"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(
        "import shutil\nshutil.disk_usage = lambda path: shutil._ntuple_diskusage(9 << 30, 9 << 30, 7 << 20)\n"
    )
    return place


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_that_may_not_be_read(ill: RunningService) -> None:
    file = ill.home / "api_key"
    file.chmod(0)
    try:
        status, parts = examine(ill)
    finally:
        file.chmod(0o600)
    assert (status, wrong(parts)) == (1, ["client"])


def test_a_key_that_others_may_read(ill: RunningService) -> None:
    file = ill.home / "api_key"
    file.chmod(0o644)
    try:
        status, parts = examine(ill)
    finally:
        file.chmod(0o600)
    assert (status, wrong(parts)) == (1, ["client"])
    assert f"chmod 600 {file}" in parts["client"]["mend"]


def test_with_the_supervisor_gone_and_its_children_left(ill: RunningService) -> None:
    supervisor(ill).kill()
    time.sleep(0.5)
    status, parts = examine(ill)
    assert (status, wrong(parts)) == (1, ["processes"])
    assert "go on without it" in parts["processes"]["seen"]
    assert parts["processes"]["mend"] == "manage.py up --detach"
    ill.up()
    wait_until_well(ill)


def test_another_program_at_its_port(ill: RunningService) -> None:
    """It is stopped, and somebody else listens where it did."""
    assert ill.manage("down").returncode == 0
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", ill.port))
        taken.listen()
        status, parts = examine(ill, MEM0_PORT=str(ill.port))
        assert status == 1
        assert {"processes", "database", "web"} <= set(wrong(parts))
        assert f"{os.getpid()}" in parts["web"]["seen"], "it is named"
        assert "--port" in parts["web"]["mend"]
    ill.up()
    wait_until_well(ill)


def test_settings_of_a_foreign_database_and_cache_that_do_not_answer(ill: RunningService) -> None:
    away = "postgres://a:b@127.0.0.1:1/mem0"
    status, parts = examine(
        ill, DATABASE_URL=away, DATABASE_OWNER_URL=away.replace("a:b", "o:b"), REDIS_URL="redis://127.0.0.1:1/0"
    )
    assert status == 1
    assert {"database", "cache"} <= set(wrong(parts))
    assert "address, password and firewall" in parts["database"]["mend"]
    assert "REDIS_URL" in parts["cache"]["mend"]


def test_when_nothing_runs(tmp_path: Path, ill: RunningService) -> None:
    absent = RunningService(tmp_path / "nothing", ill.port, ill.launcher)
    absent.api_key = ill.api_key
    status, parts = examine(absent, MEM0_PORT="1")
    assert status == 1
    assert wrong(parts) == [part for part in PARTS if part not in ("settings",)]
    assert "manage.py up" in parts["home"]["mend"]
    assert not absent.home.exists()
