"""Who was shown which memory: the access log, and how it is written without anybody waiting for it.

What programs are shown is noted in the process's memory and written a moment later by a thread, many rows in one
statement: a log of use, which may lose its last second. What staff look at is written in the page's own transaction.
Nothing is counted on a memory's row: that would make every search of its owner slower.
"""

import os
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing import util as processes
from uuid import UUID

import structlog
from django.conf import settings
from django.db import IntegrityError, connection
from django.utils import timezone

from accounts.actors import Actor, acting_as
from accounts.models import User
from mem0stack.lib.bulk import insert_many
from mem0stack.lib.metrics import ACCESSES
from memories.models import AccessAction, AccessLog, Memory

log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
BATCH = 500
# About 15 MB. Who lets this many wait has a database that is away, or too slow for any log.
MAX_WAITING = 50_000
# How long the end of a process waits for its last rows.
STOP_WITHIN_S = 1.5
_PRUNED_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one caller was shown at one moment."""

    actor: Actor
    action: str
    memories: tuple[tuple[int, UUID], ...]
    at: datetime

    def rows(self) -> list[AccessLog]:
        return [
            AccessLog(
                owner_id=owner_id,
                memory_id=memory_id,
                accessed_by=self.actor.caller,
                door=self.actor.door,
                app=self.actor.app,
                action=self.action,
                request_id=self.actor.request_id,
                accessed_at=self.at,
            )
            for owner_id, memory_id in self.memories
        ]


def start() -> None:
    """From now on this process keeps a log of what it shows. For those that answer callers: each calls it once."""
    _log.start()


def note(actor: Actor, action: AccessAction, memories: Iterable[Memory]) -> None:
    """This caller is being shown these memories. Touches no database, raises nothing, takes microseconds."""
    if _log.is_running:
        shown = tuple([(memory.owner_id, memory.id) for memory in memories])
        if shown:
            _log.put(_Shown(actor, action, shown, timezone.now()))


def record_staff_view(staff: User, memories: Iterable[tuple[int, UUID]], *, request_id: str | None = None) -> None:
    """Staff is being shown these memories, each given by its owner and id. Others' are recorded for their owners, in
    the caller's transaction."""
    actor = Actor(user=staff, door="admin", request_id=request_id)
    others = tuple({(owner_id, memory_id) for owner_id, memory_id in memories if owner_id != staff.pk})
    _insert(_Shown(actor, AccessAction.STAFF_VIEW, others, timezone.now()).rows())


def prune() -> int:
    """Remove what is older than ACCESS_LOG_KEEP_DAYS; returns how many rows."""
    ends = timezone.now() - timedelta(days=settings.ACCESS_LOG_KEEP_DAYS)
    # Ids begin with the time of writing: this reads the oldest end of the primary key, whoever the owners are.
    before = UUID(int=int(ends.timestamp() * 1000) << 80)
    pruned = 0
    while True:
        with acting_as(Actor.system("access log: prune")):
            oldest = AccessLog.objects.filter(id__lt=before).order_by("id").values("id")[:_PRUNED_AT_ONCE]
            count, _ = AccessLog.objects.filter(id__in=oldest).delete()
        pruned += count
        if count < _PRUNED_AT_ONCE:
            return pruned


def _insert(rows: Sequence[AccessLog]) -> int:
    # A reference keeps its memory's row from being removed until the commit. Whoever changes memories locks them with
    # `no_key`, which does not wait for that; for the purge, which does, in the order that all writers keep to.
    ordered = sorted(rows, key=lambda row: row.memory_id)
    insert_many(ordered)
    return len(rows)


class _Log:
    """What waits to be written in this process, and the thread that writes it."""

    def __init__(self) -> None:
        self.is_running = False
        self._lock = threading.Lock()
        self._waiting: deque[_Shown] = deque()
        self._rows = self._refused = 0
        self._wake, self._stopping = threading.Event(), False
        self._thread: threading.Thread | None = None
        self._actor: Actor | None = None

    def start(self) -> None:
        if self.is_running:
            return
        # Said once a process, not every second.
        self._actor = Actor.system("access log: what this process shows")
        self.is_running, self._stopping = True, False
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()
        # A forked worker ends without atexit, but not without this.
        processes.Finalize(None, self.stop, exitpriority=0)

    def stop(self) -> None:
        """Take nothing more, and write what waits, within STOP_WITHIN_S."""
        self.is_running, self._stopping = False, True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_WITHIN_S)

    def put(self, shown: _Shown) -> None:
        with self._lock:
            if self._rows + len(shown.memories) > MAX_WAITING:
                self._refused += len(shown.memories)
                return
            self._waiting.append(shown)
            self._rows += len(shown.memories)
        if self._rows >= BATCH:
            self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(INTERVAL_S)
            self._wake.clear()
            self._write_what_waits()
        self._write_what_waits()

    def _write_what_waits(self) -> None:
        if not self._waiting and not self._refused:
            return
        while batch := self._take():
            try:
                written = self._write(batch)
                _count("written", written)
                if written < len(batch):
                    _count("dropped", len(batch) - written, reason="purged")
            except Exception as error:  # noqa: BLE001  the thread outlives whatever the database does
                _count("dropped", len(batch), reason=type(error).__name__)
        # The pool's again, until the next time.
        connection.close()
        with self._lock:
            refused, self._refused = self._refused, 0
        if refused:
            _count("dropped", refused, reason="full")

    def _take(self) -> list[AccessLog]:
        """The rows of the next batch. Whole moments: one of a hundred hits may make it longer."""
        rows: list[AccessLog] = []
        while len(rows) < BATCH:
            with self._lock:
                if not self._waiting:
                    break
                shown = self._waiting.popleft()
                self._rows -= len(shown.memories)
            rows += shown.rows()
        return rows

    def _write(self, batch: list[AccessLog]) -> int:
        assert self._actor is not None  # noqa: S101  `start` has set it
        try:
            with acting_as(self._actor):
                _losably()
                return _insert(batch)
        except IntegrityError:
            # One of them was purged meanwhile, and took its log along.
            with acting_as(self._actor):
                _losably()
                ids = {row.memory_id for row in batch}
                there = set(Memory.objects.filter(id__in=ids).values_list("id", flat=True))
                return _insert([row for row in batch if row.memory_id in there])


def _losably() -> None:
    """Nobody waits for the disk for this transaction's sake."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")


def _count(outcome: str, number: int, *, reason: str | None = None) -> None:
    ACCESSES.labels(outcome).inc(number)
    if reason is not None:
        log.warning("accesses_dropped", rows=number, reason=reason)


def _begin_anew() -> None:
    """In a forked child: no thread came along, and what waits is the parent's to write."""
    global _log  # noqa: PLW0603
    was_running = _log.is_running
    _log = _Log()
    if was_running:
        _log.start()


_log = _Log()
os.register_at_fork(after_in_child=_begin_anew)
