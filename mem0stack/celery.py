"""The Celery application. Workers run with `celery -A mem0stack.celery worker`."""

import os
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, worker_ready

from mem0stack.embedded import ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mem0stack.settings")

app = Celery("mem0stack")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@celeryd_init.connect  # type: ignore[untyped-decorator]  # celery has no types
def be_patient(conf: Any, **_: Any) -> None:
    # Nobody waits for the worker, and a connection that it gives up costs it the tasks in hand.
    conf.broker_transport_options = conf.broker_transport_options | {"socket_timeout": 5.0}


@worker_ready.connect  # type: ignore[untyped-decorator]  # celery has no types
def tell_supervisor(**_: Any) -> None:
    ready.tell("worker")
