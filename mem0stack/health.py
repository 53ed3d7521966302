"""Whether the process lives, whether it can serve, and how each part is: what a load balancer or a person asks."""

from functools import cache

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse

from memories.parts import overall, recent_parts


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


def overview(request: HttpRequest) -> JsonResponse:
    """Every part with its status and milliseconds. 503 without the database, else 200: the rest may be away."""
    parts = recent_parts()
    status = overall(parts)
    shown = {name: part.shown() for name, part in parts.items()}
    if status == "down":
        return JsonResponse({"status": status, "parts": shown}, status=503, headers={"Retry-After": "1"})
    return JsonResponse({"status": status, "parts": shown})


@cache
def _is_migrated() -> bool:
    """Asked once a process when it is so: a schema does not go backwards under running code."""
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def _not_ready(detail: str) -> JsonResponse:
    return JsonResponse({"status": "down", "detail": detail}, status=503, headers={"Retry-After": "1"})
