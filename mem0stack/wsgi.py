"""The web process. granian serves `mem0stack.wsgi:application`."""

import contextlib
import io
import os
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import OperationalError, connection

from mem0stack.embedded import ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mem0stack.settings")

_django = get_wsgi_application()

from memories import access  # noqa: E402  Django must be set up before models are imported
from memories.embeddings import warm_up  # noqa: E402

# What a refused body may still send before its sender is hung up on.
_DRAINED = 64 * 1024 * 1024


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """Django, which reads nothing of a body without a length: a chunked one is read here, as far as the limit.

    What nobody read of a body is read and dropped before the reply: the server resets the connection of a client that
    still sends, and he would see "disconnected" in place of the 413 or 401 that says why.
    """
    source = environ["wsgi.input"]
    if "CONTENT_LENGTH" not in environ and "HTTP_TRANSFER_ENCODING" in environ:
        body = source.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    reply = _django(environ, start_response)
    left = _DRAINED
    while left > 0 and (dropped := source.read(65_536)):
        left -= len(dropped)
    return reply


# The first connection asks whether row-level security binds this role; a process that it does not bind must not serve.
# A database that is not there yet is no reason to stay away: the first connection that succeeds asks.
with contextlib.suppress(OperationalError):
    connection.ensure_connection()
    connection.close()

# The first search would wait for the table of vectors otherwise.
warm_up()
access.start()
ready.tell("web")
