"""How many calls a minute a key may make: counted in Valkey for all processes together, in each alone without it."""

import math
import threading
import time
from dataclasses import dataclass

from django.conf import settings
from redis import Redis

from accounts.models import ApiKey
from mem0stack.lib import valkey
from mem0stack.lib.metrics import CALLS_LIMITED

WINDOW_S = 60
_MAX_COUNTED = 10_000


@dataclass(frozen=True)
class Allowance:
    """What is left of a key's limit after this call, and the seconds until all of it is there again."""

    limit: int
    remaining: int
    reset_s: int
    is_exceeded: bool


def limit_of(key: ApiKey) -> int:
    """Calls a minute; 0 is no limit."""
    return settings.API_RATE_LIMIT if key.rate_limit is None else key.rate_limit


def count_call(key: ApiKey, *, otherwise: int | None = None) -> Allowance | None:
    """Count one call with this key; None for a key without a limit, which costs nothing.

    A key's own limit holds over all doors together. One that has none is held to the door's own, `otherwise`, counted
    for itself; REST's is API_RATE_LIMIT. A minute begins with the first call after the last one has ended.
    """
    if otherwise is None or key.rate_limit is not None:
        limit, name = limit_of(key), valkey.key("calls", key.pk)
    else:
        limit, name = otherwise, valkey.key("calls-mcp", key.pk)
    if limit == 0:
        return None
    # Counted here as well, so that without Valkey the minute goes on from what this process has seen of it.
    here = _here.count(name)
    calls, ends_in_s = valkey.ask("rate_limit", lambda client: _count(client, name), otherwise=here)
    if calls > limit:
        CALLS_LIMITED.inc()
    return Allowance(limit, max(0, limit - calls), max(1, math.ceil(ends_in_s)), calls > limit)


def _count(client: Redis, name: str) -> tuple[int, float]:
    """Calls in this minute, with this one, and the seconds until it ends: one round trip."""
    with client.pipeline(transaction=True) as pipe:
        pipe.set(name, 0, ex=WINDOW_S, nx=True)
        pipe.incr(name)
        pipe.pttl(name)
        _, calls, ends_in_ms = pipe.execute()
    return int(calls), ends_in_ms / 1000


class _Here:
    """Counts of this process alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minutes: dict[str, tuple[float, int]] = {}

    def count(self, name: str) -> tuple[int, float]:
        now = time.monotonic()
        with self._lock:
            ends_at, calls = self._minutes.get(name, (0.0, 0))
            if ends_at <= now:
                if len(self._minutes) >= _MAX_COUNTED:
                    self._minutes = {other: minute for other, minute in self._minutes.items() if minute[0] > now}
                ends_at, calls = now + WINDOW_S, 0
            self._minutes[name] = ends_at, calls + 1
        return calls + 1, ends_at - now


_here = _Here()
