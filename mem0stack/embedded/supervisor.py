"""The supervisor: one process that prepares a home, keeps its children running, and stops them in order."""

import http.client
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import psutil
import structlog
from django.conf import settings

from mem0stack.embedded import directory, postgres, prepare, ready, servers, service, upgrade
from mem0stack.embedded.processes import MARK, Keeper, ProcessId, Program, trim_log
from mem0stack.embedded.progress import Event, Report, step
from mem0stack.embedded.service import Child, Service
from mem0stack.lib.home import Home

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 90
_WEB_WORKERS = 2
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STOP_ORDER = ("web", "mcp", "worker", "valkey", "postgres")


@dataclass(frozen=True)
class Options:
    host: str
    port: int
    mcp_port: int
    first_account: str


class StopRequested(BaseException):
    """SIGTERM, Ctrl-C or a closed terminal. Not an Exception: nothing on the way may swallow it."""


@contextmanager
def _signals_stop() -> Iterator[None]:
    def request(number: int, frame: FrameType | None) -> None:
        _ignore_signals()
        raise StopRequested

    # Under nohup a closed terminal is ignored, and stays so.
    names = [name for name in _STOP_SIGNALS if signal.getsignal(name) != signal.SIG_IGN]
    earlier = {name: signal.signal(name, request) for name in names}
    try:
        yield
    finally:
        for name, handler in earlier.items():
            signal.signal(name, handler)


def _ignore_signals() -> None:
    """From here on it is the orderly end, which a second Ctrl-C must not cut short."""
    for name in _STOP_SIGNALS:
        signal.signal(name, signal.SIG_IGN)


