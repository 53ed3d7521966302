"""What every REST door shares: one JSON parser and renderer, and serializers that take things at their word."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import IO, Any

import orjson
from django.conf import settings
from rest_framework import parsers, renderers, serializers
from rest_framework.exceptions import ParseError
from rest_framework.fields import empty
from rest_framework.request import Request

from mem0stack.lib.errors import InvalidArgument, TooLarge

# As many as a batch may have operations.
_MAX_ERRORS = 1_000
_MAX_UNKNOWN = 20


class JSONParser(parsers.BaseParser):
    """Strict JSON: no NaN, no lone surrogates, no endless nesting, and a limit. Raises ParseError, TooLarge."""

    media_type = "application/json"

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None) -> Any:
        # DRF reads the stream past Django's own check of the body's size, so the limit is kept here.
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise TooLarge(f"The body is longer than {limit} bytes. Split it, for example into several batches.")
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not JSON: {error}.") from error


class JSONRenderer(renderers.BaseRenderer):
    """Writes what the parser reads; times in UTC with a Z."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return b"" if data is None else dumps(data)


class BrowsableRenderer(renderers.BrowsableAPIRenderer):
    """The browsable API: replies for the eye, and a box for JSON where something can be sent. It knows no HTML forms,
    since the parsers take JSON only."""

    def get_default_renderer(self, view: Any) -> renderers.BaseRenderer:
        return _IndentedRenderer()


class _IndentedRenderer(JSONRenderer):
    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return b"" if data is None else dumps(data, indented=True)


def dumps(data: Any, *, indented: bool = False) -> bytes:
    """JSON as every door writes it."""
    option = orjson.OPT_UTC_Z | orjson.OPT_INDENT_2 if indented else orjson.OPT_UTC_Z
    return orjson.dumps(data, default=_plain, option=option)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)


class StrictSerializer(serializers.Serializer[Any]):
    """A shape that names the fields it does not know, instead of dropping what somebody meant to say."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = sorted(set(data) - set(self.fields))[:_MAX_UNKNOWN]
            if unknown:
                known = ", ".join(name for name, field in self.fields.items() if not field.read_only)
                raise serializers.ValidationError(
                    {name[:100]: [f"Unknown field. Known are: {known}."] for name in unknown}
                )
        return super().to_internal_value(data)


class Text(serializers.CharField):
    """A string that really was a string: DRF would take numbers and booleans for text."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("trim_whitespace", False)
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Integer(serializers.IntegerField):
    """A whole number that really was one: DRF would take "3", 3.0 and true."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class Listed(serializers.ListField):
    """A list that is counted before its entries are read: DRF reads a million bad ones, 50 us each, and counts then."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


class Number(serializers.FloatField):
    """A number that really was one: DRF would take "0.5" and true."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return super().to_internal_value(data)


class Uuid(serializers.UUIDField):
    """An id as text: DRF would take the number 5 for one."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class Boolean(serializers.BooleanField):
    """true or false: DRF would take "on", 1 and "f"."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class AwareDateTime(serializers.DateTimeField):
    """A moment with its offset from UTC; a time of nowhere in particular is refused."""

    default_error_messages = {
        "naive": "This time has no offset. Write it like 2026-11-02T10:00:00Z.",
        "range": "This time lies outside the years 1 to 9999.",
    }

    def enforce_timezone(self, value: datetime) -> datetime:
        if value.tzinfo is None:
            self.fail("naive")
        try:
            return value.astimezone(UTC)
        except (OverflowError, ValueError):
            self.fail("range")

    def to_internal_value(self, value: Any) -> datetime:
        if not isinstance(value, str) or not value.isascii():
            self.fail("invalid", format="YYYY-MM-DDThh:mm:ssZ")
        return super().to_internal_value(value)


def validated(shape: type[serializers.Serializer[Any]], data: Any) -> dict[str, Any]:
    """The caller's input in its checked form. Raises DRF's ValidationError with a sentence per field."""
    return dict(_reader(shape).run_validation({} if data is None or data is empty else data))


@cache
def _reader(shape: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """One for every request: it keeps nothing of what it reads, and copying twenty fields takes longer than reading."""
    return shape()


def idempotency_key(request: Request, given: dict[str, Any]) -> str | None:
    """Taken out of what was given, or from the header; the two must not differ."""
    field, header = given.pop("idempotency_key", None), request.headers.get("Idempotency-Key")
    if field is not None and header is not None and field != header:
        raise InvalidArgument("idempotency_key and the header Idempotency-Key differ; send one of them.")
    return field if field is not None else header


def refuse_unknown(params: Mapping[str, Any], known: Collection[str]) -> None:
    """Raises InvalidArgument for a parameter that nobody reads: a misspelt filter must not mean everything."""
    unknown = sorted(set(params) - set(known))[:_MAX_UNKNOWN]
    if unknown:
        names, allowed = ", ".join(name[:100] for name in unknown), ", ".join(sorted(known)) or "none"
        raise InvalidArgument(
            f"{names}: unknown here. Known are {allowed}.",
            errors={name[:100]: ["unknown parameter"] for name in unknown},
        )


def first_sentence(tree: Any, path: str = "") -> str:
    """The first error of a tree of them, with the path to its field."""
    if isinstance(tree, dict):
        for name, below in tree.items():
            if below:
                step = f"[{name}]" if isinstance(name, int) else f".{name}"
                return first_sentence(below, path if name == "non_field_errors" else f"{path}{step}".lstrip("."))
    if isinstance(tree, list):
        for place, below in enumerate(tree):
            if isinstance(below, dict | list):
                if below:
                    return first_sentence(below, f"{path}[{place}]")
            else:
                return f"{path}: {below}" if path else str(below)
    return f"{path}: {tree}" if path else str(tree)


def plain_errors(tree: Any) -> Any:
    """Errors as JSON can hold them: DRF names the places in a list by numbers. No more than anybody would read."""
    if isinstance(tree, Mapping):
        return {str(name): plain_errors(below) for name, below in islice(tree.items(), _MAX_ERRORS)}
    if isinstance(tree, list | tuple):
        return [plain_errors(below) for below in tree[:_MAX_ERRORS]]
    return tree
