"""Before the schema of existing data changes there is a dump, and it holds every row."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

from mem0stack.embedded import postgres, upgrade
from mem0stack.embedded.account import EmbeddedError
from mem0stack.lib.home import Home
from tests.running import CHECKOUT, Launcher, prepared_service

_MIGRATION = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("accounts", "{after}")]
    operations = [migrations.RunSQL("SELECT 1", "SELECT 1")]
"""


def _newer_checkout(target: Path) -> Path:
    ignored = shutil.ignore_patterns(".git", ".venv", "*.pyc", ".*_cache", "tests")
    shutil.copytree(CHECKOUT, target, ignore=ignored)
    migrations = target / "accounts" / "migrations"
    latest = max(path.stem for path in migrations.glob("0*.py"))
    (migrations / "0999_newer.py").write_text(_MIGRATION.format(after=latest))
    return target


def test_a_newer_schema_is_preceded_by_a_dump_and_three_are_kept(tmp_path: Path) -> None:
    with prepared_service() as service:
        first = service.up()
        backups = service.home / "backups"
        assert not backups.exists(), "a first start has nothing to dump"
        backups.mkdir()
        for year in (2021, 2022, 2023):
            (backups / f"before-migrate-{year}0101T000000Z.dump").touch()
        newer = _newer_checkout(tmp_path / "newer")
        service.launcher = Launcher((sys.executable, str(newer / "manage.py")), newer)
        second = service.up()
        assert second["pids"]["supervisor"] != first["pids"]["supervisor"]
        assert second["api_key"] == first["api_key"]
        names = sorted(path.name for path in backups.iterdir())
        assert [name[15:19] for name in names[:2]] == ["2022", "2023"]
        assert len(names) == 3
        assert re.fullmatch(r"before-migrate-\d{8}T\d{6}Z\.dump", names[2])
        dump = backups / names[2]
        assert dump.stat().st_mode & 0o077 == 0
        rows = subprocess.run(
            [postgres.installed_tools() / "pg_restore", "--data-only", "--table=accounts_user", "--file=-", dump],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "\tadmin\t" in rows
        third = service.up()
        assert third == second, "and nothing is dumped without a reason"
        assert len(list(backups.iterdir())) == 3


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """The running test server's sockets, and backups of our own."""
    ours = Home(tmp_path)
    ours.run.mkdir()
    ours.postgres_socket_dir.symlink_to(settings.HOME.postgres_socket_dir)
    with psycopg.connect(**upgrade.owner_connection(ours), autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute("DROP TABLE IF EXISTS dumped")
        connection.execute(
            "CREATE TABLE dumped AS SELECT n AS id, E'line\\nbreak' AS text FROM generate_series(1, 500) n"
        )
    return ours


@pytest.mark.skipif(not settings.EMBEDDED_POSTGRES, reason="needs the embedded PostgreSQL's own database")
def test_a_dump_that_misses_rows_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert upgrade.dump(home).exists()
    monkeypatch.setattr(upgrade, "_row_counts", lambda connection: {"dumped": 501})
    with pytest.raises(EmbeddedError, match="holds 500 rows of dumped and the database 501"):
        upgrade.dump(home)
    assert [path.suffix for path in home.backups.iterdir()] == [".dump"]
