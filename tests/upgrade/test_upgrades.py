"""The data of every landed version survives the way to the newest schema, row by row, and is found there."""

import gzip
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from accounts.actors import Actor
from accounts.models import User
from mem0stack.embedded import postgres
from mem0stack.embedded.prepare import pending_migrations
from memories import outbox
from memories.search import search
from tests.conftest import as_owner
from tests.guard import PROTECTED_TABLES

DUMPS = sorted(Path(__file__).parent.glob("*.sql.gz"))
_SCRATCH = "mem0_upgraded"
# Columns whose values a later migration changes on purpose: (table, column) and why.
CHANGED: dict[tuple[str, str], str] = {}

pytestmark = pytest.mark.skipif(not settings.EMBEDDED_POSTGRES, reason="makes a database as the embedded superuser")
Rows = dict[str, list[dict[str, Any]]]


def superuser(database: str) -> psycopg.Connection[Any]:
    socket_dir = str(settings.HOME.postgres_socket_dir)
    return psycopg.connect(host=socket_dir, dbname=database, user=postgres.SUPERUSER, autocommit=True)


def rows() -> Rows:
    """Every row of every table, as JSON, by its table."""
    with superuser(_SCRATCH) as database:
        names = database.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        return {
            name: [row for (row,) in database.execute(f'SELECT to_jsonb(t) FROM "{name}" t ORDER BY 1')]  # type: ignore[call-overload]  # noqa: S608
            for (name,) in names
        }


@pytest.fixture(params=DUMPS, ids=lambda path: path.name.partition(".")[0])
def landed(request: pytest.FixtureRequest, django_db_blocker: Any, django_db_setup: None) -> Iterator[Rows]:
    """A database with that dump in it, as the one that Django uses; gives its rows."""
    with superuser("postgres") as database:
        database.execute(f"DROP DATABASE IF EXISTS {_SCRATCH}")
        database.execute(f"CREATE DATABASE {_SCRATCH} OWNER {postgres.OWNER}")
    plain = gzip.decompress(request.param.read_bytes())
    words = [postgres.installed_tools() / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", _SCRATCH]
    words += ["-h", settings.HOME.postgres_socket_dir, "-U", postgres.SUPERUSER]
    subprocess.run(words, input=plain, check=True, capture_output=True)
    usual = connection.settings_dict["NAME"]
    with django_db_blocker.unblock():
        _use(_SCRATCH)
        try:
            yield rows()
        finally:
            _use(usual)
    with superuser("postgres") as database:
        database.execute(f"DROP DATABASE {_SCRATCH} WITH (FORCE)")


def _use(name: str) -> None:
    connection.close()
    connection.close_pool()
    connection.settings_dict["NAME"] = name


def test_there_is_a_dump() -> None:
    assert DUMPS
    assert all(path.stat().st_size < 100_000 for path in DUMPS)


def test_a_landed_version_upgrades_with_all_its_rows(landed: Rows) -> None:
    with as_owner():
        call_command("migrate", interactive=False, verbosity=0)
    assert pending_migrations()[0] == []
    now = rows()
    assert landed["memories_memory"]
    for table, before in landed.items():
        if not before or table == "django_migrations":
            continue
        # Permissions and content types are Django's own and grow with its models.
        assert len(now[table]) == len(before) or table in ("auth_permission", "django_content_type"), table
        kept = [name for name in before[0] if name in now[table][0]]
        missing = {(table, name) for name in before[0]} - {(table, name) for name in kept} - set(CHANGED)
        assert not missing, f"dropped without a word in CHANGED: {missing}"
        compared = [name for name in kept if (table, name) not in CHANGED]
        old = [{name: row[name] for name in compared} for row in before]
        new = [{name: row[name] for name in compared} for row in now[table]]
        assert [row for row in old if row not in new] == [], table

    with superuser(_SCRATCH) as database:
        assert database.execute(PROTECTED_TABLES).fetchall(), "row-level security is there"
    _finds_what_was_stored()
    _works_off_what_waited()


def _finds_what_was_stored() -> None:
    admin, bob = (Actor.of(User.objects.get(username=name), door="command") for name in ("admin", "bob"))
    hits = search(admin, "Where does Valkey listen?").hits
    assert hits[0].memory.content == "Valkey listens on a unix socket."
    assert search(bob, "what does Bob drink").hits[0].memory.content == "Bob likes tea."
    shared = [hit.memory.content for hit in search(bob, "deploys in the evening").hits]
    assert "Deploys run at six in the evening." in shared, "the share is still one"
    assert "Valkey listens on a unix socket." not in [hit.memory.content for hit in search(bob, "Valkey").hits]


def _works_off_what_waited() -> None:
    waiting = outbox.owners_with_work()
    assert waiting, "the dump was made with the worker away"
    for owner_id in waiting:
        outbox.drain(owner_id)
    assert outbox.owners_with_work() == []
