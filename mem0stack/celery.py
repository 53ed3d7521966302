"""The Celery application. Workers run with `celery -A mem0stack.celery worker`."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mem0stack.settings")

app = Celery("mem0stack")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
