"""Keyset pages: a signed cursor instead of an offset, so that a page costs the same wherever it lies."""

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core import signing
from django.db.models import Q, QuerySet
from rest_framework.request import Request
from rest_framework.utils.urls import remove_query_param, replace_query_param

from mem0stack.lib.errors import InvalidArgument

DEFAULT_SIZE = 50
MAX_SIZE = 500
_SALT = "mem0stack.cursor"
_SIZE = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Page:
    """Rows of one page, and the whole addresses of its neighbours."""

    rows: list[Any]
    next: str | None
    previous: str | None

    def reply(self, results: Sequence[Any]) -> dict[str, Any]:
        return {"next": self.next, "previous": self.previous, "results": results}


@dataclass(frozen=True)
class Cursor:
    """A place in a list: beyond the row with this value and primary key."""

    value: Any
    pk: str
    backwards: bool = False


def paginate(request: Request, arms: Sequence[QuerySet[Any]], *, orders: Sequence[str]) -> Page:
    """One page over the union of `arms` (disjoint querysets of one model), merged in the asked order.

    `?order=` is one of `orders` (the first is the default; "-" means descending; the column may not be null), ties
    broken by the primary key; `?page_size=` is 1..500; `?cursor=` comes from a page's `next` or `previous`. Each arm
    reads at most a page from its own index. Raises InvalidArgument.
    """
    order = _order(request, orders)
    # A cursor is a place in one list: in another one its time and id would silently mean some other place.
    given, place = request.query_params.get("cursor"), request.path
    cursor = None if given is None else unseal(given, order, place=place)
    rows, more = cut(arms, order=order, size=page_size(request), cursor=cursor)
    backwards = cursor is not None and cursor.backwards

    def address(row: Any, *, back: bool) -> str:
        sealed = seal(row, order, place=place, backwards=back)
        return replace_query_param(remove_query_param(request.build_absolute_uri(), "cursor"), "cursor", sealed)

    return Page(
        rows=rows,
        next=address(rows[-1], back=False) if rows and (more or backwards) else None,
        previous=address(rows[0], back=True) if rows and (more if backwards else cursor is not None) else None,
    )


def cut(
    arms: Sequence[QuerySet[Any]], *, order: str, size: int, cursor: Cursor | None = None
) -> tuple[list[Any], bool]:
    """`size` rows of the union of `arms` from the cursor on, in the asked order, and whether there are more."""
    descending = order.startswith("-")
    column = order.removeprefix("-")
    backwards = cursor is not None and cursor.backwards
    falling = descending != backwards
    sign = "-" if falling else ""
    parts = []
    for arm in arms:
        part = arm.order_by(f"{sign}{column}", f"{sign}pk")
        if cursor is not None:
            part = part.filter(_beyond(column, cursor, falling))
        parts.append(list(part[: size + 1]))
    merged = list(heapq.merge(*parts, key=lambda row: (getattr(row, column), row.pk), reverse=falling))
    rows, more = merged[:size], len(merged) > size
    if backwards:
        rows.reverse()
    return rows, more


def seal(row: Any, order: str, *, place: str, backwards: bool = False) -> str:
    """The cursor beyond this row, signed, for one list alone, which `place` names."""
    value = getattr(row, order.removeprefix("-"))
    stamp = value.isoformat() if isinstance(value, datetime) else value
    return signing.dumps([order, stamp, str(row.pk), int(backwards)], salt=f"{_SALT} {place}")


def unseal(given: str, order: str, *, place: str) -> Cursor:
    """The cursor that `seal` signed. Raises InvalidArgument for anything else."""
    try:
        stamped_order, value, pk, backwards = signing.loads(given, salt=f"{_SALT} {place}")
    except (signing.BadSignature, ValueError) as error:
        raise InvalidArgument(
            "This cursor is not one of ours. Take it from the end of a page of the same list.",
            errors={"cursor": ["invalid"]},
        ) from error
    if stamped_order != order:
        raise InvalidArgument(
            f"This cursor belongs to the order {stamped_order}. Keep `order` while paging.",
            errors={"cursor": ["order"]},
        )
    if isinstance(value, str) and order.endswith("_at"):
        value = datetime.fromisoformat(value)
    return Cursor(value=value, pk=pk, backwards=bool(backwards))


def page_size(request: Request) -> int:
    given = request.query_params.get("page_size", str(DEFAULT_SIZE))
    if not _SIZE.fullmatch(given) or not 1 <= int(given) <= MAX_SIZE:
        raise InvalidArgument(
            f"page_size is a whole number from 1 to {MAX_SIZE}.", errors={"page_size": [f"1 to {MAX_SIZE}"]}
        )
    return int(given)


def _order(request: Request, orders: Sequence[str]) -> str:
    order = request.query_params.get("order", orders[0])
    if order not in orders:
        raise InvalidArgument(f"order is one of {', '.join(orders)}.", errors={"order": ["unknown order"]})
    return order


def _beyond(column: str, cursor: Cursor, falling: bool) -> Q:
    # The first condition bounds the index scan, the second breaks ties; an OR alone would read the whole index.
    strict, loose = ("lt", "lte") if falling else ("gt", "gte")
    past_value = Q(**{f"{column}__{strict}": cursor.value})
    past_id = Q(**{column: cursor.value, f"pk__{strict}": cursor.pk})
    return Q(**{f"{column}__{loose}": cursor.value}) & (past_value | past_id)
