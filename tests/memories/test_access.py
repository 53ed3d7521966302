"""The access log: what is noted, that nobody waits for it, what it may lose, and who reads it."""

import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone
from prometheus_client import REGISTRY

from accounts.actors import Actor, acting_as
from memories import access, services
from memories.models import AccessAction, AccessLog, Memory
from memories.services import NewMemory
from memories.services.purging import purge
from tests.people import People
from tests.running import RunningService

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process keeps a log, as a web process does."""
    monkeypatch.setattr(access, "_log", access._Log())
    monkeypatch.setattr(access, "INTERVAL_S", 0.02)
    access.start()
    yield
    access._log.stop()


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("mem0_accesses_total", {"outcome": outcome}) or 0.0


def rows(owner: Any) -> list[AccessLog]:
    with acting_as(owner.actor):
        return list(AccessLog.objects.order_by("id").select_related("accessed_by"))


def await_rows(owner: Any, number: int) -> list[AccessLog]:
    deadline = time.monotonic() + 10
    while len(found := rows(owner)) < number:
        assert time.monotonic() < deadline, f"{len(found)} rows instead of {number}"
        time.sleep(0.02)
    return found


def remember(owner: Any, *contents: str, **fields: Any) -> list[UUID]:
    return [services.add(owner.actor, NewMemory(content=one, **fields)).memory_id for one in contents]


@pytest.mark.usefixtures("noted")
def test_hits_and_reads_are_noted_and_what_one_lists_of_ones_own_is_not(people: People) -> None:
    alice = people.alice
    ids = remember(alice, "Tea is green.", "Coffee is black.")

    alice.call("POST", "/api/v2/search/", {"query": "tea"}, **{"X-Request-ID": "r-1", "X-Mem0-App": "cursor"})
    alice.call("GET", f"/api/v2/memories/{ids[0]}/")
    alice.call("GET", "/api/v2/memories/")
    alice.call("PATCH", f"/api/v2/memories/{ids[0]}/", {"content": "Tea is red."})

    found = await_rows(alice, 3)
    access._log.stop()
    assert rows(alice) == found
    assert sorted((row.action, row.memory_id) for row in found) == sorted(
        [("search", ids[0]), ("search", ids[1]), ("read", ids[0])]
    )
    [first, *_] = [row for row in found if row.action == "search"]
    assert (first.accessed_by, first.door, first.app, first.request_id) == (alice.user, "rest", "cursor", "r-1")


@pytest.mark.usefixtures("noted")
def test_what_a_grantee_is_shown_is_the_owners_to_know(people: People) -> None:
    alice, bob = people.alice, people.bob
    [memory_id] = remember(alice, "The bridge is closed.", namespace="team")
    remember(bob, "Bob's own.")
    services.share(alice.actor, grantee="bob", namespace="team")

    bob.call("POST", "/api/v2/search/", {"query": "bridge", "filters": {"id": str(memory_id)}})
    bob.call("GET", "/api/v2/memories/")
    bob.call("GET", f"/api/v2/memories/{memory_id}/")

    found = await_rows(alice, 3)
    assert {(row.action, row.accessed_by.username) for row in found} == {
        ("search", "bob"), ("list", "bob"), ("read", "bob")
    }  # fmt: skip
    assert rows(bob) == [], "the reader does not see the owner's log"
    listed = alice.call("GET", f"/api/v2/memories/{memory_id}/access/").json()  # type: ignore[attr-defined]
    assert [one["action"] for one in listed["results"]] == ["read", "list", "search"]
    assert {one["by"] for one in listed["results"]} == {"bob"}


@pytest.mark.usefixtures("noted")
def test_neighbours_that_are_shown_are_noted(people: People) -> None:
    said = [{"role": "user", "content": text} for text in ("one", "two", "three")]
    people.alice.call("POST", "/api/v2/memories/", {"messages": said, "run_id": "talk"})

    people.alice.call("POST", "/api/v2/search/", {"query": "two", "top_k": 1, "expand": 1})

    assert len(await_rows(people.alice, 3)) == 3


def test_the_log_is_read_in_pages_newest_first(people: People) -> None:
    alice = people.alice
    [memory_id] = remember(alice, "Looked at often.")
    now = timezone.now()
    with acting_as(alice.actor):
        AccessLog.objects.bulk_create(
            AccessLog(
                owner=alice.user, memory_id=memory_id, accessed_by=alice.user, door="rest", action="read",
                request_id=str(number), accessed_at=now - timedelta(seconds=number // 2),
            )
            for number in range(7)
        )  # fmt: skip
    path, seen = f"/api/v2/memories/{memory_id}/access/?page_size=3", []
    while path:
        page = alice.call("GET", path).json()  # type: ignore[attr-defined]
        seen += page["results"]
        path = (page["next"] or "").partition("testserver")[2]
    assert len({one["id"] for one in seen}) == 7
    times = [one["accessed_at"] for one in seen]
    assert times == sorted(times, reverse=True)


def test_nothing_is_noted_by_a_process_that_keeps_no_log(people: People) -> None:
    [memory_id] = remember(people.alice, "Quiet.")
    with acting_as(people.alice.actor):
        access.note(people.alice.actor, AccessAction.READ, Memory.objects.filter(id=memory_id))
    assert not access._log.is_running
    assert not access._log._waiting


# What it may lose ------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_dropped_counted_and_logged(
    people: People, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alice = people.alice
    remember(alice, "One.", "Two.", "Three.")
    with acting_as(alice.actor):
        memories = list(Memory.objects.all())
    monkeypatch.setattr(access, "MAX_WAITING", 5)
    waiting = access._Log()
    waiting._actor = Actor.system("test")
    before = counted("dropped"), counted("written")
    for _ in range(2):
        shown = tuple((one.owner_id, one.id) for one in memories)
        waiting.put(access._Shown(alice.actor, AccessAction.READ, shown, timezone.now()))

    waiting._write_what_waits()

    assert (counted("dropped") - before[0], counted("written") - before[1]) == (3, 3)
    assert len(rows(alice)) == 3
    assert waiting._rows == 0


def test_a_database_that_is_away_costs_the_rows_and_nothing_else(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = people.alice
    [memory_id] = remember(alice, "One.")
    waiting = access._Log()
    waiting._actor = Actor.system("test")
    shown = access._Shown(alice.actor, AccessAction.READ, ((alice.id, memory_id),), timezone.now())
    failed: list[BaseException] = []

    def write_without_database() -> None:
        # A thread of its own, with a connection of its own that leads nowhere.
        connection.settings_dict = connection.settings_dict | {"HOST": "/nowhere", "OPTIONS": {}}
        waiting.put(shown)
        try:
            waiting._write_what_waits()
        except BaseException as error:  # noqa: BLE001  reported below
            failed.append(error)

    before = counted("dropped")
    thread = threading.Thread(target=write_without_database)
    thread.start()
    thread.join()
    assert not failed
    assert counted("dropped") == before + 1

    waiting.put(shown)
    waiting._write_what_waits()
    assert len(rows(alice)) == 1, "and it goes on when the database is back"


def test_writers_and_the_log_do_not_wait_for_each_other(people: People) -> None:
    alice = people.alice
    ids = remember(alice, "One.", "Two.")
    noted, done = threading.Event(), threading.Event()

    def note_slowly() -> None:
        try:
            with acting_as(Actor.system("test")):
                shown = tuple((alice.id, one) for one in ids)
                access._insert(access._Shown(alice.actor, AccessAction.READ, shown, timezone.now()).rows())
                noted.set()
                done.wait(10)
        finally:
            connection.close()

    thread = threading.Thread(target=note_slowly)
    thread.start()
    noted.wait(10)
    try:
        with acting_as(alice.actor), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '2s'")
            services.update(alice.actor, ids[0], {"content": "Three."})
            services.add(alice.actor, NewMemory("Two.", tags=["known already"]))
            assert services.delete_all(alice.actor, everything=True) == 2
    finally:
        done.set()
        thread.join()
    assert len(rows(alice)) == 2


def test_a_memory_that_is_purged_meanwhile_takes_no_others_along(people: People) -> None:
    alice = people.alice
    kept, gone = remember(alice, "Kept.", "Gone.")
    with acting_as(alice.actor):
        Memory.objects.filter(id=gone).delete()
    waiting = access._Log()
    waiting._actor = Actor.system("test")
    shown = ((alice.id, gone), (alice.id, kept))
    before = counted("dropped"), counted("written")
    waiting.put(access._Shown(alice.actor, AccessAction.SEARCH, shown, timezone.now()))

    waiting._write_what_waits()

    assert [row.memory_id for row in rows(alice)] == [kept]
    assert (counted("dropped") - before[0], counted("written") - before[1]) == (1, 1)


def test_what_waits_is_written_when_the_process_ends(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    [memory_id] = remember(people.alice, "Last words.")
    ending = access._Log()
    monkeypatch.setattr(access, "INTERVAL_S", 60)
    ending.start()
    ending.put(access._Shown(people.alice.actor, AccessAction.READ, ((people.alice.id, memory_id),), timezone.now()))

    began = time.monotonic()
    ending.stop()

    assert time.monotonic() - began < access.STOP_WITHIN_S + 1
    assert [row.memory_id for row in rows(people.alice)] == [memory_id]


@pytest.mark.usefixtures("noted")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_keeps_its_own_log() -> None:
    access._log._waiting.append(access._Shown(Actor(user=None), "read", (), timezone.now()))
    pid = os.fork()
    if pid == 0:
        thread = access._log._thread
        fine = access._log.is_running and thread is not None and thread.is_alive() and not access._log._waiting
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_is_old_is_pruned(people: People) -> None:
    alice = people.alice
    [memory_id] = remember(alice, "One.")
    old = timezone.now() - timedelta(days=settings.ACCESS_LOG_KEEP_DAYS, minutes=1)
    fields = {"owner": alice.user, "memory_id": memory_id, "accessed_by": alice.user, "door": "rest", "action": "read"}
    with acting_as(alice.actor):
        for at in (old, old + timedelta(minutes=2)):
            # As they would have been written then: ids begin with the time.
            id_then = UUID(int=(int(at.timestamp() * 1000) << 80) + 1)
            AccessLog.objects.create(id=id_then, accessed_at=at, **fields)

    assert access.prune() == 1
    assert [row.accessed_at for row in rows(alice)] == [old + timedelta(minutes=2)]


def test_a_purged_memory_takes_its_log_along(people: People) -> None:
    alice = people.alice
    [memory_id] = remember(alice, "One.")
    with acting_as(Actor.system("test")):
        access.record_staff_view(people.charlie.user, Memory.objects.values_list("owner_id", "id"))
        assert AccessLog.objects.count() == 1
        services.delete(alice.actor, memory_id)
        Memory.objects.filter(id=memory_id).update(deleted_at=timezone.now() - timedelta(days=31))
    assert purge().memories == 1
    with acting_as(Actor.system("test")):
        assert not AccessLog.objects.exists()


# A whole service -------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=False)
def test_a_service_keeps_its_log_also_when_it_is_stopped_at_once(service: RunningService) -> None:
    with service.client() as client:
        made = client.post("/api/v2/memories/", json={"content": "The mill on the hill grinds at noon."}).json()
        client.post("/api/v2/search/", json={"query": "the mill on the hill", "top_k": 1}).raise_for_status()
        path = f"/api/v2/memories/{made['id']}/access/"
        deadline = time.monotonic() + 10
        while not (found := client.get(path).json()["results"]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert [one["action"] for one in found] == ["search"]
        client.get(f"/api/v2/memories/{made['id']}/").raise_for_status()
    service.manage("down")
    service.up()
    with service.client() as client:
        assert [one["action"] for one in client.get(path).json()["results"]] == ["read", "search"]
