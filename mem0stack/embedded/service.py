"""What is running in a home: its state file and lock, for the supervisor and the commands."""

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mem0stack.embedded import postgres, processes
from mem0stack.embedded.account import EmbeddedError
from mem0stack.embedded.processes import ProcessId
from mem0stack.lib.home import Home

CHILDREN = ("web", "mcp", "worker", "postgres", "valkey")


@dataclass(frozen=True)
class Child:
    pid: int
    started: float
    state: str
    restarts: int

    @property
    def is_healthy(self) -> bool:
        return self.state == "ready" and ProcessId(self.pid, self.started).is_alive()


@dataclass(frozen=True)
class Service:
    """A snapshot of service.json. `children` holds what the supervisor keeps; an external server is not among them."""

    state: str
    host: str
    port: int
    fingerprint: str
    supervisor: ProcessId
    children: dict[str, Child] = field(default_factory=dict)
    # 0 in a state that was written before there was one.
    mcp_port: int = 0

    @property
    def url(self) -> str:
        return f"http://{url_host(self.host)}:{self.port}"

    @property
    def mcp_url(self) -> str:
        return f"http://{url_host(self.host)}:{self.mcp_port}/mcp"

    @property
    def is_healthy(self) -> bool:
        children_are_well = all(child.is_healthy for child in self.children.values())
        return self.state == "ready" and self.supervisor.is_alive() and children_are_well

    def summary(self, home: Home) -> dict[str, Any]:
        """What `up --json` and `status --json` print. A part that is not ours to run has the pid null."""
        pids: dict[str, int | None] = {"supervisor": self.supervisor.pid}
        for name in CHILDREN:
            pids[name] = self.children[name].pid if name in self.children else None
        return {
            "url": self.url,
            "mcp_url": self.mcp_url,
            "api_key": read_api_key(home),
            "home": str(home.root),
            "pids": pids,
        }


def url_host(host: str) -> str:
    """Where this machine itself reaches a server that listens on `host`."""
    if host in ("0.0.0.0", ""):  # noqa: S104  compared, not bound
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def read_api_key(home: Home) -> str | None:
    try:
        return home.api_key_file.read_text().strip() or None
    except OSError:
        return None


def write_private(path: Path, text: str) -> None:
    """Replaces a file at once, readable by its owner only."""
    fresh = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)


def save(home: Home, service: Service) -> None:
    write_private(home.state_file, json.dumps(asdict(service), indent=1))


def load(home: Home) -> Service | None:
    """The last state written, whether its processes live or not."""
    try:
        raw = json.loads(home.state_file.read_text())
        raw["supervisor"] = ProcessId(**raw["supervisor"])
        raw["children"] = {name: Child(**child) for name, child in raw["children"].items()}
        return Service(**raw)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise EmbeddedError(f"{home.state_file} may not be read: run as the user who runs the service.") from error
    except (ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def lock(home: Home) -> Iterator[bool]:
    """True while this process alone runs the home; False when a supervisor already does."""
    try:
        descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        yield True  # no home yet
        return
    except PermissionError as error:
        raise EmbeddedError(f"{home.lock_file} may not be opened: run as the user who runs the service.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def is_supervised(home: Home) -> bool:
    with lock(home) as is_free:
        return not is_free


def wait_ready(home: Home, timeout_s: float) -> Service | None:
    """The running service once everything in it is healthy; None when its supervisor ends meanwhile."""
    deadline = time.monotonic() + timeout_s
    while is_supervised(home):
        service = load(home)
        if service and service.is_healthy:
            return service
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"The service in {home.root} is running but was not ready within {timeout_s:.0f} seconds. "
                f"`manage.py status` and {home.logs} tell more."
            )
        time.sleep(0.1)
    return None


def leftovers(home: Home) -> list[ProcessId]:
    """Living processes of this home, whoever started them."""
    found = {process.pid: process for process in processes.marked(home.root)}
    service = load(home)
    for child in service.children.values() if service else ():
        process = ProcessId(child.pid, child.started)
        if process.is_alive():
            found[process.pid] = process
    postmaster = postgres.leftover(home)
    if postmaster:
        found[postmaster.pid] = postmaster
    return list(found.values())


def end_leftovers(home: Home) -> int:
    """Ends what a killed supervisor left behind: programs first, PostgreSQL last and orderly. Returns how many."""
    found = leftovers(home)
    postmaster = postgres.leftover(home)
    # PostgreSQL's backends are ended by their postmaster, and by nobody else. Valkey goes after the worker, which would
    # look for it instead of ending. No long patience: a request that waits for a database that is gone has no hurry,
    # and what is ended by force has lost nothing that it acknowledged.
    named = [(process, _name(process)) for process in found]
    ended = processes.end([process for process, name in named if name not in _SERVERS], patience_s=2)
    ended += processes.end([process for process, name in named if name == "valkey-server"], patience_s=2)
    if postmaster:
        for number, patience_s in ((signal.SIGINT, 60), (signal.SIGQUIT, 10), (signal.SIGKILL, 5)):
            postmaster.signal(number)
            deadline = time.monotonic() + patience_s
            while postmaster.is_alive() and time.monotonic() < deadline:
                time.sleep(0.05)
            if not postmaster.is_alive():
                break
    return len(ended) + (1 if postmaster else 0)


def stop(home: Home, report: Callable[[str], None]) -> bool:
    """Stops the service and returns when nothing of it runs. False when nothing was running."""
    service = load(home)
    if is_supervised(home):
        if service is None or not service.supervisor.is_alive():
            raise EmbeddedError(f"{home.lock_file} is held, but {home.state_file} does not say by whom. Try again.")
        report(f"Stopping the supervisor (pid {service.supervisor.pid})")
        service.supervisor.signal(signal.SIGTERM)
        deadline = time.monotonic() + 150
        while is_supervised(home) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_supervised(home):
            report("It does not stop by itself: ending it by force")
            service.supervisor.signal(signal.SIGKILL)
        # It gives the lock back a moment before it is gone itself.
        while service.supervisor.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        end_leftovers(home)
        return True
    ended = end_leftovers(home)
    if ended:
        report(f"The supervisor was gone; ended {ended} process(es) that it left behind")
    return ended > 0


def fingerprint(base: Path) -> str:
    """A hash over the program: another one means that a running service is older than the code."""
    digest = hashlib.sha256()
    for path in sorted(_program_files(base)):
        digest.update(f"{path.relative_to(base)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _program_files(base: Path) -> Iterator[Path]:
    yield from (path for path in (base / "manage.py", base / "requirements.txt") if path.exists())
    for package in ("mem0stack", "accounts", "memories", "graph", "mcp_bridge", "ui"):
        for path in (base / package).rglob("*"):
            if path.is_file() and path.suffix != ".pyc" and not path.name.startswith("."):
                yield path


_SERVERS = ("postgres", "valkey-server")


def _name(process: ProcessId) -> str:
    try:
        return str(psutil.Process(process.pid).name())
    except psutil.Error:
        return ""