class Supervisor:
    """Runs one home from start to stop. Its caller holds the home's lock."""

    def __init__(self, home: Home, options: Options, report: Report) -> None:
        self._home = home
        self._options = options
        self._report = report
        self._keepers: dict[str, Keeper] = {}
        self._saving = threading.Lock()
        self._state = "starting"
        own = ProcessId.of(os.getpid())
        assert own is not None  # noqa: S101  this process lives
        self._self = own
        self._fingerprint = service.fingerprint(settings.BASE_DIR)

    def run(self) -> None:
        """Returns after SIGTERM or Ctrl-C, with nothing left running. EmbeddedError when the start fails."""
        with _signals_stop():
            try:
                try:
                    event = self._start()
                    self._state = "ready"
                    self._save()
                    self._report(event)
                    while True:
                        time.sleep(60)
                        for keeper in self._keepers.values():
                            trim_log(keeper.program.log)
                finally:
                    self._stop()
            except StopRequested:
                return

    def current(self) -> Service:
        children = {}
        for name, keeper in self._keepers.items():
            if keeper.process_id:
                process = keeper.process_id
                children[name] = Child(process.pid, process.started, keeper.state, keeper.restarts)
        options = self._options
        return Service(
            self._state, options.host, options.port, self._fingerprint, self._self, children, options.mcp_port
        )

    def _start(self) -> Event:
        home, report = self._home, self._report
        directory.check_disk(home)
        postgres.check_socket_paths(home)
        ended = service.end_leftovers(home)
        if ended:
            report(Event("notice", f"Ended {ended} process(es) that an earlier supervisor left behind"))
        directory.check_port(self._options.host, self._options.port)
        directory.check_port(self._options.host, self._options.mcp_port, "--mcp-port")
        directory.make_secret_key(home)
        service.write_private(home.mcp_url_file, self.current().mcp_url)
        # Figures begin anew with the service: a later process may get the number of an earlier one, and its file.
        for stale in (*home.ready.iterdir(), *home.metrics.iterdir()):
            stale.unlink()
        self._save()
        static = prepare.StaticFiles(home, self._fingerprint, self._environ())
        servers.start(
            home, self._keep, report, with_postgres=settings.EMBEDDED_POSTGRES, with_valkey=settings.EMBEDDED_VALKEY
        )
        if not settings.EMBEDDED_POSTGRES:
            with step(report, "Database of DATABASE_URL"):
                prepare.wait_for_database(30)
        self._migrate()
        first = prepare.ensure_account(home, self._options.first_account)
        prepare.disconnect()
        with step(report, "Static files"):
            static.finish()
        with step(report, "Web, MCP and worker"):
            for program in (self._web(), self._mcp(), self._worker()):
                self._keep(program)
            for name in ("web", "mcp", "worker"):
                self._keepers[name].wait_ready(START_TIMEOUT_S)
        if first is None:
            return Event("ready")
        return Event("ready", account=first.name, password=first.password, is_first_run=True)

    def _migrate(self) -> None:
        pending, has_schema = prepare.pending_migrations()
        if not pending:
            return
        if has_schema:
            with step(self._report, f"Dump before {len(pending)} migration(s)"):
                path = upgrade.dump(self._home)
            self._report(Event("notice", f"Dump: {path}"))
        with step(self._report, "Schema"):
            prepare.migrate(self._environ())

    def _stop(self) -> None:
        _ignore_signals()
        self._state = "stopping"
        for name in _STOP_ORDER:
            if name in self._keepers:
                self._keepers[name].stop()
        # What a start that was cut short had running beside the children, for example a migration.
        service.end_leftovers(self._home)
        self._home.state_file.unlink(missing_ok=True)

    def _keep(self, program: Program) -> Keeper:
        keeper = Keeper(program, self._note_change)
        self._keepers[program.name] = keeper
        keeper.start()
        return keeper

    def _save(self) -> None:
        # Several keepers change at once.
        with self._saving:
            service.save(self._home, self.current())

    def _note_change(self) -> None:
        try:
            self._save()
        except OSError as error:
            # A full disk is no reason to stop looking after the children.
            log.warning("state_not_saved", reason=error.strerror)

    def _environ(self, **more: str) -> dict[str, str]:
        environ = {name: value for name, value in os.environ.items() if name != "MEM0_DB_ROLE"}
        hosts = environ.get("ALLOWED_HOSTS", "").split(",") + _allowed_hosts(self._options.host)
        return environ | {
            "MEM0_HOME": str(self._home.root),
            "DJANGO_SETTINGS_MODULE": "mem0stack.settings",
            "PYTHONUNBUFFERED": "1",
            "MEM0_READY_DIR": str(self._home.ready),
            "ALLOWED_HOSTS": ",".join(dict.fromkeys(host for host in hosts if host)),
            MARK: str(self._home.root),
            **more,
        }

    def _metrics_environ(self) -> dict[str, str]:
        # Before Python starts there: prometheus_client decides at its import.
        return {"PROMETHEUS_MULTIPROC_DIR": str(self._home.metrics)}

    def _web(self) -> Program:
        host, port = self._options.host, self._options.port
        words = [
            *(sys.executable, "-m", "granian", "mem0stack.wsgi:application"),
            *("--interface", "wsgi", "--host", directory.resolve(host, port), "--port", str(port), "--no-ws"),
            *("--workers", str(_WEB_WORKERS), "--blocking-threads", "8"),
            # Without these a killed worker takes the whole server down.
            *("--respawn-failed-workers", "--respawn-interval", "0.2"),
            *("--workers-kill-timeout", "5"),
        ]
        return Program(
            name="web",
            words=words,
            log=self._home.logs / "web.log",
            environ=self._environ(
                DATABASE_POOL_MIN_SIZE=os.environ.get("DATABASE_POOL_MIN_SIZE", "4"), **self._metrics_environ()
            ),
            is_ready=lambda pid: (
                ready.count(self._home.ready, "web", pid) >= _WEB_WORKERS and _answers(host, port, "/health/live")
            ),
            options={"cwd": settings.BASE_DIR},
        )

    def _mcp(self) -> Program:
        host, port = self._options.host, self._options.mcp_port
        words = [
            *(sys.executable, "-m", "granian", "mcp_bridge.asgi:application"),
            *("--interface", "asgi", "--host", directory.resolve(host, port), "--port", str(port), "--no-ws"),
            # One: the sessions of old clients' SSE live in it. Its calls run in threads.
            *("--workers", "1", "--respawn-failed-workers", "--respawn-interval", "0.2", "--workers-kill-timeout", "5"),
        ]
        return Program(
            name="mcp",
            words=words,
            log=self._home.logs / "mcp.log",
            environ=self._environ(**self._metrics_environ()),
            is_ready=lambda pid: _answers(host, port, "/mcp/live"),
            options={"cwd": settings.BASE_DIR},
        )

    def _worker(self) -> Program:
        words = [
            *(sys.executable, "-m", "celery", "-A", "mem0stack.celery", "worker", "--loglevel", "INFO"),
            *("--pool", "threads", "--concurrency", "4"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            # Its schedule is fixed in the settings, so it keeps no file of its own.
            *("--beat", "--scheduler", "celery.beat:Scheduler"),
        ]
        return Program(
            name="worker",
            words=words,
            log=self._home.logs / "worker.log",
            environ=self._environ(**self._metrics_environ()),
            is_ready=lambda pid: ready.count(self._home.ready, "worker", pid) > 0,
            # One that looks for a queue that is away does not hear the signal; what a task leaves undone is done again.
            stop_timeout_s=8,
            options={"cwd": settings.BASE_DIR},
        )


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(service.url_host(host).strip("[]"), port, timeout=2)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _allowed_hosts(host: str) -> list[str]:
    """The names under which this machine is asked when it listens on `host`; our own probe says localhost."""
    names = ["localhost", "127.0.0.1", "[::1]"]
    if host in ("0.0.0.0", "::"):  # noqa: S104  compared, not bound
        names += [socket.gethostname(), socket.getfqdn()]
        for addresses in psutil.net_if_addrs().values():
            for address in addresses:
                if address.family == socket.AF_INET:
                    names.append(address.address)
                elif address.family == socket.AF_INET6:
                    names.append(f"[{address.address.split('%')[0]}]")
        return names
    return [*names, f"[{host}]" if ":" in host else host]
