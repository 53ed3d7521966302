"""Valkey, which may be away or hang at any moment: asked behind a breaker, with an answer for when nobody answers.

Everything that wants the shared cache or the queue goes through `ask`; the linter refuses Django's `cache` elsewhere.
"""

from collections.abc import Callable
from typing import TypeVar

import structlog
from django_redis import get_redis_connection
from kombu.exceptions import OperationalError as BrokerError
from redis import Redis
from redis.exceptions import RedisError

from mem0stack.lib.metrics import CACHE_FAILURES
from mem0stack.lib.resilience import CircuitOpen, circuit

log = structlog.get_logger(__name__)

# What a server that is away, hangs or refuses can raise, as a cache and as Celery's queue.
FAILURES = (RedisError, BrokerError, OSError)

Answer = TypeVar("Answer")
Otherwise = TypeVar("Otherwise")


def ask(operation: str, question: Callable[[Redis], Answer], *, otherwise: Otherwise) -> Answer | Otherwise:
    """What `question` makes of the client (redis-py's, replies are bytes), or `otherwise` when Valkey is away.

    It never raises for Valkey's sake. A command that hangs costs a quarter of a second; after three failures in a row
    nothing is tried for five seconds, so callers lose no time. `operation` is the label of the metric: one word of ours
    for each place that asks, listed in docs/metrics.md. What is sent to Celery inside counts as well.
    """
    try:
        with circuit("valkey", *FAILURES):
            return question(client())
    except CircuitOpen:
        CACHE_FAILURES.labels(operation).inc()
    except FAILURES as error:
        CACHE_FAILURES.labels(operation).inc()
        log.warning("valkey_failed", operation=operation, error=type(error).__name__)
    return otherwise


def key(*parts: object) -> str:
    """A name of ours on a server that others may use too. Give what it names a time to live: only that is evicted."""
    return ":".join(map(str, ("mem0", *parts)))


def client() -> Redis:
    """The bare client, for whoever looks how Valkey is and wants to hear it. Everything else uses `ask`."""
    found: Redis = get_redis_connection("default")
    return found
