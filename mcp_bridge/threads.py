"""From the event loop into Django: work that uses the database runs in a thread, and ends at a deadline."""

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import structlog
from anyio.to_thread import run_sync
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from mem0stack.lib import deadlines
from mem0stack.lib.errors import Mem0Error, TookTooLong
from mem0stack.lib.failures import DATABASE_ERRORS, database_failure

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

# As many as the pool has connections. Made by the first event loop that needs it; a process has one.
_threads = anyio.CapacityLimiter(16)


async def in_thread(work: Callable[[], Result]) -> Result:
    """What `work` returns, within MCP_TOOL_DEADLINE_S. Raises Mem0Error and nothing else.

    A statement that hangs without a word is ended with its connection's socket, or its thread would be lost.
    """
    held: list[Any] = []

    def run() -> Result:
        held.append(connections[DEFAULT_DB_ALIAS])
        try:
            return work()
        except DATABASE_ERRORS as error:
            raise database_failure(error) from error
        finally:
            held.clear()
            # Back to the pool.
            connections[DEFAULT_DB_ALIAS].close()

    try:
        with anyio.move_on_after(settings.MCP_TOOL_DEADLINE_S):
            return await run_sync(run, abandon_on_cancel=True, limiter=_threads)
    except Mem0Error:
        raise
    except Exception as error:
        log.exception("mcp_call_crashed")
        raise Mem0Error("Something broke on our side.") from error
    for connection in list(held):
        deadlines.shut(connection)
    raise TookTooLong("This took too long; it is not known whether it was done, so look, or repeat it with its key.")
