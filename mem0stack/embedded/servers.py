"""PostgreSQL and Valkey of one home, brought up ready for use. Needs no Django, so that tests start them before it."""

import os
from collections.abc import Callable

from mem0stack.embedded import bootstrap, directory, postgres, valkey
from mem0stack.embedded.account import server_account
from mem0stack.embedded.processes import MARK, Keeper, Program
from mem0stack.embedded.progress import Event, Report, step
from mem0stack.lib.home import Home

_START_TIMEOUT_S = 60


def start(
    home: Home, keep: Callable[[Program], Keeper], report: Report, *, with_postgres: bool, with_valkey: bool
) -> None:
    """Returns when those asked for are ready, PostgreSQL with its roles, database and extension."""
    if not (with_postgres or with_valkey):
        return
    account = server_account(lambda text: report(Event("notice", text)))
    directory.check_reachable(home, account)
    environ = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC", MARK: str(home.root)}
    cache = keep(valkey.program(home, account, environ)) if with_valkey else None
    if with_postgres:
        tools = postgres.reachable_tools(home, account)
        if not home.postgres_data.exists():
            report(Event("notice", f"New data directory: {home.postgres_data}"))
        with step(report, "PostgreSQL"):
            postgres.prepare_data(home, account, tools)
            keep(postgres.program(home, account, tools, environ)).wait_ready(_START_TIMEOUT_S)
            bootstrap.apply(bootstrap.EMBEDDED, host=str(home.postgres_socket_dir), user=postgres.SUPERUSER)
    if cache:
        with step(report, "Valkey"):
            cache.wait_ready(_START_TIMEOUT_S)
