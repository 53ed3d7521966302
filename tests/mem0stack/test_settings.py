"""Every setting is documented, and nonsense in one is said with an id and a hint."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.test import override_settings

from mem0stack import checks

ROOT = Path(settings.BASE_DIR)
_READ = re.compile(r"(?:\benv\.\w+\(\s*|environ\.get\(\s*|environ\[\s*|environ\.setdefault\(\s*)\"([A-Z][A-Z0-9_]+)\"")
# Names that are not ours to document.
_DJANGOS = {"DJANGO_SETTINGS_MODULE"}
# It runs at the agent's side, from one copied file; docs/mcp-bridge.md and its --help name what it reads.
_BRIDGE = ROOT / "mcp_bridge/stdio.py"


def _names_in_code() -> set[str]:
    names = set()
    for package in ("mem0stack", "accounts", "memories", "graph", "mcp_bridge", "ui"):
        for path in (ROOT / package).rglob("*.py"):
            if path != _BRIDGE:
                names |= set(_READ.findall(path.read_text()))
    return names - _DJANGOS


def _names_in_example() -> set[str]:
    return set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


def test_the_example_names_every_setting_and_no_other() -> None:
    assert _names_in_code() | {"MEM0_HOME"} == _names_in_example()


def test_every_setting_of_the_example_is_explained() -> None:
    before = ""
    for line in (ROOT / ".env.example").read_text().splitlines():
        if re.match(r"#?[A-Z][A-Z0-9_]+=", line):
            assert before.startswith("#"), f"{line} has no explanation above it"
        before = line


def test_sensible_settings_pass() -> None:
    assert run_checks(tags=[checks.TAG]) == []


@pytest.mark.parametrize(
    ("environ", "changed", "expected"),
    [
        pytest.param({"DATABASE_OWNER_URL": ""}, {"EMBEDDED_POSTGRES": False}, "E001", id="no owner"),
        pytest.param({"DATABASE_URL": "mysql://a:b@c/d"}, {}, "E002", id="another database"),
        pytest.param({}, {"DB_ROLE": "root"}, "E003", id="unknown role"),
        pytest.param({}, {"REDIS_URL": "http://cache:6379"}, "E005", id="no redis"),
        pytest.param({}, {"LOG_LEVEL": "LOUD"}, "E006", id="log level"),
        pytest.param({}, {"LOG_FORMAT": "xml"}, "E007", id="log format"),
        pytest.param({}, {"DATA_UPLOAD_MAX_MEMORY_SIZE": 100}, "E008", id="tiny requests"),
        pytest.param({}, {"DATABASE_STATEMENT_TIMEOUT_MS": -1}, "E009", id="negative time"),
        pytest.param({}, {"VECTOR_INDEX_FROM": -1}, "E015", id="negative line"),
        pytest.param({}, {"PROVIDERS": {"model": {"kind": "openai", "model": "m"}}}, "E012", id="no key"),
    ],
)
def test_nonsense_is_found(
    environ: dict[str, str], changed: dict[str, object], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with override_settings(**changed):
        found = run_checks(tags=[checks.TAG])
    assert [message.id for message in found] == [f"mem0stack.{expected}"]
    assert found[0].hint


@pytest.mark.parametrize(("smallest", "largest"), [(5, 4), (-1, 4), (0, 0)])
def test_a_pool_that_cannot_be_is_found(smallest: int, largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"pool": {"min_size": smallest, "max_size": largest}}
    monkeypatch.setitem(settings.DATABASES, "default", settings.DATABASES["default"] | {"OPTIONS": options})
    assert [message.id for message in checks.check_database()] == ["mem0stack.E004"]


def test_an_insecure_secret_key_fails_the_deployment_check() -> None:
    with override_settings(SECRET_KEY=settings.INSECURE_SECRET_KEY):
        assert [message.id for message in checks.check_secret_key()] == ["mem0stack.E010"]
    with override_settings(SECRET_KEY="k" * 50):
        assert checks.check_secret_key() == []


@pytest.mark.parametrize(
    "environ",
    [
        {"DATABASE_POOL_MAX_SIZE": "many"},
        {"DATABASE_URL": "mysql://root@localhost/mem0"},
        {"DEBUG": "perhaps"},
        {"LOG_LEVEL": "LOUD"},
        {"REDIS_URL": "ftp://cache"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_up_refuses_nonsense_before_it_starts_anything(environ: dict[str, str], tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "up", "--home", str(tmp_path / "home")],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode != 0
    assert next(iter(environ)) in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "home").exists()
