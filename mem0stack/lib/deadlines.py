"""No request lasts longer than its deadline, whatever it waits for: its body, PostgreSQL, a mistake of ours.

One thread of the process looks at the requests under way. For one that is late it sends the reply itself, and shuts the
socket of that request's database connection, since libpq has no read time-out: the thread that hung there is free
again. A thread that waits for a body stays until its sender hangs up; a process that has nothing but such threads under
way ends itself, and granian starts another. A request on time pays two microseconds.
"""

import contextlib
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import structlog
from django.db import DEFAULT_DB_ALIAS, connections

from mem0stack.lib.metrics import LATE_REQUESTS
from mem0stack.lib.rest import dumps

log = structlog.get_logger(__name__)

_LOOKS_EVERY_S = 0.25
# So many late ones, and nothing else under way, are a process of no more use. It has eight threads.
_STUCK = 4
_GRACE_S = 2.0
_REQUEST_ID = "HTTP_X_REQUEST_ID"
_REPLIES = {
    "body": (408, "The body did not arrive in time. Send it again."),
    "work": (
        503,
        "This took too long. It is not known whether it was done: look, or repeat it with its idempotency key.",
    ),
}


class Request:
    """One that is under way: waiting for its `body`, or at `work`."""

    __slots__ = ("connection", "environ", "is_late", "phase", "since", "thread")

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.thread = threading.get_ident()
        # This thread's own; only its thread uses it, but its socket may be shut from elsewhere.
        self.connection = connections[DEFAULT_DB_ALIAS]
        self.phase = "body"
        self.since = time.monotonic()
        self.is_late = False

    def enter(self, phase: str) -> None:
        """Another phase begins, with a deadline of its own."""
        self.phase, self.since = phase, time.monotonic()


class Watch:
    """Ends what is late. `deadline_s` is for each phase of a request."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._requests: dict[int, Request] = {}
        # Held while a late request is seen to, so that it does not end, and its connection goes to another, meanwhile.
        self._lock = threading.Lock()
        if deadline_s > 0:
            threading.Thread(target=self._look_on, name="deadlines", daemon=True).start()

    @contextmanager
    def over(self, environ: dict[str, Any]) -> Iterator[Request]:
        """Watches the request of this thread inside."""
        request = Request(environ)
        self._requests[request.thread] = request
        try:
            yield request
        finally:
            with self._lock:
                del self._requests[request.thread]

    def _look_on(self) -> None:
        while True:
            time.sleep(_LOOKS_EVERY_S)
            try:
                self._look()
            except Exception:  # noqa: BLE001  the outermost loop of its thread
                log.exception("deadlines_not_watched")

    def _look(self) -> None:
        now = time.monotonic()
        requests = list(self._requests.values())
        # Some time after the reply: a thread whose connection was shut needs a moment to end.
        if len(requests) >= _STUCK and all(now - request.since > self._deadline_s + _GRACE_S for request in requests):
            log.error("process_stuck", late_requests=len(requests))
            os._exit(1)
        for request in requests:
            if now - request.since > self._deadline_s:
                with self._lock:
                    # It may have ended, or gone on to its next phase, at this very moment.
                    if self._requests.get(request.thread) is request and now - request.since > self._deadline_s:
                        self._end(request)

    def _end(self, request: Request) -> None:
        if not request.is_late:
            request.is_late = True
            LATE_REQUESTS.labels(request.phase).inc()
            # Before the work has begun nobody has looked whether a caller's id is a plain word.
            request_id = request.environ.get(_REQUEST_ID, "") if request.phase == "work" else str(uuid.uuid4())
            log.warning("request_late", phase=request.phase, deadline_s=self._deadline_s, request_id=request_id)
            _reply(request, request_id)
        if request.phase == "work":
            # Again at every look: it may have gone on to another connection.
            shut(request.connection)


def _reply(request: Request, request_id: str) -> None:
    """The reply, in place of the thread that is late; what that sends afterwards goes nowhere."""
    respond = _responder(request.thread)
    if respond is None:
        return
    status, detail = _REPLIES[request.phase]
    body = dumps({"detail": detail, "code": "timeout", "request_id": request_id})
    headers = [("Content-Type", "application/json"), ("Retry-After", "1"), ("X-Request-ID", request_id)]
    # What is left of a body that trickles cannot be told from the next request.
    headers.append(("Connection", "close"))
    with contextlib.suppress(RuntimeError):
        respond(status, headers, body)


def _responder(thread: int) -> Callable[[int, list[tuple[str, str]], bytes], None] | None:
    """granian's own way to answer, from the outermost frame of that thread. None under another server."""
    found = None
    frame = sys._current_frames().get(thread)
    while frame is not None:
        found = frame.f_locals.get("proto", found) if frame.f_code.co_name == "_runner" else found
        frame = frame.f_back
    return getattr(found, "response_bytes", None)


def shut(wrapper: Any) -> None:
    """End whatever a thread waits for on its database connection: it meets a server that has gone."""
    held = wrapper.connection
    if held is None:
        return
    with contextlib.suppress(psycopg.Error, OSError):
        number = held.pgconn.socket
        with socket.socket(fileno=os.dup(number)) as twin:
            # Only if it is still this connection's: the number of a closed one may be anybody's by now.
            if wrapper.connection is held and held.pgconn.socket == number:
                twin.shutdown(socket.SHUT_RDWR)
