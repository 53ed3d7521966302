"""A pytest plugin (`-p tests.servers`): PostgreSQL and Valkey of this run alone, there before Django reads settings.

A server named by DATABASE_URL or REDIS_URL is used instead, as in the service itself.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from mem0stack.embedded import directory, servers, service
from mem0stack.embedded.processes import Keeper, Program
from mem0stack.lib.home import Home

_PREFIX = "mem0-test-"
_STALE_AFTER_S = 600

# Not pytest's own temporary directory: it is private, and the database's account must get in. Short: sockets are there.
_home = Home(Path(tempfile.gettempdir()).resolve() / f"{_PREFIX}{os.getpid()}-{os.urandom(3).hex()}")
os.environ["MEM0_HOME"] = str(_home.root)
os.environ.pop("MEM0_DB_ROLE", None)

_keepers: list[Keeper] = []
_exits = contextlib.ExitStack()


def pytest_configure(config: pytest.Config) -> None:
    if config.option.help or config.option.version or config.option.collectonly:
        return
    # A run that is ended by `timeout` or CI cleans up like one ended by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _remove_stale()
    directory.make_home(_home)
    _home.static.mkdir(exist_ok=True)  # filled by the fixture `static_files`; WhiteNoise warns when there is none
    _exits.callback(shutil.rmtree, _home.root, ignore_errors=True)
    _exits.enter_context(service.lock(_home))
    _exits.callback(_stop)
    try:
        servers.start(
            _home,
            _keep,
            lambda event: None,
            with_postgres=not os.environ.get("DATABASE_URL"),
            with_valkey=not os.environ.get("REDIS_URL"),
        )
    except BaseException:
        _exits.close()
        raise


def pytest_unconfigure(config: pytest.Config) -> None:
    _exits.close()


def _keep(program: Program) -> Keeper:
    keeper = Keeper(program, lambda: None)
    _keepers.append(keeper)
    keeper.start()
    return keeper


def _stop() -> None:
    for keeper in _keepers:
        keeper.stop()


def _remove_stale() -> None:
    """What runs that were killed have left: nobody holds their lock any more."""
    for root in _home.root.parent.glob(f"{_PREFIX}*"):
        try:
            found = root.stat()
        except FileNotFoundError:
            continue
        if found.st_uid == os.geteuid() and time.time() - found.st_mtime > _STALE_AFTER_S:
            stale = Home(root)
            if not service.is_supervised(stale):
                service.end_leftovers(stale)
                shutil.rmtree(root, ignore_errors=True)
