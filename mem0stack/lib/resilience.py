"""Circuit breakers: after a few failures in a row nobody waits for what is away, until it is tried again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from purgatory import SyncCircuitBreakerFactory
from purgatory.domain.messages.events import ContextChanged
from purgatory.domain.model import OpenedState

from mem0stack.lib.metrics import BREAKER_OPEN

log = structlog.get_logger(__name__)

THRESHOLD = 3
RETRY_AFTER_S = 5.0


class CircuitOpen(Exception):
    """Not tried: this part failed several times in a row just now. Callers fall back at once."""


@contextmanager
def circuit(
    name: str,
    *failures: type[Exception],
    threshold: int = THRESHOLD,
    retry_after_s: float = RETRY_AFTER_S,
) -> Iterator[None]:
    """Guards calls to the part `name` of this process; exceptions of the types `failures` count, and pass on.

    After `threshold` of them in a row it raises CircuitOpen without a try for `retry_after_s` seconds. Then calls go
    through again, and the first one decides. The state is logged when it changes, and exported.
    """
    with _lock:
        breaker = _breakers.get_breaker(
            name, threshold, retry_after_s, exclude=[(Exception, lambda error: not isinstance(error, failures))]
        )
        try:
            breaker.__enter__()
        except OpenedState:
            raise CircuitOpen(f"{name} failed {threshold} times in a row; it is tried again soon.") from None
    try:
        yield
    except BaseException as error:
        with _lock:
            breaker.__exit__(type(error), error, error.__traceback__)
        raise
    with _lock:
        breaker.__exit__(None, None, None)


def is_open(name: str) -> bool:
    """Whether this process does not try the part `name` now, or has not tried it since it failed."""
    return name in _open


def _changed(name: str, event_name: str, event: Any) -> None:
    if not isinstance(event, ContextChanged):
        return
    # Half-open is neither news nor a trouble: the call that is under way decides.
    opened = event.state == "opened"
    if event.state != "half-opened":
        BREAKER_OPEN.labels(name).set(opened)
        (_open.add if opened else _open.discard)(name)
        log.log(30 if opened else 20, "circuit_opened" if opened else "circuit_closed", part=name)


_open: set[str] = set()
_breakers = SyncCircuitBreakerFactory()
_breakers.add_listener(_changed)
# purgatory's breakers are not made for threads: two calls that end at once would both take the last message.
_lock = threading.Lock()
