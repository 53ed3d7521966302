"""A PostgreSQL and a Valkey of one's own, made ready by `bootstrap_db`, in place of the embedded ones."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
import pytest

from mem0stack.embedded import directory, postgres, valkey
from mem0stack.embedded.account import server_account
from mem0stack.lib.home import Home
from tests.running import RunningService, free_port, prepared_service

_PASSWORD = "p@ss/word'%"


@dataclass(frozen=True)
class Server:
    port: int
    tools: Path

    def url(self, user: str, database: str) -> str:
        return f"postgres://{user}:{quote(_PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="module")
def foreign() -> Iterator[Server]:
    """A PostgreSQL as somebody else would run it: over TCP, with passwords, with a superuser named postgres."""
    home = Home(Path(tempfile.gettempdir()).resolve() / f"mem0-foreign-{os.urandom(3).hex()}")
    directory.make_home(home)
    account = server_account(lambda text: None)
    tools = postgres.reachable_tools(home, account)
    data, password_file = home.root / "data", home.root / "password"
    data.mkdir(mode=0o700)
    password_file.write_text(_PASSWORD)
    for path in (data, password_file):
        account.own(path)
    words = [tools / "initdb", "-D", data, "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={password_file}", "-N"]
    subprocess.run(words, check=True, capture_output=True, **account.popen_options())
    port = free_port()
    server = subprocess.Popen(
        [tools / "postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", "", "-F"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **account.popen_options(),
    )
    found = Server(port, tools)
    try:
        _wait_for(found)
        yield found
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(home.root)


def _wait_for(server: Server) -> None:
    for _ in range(200):
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(server.url("postgres", "postgres")):
            return
        time.sleep(0.05)
    raise AssertionError("the foreign PostgreSQL does not start")


def _urls(server: Server, name: str) -> dict[str, str]:
    return {
        "DATABASE_URL": server.url(f"{name}_service", name),
        "DATABASE_OWNER_URL": server.url(f"{name}_owner", name),
    }


def _assert_bootstrapped(server: Server, name: str) -> None:
    with psycopg.connect(server.url(f"{name}_service", name)) as connection:
        assert connection.execute(
            "SELECT rolsuper, rolbypassrls, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        ).fetchone() == (False, False, False)
        assert connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone()
    with psycopg.connect(server.url(f"{name}_owner", name), autocommit=True) as connection:
        assert connection.execute(
            "SELECT rolsuper, rolcreatedb, pg_get_userbyid(datdba) = current_user "
            "FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()"
        ).fetchone() == (False, True, True)
        connection.execute("CREATE TABLE probe (id int)")
        connection.execute("DROP TABLE probe")


def test_bootstrap_db_may_be_run_again(foreign: Server) -> None:
    with prepared_service() as service:
        for _ in range(2):
            result = service.manage(
                "bootstrap_db", "--superuser-url", foreign.url("postgres", "postgres"), **_urls(foreign, "once")
            )
            assert result.returncode == 0, result.stderr
    _assert_bootstrapped(foreign, "once")


def test_the_printed_sql_does_the_same_and_may_be_run_again(foreign: Server) -> None:
    with prepared_service() as service:
        printed = service.manage("bootstrap_db", "--print-sql", **_urls(foreign, "printed"))
    assert printed.returncode == 0, printed.stderr
    for _ in range(2):
        words = [foreign.tools / "psql", "-X", "-v", "ON_ERROR_STOP=1", foreign.url("postgres", "postgres")]
        subprocess.run(words, input=printed.stdout, text=True, check=True, capture_output=True)
    _assert_bootstrapped(foreign, "printed")


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "Set DATABASE_URL"),
        (
            {"DATABASE_URL": "postgres://a:b@h/mem0", "DATABASE_OWNER_URL": "postgres://a:b@h/mem0"},
            "name the same user",
        ),
        (
            {"DATABASE_URL": "postgres://a:b@h/mem0", "DATABASE_OWNER_URL": "postgres://o:b@h/other"},
            "same server and database",
        ),
    ],
    ids=["nothing", "one user", "two databases"],
)
def test_bootstrap_db_says_what_is_wrong(environ: dict[str, str], reason: str) -> None:
    with prepared_service() as service:
        result = service.manage("bootstrap_db", "--print-sql", **environ)
    assert result.returncode == 1
    assert reason in result.stderr
    assert "Traceback" not in result.stderr


def test_the_database_can_be_somebody_elses(foreign: Server) -> None:
    environ = _urls(foreign, "outside")
    with prepared_service() as service:
        superuser = foreign.url("postgres", "postgres")
        assert service.manage("bootstrap_db", "--superuser-url", superuser, **environ).returncode == 0
        pids = _up_with(service, environ)
        assert pids["postgres"] is None
        assert pids["valkey"] is not None
        assert not (service.home / "postgres").exists()


def test_up_refuses_a_role_that_policies_do_not_bind(foreign: Server) -> None:
    with prepared_service() as service:
        owner = foreign.url("mighty_owner", "mighty")
        superuser = foreign.url("postgres", "postgres")
        environ = _urls(foreign, "mighty")
        assert service.manage("bootstrap_db", "--superuser-url", superuser, **environ).returncode == 0
        environ = {"DATABASE_URL": foreign.url("postgres", "mighty"), "DATABASE_OWNER_URL": owner}
        result = service.manage("up", "--detach", "--port", str(service.port), **environ)
        assert result.returncode == 1
        assert "is a superuser, which row-level security does not bind" in result.stderr
        assert "Traceback" not in result.stderr


def test_an_address_where_nobody_answers_is_said(foreign: Server) -> None:
    with prepared_service() as service:
        environ = _urls(foreign, "absent")
        result = service.manage("up", "--detach", "--port", str(service.port), **environ)
        assert result.returncode == 1
        assert "bootstrap_db" in result.stderr
        assert "Traceback" not in result.stderr


def test_the_cache_can_be_somebody_elses(tmp_path: Path) -> None:
    with prepared_service() as service:
        binary = valkey.binary(Home(service.home), server_account(lambda text: None))
        port = free_port()
        server = subprocess.Popen(
            [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""], cwd=tmp_path, stdout=subprocess.DEVNULL
        )
        try:
            pids = _up_with(service, {"REDIS_URL": f"redis://127.0.0.1:{port}/0"})
            assert pids["valkey"] is None
            assert pids["postgres"] is not None
        finally:
            service.manage("down")
            server.terminate()
            server.wait(10)


def _up_with(service: RunningService, environ: dict[str, str]) -> dict[str, int | None]:
    result = service.manage("up", "--detach", "--json", "--port", str(service.port), **environ)
    assert result.returncode == 0, result.stderr
    assert httpx.get(f"http://127.0.0.1:{service.port}/health/live").status_code == 200
    found = service.status()
    assert found["state"] == "running"
    pids: dict[str, int | None] = found["pids"]
    return pids
