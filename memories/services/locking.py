"""How writers of one owner keep out of each other's way.

Every transaction takes its locks in one order: rows in the order of their ids, then new names in theirs, then the run,
then new memories in the order of their unique keys. What remains, mixed batches that meet head on, PostgreSQL finds
after a second, and the one that it ends is done again.
"""

from collections.abc import Callable, Collection
from typing import TypeVar
from uuid import UUID

import structlog
from django.db import OperationalError, connection
from psycopg.errors import DeadlockDetected

from accounts.actors import Actor
from mem0stack.lib.errors import Unavailable
from memories.models import Memory

log = structlog.get_logger(__name__)

_TRIES = 4
Result = TypeVar("Result")


def lock_rows(actor: Actor, ids: Collection[UUID]) -> set[UUID]:
    """Lock these memories of the actor's own, in the order of their ids; those that were found.

    As everywhere here with `no_key`: the row stays, so what only refers to it (the access log) need not wait.
    """
    found = (
        Memory.objects.owned_by(actor)
        .alive()
        .filter(id__in=ids)
        .order_by("id")
        .select_for_update(of=("self",), no_key=True)
    )
    return set(found.values_list("id", flat=True))


def again_after_deadlock(write: Callable[[], Result]) -> Result:
    """Do a whole transaction, and do it again when PostgreSQL ended it to untie a deadlock. Raises Unavailable."""
    for attempt in range(1, _TRIES + 1):
        try:
            return write()
        except OperationalError as error:
            # Within a caller's transaction nothing can be done again here: all of it is lost.
            if connection.in_atomic_block or not isinstance(error.__cause__, DeadlockDetected):
                raise
            log.warning("write_deadlocked", attempt=attempt)
    raise Unavailable("Too many writers change the same memories at this moment. Nothing was written; try again.")
