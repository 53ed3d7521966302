"""The Celery application. Workers run with `celery -A mem0stack.celery worker`."""

import os
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mem0stack.settings")

app = Celery("mem0stack")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect  # type: ignore[untyped-decorator]  # celery has no types
def tell_supervisor(**_: Any) -> None:
    """Say that this worker takes tasks now, to whoever started it with MEM0_WORKER_READY_FILE."""
    path = os.environ.get("MEM0_WORKER_READY_FILE")
    if path:
        fresh = Path(f"{path}.new")
        fresh.write_text(str(os.getpid()))
        fresh.replace(path)
