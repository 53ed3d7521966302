"""The web process. granian serves `mem0stack.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mem0stack.settings")

application = get_wsgi_application()
