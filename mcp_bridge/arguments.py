"""What a model sends as arguments, read leniently: numbers for texts, JSON in a string for a list, unknown ignored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import orjson

from mem0stack.lib.errors import InvalidArgument, TooLarge


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call; each reader raises InvalidArgument with the parameter, its limit and an example."""

    raw: Mapping[str, Any]

    def text(self, name: str, most: int, *, example: str = "") -> str:
        value = self.raw.get(name)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _refused(name, "is a text", example)
        return _short_enough(name, str(value), most)

    def needed(self, name: str, most: int, *, example: str) -> str:
        value = self.text(name, most, example=example).strip()
        if not value:
            raise _refused(name, "is needed", example)
        return value

    def texts(self, name: str, most: int, each: int, *, example: str = "") -> list[str]:
        """A list of texts; one text alone counts as a list of it, and so does a list written as JSON."""
        values = self.items(name, most, example=example)
        if any(isinstance(value, bool) or not isinstance(value, str | int | float) for value in values):
            raise _refused(name, "is a list of texts", example)
        return [_short_enough(name, str(value), each) for value in values]

    def items(self, name: str, most: int, *, example: str = "") -> Sequence[Any]:
        value = self.raw.get(name)
        if value is None or value == "":
            return ()
        if isinstance(value, str):
            value = _from_json(value)
        if not isinstance(value, list):
            value = [value]
        if len(value) > most:
            raise InvalidArgument(
                f"{name} has {len(value)} entries; at most {most} are taken. Split the call.", errors={name: ["long"]}
            )
        return value

    def whole(self, name: str, low: int, high: int, default: int) -> int:
        value = self.number(name, low, high, default)
        if value != int(value):
            raise _refused(name, f"is a whole number from {low} to {high}", f"{name}={default}")
        return int(value)

    def number(self, name: str, low: float, high: float, default: float) -> float:
        value = self.raw.get(name)
        if value is None or value == "":
            return default
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = low - 1
        if isinstance(value, bool) or not low <= number <= high:
            raise _refused(name, f"is a number from {low} to {high}", f"{name}={default}")
        return number

    def flag(self, name: str) -> bool:
        value = self.raw.get(name)
        if value in (None, "", False, 0, "false", "False", "0"):
            return False
        if value in (True, 1, "true", "True", "1"):
            return True
        raise _refused(name, "is true or false", f"{name}=true")

    def choice(self, name: str, choices: Sequence[str]) -> str:
        value = self.text(name, 100).strip().lower()
        if value and value not in choices:
            raise _refused(name, f"is one of {', '.join(choices)}", f"{name}={choices[0]}")
        return value

    def moment(self, name: str) -> datetime | None:
        """An ISO date or time; without an offset it is UTC."""
        value = self.text(name, 50).strip()
        if not value:
            return None
        try:
            if len(value) == len("2026-11-02"):
                day = date.fromisoformat(value)
                return datetime(day.year, day.month, day.day, tzinfo=UTC)
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise _refused(name, "is an ISO date", f"{name}=2026-11-02") from None
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _from_json(value: str) -> Any:
    if value.lstrip().startswith(("[", "{")):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _short_enough(name: str, value: str, most: int) -> str:
    if len(value) > most:
        raise TooLarge(
            f"{name} has {len(value)} characters; at most {most} are taken. Split it.", errors={name: ["long"]}
        )
    return value


def _refused(name: str, what: str, example: str) -> InvalidArgument:
    return InvalidArgument(f"{name} {what}{f', for example {example}' if example else ''}.", errors={name: [what]})
