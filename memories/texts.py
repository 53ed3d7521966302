"""What may be stored: the checks that every written value passes, whichever door it came through."""

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from mem0stack.lib.errors import InvalidArgument, SecretDetected
from mem0stack.lib.remotes import project_key
from memories.models import LABEL_LENGTH, NAME_LENGTH, REASON_LENGTH
from memories.secrets import find_secrets

MAX_CONTENT = 20_000
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 16
MAX_TAGS = 50
MAX_TAG = 50
MAX_CATEGORIES = 20

_SPACE = re.compile(r"\s+")


def check_content(content: str) -> None:
    """Raises InvalidArgument unless this is text that can be remembered: not blank, at most 20,000 characters."""
    if not content.strip():
        raise _invalid("content", "is empty; write what to remember in one self-contained sentence")
    _check_text("content", content, MAX_CONTENT)


def content_hash(content: str) -> bytes:
    """32 bytes that are equal for texts that differ only in Unicode form and white space. Case is kept."""
    plain = _SPACE.sub(" ", unicodedata.normalize("NFC", content).strip())
    return hashlib.sha256(plain.encode()).digest()


def asks(content: str) -> bool:
    """Whether a text is put as a question."""
    return content.rstrip().endswith(("?", "？"))


# Words that place what a text tells in time: relative ones first, as people tell days.
_TIME = re.compile(
    r"\b(?:yesterday|today|tonight|tomorrow|last|next|ago|week|weekend|month|year|recently|since|morning|evening"
    r"|summer|winter|spring|autumn|(?:mon|tues|wednes|thurs|fri|satur|sun)day|january|february|march|april|june|july"
    r"|august|september|october|november|december|days|weeks|months|years|(?:19|20)\d\d|\d{1,2}:\d\d"
    r"|gestern|heute|morgen|letzte[nrs]?|nächste[nrs]?|vor|woche|monat|jahr|seit|montag|dienstag|mittwoch|donnerstag"
    r"|freitag|samstag|sonntag|вчера|сегодня|завтра|назад|недел\w*|месяц\w*|год\w*)\b"
    r"|昨日|今日|明日|先週|来週|先月|去年|昨年|年前|昨天|今天|明天|上周|上个月|去年|\d年|\d月",
    re.IGNORECASE,
)


def says_when(content: str) -> bool:
    """Whether a text names a time: a day, a date, "last week"."""
    return _TIME.search(content) is not None


def check_label(name: str, value: str | None) -> None:
    """mem0's ids, speakers, app names: 1 to 128 characters."""
    if value is not None:
        if not value.strip():
            raise _invalid(name, "is blank; leave it out instead")
        _check_text(name, value, LABEL_LENGTH)


def clean_tags(tags: Sequence[str]) -> list[str]:
    """Trimmed, lower case, each once, in the order given; at most 50 of at most 50 characters."""
    cleaned = list(dict.fromkeys(_SPACE.sub(" ", tag).strip().lower() for tag in tags))
    if len(cleaned) > MAX_TAGS:
        raise _invalid("tags", f"has {len(cleaned)} entries; at most {MAX_TAGS} are kept with a memory")
    for tag in cleaned:
        if not tag:
            raise _invalid("tags", "holds a blank one")
        _check_text("tags", tag, MAX_TAG)
    return cleaned


def clean_categories(names: Sequence[str]) -> list[str]:
    """Trimmed, lower case, each once; at most 20 of at most 128 characters."""
    cleaned = sorted({_SPACE.sub(" ", name).strip().lower() for name in names})
    if len(cleaned) > MAX_CATEGORIES:
        raise _invalid("categories", f"has {len(cleaned)} entries; a memory is of at most {MAX_CATEGORIES}")
    for name in cleaned:
        if not name:
            raise _invalid("categories", "holds a blank one")
        _check_text("categories", name, LABEL_LENGTH)
    return cleaned


