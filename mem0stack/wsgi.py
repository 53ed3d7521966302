"""The web process. granian serves `mem0stack.wsgi:application`."""

import contextlib
import io
import os
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import OperationalError, connection

from mem0stack.embedded import ready
from mem0stack.lib import deadlines

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mem0stack.settings")

_django = get_wsgi_application()

from memories import access  # noqa: E402  Django must be set up before models are imported
from memories.embeddings import warm_up  # noqa: E402

_LENGTH = "CONTENT_LENGTH"
_watch = deadlines.Watch(settings.REQUEST_DEADLINE_S)

# What a refused body may still send before its sender is hung up on.
_DRAINED = 64 * 1024 * 1024


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """Django, with the body read before it, as far as the limit: a slow sender is seen for one, and a chunked body,
    which Django does not read, has a length.

    What nobody read of a body is read and dropped before the reply: the server resets the connection of a client that
    still sends, and he would see "disconnected" in place of the 413 or 401 that says why.
    """
    with _watch.over(environ) as request:
        source = environ["wsgi.input"]
        if _LENGTH in environ or "HTTP_TRANSFER_ENCODING" in environ:
            body = source.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
            if request.is_late or len(body) < min(_length(environ), settings.DATA_UPLOAD_MAX_MEMORY_SIZE):
                # Its sender is answered already, or gone; the half that is here might make sense, and not his.
                start_response("400 Bad Request", [])
                return [b""]
            environ["wsgi.input"] = io.BytesIO(body)
            environ.setdefault(_LENGTH, str(len(body)))
        request.enter("work")
        reply = _django(environ, start_response)
        request.enter("body")
        left = _DRAINED
        while left > 0 and not request.is_late and (dropped := source.read(65_536)):
            left -= len(dropped)
        return reply


def _length(environ: dict[str, Any]) -> int:
    said = environ.get(_LENGTH, "")
    return int(said) if said.isascii() and said.isdigit() else 0


# The first connection asks whether row-level security binds this role; a process that it does not bind must not serve.
# A database that is not there yet is no reason to stay away: the first connection that succeeds asks.
with contextlib.suppress(OperationalError):
    connection.ensure_connection()
    connection.close()

# The first search would wait for the table of vectors otherwise.
warm_up()
access.start()
ready.tell("web")
