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

from memories.embeddings import warm_up  # noqa: E402  Django must be set up before models are imported


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """Django, which reads nothing of a body without a length: a chunked one is read here, as far as the limit."""
    if "CONTENT_LENGTH" not in environ and "HTTP_TRANSFER_ENCODING" in environ:
        body = environ["wsgi.input"].read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    return _django(environ, start_response)


# The first connection asks whether row-level security binds this role; a process that it does not bind must not serve.
# A database that is not there yet is no reason to stay away: the first connection that succeeds asks.
with contextlib.suppress(OperationalError):
    connection.ensure_connection()
    connection.close()

# The first search would wait for the table of vectors otherwise.
warm_up()
ready.tell("web")
