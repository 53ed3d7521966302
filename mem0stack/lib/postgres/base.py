"""The database backend of the service's role: `ENGINE = "mem0stack.lib.postgres"`."""

import select
from typing import Any

import psycopg
from django.db.backends.postgresql import base

from mem0stack.lib.resilience import CircuitOpen, circuit

# A server that answers at all answers an empty query in a millisecond.
_CHECK_TIMEOUT_MS = 2000
# Shorter than others' pauses: most often it is a restart, over in a second, and nothing goes without it.
_RETRY_AFTER_S = 1.0


class DatabaseWrapper(base.DatabaseWrapper):
    """Nobody waits long for a connection: pooled ones are checked with a time-out, and getting one has a breaker.

    After three requests in a row that got none, others fail at once for a second.
    """

    @property
    def pool(self) -> Any:
        pool = super().pool
        if pool is not None and self.settings_dict["CONN_HEALTH_CHECKS"]:
            # The pool's own check waits for ever on a server that hangs, and Django passes no other.
            pool._check = check_connection
        return pool

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if not self.pool:
            return super().get_new_connection(conn_params)
        try:
            with circuit("postgres", psycopg.OperationalError, retry_after_s=_RETRY_AFTER_S):
                return super().get_new_connection(conn_params)
        except CircuitOpen as error:
            raise psycopg.OperationalError(str(error)) from error


def check_connection(conn: psycopg.Connection[Any]) -> None:
    """Returns when the server answers on this connection within two seconds; OperationalError, and closed, if not."""
    pgconn = conn.pgconn
    try:
        pgconn.send_query(b"")
        while pgconn.flush() or pgconn.is_busy():
            waiting = select.poll()
            waiting.register(pgconn.socket, select.POLLIN)
            if not waiting.poll(_CHECK_TIMEOUT_MS):
                raise psycopg.OperationalError("The database does not answer.")
            pgconn.consume_input()
        while pgconn.get_result() is not None:
            pass
    except psycopg.Error:
        conn.close()
        raise
