"""The keys that this process has just read, with their owners: most requests need not ask PostgreSQL who is calling.

What is known holds for five seconds, and no longer than the key itself. A change to a key or its user puts another
version into Valkey, which each process looks at twice a second: the change holds within a second everywhere. Without
Valkey, and for what somebody changes by SQL, it is the five seconds.
"""

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import transaction

from mem0stack.lib import valkey
from mem0stack.lib.metrics import CACHE_LOOKUPS

if TYPE_CHECKING:
    from accounts.models import ApiKey

KNOWN_FOR_S = 5.0
_LOOKS_EVERY_S = 0.5
_MAX_KNOWN = 10_000
_VERSION = valkey.key("keys-version")
_VERSION_LASTS_S = 86_400


@dataclass(frozen=True, slots=True)
class _Known:
    key: "ApiKey"
    version: object
    until: float


class _Process:
    """What one process knows, and the version that it last saw."""

    def __init__(self) -> None:
        self.known: OrderedDict[bytes, _Known] = OrderedDict()
        self.version: object = None
        self.looked_at = float("-inf")
        self.lock = threading.Lock()


_process = _Process()


def version() -> object:
    """The version of all keys, as of half a second ago at most. Take it before reading what `remember` is given."""
    if time.monotonic() - _process.looked_at > _LOOKS_EVERY_S:
        with _process.lock:
            began = time.monotonic()
            if began - _process.looked_at > _LOOKS_EVERY_S:
                # With nobody there to ask it stays, and what is known ends by its age.
                _process.version = valkey.ask(
                    "keys_version", lambda client: client.get(_VERSION), otherwise=_process.version
                )
                _process.looked_at = began
    return _process.version


def get(digest: bytes) -> "ApiKey | None":
    """The key with this digest, if it is known and nothing has changed since. It is everybody's: do not change it."""
    found = _process.known.get(digest)
    if found is None or found.until <= time.monotonic() or found.version != version():
        CACHE_LOOKUPS.labels("keys", "miss").inc()
        return None
    CACHE_LOOKUPS.labels("keys", "hit").inc()
    return found.key


def remember(digest: bytes, key: "ApiKey", *, version: object, until: float) -> None:
    """Know this key until a moment of `time.monotonic`, or for five seconds."""
    until = min(until, time.monotonic() + KNOWN_FOR_S)
    with _process.lock:
        _process.known[digest] = _Known(key, version, until)
        _process.known.move_to_end(digest)
        if len(_process.known) > _MAX_KNOWN:
            _process.known.popitem(last=False)


def forget() -> None:
    """A key or a user changes: when the caller's transaction has committed, no process goes by what it knew."""
    _process.known.clear()
    transaction.on_commit(_forget_everywhere, robust=True)


def _forget_everywhere() -> None:
    _process.known.clear()
    token = secrets.token_hex(8)
    # Not a counter: a Valkey that was restarted would count up to a version that somebody has seen.
    valkey.ask("forget_keys", lambda client: client.set(_VERSION, token, ex=_VERSION_LASTS_S), otherwise=None)
    _process.looked_at = float("-inf")
