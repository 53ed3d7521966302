"""What is found in a text: a kind of thing, the key it is matched by, and how it was written."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from django.db import models

MAX_KEY = 96
MAX_NAME = 120


class EntityKind(models.TextChoices):
    """Things of code, then things of prose. What each of them covers is said in docs/memories.md."""

    PATH = "path"
    MODULE = "module"
    FUNCTION = "function"
    CLASS = "class"
    SYMBOL = "symbol"
    PACKAGE = "package"
    COMMAND = "command"
    FLAG = "flag"
    VARIABLE = "variable"
    ERROR = "error"
    URL = "url", "URL"
    ISSUE = "issue"
    BRANCH = "branch"
    HOST = "host"
    PERSON = "person"
    ORGANISATION = "organisation"
    PLACE = "place"
    PRODUCT = "product"
    HANDLE = "handle"
    EMAIL = "email", "E-mail"
    TAG = "tag"
    QUOTE = "quote"
    NAME = "name"
    DATE = "date"


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that a text names. `aliases` are by what else people call it: the last part of a path, the class of a
    method, the first name of a person. They are things too, which whoever names this one names with it."""

    kind: EntityKind
    key: str
    name: str
    aliases: tuple["Found", ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key, *(alias.key for alias in self.aliases))


def found(kind: EntityKind, name: str, *, key: str | None = None, parts: tuple[str, ...] = ()) -> Found:
    """A thing by its name; its key follows from that where none is given. `parts` of the name become aliases."""
    key = _cut(key_of(name) if key is None else key)
    aliases: dict[str, Found] = {}
    for part in parts:
        alias = _cut(key_of(part))
        if alias not in ("", key) and alias not in aliases:
            aliases[alias] = Found(_kind_of_part(kind, part), alias, part[:MAX_NAME])
    return Found(kind, key, name[:MAX_NAME], tuple(aliases.values()))


def _kind_of_part(kind: EntityKind, part: str) -> EntityKind:
    if kind in (EntityKind.URL, EntityKind.EMAIL):
        return EntityKind.HOST
    if kind in (EntityKind.FUNCTION, EntityKind.MODULE) and part[:1].isupper():
        return EntityKind.CLASS
    return kind


@lru_cache(maxsize=8_192)
def key_of(name: str) -> str:
    """The canonical form: `psycopg_pool`, `psycopg-pool` and `Psycopg Pool` are one."""
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
    return _SEPARATORS.sub("-", name.casefold()).strip("-")


_SEPARATORS = re.compile(r"[\s_-]+")


def _cut(key: str) -> str:
    """The key, or past 96 characters its beginning and a hash of all of it."""
    if len(key) <= MAX_KEY:
        return key
    return f"{key[: MAX_KEY - 13]}~{blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"
