"""Fixtures for every test: the database as both roles see it, and a whole running service."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import call_command
from django.db import connection
from django.test import TransactionTestCase
from django.test.utils import setup_databases, teardown_databases

from mem0stack.lib import resilience
from mem0stack.settings import database
from tests import guard
from tests.people import People, make_people
from tests.running import RunningService, running_service


@contextmanager
def as_owner() -> Iterator[None]:
    """The connection is the owner's inside, and the service's again afterwards; the pool with its old role goes too."""
    _become("owner")
    try:
        yield
    finally:
        _become("app")


def _become(role: str) -> None:
    connection.close()
    if connection.settings_dict["OPTIONS"].get("pool"):
        connection.close_pool()
    for name in ("USER", "PASSWORD", "OPTIONS", "CONN_HEALTH_CHECKS"):
        connection.settings_dict[name] = database(role).get(name, "")
    settings.DB_ROLE = role


@pytest.fixture(scope="session")
def django_db_setup(
    request: pytest.FixtureRequest, django_test_environment: None, django_db_blocker: Any, django_db_keepdb: bool
) -> Iterator[None]:
    """The test database is made and removed by the owner; the tests see it as the service does."""
    verbosity = request.config.option.verbose
    with django_db_blocker.unblock(), as_owner():
        made = setup_databases(verbosity=verbosity, interactive=False, keepdb=django_db_keepdb)
    with django_db_blocker.unblock():
        guard.learn()
    yield
    if not django_db_keepdb:
        with django_db_blocker.unblock(), as_owner():
            teardown_databases(made, verbosity=verbosity)


def _teardown_as_owner(case: TransactionTestCase, original: Any = TransactionTestCase._fixture_teardown) -> None:
    # It empties the tables with TRUNCATE, which the service's role may not.
    with as_owner():
        original(case)


TransactionTestCase._fixture_teardown = _teardown_as_owner  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _attended(request: pytest.FixtureRequest) -> Iterator[None]:
    """Queries on protected tables outside `acting_as` fail, unless the test is marked `unattended`."""
    if request.node.get_closest_marker("unattended"):
        yield
    else:
        with guard.watching():
            yield


@pytest.fixture(autouse=True)
def _closed_circuits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test took away is there again for the next one."""
    monkeypatch.setattr(resilience, "_circuits", resilience.Circuits())


@pytest.fixture
def people(request: pytest.FixtureRequest) -> People:
    """Alice owns, Bob was given a share, Charlie is a stranger. As transactional as the test's own database."""
    marker = request.node.get_closest_marker("django_db")
    is_transactional = marker is not None and bool(marker.kwargs.get("transaction") or any(marker.args))
    request.getfixturevalue("transactional_db" if is_transactional else "db")
    return make_people()


@pytest.fixture(scope="session")
def static_files() -> None:
    """Collected, for tests that render pages: their templates ask the manifest for every file's name."""
    call_command("collectstatic", interactive=False, verbosity=0)
    # It was read when the first page or request was made, perhaps before there was one.
    staticfiles_storage.hashed_files = staticfiles_storage.load_manifest()[0]


@pytest.fixture(scope="session")
def service() -> Iterator[RunningService]:
    """A whole service of this run: `url`, `api_key`, `home`, `pids`, `manage(...)`, `client()`."""
    with running_service() as running:
        yield running


_FIGURES = pytest.StashKey[list[str]]()
_SEED = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = []
    config.stash[_SEED] = int(os.environ.get("MEM0_TEST_SEED") or random.randrange(2**32))  # noqa: S311  no secret


def pytest_report_header(config: pytest.Config) -> str:
    return f"MEM0_TEST_SEED={config.stash[_SEED]}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.stash[_FIGURES]:
        terminalreporter.section(f"figures (MEM0_TEST_SEED={config.stash[_SEED]})")
        for line in config.stash[_FIGURES]:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """For whatever draws at random; printed, and repeated by MEM0_TEST_SEED."""
    return pytestconfig.stash[_SEED]


@pytest.fixture
def told(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """`told(line)` is shown at the end of the run."""
    return pytestconfig.stash[_FIGURES].append


@pytest.fixture
def figure(pytestconfig: pytest.Config) -> Callable[[str, float], None]:
    """`figure(what, seconds)` is shown at the end of the run."""

    def note(what: str, seconds: float) -> None:
        pytestconfig.stash[_FIGURES].append(f"{seconds:8.2f} s  {what}")

    return note
