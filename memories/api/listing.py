"""The query strings of list routes: every field is a filter, in the same grammar as search."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from django.db.models import Q
from django.db.models.functions import Now
from django.http import QueryDict
from drf_spectacular.utils import OpenApiParameter

from accounts.actors import Actor
from mem0stack.lib.errors import InvalidArgument
from mem0stack.lib.rest import refuse_unknown
from mem0stack.lib.schema import page_parameters
from memories import texts
from memories.filters import Filter, parse, to_q
from memories.models import NAME_LENGTH, Kind, Standing, State
from memories.querysets import MemoryQuerySet

ORDERS = ("-created_at", "created_at", "-updated_at", "updated_at", "-event_at", "event_at")
_TEXT_FIELDS = ("namespace", "app", "user_id", "agent_id", "run_id", "speaker")
_CHOICE_FIELDS = {"kind": Kind.values, "state": State.values, "standing": Standing.values}
_SET_FIELDS = ("tags", "categories")
_MOMENTS = ("created_at", "updated_at", "event_at", "valid_from", "valid_to", "expires_at")
_NUMBERS = {"seq": int, "version": int, "importance": float, "confidence": float, "quality": float}
_RANGE = ("gt", "gte", "lt", "lte")
_BOOLEANS = {"true": True, "false": False}
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")


def _parameter(name: str, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, options.pop("type", str), description=description, **options)


PARAMETERS = [
    *page_parameters(ORDERS),
    _parameter("q", "Text that the content holds, in any case."),
    *(_parameter(name, f"Exactly this {name}; several mean any of them.", many=True) for name in _TEXT_FIELDS),
    *(_parameter(name, "Any of these.", enum=values, many=True) for name, values in _CHOICE_FIELDS.items()),
    *(_parameter(name, "All of these.", many=True) for name in _SET_FIELDS),
    *(
        _parameter(f"{name}__{operator}", f"{name} against a date or a time with its offset.")
        for name in _MOMENTS
        for operator in _RANGE
    ),
    *(
        _parameter(f"{name}{operator}", f"{name} against a number.", type=kind)
        for name, kind in _NUMBERS.items()
        for operator in ("", *(f"__{one}" for one in _RANGE))
    ),
    _parameter("pinned", "Only pinned ones, or only others.", type=bool),
    _parameter("show_expired", "Expired ones too.", type=bool),
]
SCOPE_PARAMETERS = [
    _parameter("namespace", "Everything in this namespace of yours."),
    _parameter("user_id", "Everything with this label."),
    _parameter("agent_id", "Everything with this label."),
    _parameter("run_id", "Everything with this label."),
    _parameter("all", "Everything of yours.", type=bool),
    _parameter("dry_run", "Only count.", type=bool),
]
VERSION_PARAMETERS = [
    _parameter(
        "expected_version",
        "409 when the memory is at another version.",
        type={"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    )
]


@dataclass(frozen=True)
class Wanted:
    """What a list route was asked for."""

    filters: Filter
    any_state: bool
    show_expired: bool

    def narrow(self, arm: MemoryQuerySet, actor: Actor) -> MemoryQuerySet:
        """The rows of this arm that were asked for. Deleted ones only show when `state` names them."""
        rows = arm if self.any_state else arm.alive()
        if not self.show_expired:
            rows = rows.filter(Q(expires_at=None) | Q(expires_at__gt=Now()))
        return rows.filter(to_q(self.filters, None if actor.is_system else actor.owner_id))


def read(params: QueryDict) -> Wanted:
    """Raises InvalidArgument for what it does not know: a misspelt filter must not list everything."""
    conditions: list[Mapping[str, Any]] = []
    known = {"page_size", "cursor", "order", "q", "pinned", "show_expired"}
    for name in (*_TEXT_FIELDS, *_CHOICE_FIELDS):
        known.add(name)
        if name in params:
            values = params.getlist(name)
            if name == "namespace":
                values = [texts.clean_namespace(value) for value in values]
            # One value alone may be "*", any value at all; among several it would say nothing.
            conditions.append({name: values[0] if len(values) == 1 else {"in": values}})
    for name in _SET_FIELDS:
        known.add(name)
        conditions += [{name: {"contains": value}} for value in params.getlist(name)]
    for name in _MOMENTS:
        for operator in _RANGE:
            known.add(f"{name}__{operator}")
            conditions += [{name: {operator: value}} for value in params.getlist(f"{name}__{operator}")]
    for name, kind in _NUMBERS.items():
        for suffix, operator in (("", "eq"), *((f"__{one}", one) for one in _RANGE)):
            known.add(name + suffix)
            conditions += [
                {name: {operator: _number(name + suffix, value, kind)}} for value in params.getlist(name + suffix)
            ]
    for name in params:
        if name.startswith("metadata."):
            known.add(name)
            key = name.removeprefix("metadata.")
            conditions += [
                {"OR": [{"metadata": {key: one}} for one in _readings(value)]} for value in params.getlist(name)
            ]
    if "q" in params:
        conditions.append({"text": params["q"]})
    if "pinned" in params:
        conditions.append({"pinned": _boolean("pinned", params)})
    refuse_unknown(params, known)
    return Wanted(
        filters=parse({"AND": conditions} if conditions else None),
        any_state="state" in params,
        show_expired=_boolean("show_expired", params),
    )


def read_scope(params: QueryDict) -> dict[str, Any]:
    """The arguments of `services.delete_all`. Anything unknown is refused: it may have been meant as a scope."""
    labels = ("namespace", "user_id", "agent_id", "run_id")
    refuse_unknown(params, {*labels, "all", "dry_run"})
    scope: dict[str, Any] = {name: params[name] for name in labels if name in params}
    for name, value in scope.items():
        if not value or "\x00" in value or len(value) > NAME_LENGTH * 2:
            raise InvalidArgument(f"{name} needs a value.", errors={name: ["needs a value"]})
    return scope | {"everything": _boolean("all", params), "dry_run": _boolean("dry_run", params)}


def read_version(params: QueryDict) -> int | None:
    refuse_unknown(params, {"expected_version"})
    if "expected_version" not in params:
        return None
    version: int = _number("expected_version", str(params["expected_version"]), int)
    if version < 1:
        raise InvalidArgument("expected_version is 1 or more.", errors={"expected_version": ["1 or more"]})
    return version


def _boolean(name: str, params: QueryDict) -> bool:
    if name not in params:
        return False
    given = str(params[name])
    if given not in _BOOLEANS:
        raise InvalidArgument(f"{name} is true or false.", errors={name: ["true or false"]})
    return _BOOLEANS[given]


def _readings(text: str) -> list[Any]:
    """What a value in a query can mean in metadata: the text, and the number or boolean that it spells."""
    if text in _BOOLEANS:
        return [text, _BOOLEANS[text]]
    if not _FLOAT.fullmatch(text):
        return [text]
    number = orjson.loads(text)
    return [text, number] if math.isfinite(number) else [text]


def _number(name: str, value: str, kind: type) -> Any:
    # Python's own reading is wider than a query should be: 1_0, blanks, nan, the digits of every script.
    if not (_INTEGER if kind is int else _FLOAT).fullmatch(value):
        what = "a whole number" if kind is int else "a number"
        raise InvalidArgument(f"{name} is {what}.", errors={name: [f"{what} is expected"]})
    number = kind(value)
    if kind is int and not -(2**31) <= number < 2**31:
        raise InvalidArgument(f"{name} is out of range.", errors={name: ["out of range"]})
    return number
