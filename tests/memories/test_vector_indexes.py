"""Vector indexes of large owners: when they come and go, and what is left when a build is killed."""

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection
from structlog.testing import capture_logs

from accounts.actors import Actor, acting_as
from mem0stack import doctor
from memories import outbox, services, vector_indexes
from memories.models import OwnerStatistics
from memories.services import NewMemory, Step, Written
from memories.vector_indexes import Coverage
from tests.conftest import as_owner

pytestmark = pytest.mark.django_db(transaction=True)

FROM = 40


@pytest.fixture(autouse=True)
def small(settings: Any) -> Iterator[None]:
    settings.VECTOR_INDEX_FROM, owner = FROM, settings.DATABASE_OWNER_ROLE
    yield
    # The next test's database is this one: tables are emptied, indexes stay.
    settings.VECTOR_INDEX_FROM, settings.DATABASE_OWNER_ROLE = 0, owner
    with acting_as(Actor.system("test")):
        OwnerStatistics.objects.all().delete()
    vector_indexes.maintain()


def remember(actor: Actor, count: int) -> list[Any]:
    new = [Step("add", new=NewMemory(content=f"Note {place} is about topic {place % 7}.")) for place in range(count)]
    ids = [written.memory_id for written in services.batch(actor, new) if isinstance(written, Written)]
    outbox.drain(actor.owner_id)
    return ids


