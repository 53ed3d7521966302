"""A real service for tests: `manage.py up --detach --json` in a home of its own, on a free port, ended with `down`."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from mem0stack.embedded.directory import free_port

CHECKOUT = Path(__file__).resolve().parent.parent
# These would lead a service of our own to somebody else's data.
_FOREIGN = {"MEM0_HOME", "MEM0_DB_ROLE", "DJANGO_SETTINGS_MODULE", "SECRET_KEY", "MEM0_HOST", "MEM0_PORT"}


@dataclass(frozen=True)
class Launcher:
    """How `manage.py` is called: by which Python, from which checkout, as which user."""

    words: tuple[str, ...] = (sys.executable, str(CHECKOUT / "manage.py"))
    cwd: Path = CHECKOUT
    environ: Mapping[str, str] | None = None
    user: str | None = None

    def popen_options(self) -> dict[str, Any]:
        environ = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        options: dict[str, Any] = {"cwd": self.cwd, "env": {**environ, **(self.environ or {})}}
        if self.user:
            options |= {"user": self.user, "group": self.user, "extra_groups": []}
        return options


@dataclass
class RunningService:
    """What `up` said, and the way to call further commands on the same home."""

    home: Path
    port: int
    launcher: Launcher
    url: str = ""
    api_key: str = ""
    pids: dict[str, int | None] | None = None

    def up(self, *words: str) -> dict[str, Any]:
        """Starts it (again) and returns the JSON object that `up` printed last."""
        result = self.manage("up", "--detach", "--json", "--port", str(self.port), *words)
        assert result.returncode == 0, f"up failed: {result.stderr}"
        said: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        self.url, self.api_key, self.pids = said["url"], said["api_key"], said["pids"]
        _keep_static(self.home)
        return said

    def manage(self, *words: str, timeout: float = 180, **environ: str) -> subprocess.CompletedProcess[str]:
        options = self.launcher.popen_options()
        options["env"] |= environ
        return subprocess.run(
            [*self.launcher.words, *words, "--home", str(self.home)],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            **options,
        )

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.manage("status", "--json").stdout)
        return found

    def client(self, **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        return httpx.Client(base_url=self.url, headers=headers, **{"timeout": 10.0, **options})


# Static files are collected once a run: they are a quarter of a first start. With other code the service does it anew.


def _keep_static(home: Path) -> None:
    kept = Path(os.environ["MEM0_HOME"])
    if not (kept / "static.version").exists():
        shutil.copytree(home / "static", kept / "static", dirs_exist_ok=True)
        shutil.copy(home / "static.version", kept)


def _give_static(home: Path) -> None:
    kept = Path(os.environ["MEM0_HOME"])
    if (kept / "static.version").exists():
        shutil.copytree(kept / "static", home / "static")
        shutil.copy(kept / "static.version", home)


def of_home(home: Path) -> list[psutil.Process]:
    """Living processes whose environment or command line names the home: what must be gone after a stop."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = " ".join(process.cmdline())
            if str(home) in words or str(home) in process.environ().values():
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def wait_until_gone(home: Path, timeout_s: float = 10) -> list[psutil.Process]:
    deadline = time.monotonic() + timeout_s
    while (rest := of_home(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return rest


@contextlib.contextmanager
def prepared_service(launcher: Launcher | None = None) -> Iterator[RunningService]:
    """A service that is not started yet; whatever the test makes of it is stopped and removed at the end."""
    home = Path(tempfile.gettempdir()).resolve() / f"mem0-run-{os.urandom(4).hex()}"
    home.mkdir(mode=0o755)
    launcher = launcher or Launcher()
    if launcher.user:
        shutil.chown(home, launcher.user, launcher.user)
    else:
        _give_static(home)
    service = RunningService(home, free_port(), launcher)
    try:
        yield service
    finally:
        service.manage("down")
        rest = wait_until_gone(home)
        for process in rest:
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(home, ignore_errors=True)
        assert not rest, f"left behind by `down`: {rest}"


@contextlib.contextmanager
def running_service(launcher: Launcher | None = None) -> Iterator[RunningService]:
    with prepared_service(launcher) as service:
        service.up()
        yield service
