"""What follows from a write: in the same transaction, delivered once, whatever fails on the way."""

import io
import os
import re
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
import structlog
from celery import Celery, current_app
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.utils import timezone

from accounts.actors import Actor, acting_as
from mem0stack.lib import valkey
from mem0stack.lib.home import Home
from memories import outbox, services, tasks
from memories.models import OutboxDelivery, OutboxEvent
from memories.services import NewMemory, Step
from tests.memories.reading import at_once, count, statistics, true_statistics
from tests.running import RunningService

pytestmark = pytest.mark.django_db(transaction=True)


class Listener:
    """A consumer that remembers what it was given, and fails when it sees a memory that it does not like."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.batches: list[int] = []
        self.dislikes: str | None = None

    def __call__(self, owner_id: int, events: Sequence[OutboxEvent]) -> None:
        self.batches.append(len(events))
        ids = [event.payload["memory_id"] for event in events]
        if self.dislikes in ids:
            raise ValueError("I do not like 'a private text'")
        self.seen += ids


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Listener:
    found = Listener()
    monkeypatch.setattr(outbox, "_consumers", outbox._consumers | {"listener": found})
    return found


@pytest.fixture
def nudges(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    valkey.client().flushdb()  # where a nudge under way holds back the next one
    sent: list[int] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, args, **options: sent.append(args[0]))
    return sent


@pytest.fixture
def dead_broker(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Celery and the cache with a server that nobody answers for."""
    settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": "unix:///nonexistent/valkey.sock"}}
    alone = Celery(set_as_current=False)
    alone.config_from_object("django.conf:settings", namespace="CELERY")
    alone.conf.broker_url = "redis+socket:///nonexistent/valkey.sock"
    monkeypatch.setattr(outbox, "current_app", alone)


def add(actor: Actor, *texts: str) -> list[str]:
    return [str(one.memory_id) for one in services.add_many(actor, [NewMemory(text) for text in texts])]


def deliveries(actor: Actor, consumer: str) -> list[tuple[str, int, str]]:
    with acting_as(actor):
        rows = OutboxDelivery.objects.filter(owner_id=actor.owner_id, consumer=consumer).order_by("event_id")
        return list(rows.values_list("state", "attempts", "reason"))


def test_every_consumer_has_a_delivery_of_every_event(alice: Actor, listener: Listener, nudges: list[int]) -> None:
    add(alice, "One.", "Two.")
    assert count(alice, OutboxEvent) == 2
    assert deliveries(alice, "listener") == deliveries(alice, "statistics") == [("waiting", 0, "")] * 2


def test_events_hold_ids_and_numbers_and_no_text(alice: Actor, nudges: list[int]) -> None:
    add(alice, "A private text.")
    with acting_as(alice):
        payload = OutboxEvent.objects.get(owner_id=alice.owner_id).payload
    assert set(payload) == {"memory_id", "event", "memories", "terms"}


def test_the_nudge_comes_after_the_commit(alice: Actor, nudges: list[int]) -> None:
    with acting_as(alice):
        add(alice, "One.")
        assert nudges == []
    assert nudges == [alice.owner_id]


def test_nothing_is_nudged_after_a_rollback(alice: Actor, nudges: list[int]) -> None:
    def add_and_fail() -> None:
        with acting_as(alice):
            add(alice, "One.")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        add_and_fail()
    assert nudges == []
    assert count(alice, OutboxEvent) == 0
    add(alice, "Two.")
    assert nudges == [alice.owner_id]


def test_a_transaction_nudges_each_owner_once(alice: Actor, bob: Actor, nudges: list[int]) -> None:
    ids = [services.add(alice, NewMemory(f"Memory {n}.", namespace="team")).memory_id for n in range(20)]
    nudges.clear()
    valkey.client().flushdb()
    services.batch(alice, [Step("update", memory_id=one, changes={"tags": ["x"]}) for one in ids])
    assert nudges == [alice.owner_id]
    services.share(alice, grantee="bob", namespace="team", can_add=True)
    nudges.clear()
    valkey.client().flushdb()
    services.add_many(bob, [NewMemory("Mine."), NewMemory("Hers.", namespace="alice/team"), NewMemory("Mine too.")])
    assert sorted(nudges) == sorted([alice.owner_id, bob.owner_id])


