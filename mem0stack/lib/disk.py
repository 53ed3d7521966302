"""Room on the embedded PostgreSQL's disk: writes are refused while there is little, so that reads go on.

A PostgreSQL whose disk is full does not refuse writes, it stops: nothing would be read either until somebody frees
space, and its own recovery needs some.
"""

import shutil
import threading
import time

import structlog
from django.conf import settings

from mem0stack.lib.errors import StorageFull

log = structlog.get_logger(__name__)

RESERVED_BYTES = 128 * 1024 * 1024
_GOOD_FOR_S = 1.0


class _Last:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at = float("-inf")
        self.is_full = False


_last = _Last()


def free_bytes() -> int:
    return shutil.disk_usage(settings.HOME.root).free


def require_room() -> None:
    """Raises StorageFull when under 128 MB are free; looks once a second. Another machine's disk is not looked at."""
    if not settings.EMBEDDED_POSTGRES:
        return
    with _last.lock:
        if time.monotonic() - _last.at > _GOOD_FOR_S:
            was_full, _last.is_full = _last.is_full, free_bytes() < RESERVED_BYTES
            _last.at = time.monotonic()
            if was_full != _last.is_full:
                log.log(30 if _last.is_full else 20, "disk_full" if _last.is_full else "disk_has_room")
    if _last.is_full:
        raise StorageFull("The disk of this service is full: nothing was written, reads go on. Free some space.")
