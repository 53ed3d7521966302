"""The service of somebody who is not root. Root (CI) makes such a user for it; anyone else is one already."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from mem0stack.embedded.service import CHILDREN
from tests.mem0stack.test_kill import Writer, kill_and_wait, pids_of
from tests.mem0stack.test_service import start_foreground
from tests.running import CHECKOUT, Launcher, RunningService, prepared_service, wait_until_gone

_IMPORTS = "import celery, django, granian, psycopg, redis, wordllama; import mem0stack"


def _run_as(user: str, words: list[str], **options: object) -> bool:
    try:
        result = subprocess.run(
            words, user=user, group=user, extra_groups=[], check=False, capture_output=True, timeout=60, **options
        )  # type: ignore[call-overload]
    except (PermissionError, FileNotFoundError):
        return False
    return bool(result.returncode == 0)


def _copy_of_checkout(target: Path) -> Path:
    shutil.copytree(CHECKOUT, target, symlinks=False, ignore=shutil.ignore_patterns(".git", "*.pyc", ".*_cache"))
    return target


def _copy_of_python(scratch: Path) -> Path:
    """For a Python that lies in root's own home."""
    base, target = Path(sys.base_prefix), scratch / "python"
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ignored = shutil.ignore_patterns("site-packages", "test", "idlelib", "config-*", "*.a")
    shutil.copytree(base / "lib" / name, target / "lib" / name, ignore=ignored)
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy(library, target / "lib")
    (target / "bin").mkdir()
    return Path(shutil.copy(base / "bin" / name, target / "bin"))


def _launcher(user: str, scratch: Path) -> Launcher:
    """A Python and a checkout that this user may read: ours, the system's, or copies."""
    packages = Path(sysconfig.get_path("purelib"))
    checkout = CHECKOUT
    if not _run_as(user, ["/usr/bin/test", "-r", str(checkout / "manage.py"), "-a", "-r", str(packages / "django")]):
        checkout = _copy_of_checkout(scratch / "checkout")
        if packages.is_relative_to(CHECKOUT):
            packages = checkout / packages.relative_to(CHECKOUT)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    environ = {
        "PYTHONPATH": str(packages),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": pwd.getpwnam(user).pw_dir,
        "USER": user,
    }
    for find in (lambda: Path(sys.executable), lambda: Path("/usr/bin", version), lambda: _copy_of_python(scratch)):
        python = find()
        environ["LD_LIBRARY_PATH"] = str(python.parent.parent / "lib")
        if _run_as(user, [str(python), "-c", _IMPORTS], env={**os.environ, **environ}, cwd=checkout):
            return Launcher((str(python), str(checkout / "manage.py")), checkout, environ, user)
    pytest.skip(f"NOT TESTED as an ordinary user: no {version} and checkout that the user '{user}' may read")


@pytest.fixture(scope="module")
def somebody() -> Iterator[Launcher]:
    if os.geteuid() != 0:
        yield Launcher()
        return
    user = f"mem0t{os.urandom(3).hex()}"
    scratch = Path(tempfile.mkdtemp(prefix="mem0-user-"))
    scratch.chmod(0o755)
    words = ["useradd", "--create-home", "--home-dir", str(scratch / "home"), "--user-group", user]
    subprocess.run(words, check=True)
    try:
        yield _launcher(user, scratch)
    finally:
        subprocess.run(["userdel", user], check=False, capture_output=True)  # noqa: S607
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture
def service_of_somebody(somebody: Launcher) -> Iterator[RunningService]:
    with prepared_service(somebody) as service:
        yield service


def test_an_ordinary_user_runs_it_survives_kills_and_stops_it(
    service_of_somebody: RunningService, somebody: Launcher, figure: Callable[[str, float], None]
) -> None:
    service = service_of_somebody
    service.up()
    assert httpx.get(f"{service.url}/health/live").status_code == 200
    owner = service.home.stat().st_uid
    assert (service.home.stat().st_mode & 0o777) == 0o700
    for name, pid in pids_of(service).items():
        assert psutil.Process(pid).uids().real == owner, f"{name} runs as somebody else"
    with Writer(service) as writer:
        for name in CHILDREN:
            seconds = kill_and_wait(service, writer, {pids_of(service)[name]})
            figure(f"as an ordinary user: back after kill -9 of {name}", seconds)
        os.kill(pids_of(service)["supervisor"], signal.SIGKILL)
        service.up()
    assert writer.lost() == set()
    assert service.manage("down").returncode == 0
    assert wait_until_gone(service.home, 0) == []


def test_ctrl_c_of_an_ordinary_user_leaves_nothing(service_of_somebody: RunningService) -> None:
    process = start_foreground(service_of_somebody)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert wait_until_gone(service_of_somebody.home, 0) == []


def test_the_home_is_below_the_users_own_by_default(somebody: Launcher) -> None:
    result = subprocess.run(
        [*somebody.words, "status", "--json"], capture_output=True, text=True, check=False, **somebody.popen_options()
    )
    home = (somebody.environ or os.environ)["HOME"]
    assert json.loads(result.stdout)["home"] == f"{home}/.mem0stack"
