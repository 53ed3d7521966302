"""Work for the Celery worker: thin, safe to run twice."""

from celery import shared_task
from celery.signals import worker_ready

from mem0stack.lib import valkey
from memories import access, outbox
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
def purge_overdue() -> None:
    """Take away for good what was deleted over 30 days ago."""
    purge()


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def prune_access_log() -> int:
    """Remove what the access log has kept long enough."""
    return access.prune()


@worker_ready.connect  # type: ignore[untyped-decorator]
def _catch_up(**_: object) -> None:
    for task in (drain_everything, prune_outbox, purge_overdue, prune_access_log):
        task.delay()


def _beat() -> None:
    valkey.ask("heartbeat", lambda client: client.set(HEARTBEAT, 1, ex=_HEARTBEAT_LASTS_S), otherwise=None)
