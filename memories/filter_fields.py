"""What a filter may name: each dialect's fields, how their values are read, and what may be asked of them."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from math import isfinite
from types import MappingProxyType
from typing import Final
from uuid import UUID

from memories.models import LABEL_LENGTH, NAME_LENGTH, Kind, Standing, State

MAX_TEXT: Final = 1000
MAX_METADATA: Final = 16 * 1024
MAX_METADATA_DEPTH: Final = 8
MAX_TAG: Final = 50

Scalar = str | int | float | bool | datetime
Reader = Callable[[object], Scalar | date]


class Refused(Exception):
    """Why a value will not do. The parser knows where it stood and turns this into an `InvalidArgument`."""


@dataclass(frozen=True)
class Field:
    """One name a filter may use: what it is inside, how a value is read, and what may be asked of it."""

    name: str
    read: Reader
    operators: tuple[str, ...]
    example: str
    bare: str = "eq"
    bare_list: str = ""
    wildcard: bool = False
    is_last_day: bool = False  # mem0's expiration_date is the last day that counts, `expires_at` the moment after it


@dataclass(frozen=True)
class Dialect:
    """What one door understands: its fields, and whether a time without an offset is UTC or refused."""

    name: str
    fields: Mapping[str, Field]
    naive_is_utc: bool

    def __hash__(self) -> int:
        return hash(self.name)


def read_text(value: object, limit: int = LABEL_LENGTH) -> str:
    if value is None:
        raise Refused('null is not a value; memories without one are {"NOT": {"user_id": "*"}}')
    if not isinstance(value, str):
        raise Refused("a string is expected")
    if len(value) > limit:
        raise Refused(f"at most {limit} characters are allowed")
    if "\0" in value or not _is_unicode(value):
        raise Refused("the text holds a NUL or half a surrogate pair, which no memory can hold")
    return value


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _words(value: object) -> str:
    text = read_text(value, MAX_TEXT)
    if not text.strip():
        raise Refused("empty text is in every memory; leave the condition out")
    return text


def _tag(value: object) -> str:
    return _words(read_text(value, MAX_TAG)).strip().lower()


def _category(value: object) -> str:
    return _words(read_text(value)).strip().lower()


def _choice(choices: Sequence[str], value: object) -> str:
    if not isinstance(value, str) or value not in choices:
        raise Refused(f"one of {', '.join(choices)} is expected")
    return value


def _memory_id(value: object) -> str:
    try:
        return str(UUID(read_text(value)))
    except ValueError:
        raise Refused("a memory's id (a UUID) is expected") from None


SHORT_ID_LENGTH: Final = 8
_SHORT_ID = re.compile(rf"[0-9a-fA-F]{{{SHORT_ID_LENGTH}}}")


def _memory_or_short_id(value: object) -> str:
    text = read_text(value)
    if _SHORT_ID.fullmatch(text):
        return text.lower()
    return _memory_id(text)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise Refused("true or false is expected")
    return value


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused("a whole number is expected")
    # Out of the column's range Django answers `>= -1` with every row, those without a value too.
    if not 0 <= value < 2**31:
        raise Refused("a number from 0 to 2147483647 is expected")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused("a number is expected")
    if not abs(value) <= 1e300:
        raise Refused("the number is out of range")
    return float(value)


def read_moment(value: object) -> date | datetime:
    """A day, or a moment that may still lack its offset."""
    text = read_text(value)
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Refused("an ISO date or time is expected, such as 2026-11-02 or 2026-11-02T10:00:00Z") from None


def _json_text(value: object, depth: int = 0) -> str:
    """Canonical JSON of a metadata value."""
    if depth > MAX_METADATA_DEPTH:
        raise Refused(f"a value may be nested {MAX_METADATA_DEPTH} deep")
    match value:
        case bool() | None:
            return json.dumps(value)
        case str():
            return json.dumps(read_text(value, MAX_METADATA), ensure_ascii=False)
        case int() | float():
            if not -(2**63) <= value < 2**64 and not (isinstance(value, float) and isfinite(value)):
                raise Refused("the number is out of range")
            return json.dumps(value)
        case list():
            text = ",".join(_json_text(item, depth + 1) for item in value)
            return f"[{text}]"
        case Mapping():
            pairs = sorted(
                (_json_text(read_text(key), depth + 1), _json_text(item, depth + 1)) for key, item in value.items()
            )
            return "{" + ",".join(f"{key}:{item}" for key, item in pairs) + "}"
        case _:
            raise Refused("a JSON value is expected")


def read_metadata(value: object) -> str:
    if value is None:
        raise Refused('null is not a value; memories without the key are {"NOT": {"metadata": {"source": "*"}}}')
    text = _json_text(value)
    if len(text) > MAX_METADATA:
        raise Refused(f"at most {MAX_METADATA} characters are allowed")
    return text


EQUALITY = ("eq", "ne", "in")
ORDER = ("gt", "gte", "lt", "lte")
METADATA_OPERATORS = ("eq", "ne", "contains")


def _label(name: str, example: str, read: Reader = read_text) -> Field:
    return Field(name, read, EQUALITY, example, wildcard=True)


def _date(name: str, example: str, *, nullable: bool = False) -> Field:
    return Field(name, read_moment, (*ORDER, "ne", "in"), example, wildcard=nullable)


def _enum(name: str, choices: Sequence[str]) -> Field:
    return Field(name, partial(_choice, tuple(choices)), EQUALITY, f'{{"{name}": "{choices[0]}"}}')


def _quantity(name: str, read: Reader, example: str, *, nullable: bool = False) -> Field:
    return Field(name, read, (*EQUALITY, *ORDER), example, wildcard=nullable)


_content = partial(Field, "content", _words, ("contains", "icontains"), bare="icontains")

_MEM0_FIELDS = {
    "user_id": _label("user_id", '{"user_id": "alice"}'),
    "agent_id": _label("agent_id", '{"agent_id": "planner"}'),
    "app_id": _label("app", '{"app_id": "cursor"}'),
    "run_id": _label("run_id", '{"run_id": {"in": ["r1", "r2"]}}'),
    "created_at": _date("created_at", '{"created_at": {"gte": "2026-11-02"}}'),
    "updated_at": _date("updated_at", '{"updated_at": {"lt": "2026-11-02T10:00:00Z"}}'),
    "timestamp": _date("event_at", '{"timestamp": {"gte": "2026-11-02", "lt": "2026-11-09"}}'),
    "expiration_date": replace(
        _date("expires_at", '{"expiration_date": {"gt": "2026-11-02"}}', nullable=True), is_last_day=True
    ),
    "text": _content('{"text": "postgres"}'),
    "keywords": _content('{"keywords": {"icontains": "postgres"}}'),
    "keywords_search": _content('{"keywords_search": "postgres"}'),
    "categories": Field("categories", _category, ("in", "contains"), '{"categories": {"in": ["work"]}}', wildcard=True),
    "metadata": Field("metadata", read_metadata, METADATA_OPERATORS, '{"metadata": {"source": "email"}}'),
    "memory_ids": Field(
        "id", _memory_id, ("in",), '{"memory_ids": ["018f4e0c-7b5a-7c3e-9d2f-3b1a5c6d7e8f"]}', bare="", bare_list="in"
    ),
}

MEM0: Final = Dialect("mem0", MappingProxyType(_MEM0_FIELDS), naive_is_utc=True)

NATIVE: Final = Dialect(
    "native",
    MappingProxyType(
        {
            **_MEM0_FIELDS,
            "memory_ids": replace(_MEM0_FIELDS["memory_ids"], read=_memory_or_short_id),
            "id": Field("id", _memory_or_short_id, EQUALITY, '{"id": "5c6d7e8f"}'),
            "tags": Field(
                "tags", _tag, ("in", "contains"), '{"tags": ["auth", "backend"]}', bare_list="all", wildcard=True
            ),
            "kind": _enum("kind", Kind.values),
            "namespace": _label("namespace", '{"namespace": "personal"}', partial(read_text, limit=NAME_LENGTH)),
            "app": _label("app", '{"app": "cursor"}'),
            "speaker": _label("speaker", '{"speaker": "Alice"}'),
            "state": _enum("state", State.values),
            "standing": _enum("standing", Standing.values),
            "event_at": _date("event_at", '{"event_at": {"gte": "2026-11-02"}}'),
            "valid_from": _date("valid_from", '{"valid_from": {"lte": "2026-11-02"}}', nullable=True),
            "valid_to": _date("valid_to", '{"valid_to": {"gt": "2026-11-02"}}', nullable=True),
            "expires_at": _date("expires_at", '{"expires_at": {"gt": "2026-11-02"}}', nullable=True),
            "seq": _quantity("seq", _integer, '{"seq": {"gte": 10, "lt": 20}}', nullable=True),
            "pinned": Field("pinned", _boolean, ("eq", "ne"), '{"pinned": true}'),
            "version": _quantity("version", _integer, '{"version": {"gt": 1}}'),
            "importance": _quantity("importance", _number, '{"importance": {"gte": 0.5}}'),
            "confidence": _quantity("confidence", _number, '{"confidence": {"gte": 0.5}}'),
            "quality": _quantity("quality", _number, '{"quality": {"gte": 0.5}}'),
        }
    ),
    naive_is_utc=False,
)
