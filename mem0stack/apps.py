from django.apps import AppConfig
from psycopg_pool.base import AttemptWithBackoff


class Mem0StackConfig(AppConfig):
    name = "mem0stack"
    label = "mem0stack"
    verbose_name = "mem0-stack"

    def ready(self) -> None:
        # The Celery application must be the current one in every process that sends or takes a task.
        from mem0stack import celery, checks  # noqa: F401, PLC0415  they register with Django, which must be up

        checks.register_all()
        _hurry_the_pool()


def _hurry_the_pool() -> None:
    """Let a process find its way back to a restarted PostgreSQL within the first request.

    psycopg's pool pauses 1, 2, 4 s between one dead connection and the next, and between attempts to connect:
    four dead ones outlast a request's 3 s, and each web process answered 503 for up to 6 s after PostgreSQL was back.
    """
    AttemptWithBackoff.INITIAL_DELAY = 0.02
    AttemptWithBackoff.DELAY_BACKOFF = 1.5
