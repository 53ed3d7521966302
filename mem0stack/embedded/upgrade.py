"""Before the schema of existing data changes: a dump, proven to hold every row, three of them kept."""

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from django.conf import settings
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from mem0stack.embedded import postgres
from mem0stack.embedded.account import EmbeddedError
from mem0stack.embedded.processes import run_tool
from mem0stack.lib.home import Home

KEPT = 3
_COMPARED_TABLES = 8
_PREFIX = "before-migrate-"


def owner_connection(home: Home) -> dict[str, str]:
    """What libpq needs to connect as the owner of the tables."""
    if settings.EMBEDDED_POSTGRES:
        return {"host": str(home.postgres_socket_dir), "user": postgres.OWNER, "dbname": postgres.DATABASE}
    scheme, _, rest = settings.DATABASE_OWNER_URL.partition("://")
    return {name: str(value) for name, value in conninfo_to_dict(f"postgresql://{rest}").items() if scheme}


def dump(home: Home) -> Path:
    """Writes and verifies a dump of the whole database, and removes all but the latest three."""
    home.backups.mkdir(mode=0o700, exist_ok=True)
    connection_info = owner_connection(home)
    environ = _libpq_environ(connection_info)
    target = home.backups / f"{_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%SZ}.dump"
    unfinished = target.with_suffix(".part")
    with psycopg.connect(**connection_info) as connection:  # type: ignore[arg-type]  # libpq's own names
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        snapshot = connection.execute("SELECT pg_export_snapshot()").fetchone()
        counts = _row_counts(connection)
        words = [
            _tool("pg_dump"),
            "--format=custom",
            f"--snapshot={snapshot[0] if snapshot else ''}",
            f"--file={unfinished}",
        ]
        try:
            run_tool(words, what="Dumping the database before the migration", env=environ, umask=0o077)
            _verify(unfinished, counts)
        except EmbeddedError:
            unfinished.unlink(missing_ok=True)
            raise
    unfinished.rename(target)
    for old in sorted(home.backups.glob(f"{_PREFIX}*.dump"))[:-KEPT]:
        old.unlink()
    return target


def _row_counts(connection: psycopg.Connection[tuple[object, ...]]) -> dict[str, int]:
    names = connection.execute(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' "
        "ORDER BY pg_total_relation_size(c.oid) DESC LIMIT %s",
        [_COMPARED_TABLES],
    ).fetchall()
    counts = {}
    for (name,) in names:
        row = connection.execute(sql.SQL("SELECT count(*) FROM public.{}").format(sql.Identifier(str(name)))).fetchone()
        counts[str(name)] = int(str(row[0])) if row else 0
    return counts


def _verify(path: Path, counts: dict[str, int]) -> None:
    """A dump made under row-level security can be empty and still end well, so its rows are counted."""
    run_tool([_tool("pg_restore"), "--list", str(path)], what="Reading the dump back")
    for table, expected in counts.items():
        found = _rows_in_dump(path, table)
        if found != expected:
            raise EmbeddedError(
                f"The dump before the migration holds {found} rows of {table} and the database {expected}. "
                "Nothing was migrated; make a backup by hand and look into it."
            )


def _rows_in_dump(path: Path, table: str) -> int:
    words = [_tool("pg_restore"), "--data-only", "--schema=public", f"--table={table}", "--file=-", str(path)]
    rows, is_copying = 0, False
    with subprocess.Popen(words, stdout=subprocess.PIPE) as restore:  # noqa: S603
        for line in restore.stdout or ():
            if is_copying and line == b"\\.\n":
                is_copying = False
            elif is_copying:
                rows += 1
            elif line.startswith(b"COPY "):
                is_copying = True
    return rows if restore.returncode == 0 else -1


def _tool(name: str) -> str:
    try:
        return str(postgres.installed_tools() / name)
    except EmbeddedError:
        found = shutil.which(name)
        if found is None:
            raise
        return found


def _libpq_environ(connection_info: dict[str, str]) -> dict[str, str]:
    """A password among the arguments would show in the process list."""
    names = {"dbname": "PGDATABASE", "host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    environ = {names.get(key, f"PG{key.upper()}"): value for key, value in connection_info.items()}
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8"} | environ