def test_a_write_succeeds_quickly_without_its_broker(alice: Actor, dead_broker: None) -> None:
    started = time.perf_counter()
    with structlog.testing.capture_logs() as logs:
        ids = [services.add(alice, NewMemory(f"Memory {n}.")).memory_id for n in range(20)]
        services.batch(alice, [Step("update", memory_id=one, changes={"tags": ["x"]}) for one in ids])
    assert time.perf_counter() - started < 5
    warnings = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert sorted(warnings) == ["circuit_opened", *["valkey_failed"] * 3]
    assert deliveries(alice, "statistics") == [("waiting", 0, "")] * 40
    assert outbox.drain(alice.owner_id) == 40
    assert statistics(alice) == true_statistics(alice)


def test_a_drain_delivers_everything_in_order_and_once(alice: Actor, listener: Listener, nudges: list[int]) -> None:
    ids = [one for n in range(5) for one in add(alice, f"Memory {n}.")]
    assert outbox.drain(alice.owner_id) == 10
    assert listener.seen == ids
    assert deliveries(alice, "listener") == [("done", 0, "")] * 5
    assert outbox.drain(alice.owner_id) == 0
    assert listener.seen == ids


def test_more_than_a_batch_is_delivered_by_one_drain(alice: Actor, listener: Listener, nudges: list[int]) -> None:
    ids = add(alice, *(f"Memory {n}." for n in range(outbox.BATCH + 20)))
    outbox.drain(alice.owner_id)
    assert sorted(listener.seen) == sorted(ids)
    assert listener.batches == [outbox.BATCH, 20]
    assert statistics(alice) == true_statistics(alice)


def let_time_pass(actor: Actor, seconds: float) -> None:
    """Everything that is put off is due so much sooner."""
    with acting_as(actor):
        OutboxDelivery.objects.filter(owner_id=actor.owner_id, not_before__isnull=False).update(
            not_before=F("not_before") - timedelta(seconds=seconds)
        )


def bury(actor: Actor, listener: Listener, memory_id: str) -> None:
    """Fail the listener's event about this memory until it is dead."""
    listener.dislikes = memory_id
    for seconds in (*outbox.BACK_OFF_S, 0):
        outbox.drain(actor.owner_id)
        let_time_pass(actor, seconds)
    listener.dislikes = None


def test_a_bad_event_is_tried_eight_times_ever_later_and_keeps_its_place_until_then(
    alice: Actor, bob: Actor, listener: Listener, nudges: list[int]
) -> None:
    first, bad, last = add(alice, "First.") + add(alice, "Bad.") + add(alice, "Last.")
    (bobs,) = add(bob, "Bob's.")
    listener.dislikes = bad
    with structlog.testing.capture_logs() as logs:
        for attempt, seconds in enumerate(outbox.BACK_OFF_S, start=1):
            outbox.drain(alice.owner_id)
            assert listener.seen == [first]
            assert deliveries(alice, "listener")[1:] == [("waiting", attempt, "ValueError"), ("waiting", 0, "")]
            let_time_pass(alice, seconds - 1)
            tried = len(listener.batches)
            outbox.drain(alice.owner_id)
            assert len(listener.batches) == tried, "tried before its time"
            let_time_pass(alice, 1)
        assert deliveries(alice, "statistics") == [("done", 0, "")] * 3
        outbox.drain(alice.owner_id)
    assert deliveries(alice, "listener") == [("done", 0, ""), ("dead", 8, "ValueError"), ("waiting", 0, "")]
    outbox.drain(alice.owner_id)
    outbox.drain(bob.owner_id)
    assert listener.seen == [first, last, bobs]
    assert "private text" not in f"{logs}"
    assert not any(entry.get("exc_info") for entry in logs)


