"""Operations over HTTP: what goes on after a reply."""

import time
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from accounts.actors import Actor, acting_as
from memories import outbox
from memories.api import shapes
from memories.models import Memory, Operation, OutboxDelivery
from tests.memories.reading import count
from tests.rest import Caller, refusal
from tests.running import RunningService

pytestmark = pytest.mark.django_db

SAID = [{"role": "user", "content": "I moved to Berlin."}, {"role": "assistant", "content": "Noted."}]


@pytest.fixture
def alice(db: None) -> Caller:
    return Caller("alice")


def drain(caller: Caller) -> None:
    outbox.drain(caller.user.pk)


def operation(caller: Caller, operation_id: str) -> dict[str, Any]:
    reply = caller.get(f"operations/{operation_id}/")
    assert reply.status_code == 200, reply.content
    found: dict[str, Any] = reply.json()
    return found


@pytest.mark.parametrize("body", [{"content": "I moved to Berlin."}, {"messages": SAID}], ids=["content", "messages"])
def test_without_a_model_the_source_is_stored_and_the_operation_is_skipped(alice: Caller, body: dict[str, Any]) -> None:
    reply = alice.post("memories/", body | {"infer": True})
    assert reply.status_code == 201
    began = operation(alice, reply.json()["operation"])
    assert set(began) == set(shapes.OperationReply().fields)
    assert (began["kind"], began["state"], began["error"], began["result"]) == ("extract", "waiting", None, None)
    assert alice.post("search/", {"query": "Berlin"}).json()["results"], "stored and found before anything else"
    drain(alice)
    ended = operation(alice, began["id"])
    assert (ended["state"], ended["error"], ended["result"]) == ("skipped", "no_model", None)
    assert ended["updated_at"] > began["updated_at"]


@pytest.mark.parametrize("infer", [{}, {"infer": False}])
@pytest.mark.parametrize("body", [{"content": "One."}, {"messages": SAID}], ids=["content", "messages"])
def test_nothing_goes_on_unless_asked(alice: Caller, body: dict[str, Any], infer: dict[str, Any]) -> None:
    assert alice.post("memories/", body | infer).json()["operation"] is None
    assert alice.get("operations/").json()["results"] == []


def test_what_is_known_can_still_be_inferred_from(alice: Caller) -> None:
    alice.remember("One.")
    again = alice.post("memories/", {"content": "One.", "infer": True})
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    assert operation(alice, again.json()["operation"])["state"] == "waiting"


@pytest.mark.parametrize("body", [{"content": "One."}, {"messages": SAID}], ids=["content", "messages"])
def test_the_same_key_names_the_same_operation(alice: Caller, body: dict[str, Any]) -> None:
    sent = body | {"infer": True, "idempotency_key": "k"}
    first, again = (alice.post("memories/", sent).json() for _ in range(2))
    assert first["operation"] == again["operation"] is not None
    assert len(alice.get("operations/").json()["results"]) == 1
    refusal(alice.post("memories/", sent | {"infer": False}), 409, "conflict")


def test_a_write_that_is_refused_begins_nothing(alice: Caller) -> None:
    secret = "the key is AKIA" + "IOSFODNN7EXAMPLE".replace("EXAMPLE", "QWERTYU")
    refusal(alice.post("memories/", {"content": secret[:31], "infer": True}), 422, "secret_detected")
    refusal(alice.post("memories/", {"content": "One.", "infer": True, "namespace": "*"}), 400, "invalid_argument")
    actor = Actor.of(alice.user, door="rest")
    assert (count(actor, Operation), count(actor, Memory)) == (0, 0)


def test_operations_are_listed_by_state_in_pages(alice: Caller) -> None:
    ids = [alice.remember(f"Number {n}.", infer=True)["operation"] for n in range(3)]
    drain(alice)
    ids.append(alice.remember("Number 4.", infer=True)["operation"])

    def listed(**params: Any) -> list[str]:
        return [row["id"] for row in alice.get("operations/", params).json()["results"]]

    assert listed() == ids[::-1]
    assert listed(state="skipped") == ids[2::-1]
    assert listed(state=["skipped", "waiting"], order="created_at") == ids
    assert listed(state="failed") == []
    first = alice.get("operations/", {"page_size": 3}).json()
    second = alice.get(first["next"]).json()
    assert [row["id"] for row in first["results"] + second["results"]] == ids[::-1]
    refusal(alice.get("operations/", {"state": "finished"}), 400, "invalid_argument")
    refusal(alice.get("operations/", {"kind": "extract"}), 400, "invalid_argument")
    refusal(alice.get(f"operations/{uuid7()}/"), 404, "not_found")


def test_an_operation_belongs_to_who_asked_also_in_anothers_space(alice: Caller) -> None:
    bob = Caller("bob")
    alice.remember("Hers.", namespace="team")
    alice.post("shares/", {"grantee": "bob", "namespace": "team", "can_add": True})
    made = bob.post("memories/", {"content": "For the team.", "namespace": "alice/team", "infer": True}).json()
    assert made["owner"] == "alice"
    assert operation(bob, made["operation"])["state"] == "waiting"
    assert alice.get("operations/").json()["results"] == []


def test_a_real_worker_ends_an_operation(service: RunningService) -> None:
    with service.client() as client:
        made = client.post("/api/v2/memories/", json={"content": f"Inferred {uuid7()}.", "infer": True}).json()
        deadline = time.monotonic() + 20
        while (row := client.get(f"/api/v2/operations/{made['operation']}/").json())["state"] == "waiting":
            assert time.monotonic() < deadline, "nobody took it up"
            time.sleep(0.05)
    assert (row["state"], row["error"]) == ("skipped", "no_model")


def test_only_operations_have_deliveries_for_the_consumer_of_operations(alice: Caller) -> None:
    alice.remember("Plain.")
    alice.remember("To be inferred from.", infer=True)
    actor = Actor.of(alice.user, door="rest")
    with acting_as(actor):
        rows = OutboxDelivery.objects.filter(owner_id=actor.owner_id)
        assert sorted(rows.values_list("consumer", flat=True)) == ["operations", "statistics", "statistics"]
        payload = rows.get(consumer="operations").event.payload
    assert set(payload) == {"operation_id"}
