"""Logs as events with fields: structlog for our own, the same shape for every library's."""

import sys
import traceback

import structlog
from django.core.exceptions import ImproperlyConfigured
from structlog.typing import EventDict, Processor, WrappedLogger

# What these say is about this machine and its settings. Any other message may quote what somebody wrote, as those of
# PostgreSQL do: the failing row, the literal that does not fit.
_MAY_SPEAK = (ImproperlyConfigured, ImportError, OSError)


def without_messages(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Puts an exception into the event as its types and places, without its messages."""
    given = event.pop("exc_info", None)
    if isinstance(given, tuple):
        given = given[1]
    error = given if isinstance(given, BaseException) else sys.exception() if given else None
    if error is not None:
        event["exception"] = _told(error)
    return event


def _told(error: BaseException) -> str:
    """As Python prints a traceback, the causes first."""
    told: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        kind = f"{type(current).__module__}.{type(current).__qualname__}"
        said = f"{kind}: {current}" if isinstance(current, _MAY_SPEAK) else kind
        told.insert(0, "".join([*traceback.format_tb(current.__traceback__), said]))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\n".join(told)


PRE_CHAIN: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    without_messages,
]


def renderer(log_format: str) -> Processor:
    """`json` for files and collectors, anything else for a person's terminal."""
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer()


structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        *PRE_CHAIN,
        structlog.processors.StackInfoRenderer(),
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
