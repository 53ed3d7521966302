"""What a supervisor and a load balancer are told, and what a caller is told, with PostgreSQL away."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from mem0stack import health
from tests.rest import Caller, refusal


@pytest.fixture
def _no_database() -> Iterator[None]:
    """PostgreSQL's socket is not where it was; what the pool had open is gone too."""
    host = connection.settings_dict["HOST"]
    connection.close()
    connection.close_pool()
    connection.settings_dict["HOST"] = "/nonexistent"
    try:
        yield
    finally:
        connection.close()
        connection.close_pool()
        connection.settings_dict["HOST"] = host


@pytest.mark.django_db
def test_a_service_with_its_database_lives_and_is_ready() -> None:
    for path in ("/health/live", "/health/ready"):
        reply = Client().get(path)
        assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


@pytest.mark.django_db
@pytest.mark.usefixtures("_no_database")
def test_without_its_database_it_lives_and_is_not_ready() -> None:
    assert Client().get("/health/live").status_code == 200
    started = time.monotonic()

    reply = Client().get("/health/ready")

    assert time.monotonic() - started < 8
    assert (reply.status_code, reply["Retry-After"]) == (503, "1")
    assert reply.json() == {"status": "down", "detail": "The database does not answer."}


@pytest.mark.django_db
def test_with_a_migration_missing_it_is_not_ready() -> None:
    health._is_migrated.cache_clear()
    try:
        MigrationRecorder.Migration.objects.filter(app="memories").delete()
        reply = Client().get("/health/ready")
    finally:
        health._is_migrated.cache_clear()

    assert reply.status_code == 503
    assert "migrate" in reply.json()["detail"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "memories/", None), ("POST", "memories/", {"content": "x"}), ("POST", "search/", {"query": "x"})],
)
def test_with_the_database_away_a_request_is_503_within_the_pools_three_seconds(
    request: pytest.FixtureRequest, method: str, path: str, body: Any
) -> None:
    alice = Caller("alice")
    request.getfixturevalue("_no_database")
    started = time.monotonic()

    reply = alice.request(method, path, body)

    assert time.monotonic() - started < 8
    refusal(reply, 503, "unavailable")
    assert reply["Retry-After"] == "1"


@pytest.mark.django_db
def test_a_statement_that_takes_too_long_is_503_with_its_own_code() -> None:
    alice = Caller("alice")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 1")
    operations = [{"op": "add", "content": f"Memory number {n}."} for n in range(500)]

    reply = alice.post("memories/batch/", {"operations": operations})

    refusal(reply, 503, "timeout")
    assert reply["Retry-After"] == "1"
