"""Logs as events with fields: structlog for our own, the same shape for every library's."""

import structlog
from structlog.typing import Processor

PRE_CHAIN: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
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
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