def test_a_consumer_that_is_away_for_a_while_loses_nothing(
    alice: Actor, bob: Actor, listener: Listener, nudges: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [one for n in range(3) for one in add(alice, f"Memory {n}.")]

    def away(owner_id: int, events: Sequence[OutboxEvent]) -> None:
        raise ConnectionError

    monkeypatch.setitem(outbox._consumers, "listener", away)
    for _ in range(20):  # one nudge for every write while it is away
        outbox.drain(alice.owner_id)
    assert deliveries(alice, "listener") == [("waiting", 1, "ConnectionError"), *[("waiting", 0, "")] * 2]
    ids += add(alice, "Later.")
    monkeypatch.setitem(outbox._consumers, "listener", listener)
    let_time_pass(alice, outbox.BACK_OFF_S[0])
    outbox.drain(alice.owner_id)
    assert listener.seen == ids
    assert [state for state, _, _ in deliveries(alice, "listener")] == ["done"] * 4


def test_good_events_before_a_bad_one_are_delivered_by_the_same_drain(
    alice: Actor, listener: Listener, nudges: list[int]
) -> None:
    ids = [one for n in range(6) for one in add(alice, f"Memory {n}.")]
    listener.dislikes = ids[4]
    outbox.drain(alice.owner_id)
    assert listener.seen == ids[:4]
    assert listener.batches == [6, 1, 1, 1, 1, 1]


def test_a_failure_that_only_the_commit_would_show_counts_as_one(
    alice: Actor, nudges: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_for_nobody(owner_id: int, events: Sequence[OutboxEvent]) -> None:
        with acting_as(Actor.system("test")):
            OutboxEvent.objects.create(owner_id=0, kind="for nobody")

    monkeypatch.setitem(outbox._consumers, "statistics", write_for_nobody)
    add(alice, "One.")
    outbox.drain(alice.owner_id)
    assert deliveries(alice, "statistics") == [("waiting", 1, "IntegrityError")]


def test_a_lost_connection_is_no_failure_of_the_event(
    alice: Actor, listener: Listener, nudges: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = add(alice, "One.")

    def break_off(owner_id: int, events: Sequence[OutboxEvent]) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setitem(outbox._consumers, "statistics", break_off)
    with structlog.testing.capture_logs() as logs:
        outbox.drain(alice.owner_id)
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"][:2] == [
        "outbox_batch_failed",
        "outbox_interrupted",
    ]
    assert deliveries(alice, "statistics") == [("waiting", 0, "")]
    outbox.drain(alice.owner_id)
    assert listener.seen == [one]


def test_a_consumer_may_want_some_kinds_only(
    alice: Actor, listener: Listener, nudges: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(outbox._kinds, "listener", frozenset({"other"}))
    add(alice, "One.")
    assert (deliveries(alice, "listener"), len(deliveries(alice, "statistics"))) == ([], 1)


def test_a_replayed_event_is_delivered_before_those_that_wait(
    alice: Actor, listener: Listener, nudges: list[int]
) -> None:
    bad, done = add(alice, "Bad.") + add(alice, "Done.")
    bury(alice, listener, bad)
    outbox.drain(alice.owner_id)
    assert listener.seen == [done]
    valkey.client().flushdb()
    nudges.clear()
    assert outbox.replay() == 1
    assert nudges == [alice.owner_id]
    assert deliveries(alice, "listener")[0] == ("waiting", 0, "")
    (new,) = add(alice, "New.")
    outbox.drain(alice.owner_id)
    assert listener.seen == [done, bad, new]
    assert outbox.replay() == 0


def test_the_command_shows_and_replays_by_consumer_and_owner(
    alice: Actor, bob: Actor, listener: Listener, nudges: list[int]
) -> None:
    def command(*words: str) -> str:
        out = io.StringIO()
        call_command("outbox", *words, stdout=out)
        return out.getvalue()

    assert command() == "Nothing waits, and nothing is dead.\n"
    for actor in (alice, bob):
        bury(actor, listener, add(actor, "Bad.")[0])
    add(bob, "Waits.")
    assert re.sub(r"\d+ s", "N s", command()).splitlines() == [
        "listener: 1 waiting, 2 dead, the oldest N s old (ValueError)",
        "statistics: 1 waiting, 0 dead, the oldest N s old",
    ]
    assert "listener: 0 waiting, 1 dead" in command("--owner", "alice")
    assert "0 dead deliveries" in command("--replay-dead", "--consumer", "statistics")
    assert "1 dead deliveries are tried again.\nlistener: 1 waiting, 0 dead" in command(
        "--replay-dead", "--owner", "alice"
    )
    assert deliveries(bob, "listener")[0][0] == "dead"
    with pytest.raises(CommandError, match="no user"):
        command("--owner", "nobody")


def test_what_a_failing_consumer_wrote_is_undone(
    alice: Actor, listener: Listener, nudges: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = outbox._consumers["statistics"]

    def fold_and_fail(owner_id: int, events: Sequence[OutboxEvent]) -> None:
        fold(owner_id, events)
        raise RuntimeError

    monkeypatch.setitem(outbox._consumers, "statistics", fold_and_fail)
    add(alice, "One.")
    outbox.drain(alice.owner_id)
    assert statistics(alice) == (0, 0)
    monkeypatch.setitem(outbox._consumers, "statistics", fold)
    let_time_pass(alice, outbox.BACK_OFF_S[0])
    outbox.drain(alice.owner_id)
    assert statistics(alice) == true_statistics(alice)


def test_several_drains_at_once_deliver_once_and_in_order(alice: Actor, listener: Listener, nudges: list[int]) -> None:
    ids = [one for n in range(30) for one in add(alice, f"Memory {n}.")]
    results = at_once([partial(outbox.drain, alice.owner_id)] * 6)
    assert sum(results) == 60
    assert listener.seen == ids
    assert statistics(alice) == true_statistics(alice)


def test_drains_beside_writers_lose_nothing(alice: Actor, nudges: list[int]) -> None:
    def write(writer: int) -> None:
        for n in range(10):
            add(alice, f"{writer}-{n}")

    def drain() -> None:
        for _ in range(10):
            outbox.drain(alice.owner_id)

    results = at_once([*(partial(write, writer) for writer in range(6)), drain, drain])
    assert [result for result in results if isinstance(result, Exception)] == []
    outbox.drain(alice.owner_id)
    assert statistics(alice) == true_statistics(alice)


def test_what_is_done_goes_after_an_hour_and_what_is_not_stays(
    alice: Actor, listener: Listener, nudges: list[int]
) -> None:
    bad, done, recent = (add(alice, text)[0] for text in ("Bad.", "Done.", "Recent."))
    bury(alice, listener, bad)
    outbox.drain(alice.owner_id)
    with acting_as(alice):
        old = OutboxEvent.objects.filter(payload__memory_id__in=[bad, done])
        assert old.update(created_at=timezone.now() - timedelta(hours=2)) == 2
    assert outbox.prune() > 0
    with acting_as(alice):
        left = OutboxEvent.objects.filter(owner_id=alice.owner_id).values_list("payload__memory_id", flat=True)
        assert set(left) == {bad, recent}
    assert len(deliveries(alice, "listener")) == 2


def test_drain_everything_finds_every_owner_with_work(
    alice: Actor, bob: Actor, charlie: Actor, nudges: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(alice, "One.")
    add(bob, "Two.")
    add(charlie, "Three.")
    outbox.drain(bob.owner_id)
    with acting_as(bob):
        # What is put off is no work yet.
        OutboxDelivery.objects.filter(owner_id=bob.owner_id).update(
            state="waiting", not_before=timezone.now() + timedelta(minutes=1)
        )
    asked: list[int] = []
    monkeypatch.setattr(tasks.drain_outbox, "delay", asked.append)
    tasks.drain_everything()
    assert sorted(asked) == sorted([alice.owner_id, charlie.owner_id])


def test_a_real_worker_drains_what_a_lost_nudge_has_left(service: RunningService) -> None:
    address = {"host": str(Home(service.home).postgres_socket_dir), "dbname": "mem0", "user": "mem0_owner"}
    with psycopg.connect(**address, autocommit=True) as owner:  # type: ignore[arg-type]
        owner.execute(
            "WITH event AS (INSERT INTO memories_outboxevent (id, owner_id, kind, payload, created_at)"
            " SELECT gen_random_uuid(), min(id), 'memory', '{}', now() FROM accounts_user RETURNING id, owner_id)"
            " INSERT INTO memories_outboxdelivery"
            " (id, owner_id, event_id, consumer, state, attempts, reason, updated_at)"
            " SELECT gen_random_uuid(), owner_id, id, 'statistics', 'waiting', 0, '', now() FROM event"
        )
        waiting = "SELECT count(*) FROM memories_outboxdelivery WHERE state = 'waiting'"
        deadline = time.monotonic() + 40
        while owner.execute(waiting).fetchone() != (0,):
            assert time.monotonic() < deadline, "nobody came for it"
            time.sleep(0.2)


def test_a_real_worker_drains_on_a_nudge(service: RunningService) -> None:
    with service.client() as client:
        for n in range(3):
            answer = client.post(
                "/api/v2/memories/", json={"content": f"Drained by a worker, {os.urandom(8).hex()} {n}"}
            )
            assert answer.status_code == 201, answer.text
    address = {"host": str(Home(service.home).postgres_socket_dir), "dbname": "mem0", "user": "mem0_owner"}
    waiting = "SELECT count(*), count(*) FILTER (WHERE state = 'waiting') FROM memories_outboxdelivery"
    deadline = time.monotonic() + 20
    with psycopg.connect(**address, autocommit=True) as owner:  # type: ignore[arg-type]
        while True:
            row = owner.execute(waiting).fetchone()
            assert row is not None
            if row[0] >= 3 and row[1] == 0:
                break
            assert time.monotonic() < deadline, f"{row[1]} deliveries still wait"
            time.sleep(0.05)
        folded = owner.execute("SELECT sum(memories) FROM memories_ownerstatistics").fetchone()
        stored = owner.execute("SELECT count(*) FROM memories_memory WHERE state <> 'deleted'").fetchone()
    assert folded == stored