def clean_namespace(name: str) -> str:
    """A namespace's key. A git remote in any spelling becomes `host/owner/repo`, so that two machines mean the same."""
    stripped = project_key(name)
    if not stripped or stripped == "*":
        raise _invalid("namespace", "needs a name, for example 'personal' or 'github.com/owner/repo'")
    _check_text("namespace", stripped, NAME_LENGTH)
    if not stripped.isprintable():
        raise _invalid("namespace", "holds control characters")
    return stripped


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raises InvalidArgument unless this is JSON that PostgreSQL can hold, of at most 16 KiB."""
    _check_depth(metadata, MAX_METADATA_DEPTH)
    for value in _leaves(metadata):
        if isinstance(value, str) and "\x00" in value:
            raise _invalid("metadata", "holds a NUL character")
        if isinstance(value, float) and not math.isfinite(value):
            raise _invalid("metadata", "holds a number that is not finite")
        if isinstance(value, float) and value.is_integer() and not -(2**63) <= value < 2**64:
            # jsonb writes 1e30 as 31 digits, which come back as a whole number that no JSON writer of ours can hold.
            raise _invalid("metadata", "holds a whole number past 64 bits; send it as text")
    try:
        size = len(orjson.dumps(metadata))
    except (TypeError, ValueError) as error:
        raise _invalid("metadata", f"cannot be written as JSON: {error}") from error
    if size > MAX_METADATA_BYTES:
        raise _invalid("metadata", f"takes {size} bytes as JSON; at most {MAX_METADATA_BYTES} are kept with a memory")


def check_time(name: str, value: datetime | None) -> None:
    """Raises InvalidArgument unless this is a moment: a time with its zone, in a year that UTC has too."""
    if value is None:
        return
    if value.utcoffset() is None:
        raise _invalid(name, "has no time zone; write it as in 2026-03-01T09:00:00Z")
    try:
        value.astimezone(UTC)
    except OverflowError as error:
        raise _invalid(name, "lies outside the years 1 to 9999") from error


def check_reason(reason: str) -> None:
    """Raises InvalidArgument unless this is text of at most 500 characters; it may be empty."""
    _check_text("reason", reason, REASON_LENGTH)


def refuse_secrets(
    *, content: str = "", metadata: Mapping[str, Any] | None = None, tags: Sequence[str] = (), reason: str = ""
) -> None:
    """Raises SecretDetected with kind and offset of every credential; the reply and the log never repeat it."""
    found: dict[str, list[dict[str, Any]]] = {}
    texts = [("content", content), ("reason", reason), *(("tags", tag) for tag in tags)]
    texts += [("metadata", leaf) for leaf in _leaves(metadata or {}) if isinstance(leaf, str)]
    for place, text in texts:
        for secret in find_secrets(text):
            found.setdefault(place, []).append({"kind": secret.kind, "offset": secret.start})
    if found:
        place, secrets = next(iter(found.items()))
        raise SecretDetected(
            f"{place} looks like it holds a secret ({secrets[0]['kind']} at character {secrets[0]['offset']}). Nothing"
            " was stored. Take it out and say where the secret is kept; or send allow_secret=true to store it.",
            errors=found,
        )


def _check_text(field: str, value: str, limit: int) -> None:
    if len(value) > limit:
        raise _invalid(field, f"has {len(value)} characters; at most {limit} are allowed. Split it or shorten it")
    if "\x00" in value:
        raise _invalid(field, "holds a NUL character, which cannot be stored")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _invalid(field, "holds half of a surrogate pair, which is no character") from error


def _check_depth(value: Any, depth: int) -> None:
    if depth < 0:
        raise _invalid("metadata", f"is nested more than {MAX_METADATA_DEPTH} levels deep")
    if isinstance(value, Mapping):
        for below in value.values():
            _check_depth(below, depth - 1)
    elif isinstance(value, list | tuple):
        for below in value:
            _check_depth(below, depth - 1)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield key
            yield from _leaves(below)
    elif isinstance(value, list | tuple):
        for below in value:
            yield from _leaves(below)
    else:
        yield value


def _invalid(field: str, sentence: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {sentence}.", errors={field: [sentence]})
