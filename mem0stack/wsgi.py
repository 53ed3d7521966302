"""The web process. granian serves `mem0stack.wsgi:application`."""

import contextlib
import os

from django.core.wsgi import get_wsgi_application
from django.db import OperationalError, connection

from mem0stack.embedded import ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mem0stack.settings")

application = get_wsgi_application()

# The first connection asks whether row-level security binds this role; a process that it does not bind must not serve.
# A database that is not there yet is no reason to stay away: the first connection that succeeds asks.
with contextlib.suppress(OperationalError):
    connection.ensure_connection()
    connection.close()

ready.tell("web")
