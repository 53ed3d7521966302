"""The Celery application. Workers run with `celery -A mem0stack.celery worker`."""

import os
from typing import Any

from celery import Celery
from celery.signals import celeryd_after_setup, celeryd_init

from mem0stack.embedded import ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mem0stack.settings")

app = Celery("mem0stack")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@celeryd_init.connect  # type: ignore[untyped-decorator]  # celery has no types
def be_patient(conf: Any, **_: Any) -> None:
    # Nobody waits for the worker, and a connection that it gives up costs it the tasks in hand.
    conf.broker_transport_options = conf.broker_transport_options | {"socket_timeout": 5.0}


@celeryd_after_setup.connect  # type: ignore[untyped-decorator]  # celery has no types
def tell_supervisor(**_: Any) -> None:
    # Not when it has found its queue: a service without Valkey starts, and is degraded until there is one.
    ready.tell("worker")
