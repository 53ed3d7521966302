"""With little room on the disk: no change to a memory, every reading, and the purge."""

from typing import Any

import psycopg
import pytest
import structlog
from django.db import OperationalError

from mem0stack.lib import disk
from mem0stack.lib.failures import database_failure
from memories.services.purging import purge
from tests.rest import Caller

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real disk, of which all is reserved."""

    def fill() -> None:
        monkeypatch.setattr(disk, "RESERVED_BYTES", 2**62)
        monkeypatch.setattr(disk, "_last", disk._Last())

    monkeypatch.setattr(disk, "_last", disk._Last())
    return fill


def test_writes_are_refused_and_reading_goes_on(full: Any) -> None:
    caller = Caller("alice")
    stored = caller.post("memories/", {"content": "Deploys run at noon."}).json()
    full()
    batch = {"operations": [{"op": "add", "content": "One."}, {"op": "delete", "id": stored["id"]}]}
    with structlog.testing.capture_logs() as logs:
        for reply in (
            caller.post("memories/", {"content": "Two."}),
            caller.post("memories/batch/", batch),
            caller.patch(f"memories/{stored['id']}/", {"tags": ["x"]}),
            caller.delete(f"memories/{stored['id']}/"),
        ):
            assert (reply.status_code, reply["Retry-After"]) == (507, "30"), reply.content
            assert reply.json()["code"] == "storage_full"
            assert reply.json()["request_id"]
    assert [line["event"] for line in logs].count("disk_full") == 1
    assert [one["id"] for one in caller.get("memories/").json()["results"]] == [stored["id"]]
    assert caller.post("search/", {"query": "when are deploys"}).json()["results"][0]["id"] == stored["id"]
    purge()


def test_a_disk_of_another_machine_is_not_looked_at(full: Any, settings: Any) -> None:
    full()
    settings.EMBEDDED_POSTGRES = False
    disk.require_room()


def test_what_postgresql_says_of_a_full_disk_is_507_too() -> None:
    error = OperationalError("could not extend file")
    error.__cause__ = psycopg.errors.DiskFull("could not extend file")
    told = database_failure(error)
    assert (told.status, told.code) == (507, "storage_full")
    assert "Free some space" in told.detail