def indexes() -> dict[str, bool]:
    """Every index of this kind, and whether it is whole."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid"
            " WHERE starts_with(relname, 'memory_hnsw')"
        )
        return dict(cursor.fetchall())


def is_marked(actor: Actor) -> bool:
    with acting_as(actor):
        return OwnerStatistics.objects.filter(owner_id=actor.owner_id, vector_index_at__isnull=False).exists()


def plan(actor: Actor) -> str:
    """How PostgreSQL finds this owner's nearest, as the service's role."""
    with acting_as(actor), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_sort = off")
        vector = "[" + ",".join(["0.0625"] * 256) + "]"
        cursor.execute(
            "EXPLAIN SELECT id FROM memories_memory WHERE owner_id = %s AND state = 'active'"
            " ORDER BY embedding <=> %s::halfvec LIMIT 10",
            [actor.owner_id, vector],
        )
        return "\n".join(row for (row,) in cursor.fetchall())


def test_an_owner_who_becomes_large_gets_an_index_and_others_do_not(alice: Actor, bob: Actor) -> None:
    remember(alice, FROM)
    remember(bob, FROM - 1)
    assert vector_indexes.coverage() == Coverage(indexed=0, missing=1)
    with capture_logs() as logs:
        assert vector_indexes.maintain() == 1
    name = vector_indexes.name_of(alice.owner_id)
    assert indexes() == {name: True}
    assert (is_marked(alice), is_marked(bob)) == (True, False)
    assert vector_indexes.coverage() == Coverage(indexed=1, missing=0)
    assert [log["event"] for log in logs if log["event"].startswith("vector_index")] == [
        "vector_index_begun",
        "vector_index_built",
    ]
    assert name in plan(alice)
    assert name not in plan(bob)
    assert vector_indexes.maintain() == 0


def test_an_index_stays_below_the_line_and_goes_well_below_it(alice: Actor) -> None:
    ids = remember(alice, FROM)
    vector_indexes.maintain()
    for memory_id in ids[: FROM // 4]:
        services.delete(alice, memory_id)
    outbox.drain(alice.owner_id)
    assert (vector_indexes.maintain(), is_marked(alice)) == (0, True)
    services.delete(alice, ids[FROM // 4])
    outbox.drain(alice.owner_id)
    assert (vector_indexes.maintain(), is_marked(alice), indexes()) == (1, False, {})


def test_without_a_line_nobody_keeps_an_index(alice: Actor, settings: Any) -> None:
    remember(alice, FROM)
    vector_indexes.maintain()
    settings.VECTOR_INDEX_FROM = 0
    assert (vector_indexes.maintain(), indexes(), is_marked(alice)) == (1, {}, False)
    assert vector_indexes.coverage() == Coverage(indexed=0, missing=0)


def test_what_a_killed_build_left_behind_is_dropped_and_built_anew(alice: Actor) -> None:
    remember(alice, FROM)
    name = vector_indexes.name_of(alice.owner_id)
    with as_owner():
        params = connection.get_connection_params()
    holder = psycopg.connect(**params)
    # A build waits for transactions that are older than it, so it can be killed in its middle.
    holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    holder.execute("INSERT INTO memories_memory SELECT * FROM memories_memory WHERE false")
    failed: list[Exception] = []

    def build() -> None:
        try:
            vector_indexes.maintain()
        except psycopg.Error as error:
            failed.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=build)
    thread.start()
    with psycopg.connect(**params, autocommit=True) as killer:
        deadline = time.monotonic() + 20
        while name not in indexes() and time.monotonic() < deadline:
            time.sleep(0.02)
        killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND pid <> pg_backend_pid()"
        )
    thread.join(20)
    holder.rollback()
    holder.close()
    assert failed
    assert (indexes(), is_marked(alice)) == ({name: False}, False)
    assert vector_indexes.maintain() == 1
    assert (indexes(), is_marked(alice)) == ({name: True}, True)


def test_one_builder_at_a_time(alice: Actor) -> None:
    remember(alice, FROM)
    with vector_indexes._as_owner() as other, vector_indexes._alone(other) as is_alone:
        assert is_alone
        assert vector_indexes.maintain() == 0
        assert indexes() == {}
    assert vector_indexes.maintain() == 1


def test_marks_follow_what_is_there(alice: Actor, bob: Actor, settings: Any) -> None:
    """As after a restored dump, or an index dropped by hand."""
    remember(alice, FROM)
    remember(bob, FROM)
    vector_indexes.maintain()
    with vector_indexes._as_owner() as database:
        database.execute(f"DROP INDEX {vector_indexes.name_of(alice.owner_id)}")
    vector_indexes._mark(bob.owner_id, False)
    # Neither too few to keep one, nor enough for a new one.
    settings.VECTOR_INDEX_FROM = FROM + 1
    assert vector_indexes.maintain() == 0
    assert (is_marked(alice), is_marked(bob)) == (False, True)
    settings.VECTOR_INDEX_FROM = FROM
    assert (vector_indexes.maintain(), is_marked(alice)) == (1, True)


def test_a_worker_without_the_owners_address_says_so_once(alice: Actor, settings: Any) -> None:
    settings.DATABASE_OWNER_ROLE = ""
    vector_indexes._say_that_nobody_builds.cache_clear()
    remember(alice, FROM)
    with capture_logs() as logs:
        assert [vector_indexes.maintain(), vector_indexes.maintain()] == [0, 0]
    assert [log["event"] for log in logs].count("vector_indexes_need_owner") == 1
    assert indexes() == {}
    with pytest.raises(doctor.Wrong) as wrong:
        doctor._vector_indexes()
    assert "DATABASE_OWNER_URL" in wrong.value.mend


def test_the_doctor_counts_them(alice: Actor) -> None:
    remember(alice, FROM)
    assert re.match(r"0 owner\(s\) have one.*1 are still to be built", doctor._vector_indexes())
    vector_indexes.maintain()
    assert doctor._vector_indexes() == f"1 owner(s) have one, from {FROM} memories on."


def test_the_worker_is_nudged_when_an_owner_passes_a_line(alice: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    nudges: list[int] = []
    monkeypatch.setattr(vector_indexes, "_nudge", lambda: nudges.append(1))
    ids = remember(alice, FROM - 1)
    assert not nudges
    remember_one = services.add(alice, NewMemory(content="One more.")).memory_id
    outbox.drain(alice.owner_id)
    assert len(nudges) == 1
    vector_indexes.maintain()
    services.delete(alice, remember_one)
    outbox.drain(alice.owner_id)
    assert len(nudges) == 1
    for memory_id in ids[: FROM // 4]:
        services.delete(alice, memory_id)
    outbox.drain(alice.owner_id)
    assert len(nudges) == 2


def test_the_service_itself_may_not_make_an_index(alice: Actor) -> None:
    with pytest.raises(DatabaseError, match="must be owner"), acting_as(alice), connection.cursor() as cursor:
        cursor.execute("CREATE INDEX memory_hnsw_0 ON memories_memory USING hnsw (embedding halfvec_cosine_ops)")
