"""Whether the process lives, and whether it can serve: what a supervisor or a load balancer asks."""

from functools import cache

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse


def live(request: HttpRequest) -> JsonResponse:
    """The process answers. Says nothing about what stands behind it."""
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> JsonResponse:
    """PostgreSQL answers and has this code's schema; 503 with a reason otherwise."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        is_migrated = _is_migrated()
    except DatabaseError:
        return _not_ready("The database does not answer.")
    if not is_migrated:
        _is_migrated.cache_clear()
        return _not_ready("The database has an older schema. Run `manage.py migrate`.")
    return JsonResponse({"status": "ok"})


@cache
def _is_migrated() -> bool:
    """Asked once a process when it is so: a schema does not go backwards under running code."""
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def _not_ready(detail: str) -> JsonResponse:
    return JsonResponse({"status": "down", "detail": detail}, status=503, headers={"Retry-After": "1"})
