"""Work for the Celery worker: thin, safe to run twice."""

from uuid import UUID

from celery import shared_task
from celery.signals import worker_ready

from mem0stack.lib import valkey
from memories import access, embedding_spaces, outbox, vector_indexes
from memories.services import extracting, operations
from memories.services.purging import purge

# There while a worker does its periodic work, which comes every 10 seconds.
HEARTBEAT = valkey.key("worker-alive")
_HEARTBEAT_LASTS_S = 30


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def drain_outbox(owner_id: int) -> int:
    """Deliver what waits in one owner's outbox."""
    return outbox.drain(owner_id)


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def drain_everything() -> None:
    """Deliver what waits in any owner's outbox: what a lost nudge left behind. Shows that there is a worker."""
    _beat()
    owners = outbox.owners_with_work()
    valkey.ask("nudge", lambda _: [drain_outbox.delay(owner_id) for owner_id in owners], otherwise=[])


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def prune_outbox() -> int:
    """Remove events that every consumer is done with."""
    return outbox.prune()


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def extract(owner_id: int, operation_id: str) -> str:
    """Have a model draw facts from sources that are stored already."""
    return extracting.extract(owner_id, UUID(operation_id))


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def resume_operations() -> int:
    """Send again what was put off, got lost with its broker, or was left behind by a worker that died."""
    due = extracting.unfinished()
    for owner_id, operation_id in due:
        operations.send(owner_id, [operation_id])
    return len(due)


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def purge_overdue() -> None:
    """Take away for good what was deleted over 30 days ago."""
    purge()


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def prune_access_log() -> int:
    """Remove what the access log has kept long enough."""
    return access.prune()


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def embed_waiting() -> None:
    """Have the provider embed what waits in the active space."""
    embedding_spaces.catch_up()


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def maintain_vector_indexes() -> int:
    """Give large owners a vector index of their own, and take it from those who are no longer large."""
    return vector_indexes.maintain()


@worker_ready.connect  # type: ignore[untyped-decorator]
def _catch_up(**_: object) -> None:
    for task in (
        drain_everything,
        resume_operations,
        embed_waiting,
        maintain_vector_indexes,
        prune_outbox,
        purge_overdue,
        prune_access_log,
    ):
        task.delay()


def _beat() -> None:
    valkey.ask("heartbeat", lambda client: client.set(HEARTBEAT, 1, ex=_HEARTBEAT_LASTS_S), otherwise=None)
