"""Statements whose text never changes: put together once, and planned once by each connection.

The ORM takes longer to build a statement than PostgreSQL to run it, and with row-level security on every table planning
takes longer than both: ten memories by id took 1.1 ms, and take 0.4. For what has one good plan whatever its values:
not for what goes over all of an owner's memories, where a large owner wants another plan than a small one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.backends.postgresql.base import ServerBindingCursor
from django.db.models import QuerySet
from psycopg import ClientCursor


def cursor() -> Any:
    """Django's cursor on the current connection, whose statements are prepared when they are used for the third time
    (`prepare_threshold` in settings). Values are bound by the server, so a text with several statements is refused."""
    connection.ensure_connection()
    wrapper: Any = connection
    made: Any = ServerBindingCursor
    return wrapper._prepare_cursor(made(wrapper.connection))


def spelt(sql: str, values: Any) -> str:
    """A statement with its values in it, for whoever looks at what was sent: the server is told them apart."""
    connection.ensure_connection()
    return ClientCursor(connection.connection).mogrify(sql, values) if values else sql


class Rows:
    """The rows of a queryset that `build` makes with stand-ins, which `fetch` puts the real values in place of.

    The stand-ins must be the statement's only parameters, in this order. One in a list of one, as in `id__in=[x]`,
    stands for a list.
    """

    def __init__(self, build: Callable[..., QuerySet[Any]], *stand_ins: Any) -> None:
        self._build = build
        self._stand_ins = stand_ins

    def fetch(self, *values: Any) -> list[Any]:
        """Instances with their annotations, or tuples for a `values_list`."""
        statement = self._statement
        with cursor() as opened:
            opened.execute(statement.sql, values)
            rows = opened.fetchall()
        return statement.read(rows)

    @cached_property
    def _statement(self) -> "_Statement":
        compiler: Any = self._build(*self._stand_ins).query.get_compiler(DEFAULT_DB_ALIAS)
        sql, parameters = compiler.as_sql()
        if tuple(parameters) != self._stand_ins:
            raise ImproperlyConfigured(f"The stand-ins {self._stand_ins} are not the parameters {parameters} of {sql}")
        return _Statement(sql.replace("IN (%s)", "= ANY(%s)"), compiler)


@dataclass(frozen=True)
class _Statement:
    sql: str
    compiler: Any

    def read(self, rows: list[Any]) -> list[Any]:
        compiler = self.compiler
        if converters := self._converters:
            rows = list(map(tuple, compiler.apply_converters(rows, converters)))
        if not compiler.query.default_cols:  # a values_list
            return rows
        # As Django's own ModelIterable does it.
        model, columns = compiler.klass_info["model"], compiler.klass_info["select_fields"]
        start, end = columns[0], columns[-1] + 1
        made = []
        for row in rows:
            instance = model.from_db(DEFAULT_DB_ALIAS, self._names, row[start:end])
            for name, place in compiler.annotation_col_map.items():
                setattr(instance, name, row[place])
            made.append(instance)
        return made

    @cached_property
    def _converters(self) -> Any:
        return self.compiler.get_converters([column for column, *_ in self.compiler.select])

    @cached_property
    def _names(self) -> list[str]:
        columns = self.compiler.klass_info["select_fields"]
        return [column.target.attname for column, *_ in self.compiler.select[columns[0] : columns[-1] + 1]]
