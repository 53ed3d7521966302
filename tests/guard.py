"""Fails a test whose query touches a protected table while nobody acts: it would quietly see nothing.

Under `django_db` a whole test is one transaction, where a forgotten `acting_as` could go unnoticed; this notices.
A test that asks without an actor on purpose says so by `@pytest.mark.unattended`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.backends.signals import connection_created

from accounts.actors import acting

PROTECTED_TABLES = (
    "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relrowsecurity"
    " AND relnamespace = 'public'::regnamespace ORDER BY relname"
)


class Unattended(AssertionError):
    """A protected table was asked for without an actor."""


_pattern: re.Pattern[str] | None = None
_is_watching = False


def learn() -> None:
    """Read from the catalogue which tables are protected, and watch every connection from now on, in every thread."""
    global _pattern  # noqa: PLW0603
    with connection.cursor() as cursor:
        cursor.execute(PROTECTED_TABLES)
        tables = [name for (name,) in cursor.fetchall()]
    assert tables, "no table is protected by row-level security"
    _pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, tables))})\b")
    connection_created.connect(_watch_connection, dispatch_uid="tests.guard")


@contextmanager
def watching() -> Iterator[None]:
    """Queries are looked at inside."""
    global _is_watching  # noqa: PLW0603
    _watch_connection(connection=connection)
    _is_watching = True
    try:
        yield
    finally:
        _is_watching = False


def _watch_connection(*, connection: Any, **_: Any) -> None:
    if _refuse_unattended not in connection.execute_wrappers:
        connection.execute_wrappers.append(_refuse_unattended)


def _refuse_unattended(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
    as_service = context["connection"].settings_dict["USER"] == settings.DATABASE_APP_ROLE
    if _is_watching and as_service and acting() is None and _pattern is not None:
        found = _pattern.search(str(sql))
        if found:
            raise Unattended(f"{found[0]} was asked for outside acting_as(); row-level security shows nothing there")
    return execute(sql, params, many, context)
