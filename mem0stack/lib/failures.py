"""What a failing database means to a caller, for every door."""

import structlog
from django.db import InterfaceError, OperationalError
from psycopg.errors import DiskFull, QueryCanceled
from psycopg_pool import PoolTimeout

from mem0stack.lib.errors import Mem0Error, StorageFull, TookTooLong, Unavailable
from mem0stack.lib.metrics import DATABASE_FAILURES

log = structlog.get_logger(__name__)

# What Django and the pool raise when PostgreSQL is away, hangs, refuses or cuts a statement off.
DATABASE_ERRORS = (OperationalError, InterfaceError, PoolTimeout)


def database_failure(error: Exception) -> Mem0Error:
    """The error a caller meets for one of DATABASE_ERRORS; counted, and logged without its message."""
    log.warning("database_failed", error=type(error.__cause__ or error).__name__)
    told = _told(error)
    DATABASE_FAILURES.labels(told.code).inc()
    return told


def _told(error: Exception) -> Mem0Error:
    if isinstance(error.__cause__, DiskFull):
        return StorageFull("The database's disk is full: nothing was written, reads go on. Free some space there.")
    if isinstance(error.__cause__, QueryCanceled):
        return TookTooLong("The database took too long; nothing was written. Narrow the request, or try again.")
    return Unavailable("The database does not answer. Try again in a moment, a write with its idempotency key.")
