"""What a service needs before it serves: its directory, its secret, the schema, static files, the first account."""

import errno
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from accounts.models import User
from accounts.services import create_api_key, create_user
from mem0stack.embedded.account import Account, EmbeddedError
from mem0stack.embedded.processes import explain, run_tool
from mem0stack.embedded.service import read_api_key, write_private
from mem0stack.lib.home import Home

_FREE_BYTES_NEEDED = 500 * 1024 * 1024
_NETWORK_ERRORS = {
    errno.EACCES: "this user may not use it (ports below 1024 are for root)",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


@dataclass(frozen=True)
class FirstAccount:
    name: str
    # None when the account was there before and only the key was made anew.
    password: str | None


@contextmanager
def clear_os_errors(home: Home) -> Iterator[None]:
    """Turns what a disk or a directory can do wrong into a sentence that helps."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EmbeddedError(f"The disk of {home.root} is full: free some space and start again.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            place = error.filename or home.root
            raise EmbeddedError(
                f"{place} may not be written ({error.strerror}). Run as the user that owns it, or choose another "
                "directory with --home."
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise EmbeddedError(
                f"{error.filename or home.root} is a file where a directory is needed. Choose another --home."
            ) from error
        raise


def make_home(home: Home) -> None:
    """The directory and those below it, private; root's lets the database's account pass through."""
    is_root = os.geteuid() == 0
    home.root.mkdir(mode=0o755, parents=True, exist_ok=True)
    home.root.chmod(0o711 if is_root else 0o700)
    home.run.mkdir(exist_ok=True)
    home.run.chmod(0o711 if is_root else 0o700)
    home.logs.mkdir(mode=0o700, exist_ok=True)


def check_reachable(home: Home, account: Account) -> None:
    barrier = account.barrier(home.root)
    if barrier is not None:
        raise EmbeddedError(
            f"PostgreSQL runs as the account '{account.name}', which may not enter {barrier}. "
            f"Allow it with `chmod o+x {barrier}`, or choose another directory with --home "
            "(root's default is /var/lib/mem0stack)."
        )


def check_disk(home: Home) -> None:
    place = home.root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < _FREE_BYTES_NEEDED:
        raise EmbeddedError(
            f"The disk is full: {free // 2**20} MB are free at {place} and {_FREE_BYTES_NEEDED // 2**20} MB are needed. "
            "Free some space, or choose another directory with --home."
        )


def check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror as error:
            raise EmbeddedError(f"--host {host} is no address of this machine: {error.strerror}.") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise EmbeddedError(
                    f"Port {port} on {host} is taken by another program. Stop it, or choose another port: "
                    f"--port {port + 1}."
                ) from error
            reason = _NETWORK_ERRORS.get(error.errno or 0, error.strerror)
            raise EmbeddedError(f"Cannot listen on {host}, port {port}: {reason}.") from error


def make_secret_key(home: Home) -> None:
    if not home.secret_key_file.exists():
        write_private(home.secret_key_file, secrets.token_urlsafe(48))


def wait_for_database(timeout_s: float) -> None:
    """For a server that somebody else runs and that may be starting as well."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.ensure_connection()
            return
        except (OperationalError, DatabaseError) as error:
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"The database of DATABASE_URL does not answer: {str(error).strip()}. Check the address, and "
                    "whether `manage.py bootstrap_db` has made roles and database."
                ) from error
            time.sleep(0.5)


def pending_migrations() -> tuple[list[str], bool]:
    """The migrations still to be applied, and whether there is a schema already."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{step.app_label}.{step.name}" for step, _ in plan], bool(executor.loader.applied_migrations)


def migrate(environ: dict[str, str]) -> None:
    """In a process of its own, as the role that owns the tables: this one stays the service's role."""
    words = [sys.executable, str(_manage()), "migrate", "--no-input", "--verbosity", "1"]
    run_tool(words, what="Migrating the database", env=environ | {"MEM0_DB_ROLE": "owner"}, cwd=settings.BASE_DIR)


class StaticFiles:
    """Collects static files beside everything else that goes on at a start, when the code has changed."""

    def __init__(self, home: Home, fingerprint: str, environ: dict[str, str]) -> None:
        self._stamp = home.root / "static.version"
        self._fingerprint = fingerprint
        self._process: subprocess.Popen[str] | None = None
        if not self._is_current(home):
            words = [sys.executable, str(_manage()), "collectstatic", "--no-input", "--verbosity", "0"]
            self._process = subprocess.Popen(  # noqa: S603
                words, env=environ, cwd=settings.BASE_DIR, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )

    def finish(self) -> None:
        if self._process is None:
            return
        output, _ = self._process.communicate()
        if self._process.returncode != 0:
            raise EmbeddedError(f"Collecting static files failed. {explain(output)}")
        self._stamp.write_text(self._fingerprint)

    def _is_current(self, home: Home) -> bool:
        try:
            return home.static.is_dir() and self._stamp.read_text() == self._fingerprint
        except OSError:
            return False


def ensure_account(home: Home, name: str) -> FirstAccount | None:
    """Makes the first account and its key, or only a key where the file is missing. None when there is nothing to do."""
    if read_api_key(home):
        return None
    user = User.objects.filter(username=name).first()
    password = None
    if user is None:
        password = secrets.token_urlsafe(12)
        user = create_user(name, is_staff=True, password=password)
        user.is_superuser = True
        user.save(update_fields=["is_superuser"])
    _, plain = create_api_key(user, name="first key", scopes=("read", "write", "admin"))
    write_private(home.api_key_file, plain + "\n")
    return FirstAccount(name, password)


def disconnect() -> None:
    """The supervisor keeps no connection: it would be one that a restart of PostgreSQL breaks."""
    connection.close()
    if connection.settings_dict["OPTIONS"].get("pool"):
        connection.close_pool()


def _manage() -> Path:
    return Path(settings.BASE_DIR) / "manage.py"
