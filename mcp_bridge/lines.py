"""Memories as lines of text for an agent: short, each one line whatever was stored, and within a size."""

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from accounts.actors import Actor
from memories.reading import Detail

# About 2,000 tokens.
MAX_RESULT = 8_000
MAX_TEXT = 500
# Whatever a reader or a terminal may take for the end of a line, and what makes text run backwards.
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def one_line(text: str) -> str:
    """The text with its line breaks and control characters written out, so that it cannot imitate another line."""
    return _BREAKS.sub(lambda found: _NAMES.get(found[0]) or f"\\u{ord(found[0]):04x}", text)


def short_id(memory_id: UUID) -> str:
    """The last 8 of a UUIDv7: it begins with a clock."""
    return memory_id.hex[-8:]


def line(memory: Any, actor: Actor, *, score: float | None = None) -> str:
    """`ID SCORE DATE (from NAME) [tags] text`, the text cut at 500 characters."""
    parts = [short_id(memory.id)]
    if score is not None:
        parts.append(f"{score:.2f}")
    parts.append(f"{memory.event_at:%Y-%m-%d}")
    if memory.owner_id != actor.owner_id:
        parts.append(f"(from {memory.owner_name})")
    if memory.tags:
        parts.append(one_line(f"[{', '.join(memory.tags)}]"))
    parts.append(cut_text(memory.content, MAX_TEXT))
    return " ".join(parts)


def detail(found: Detail, actor: Actor, *, most: int) -> list[str]:
    """One memory in full: where it comes from, its text, its last changes, and what it hangs together with."""
    memory = found.memory
    parts = [short_id(memory.id), f"v{memory.version}", f"{memory.event_at:%Y-%m-%d}", memory.kind]
    if memory.standing != "current":
        parts.append(memory.standing)
    if memory.owner_id != actor.owner_id:
        parts.append(f"(from {memory.owner_name})")
    else:
        parts.append(f"app={one_line(memory.app_name or '-')}")
    parts.append(f"project={one_line(memory.namespace_name or '-')}")
    if memory.tags:
        parts.append(one_line(f"[{', '.join(memory.tags)}]"))
    lines = [" ".join(parts), cut_text(memory.content, most)]
    if found.history:
        told = (f"{change.event} {change.created_at:%Y-%m-%d} {change.app or change.door}" for change in found.history)
        lines.append("history: " + one_line("; ".join(told)))
    lines += [
        f"related: {one.relation} {short_id(one.memory.id)} {cut_text(one.memory.content, 200)}"
        for one in found.related
    ]
    return lines


def cut_text(text: str, most: int) -> str:
    """The text as one line; what is cut says how much is missing."""
    shown = one_line(text)
    if len(shown) <= most:
        return shown
    return f"{shown[:most].rstrip()}… ({len(shown) - most} more characters: get_memories)"


def within(lines: Sequence[str], *, rest: str, most: int = MAX_RESULT) -> str:
    """The lines as one text of at most 8,000 characters; where some do not fit, the last one says how to get them."""
    kept: list[str] = []
    left = most - len(rest) - 40
    for number, one in enumerate(lines):
        left -= len(one) + 1
        if left < 0:
            return "\n".join([*kept, f"({len(lines) - number} more lines do not fit. {rest})"])
        kept.append(one)
    return "\n".join(kept)
