"""Which memories: mem0's filter grammar, read once into an immutable tree and compiled to one `Q` over `Memory`.

Rules that the SQL and the grammar share:
- Keys side by side are ANDed, `AND` and `OR` among them too. `NOT` of an object is the opposite of all of it together,
  `NOT` of a list means none of them. Several operators in one object are ANDed.
- A bare `"*"` is any value that is there. `ne` and `NOT` are true complements: a memory without the value matches both.
- A date without a time is that whole day in UTC, on whichever side of a comparison it helps: `gt` begins after it,
  `lte` runs to its end.
- `contains` on metadata is a part of a stored string (case counts) or an element of a stored list.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import reduce
from operator import and_, or_
from typing import Any, Final, Never, assert_never

from django.contrib.postgres.lookups import DataContains
from django.db.models import Exists, F, Func, JSONField, OuterRef, Q, TextField, Value
from django.db.models.lookups import Contains, Exact, IsNull

from mem0stack.lib.errors import InvalidArgument
from memories.filter_fields import (
    EQUALITY,
    MEM0,
    NATIVE,
    ORDER,
    SHORT_ID_LENGTH,
    Dialect,
    Field,
    Refused,
    Scalar,
    read_metadata,
    read_text,
)
from memories.models import App, MemoryCategory, MemoryTerm, Namespace

__all__ = [
    "EVERYTHING",
    "MEM0",
    "NATIVE",
    "AllOf",
    "AnyOf",
    "Condition",
    "Dialect",
    "Filter",
    "Not",
    "fields_named",
    "has_entity_scope",
    "parse",
    "to_q",
]

MAX_DEPTH: Final = 8
MAX_CONDITIONS: Final = 200
MAX_LIST: Final = 1000

# The tree ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """One test of one field. `operator` is eq, in, gt, gte, lt, lte, contains, icontains or present; `ne` is `Not(eq)`.

    `field` is the name inside, whatever alias was written. Metadata has its `key`, and its value as JSON text: Python
    holds 1, 1.0 and True for equal, which as cache keys they must not be.
    """

    field: str
    operator: str
    value: Scalar | tuple[Scalar, ...] = True
    key: str = ""


@dataclass(frozen=True)
class AllOf:
    parts: "tuple[Filter, ...]"


@dataclass(frozen=True)
class AnyOf:
    parts: "tuple[Filter, ...]"


@dataclass(frozen=True)
class Not:
    part: "Filter"


Filter = AllOf | AnyOf | Not | Condition

EVERYTHING: Final = AllOf(())

_ENTITY_FIELDS = frozenset({"user_id", "agent_id", "run_id", "app"})


def fields_named(tree: Filter) -> frozenset[str]:
    """The fields it tests, by the names inside (`app_id` is `app`, `expiration_date` is `expires_at`)."""
    match tree:
        case Condition():
            return frozenset({tree.field})
        case Not():
            return fields_named(tree.part)
        case AllOf() | AnyOf():
            return frozenset[str]().union(*map(fields_named, tree.parts))
        case _ as never:
            assert_never(never)


def has_entity_scope(tree: Filter) -> bool:
    """Whether every match must hold a user, agent, app or run that the filter asks for. NOT asks for none."""
    match tree:
        case Condition():
            return tree.field in _ENTITY_FIELDS
        case Not():
            return False
        case AllOf():
            return any(map(has_entity_scope, tree.parts))
        case AnyOf():
            return bool(tree.parts) and all(map(has_entity_scope, tree.parts))
        case _ as never:
            assert_never(never)


def _all_of(parts: Iterable[Filter]) -> Filter:
    """Flat, and without a wrapper around a single part: what means the same should be equal, for the caches' sake."""
    flat: list[Filter] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, AllOf) else (part,))
    return flat[0] if len(flat) == 1 else AllOf(tuple(flat))


def _any_of(parts: Sequence[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))


# Reading -------------------------------------------------------------------------------------------------------------

_LOGIC = ("AND", "OR", "NOT")
_MEANT = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte", "=": "eq", "==": "eq", "!=": "ne", "<>": "ne"}


def parse(raw: Mapping[str, Any] | None, dialect: Dialect = NATIVE) -> Filter:
    """The filter that `raw` says; `EVERYTHING` for none or `{}`. `InvalidArgument` names the place and the remedy."""
    if raw is None:
        return EVERYTHING
    if not isinstance(raw, Mapping):
        _refuse("filters", 'an object is expected, for example {"user_id": "alice"}')
    return _Parser(dialect).group(raw, "filters", 0) if raw else EVERYTHING


def _refuse(place: str, reason: str) -> Never:
    raise InvalidArgument(f"{place}: {reason}.", errors={place: reason})


