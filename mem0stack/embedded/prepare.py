"""What a service needs beside its servers before it serves: the schema, static files, the first account."""

import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from accounts.models import User
from accounts.services import create_api_key, create_user
from mem0stack.embedded.account import EmbeddedError
from mem0stack.embedded.processes import explain, run_tool
from mem0stack.embedded.service import read_api_key, write_private
from mem0stack.lib.errors import InvalidArgument
from mem0stack.lib.home import Home


@dataclass(frozen=True)
class FirstAccount:
    name: str
    # None when the account was there before and only the key was made anew.
    password: str | None


def wait_for_database(timeout_s: float) -> None:
    """For a server that somebody else runs and that may be starting as well."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            # Not through the pool, which says only that it waited in vain.
            psycopg.connect(**connection.get_connection_params()).close()
            return
        except psycopg.OperationalError as error:
            is_refusal = "FATAL" in str(error) and "starting up" not in str(error)
            if is_refusal or time.monotonic() > deadline:
                raise EmbeddedError(
                    f"The database of DATABASE_URL does not answer: {str(error).strip()}. Check the address, and "
                    "whether `manage.py bootstrap_db` has made roles and database."
                ) from error
            time.sleep(0.5)


def pending_migrations() -> tuple[list[str], bool]:
    """The migrations still to be applied, and whether there is a schema already."""
    try:
        executor = MigrationExecutor(connection)
    except ImproperlyConfigured as error:
        raise EmbeddedError(str(error)) from error
    except DatabaseError as error:
        raise EmbeddedError(
            f"The service's role may not use the database: {str(error).strip()}. `manage.py bootstrap_db` grants what "
            "it needs."
        ) from error
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
    """Makes the first account and its key, or only a key where the file is missing. None when neither is needed."""
    if read_api_key(home):
        return None
    user = User.objects.filter(username=name).first()
    password = None
    if user is None:
        password = secrets.token_urlsafe(12)
        try:
            user = create_user(name, is_staff=True, is_superuser=True, password=password)
        except InvalidArgument as error:
            raise EmbeddedError(f"MEM0_ADMIN_USER: {error.detail}") from error
    _, plain = create_api_key(user, name="first key", scopes=("read", "write", "admin"))
    write_private(home.api_key_file, plain + "\n")
    return FirstAccount(name, password)


def disconnect() -> None:
    """The supervisor keeps no connection: it would be one that a restart of PostgreSQL breaks."""
    connection.close()
    if connection.settings_dict["OPTIONS"].get("pool"):
        connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL's wrapper has it


def _manage() -> Path:
    return Path(settings.BASE_DIR) / "manage.py"
