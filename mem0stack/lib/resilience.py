"""Circuit breakers: after a few failures in a row nobody waits for what is away, until it is tried again."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from purgatory import SyncCircuitBreakerFactory
from purgatory.domain.messages.events import ContextChanged
from purgatory.domain.model import HALF_OPENED, OPENED, OpenedState
from purgatory.service._sync.circuitbreaker import SyncCircuitBreaker

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

    After `threshold` of them in a row it raises CircuitOpen without a try for `retry_after_s` seconds. Then one call
    goes through, alone, and decides. The state is logged when it changes, and exported.
    """
    with _lock:
        breaker = _circuits.breakers.get_breaker(
            name, threshold, retry_after_s, exclude=[(Exception, lambda error: not isinstance(error, failures))]
        )
        try:
            breaker.__enter__()
        except OpenedState:
            raise CircuitOpen(f"{name} failed {threshold} times in a row; it is tried again soon.") from None
        is_trial = breaker.context.state == HALF_OPENED
        if is_trial:
            # The others would all wait for what most likely still hangs. One that never came back blocks nothing.
            if time.monotonic() - _circuits.tried_at.get(name, float("-inf")) < retry_after_s:
                raise CircuitOpen(f"{name} failed {threshold} times in a row; it is being tried.")
            _circuits.tried_at[name] = time.monotonic()
    try:
        yield
    except BaseException as error:
        _end(name, breaker, is_trial, error)
        raise
    _end(name, breaker, is_trial, None)


def is_open(name: str) -> bool:
    """Whether this process does not try the part `name` now, or has not tried it since it failed."""
    return name in _circuits.open


class Circuits:
    """The breakers of one process, by name."""

    def __init__(self) -> None:
        self.breakers = SyncCircuitBreakerFactory()
        self.breakers.add_listener(self._changed)
        # When the call that decides was let through, while it is under way.
        self.tried_at: dict[str, float] = {}
        self.open: set[str] = set()

    def _changed(self, name: str, event_name: str, event: Any) -> None:
        # Half-open is neither news nor a trouble: the call that is under way decides.
        if not isinstance(event, ContextChanged) or event.state == HALF_OPENED:
            return
        is_open = event.state == OPENED
        if is_open == (name in self.open):
            return
        (self.open.add if is_open else self.open.discard)(name)
        BREAKER_OPEN.labels(name).set(is_open)
        log.log(30 if is_open else 20, "circuit_opened" if is_open else "circuit_closed", part=name)


def _end(name: str, breaker: SyncCircuitBreaker, is_trial: bool, error: BaseException | None) -> None:
    with _lock:
        if is_trial:
            _circuits.tried_at.pop(name, None)
        breaker.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


_circuits = Circuits()
# purgatory's breakers are not made for threads: two calls that end at once would both take the last message.
_lock = threading.Lock()