def _shown(key: object) -> str:
    text = key if isinstance(key, str) else repr(key)
    return json.dumps(text if len(text) <= 40 else text[:40] + "…")


@dataclass
class _Parser:
    dialect: Dialect
    conditions: int = field(default=0, init=False)

    def group(self, raw: Mapping[str, Any], place: str, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            _refuse(place, f"AND, OR and NOT may be nested {MAX_DEPTH} deep")
        if not raw:
            _refuse(place, 'an empty object says nothing; name a field, for example {"user_id": "alice"}')
        parts: list[Filter] = []
        for key, value in raw.items():
            if key in _LOGIC:
                parts.append(self._logic(key, value, f"{place}.{key}", depth + 1))
            elif isinstance(key, str) and key in self.dialect.fields:
                parts.append(self._field(key, value, f"{place}.{key}"))
            else:
                self._refuse_key(key, place)
        return _all_of(parts)

    def _refuse_key(self, key: object, place: str) -> Never:
        if isinstance(key, str) and key.upper() in _LOGIC:
            _refuse(place, f"{_shown(key)} is written {key.upper()}")
        allowed = ", ".join((*_LOGIC, *self.dialect.fields))
        example = '{"metadata": {"source": "email"}}'
        _refuse(place, f"{_shown(key)} is unknown; allowed are {allowed}; your own keys stand in metadata: {example}")

    def _logic(self, word: str, value: object, place: str, depth: int) -> Filter:
        if word == "NOT" and isinstance(value, Mapping):
            return Not(self.group(value, place, depth))
        if not isinstance(value, list) or not value:
            what = "an object or a list of objects" if word == "NOT" else "a list of at least one object"
            _refuse(place, f'{what} is expected, for example {{"{word}": [{{"user_id": "alice"}}]}}')
        parts: list[Filter] = []
        for index, item in enumerate(value):
            at = f"{place}[{index}]"
            if not isinstance(item, Mapping):
                _refuse(at, 'an object is expected, for example {"user_id": "alice"}')
            parts.append(self.group(item, at, depth))
        if word == "AND":
            return _all_of(parts)
        return _any_of(parts) if word == "OR" else Not(_any_of(parts))

    def _field(self, name: str, value: object, place: str) -> Filter:
        spec = self.dialect.fields[name]
        if spec.name == "metadata":
            return self._metadata(spec, value, place)
        if isinstance(value, Mapping):
            if not value:
                self._refuse_value(spec, "an empty object says nothing", place)
            return _all_of([self._operator(spec, name, operand, place) for name, operand in value.items()])
        if isinstance(value, list) and spec.bare_list:
            return self._build(spec, spec.bare_list, value, place)
        if isinstance(value, list) or not spec.bare:
            self._refuse_value(spec, "a list is expected" if not spec.bare else "a list needs an operator", place)
        return self._build(spec, spec.bare, value, place)

    def _operator(self, spec: Field, operator: object, operand: object, place: str) -> Filter:
        if operator not in spec.operators:
            self._refuse_value(spec, self._why_not(operator), place)
        return self._build(spec, str(operator), operand, f"{place}.{operator}")

    @staticmethod
    def _why_not(operator: object) -> str:
        shown = _shown(operator)
        if operator == "nin":
            return f'{shown} is written NOT and in, {{"NOT": {{"user_id": {{"in": ["a", "b"]}}}}}}'
        if isinstance(operator, str) and operator in _MEANT:
            return f"{shown} is written {_MEANT[operator]}"
        if operator == "eq":
            return f"{shown} is not allowed here, write the value alone"
        return f"{shown} is not allowed here"

    @staticmethod
    def _refuse_value(spec: Field, reason: str, place: str) -> Never:
        _refuse(place, f"{reason}; allowed are {', '.join(spec.operators)}, for example {spec.example}")

    def _build(self, spec: Field, operator: str, value: object, place: str) -> Filter:
        if operator == "ne":
            return Not(self._build(spec, "eq", value, place))
        if operator == "in" or operator == "all":
            return self._list(spec, operator, value, place)
        if spec.name == "tags" and operator == "contains":
            return self._build(spec, "all" if isinstance(value, list) else "eq", value, place)
        self._count(place)
        if operator == "eq" and spec.wildcard and value == "*":
            return Condition(spec.name, "present")
        try:
            return self._leaf(spec, operator, value)
        except Refused as refused:
            self._refuse_value(spec, str(refused), place)

    def _count(self, place: str) -> None:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            _refuse(
                place, f"a filter may hold {MAX_CONDITIONS} conditions; use in with a list where many values are meant"
            )

    def _list(self, spec: Field, operator: str, value: object, place: str) -> Filter:
        if not isinstance(value, list) or not 0 < len(value) <= MAX_LIST:
            self._refuse_value(spec, f"a list of 1 to {MAX_LIST} values is expected", place)
        self._count(place)
        leaves: list[Filter] = []
        for index, item in enumerate(value):
            at = f"{place}[{index}]"
            if spec.wildcard and item == "*":
                self._refuse_value(spec, '"*" stands alone, never in a list', at)
            try:
                leaves.append(self._leaf(spec, "eq", item))
            except Refused as refused:
                self._refuse_value(spec, str(refused), at)
        leaves = list(dict.fromkeys(leaves))
        if operator == "all":
            return _all_of(leaves)
        values: list[Any] = [leaf.value for leaf in leaves if isinstance(leaf, Condition)]
        if len(leaves) == 1 or len(values) < len(leaves):  # a day is two conditions, which no list can hold
            return _any_of(leaves)
        return Condition(spec.name, "in", tuple(sorted(values)))

    def _leaf(self, spec: Field, operator: str, value: object) -> Filter:
        read = spec.read(value)
        if isinstance(read, date):
            return self._time(spec, operator, read)
        return Condition(spec.name, operator, read)

    def _time(self, spec: Field, operator: str, at: date) -> Filter:
        """A comparison with a moment, or with the ends of a day."""
        try:
            if isinstance(at, datetime):
                return Condition(spec.name, operator, self._instant(at))
            start = datetime.combine(at, time(), UTC)
            end = start + timedelta(days=1)
        except OverflowError:
            raise Refused("the year is out of range") from None
        after, before = ("gt", "lte") if spec.is_last_day else ("gte", "lt")
        if operator == "eq":
            return AllOf((Condition(spec.name, after, start), Condition(spec.name, before, end)))
        edge = {"gt": (after, end), "gte": (after, start), "lt": (before, start), "lte": (before, end)}
        return Condition(spec.name, *edge[operator])

    def _instant(self, at: datetime) -> datetime:
        if at.tzinfo is not None:
            return at.astimezone(UTC)
        if not self.dialect.naive_is_utc:
            raise Refused(f"a time needs its offset, write {at.isoformat()}Z")
        return at.replace(tzinfo=UTC)

    def _metadata(self, spec: Field, value: object, place: str) -> Filter:
        """`{key: value}`, `{key: {operator: value}}` or `{operator: {key: value}}`, which mem0's documents all show."""
        if not isinstance(value, Mapping) or not value:
            self._refuse_value(spec, "an object of keys and values is expected", place)
        parts: list[Filter] = []
        for key, item in value.items():
            if key in spec.operators and isinstance(item, Mapping):
                if not item:
                    self._refuse_value(spec, "an object of keys and values is expected", f"{place}.{key}")
                parts += [self._metadata_leaf(spec, k, key, v, f"{place}.{key}") for k, v in item.items()]
            elif isinstance(item, Mapping) and any(self._looks_like_operator(name) for name in item):
                parts += [self._metadata_leaf(spec, key, op, operand, place) for op, operand in item.items()]
            else:
                parts.append(self._metadata_leaf(spec, key, "", item, place))
        return _all_of(parts)

    @staticmethod
    def _looks_like_operator(name: object) -> bool:
        return name in (*EQUALITY, *ORDER, "nin", "contains", "icontains") or name in _MEANT

    def _metadata_leaf(self, spec: Field, key: object, operator: object, value: object, place: str) -> Filter:
        try:
            name = read_text(key)
        except Refused as refused:
            self._refuse_value(spec, f"the key {_shown(key)} will not do: {refused}", place)
        at = f"{place}.{name[:40]}"
        if operator and operator not in spec.operators:
            both = f'{{"OR": [{spec.example}, {{"metadata": {{"source": "chat"}}}}]}}'
            self._refuse_value(spec, f"{self._why_not(operator)}, write several values as {both}", at)
        self._count(at)
        if not operator and value == "*":
            return Condition("metadata", "present", key=name)
        if operator == "contains" and not isinstance(value, str | int | float | bool):
            self._refuse_value(spec, "contains takes a string, a number, true or false", at)
        try:
            text = read_metadata(value)
        except Refused as refused:
            self._refuse_value(spec, str(refused), at)
        if operator == "contains":
            return Condition("metadata", "contains", text, name)
        equal = Condition("metadata", "eq", text, name)
        return Not(equal) if operator == "ne" else equal


# Compiling -----------------------------------------------------------------------------------------------------------

# Not an empty `IN`: Django raises EmptyResultSet for that, which a caller who wants the SQL would have to know.
_NOTHING = Q(pk__isnull=True)
_ANYTHING = Q(pk__isnull=False)

# A reader of a shared memory does not see these, and must not learn them by asking: for him they are not there.
_OWNERS_EYES_ONLY = frozenset({"metadata", "app", "categories", "user_id", "agent_id"})


def to_q(tree: Filter, owner_id: int | None) -> Q:
    """The filter as a `Q` over `Memory`, for rows of `owner_id` (the caller) and rows others share with him.

    Names of namespaces, apps, tags and categories are those of the memory's own owner. None is system scope.
    """
    return Q() if tree == EVERYTHING else _compile(tree, owner_id)


def _compile(tree: Filter, caller: int | None) -> Q:
    match tree:
        case AllOf():
            return reduce(and_, [_compile(part, caller) for part in tree.parts] or [_ANYTHING])
        case AnyOf():
            return reduce(or_, [_compile(part, caller) for part in tree.parts] or [_NOTHING])
        case Not():
            return ~_compile(tree.part, caller)
        case Condition():
            q = _condition(tree, caller)
            if tree.field in _OWNERS_EYES_ONLY and caller is not None:
                q &= Q(owner_id=caller)
            return q
        case _ as never:
            assert_never(never)


def _condition(test: Condition, caller: int | None) -> Q:
    values = test.value if isinstance(test.value, tuple) else (test.value,)
    match test.field:
        case "metadata":
            return _metadata(test)
        case "tags":
            return _tags(test, values)
        case "categories":
            return _categories(test, values, OuterRef("owner_id") if caller is None else caller)
        case "namespace" | "app" if test.operator != "present":
            return _named(test.field, values, caller)
        case "id":
            short = [value for value in values if len(str(value)) == SHORT_ID_LENGTH]
            return Q(pk__in=[value for value in values if value not in short]) | Q(short_id__in=short)
        case "pinned":
            return Q(pinned_at__isnull=not test.value)
        case _ if test.operator == "present":
            return Q(**{f"{test.field}__isnull": False})
        case _:
            return Q(**{f"{test.field}__{'exact' if test.operator == 'eq' else test.operator}": test.value})


def _named(field: str, names: tuple[Scalar, ...], caller: int | None) -> Q:
    """By the name of a namespace or app."""
    named = (Namespace if field == "namespace" else App)._default_manager.filter(name__in=names)
    anyones = Q(**{f"{field}_id__in": named.filter(owner_id=OuterRef("owner_id")).values("pk")})
    if caller is None:
        return anyones
    # The caller's own names are looked up once a query; another owner's once for each of the few rows that are shared.
    own = Q(**{f"{field}_id__in": named.filter(owner_id=caller).values("pk")})
    return own if field in _OWNERS_EYES_ONLY else own | (~Q(owner_id=caller) & anyones)


def _tags(test: Condition, tags: tuple[Scalar, ...]) -> Q:
    if test.operator == "present":
        return ~Q(tags=[])
    # Not the array: its operators are not leakproof, so under row-level security no index serves them. `=` on terms is.
    terms = [f"tag:{tag}" for tag in tags]
    return Q(Exists(MemoryTerm.objects.filter(owner_id=OuterRef("owner_id"), memory_id=OuterRef("pk"), term__in=terms)))


def _categories(test: Condition, names: tuple[Scalar, ...], owner: Any) -> Q:
    links = MemoryCategory.objects.filter(owner_id=owner, memory_id=OuterRef("pk"))
    if test.operator == "contains":
        links = links.filter(category__owner_id=owner, category__name__contains=str(test.value))
    elif test.operator != "present":
        links = links.filter(category__owner_id=owner, category__name__in=names)
    return Q(Exists(links))


def _metadata(test: Condition) -> Q:
    stored = _at_key(test.key)
    # In SQL NOT of unknown is unknown. Django sees to that for columns, but knows nothing of a key that may be missing.
    there = Q(IsNull(stored, False))
    kind = Func(stored, function="jsonb_typeof", output_field=TextField())
    if test.operator == "present":
        return there & ~Q(Exact(kind, "null"))
    value = json.loads(str(test.value))
    if test.operator == "eq":
        return there & Q(Exact(stored, Value(value, JSONField())))
    in_list = there & Q(Exact(kind, "array")) & Q(DataContains(stored, Value([value], JSONField())))
    if not isinstance(value, str):
        return in_list
    text = Func(F("metadata"), Value(test.key), function="jsonb_extract_path_text", output_field=TextField())
    return in_list | (there & Q(Exact(kind, "string")) & Q(Contains(text, value)))


def _at_key(key: str) -> Func:
    # Django's key transforms take "7" for a place in a list and "a__gt" for a lookup; here a key is only ever a name.
    return Func(F("metadata"), Value(key), function="jsonb_extract_path", output_field=JSONField())
