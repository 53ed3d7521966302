"""Feedback and what follows from it: through the service, and over HTTP."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.actors import Actor, acting_as
from mem0stack.lib.errors import InvalidArgument, NotFound, SecretDetected
from memories import services
from memories.api import shapes
from memories.models import Feedback, Memory, OutboxEvent
from memories.services import NewMemory
from tests.memories.reading import count, history, outbox_events, stored
from tests.rest import Caller, refusal

pytestmark = pytest.mark.django_db


@pytest.fixture
def tea(alice: Actor) -> Memory:
    return stored(alice, services.add(alice, NewMemory("I like tea in the morning.")).memory_id)


def test_wrong_rejects_and_is_said_once_in_history(alice: Actor, tea: Memory) -> None:
    newer = services.add(alice, NewMemory("I like coffee now."))
    services.update(alice, tea.id, {"superseded_by": newer.memory_id})
    for _ in range(2):
        services.give_feedback(alice, tea.id, "wrong", reason="It was never so.")
    after = stored(alice, tea.id)
    assert (after.standing, after.superseded_by_id, after.version) == ("rejected", None, 3)
    assert [entry.event for entry in history(alice, tea.id)] == ["ADD", "SUPERSEDE", "REJECT"]
    with acting_as(alice):
        said = list(Feedback.objects.filter(owner_id=alice.owner_id).values_list("verdict", "reason", "by__username"))
    assert said == [("wrong", "It was never so.", "alice")] * 2


def test_outdated_ends_validity_now(alice: Actor, tea: Memory) -> None:
    before = timezone.now()
    services.give_feedback(alice, tea.id, "outdated")
    after = stored(alice, tea.id)
    assert after.valid_to is not None
    assert before <= after.valid_to <= timezone.now()
    assert (after.standing, after.version) == ("current", 2)
    services.give_feedback(alice, tea.id, "outdated")
    assert stored(alice, tea.id).valid_to == after.valid_to
    entry = history(alice, tea.id)[-1]
    assert (entry.event, entry.before) == ("UPDATE", {"valid_to": None})
    assert datetime.fromisoformat((entry.after or {})["valid_to"]) == after.valid_to


def test_outdated_before_it_began_is_never_true(alice: Actor) -> None:
    now = timezone.now()
    begins, ends = now + timedelta(days=1), now + timedelta(days=9)
    one = services.add(alice, NewMemory("We will move.", valid_from=begins, valid_to=ends)).memory_id
    services.give_feedback(alice, one, "outdated")
    assert stored(alice, one).valid_to == begins


def test_useful_raises_quality_within_bounds_and_leaves_the_version(alice: Actor, tea: Memory) -> None:
    seen = []
    for _ in range(60):
        services.give_feedback(alice, tea.id, "useful")
        seen.append(stored(alice, tea.id).quality)
    assert seen[:3] == [0.6, 0.68, 0.744]
    assert seen == sorted(seen)
    assert seen[-1] <= 1
    assert stored(alice, tea.id).version == 1
    entry = history(alice, tea.id)[1]
    assert (entry.event, entry.before, entry.after) == ("UPDATE", {"quality": 0.5}, {"quality": 0.6})


def test_what_follows_is_in_the_outbox(alice: Actor, tea: Memory) -> None:
    services.give_feedback(alice, tea.id, "wrong")
    last = outbox_events(alice)[-1]
    assert last.payload == {"memory_id": str(tea.id), "event": "REJECT", "memories": 0, "terms": 0}


@pytest.mark.parametrize(
    ("verdict", "reason", "error"),
    [
        ("bad", "", InvalidArgument),
        ("wrong", "x" * 501, InvalidArgument),
        ("wrong", "a\x00b", InvalidArgument),
        ("wrong", "postgres://shop:hunter2Secret@db.example.com/shop", SecretDetected),
    ],
)
def test_what_is_refused_leaves_nothing(
    alice: Actor, tea: Memory, verdict: str, reason: str, error: type[Exception]
) -> None:
    events = count(alice, OutboxEvent)
    with pytest.raises(error):
        services.give_feedback(alice, tea.id, verdict, reason=reason)
    assert (count(alice, Feedback), count(alice, OutboxEvent)) == (0, events)
    assert stored(alice, tea.id).standing == "current"


def test_a_deleted_memory_takes_none(alice: Actor, tea: Memory) -> None:
    services.delete(alice, tea.id)
    with pytest.raises(NotFound):
        services.give_feedback(alice, tea.id, "useful")


# --- over HTTP


@pytest.mark.parametrize(
    ("verdict", "shown"),
    [("useful", {"quality": 0.6, "standing": "current"}), ("wrong", {"quality": 0.5, "standing": "rejected"})],
)
def test_the_reply_shows_what_became_of_the_memory(verdict: str, shown: dict[str, Any]) -> None:
    alice = Caller("alice")
    made = alice.remember("I like tea in the morning.")
    reply = alice.post(f"memories/{made['id']}/feedback/", {"verdict": verdict, "reason": "Because."})
    assert reply.status_code == 201
    body = reply.json()
    assert set(body) == set(shapes.FeedbackReply().fields)
    assert (body["verdict"], body["memory"]["id"]) == (verdict, made["id"])
    assert {name: body["memory"][name] for name in shown} == shown


@pytest.mark.parametrize("verdict", ["wrong", "outdated"])
def test_what_does_not_hold_is_found_no_more(verdict: str) -> None:
    alice = Caller("alice")
    made = alice.remember("I like tea in the morning.")
    alice.post(f"memories/{made['id']}/feedback/", {"verdict": verdict})
    assert alice.post("search/", {"query": "tea"}).json()["results"] == []


def test_the_same_key_says_it_once() -> None:
    alice = Caller("alice")
    path = f"memories/{alice.remember('I like tea in the morning.')['id']}/feedback/"
    first, again = (alice.post(path, {"verdict": "useful"}, Idempotency_Key="k") for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert again.json()["memory"]["quality"] == 0.6
    refusal(alice.post(path, {"verdict": "wrong", "idempotency_key": "k"}), 409, "conflict")


def test_a_reader_gives_none_and_a_key_needs_its_scope() -> None:
    alice, bob = Caller("alice"), Caller("bob")
    made = alice.remember("I like tea in the morning.", namespace="team")
    alice.post("shares/", {"grantee": "bob", "namespace": "team", "can_add": True})
    path = f"memories/{made['id']}/feedback/"
    refusal(bob.post(path, {"verdict": "wrong"}), 403, "forbidden")
    refusal(Caller(alice.user, scopes=["read"]).post(path, {"verdict": "wrong"}), 403, "forbidden")
    assert alice.get(f"memories/{made['id']}/").json()["standing"] == "current"


@pytest.mark.parametrize(
    "body", [{}, {"verdict": "fine"}, {"verdict": "wrong", "reason": 5}, {"verdict": "wrong", "because": "x"}]
)
def test_what_cannot_be_read_is_refused(body: dict[str, Any]) -> None:
    alice = Caller("alice")
    made = alice.remember("I like tea in the morning.")
    refusal(alice.post(f"memories/{made['id']}/feedback/", body), 400, "invalid_argument")
