"""Memories over REST v2: adding, listing, changing, deleting, in the shapes that are documented."""

from typing import Any

import pytest
from django.utils import timezone

from accounts.actors import Actor, acting_as
from memories.api import shapes
from memories.models import Memory
from tests.rest import Caller, refusal

pytestmark = pytest.mark.django_db

UNKNOWN = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
def alice() -> Caller:
    return Caller("alice")


@pytest.fixture
def bob() -> Caller:
    return Caller("bob")


def keys_of(shape: type[Any], *without: str) -> set[str]:
    return set(shape().fields) - set(without)


FULL = {
    "content": "Alice prefers green tea over coffee.",
    "kind": "preference",
    "metadata": {"source": "chat", "n": 1, "deep": {"a": [1, 2.5, None, True]}},
    "tags": ["Tea", "drinks"],
    "categories": ["Taste"],
    "namespace": "github.com/alice/tea",
    "app": "cursor",
    "user_id": "alice",
    "agent_id": "planner",
    "run_id": "r1",
    "seq": 3,
    "speaker": "Alice",
    "event_at": "2026-01-02T03:04:05Z",
    "valid_from": "2026-01-01T00:00:00+01:00",
    "valid_to": "2999-01-01T00:00:00Z",
    "expires_at": "2999-01-01T00:00:00Z",
    "pinned": True,
}

# Adding --------------------------------------------------------------------------------------------------------------


def test_adding_a_memory_answers_201_with_the_memory_as_documented(alice: Caller) -> None:
    reply = alice.post("memories/", {"content": "The build runs on Debian."})

    assert reply.status_code == 201
    assert reply["Content-Type"] == "application/json"
    body = reply.json()
    assert set(body) == keys_of(shapes.AddedReply) - {"duplicate"}
    assert body["operation"] is None
    assert (body["content"], body["kind"], body["namespace"]) == ("The build runs on Debian.", "fact", "personal")
    assert (body["owner"], body["written_by"], body["version"]) == ("alice", "alice", 1)
    assert body["short_id"] == body["id"].replace("-", "")[-8:]


def test_every_field_of_a_memory_comes_back_as_it_was_given(alice: Caller) -> None:
    body = alice.remember(**FULL)

    stored = FULL | {"tags": ["tea", "drinks"], "categories": ["taste"], "valid_from": "2025-12-31T23:00:00Z"}
    assert {name: body[name] for name in stored} == stored
    assert alice.get(f"memories/{body['id']}/").json() | {"operation": None} == body


def test_fields_that_may_be_null_may_be_sent_as_null(alice: Caller) -> None:
    names = ["user_id", "agent_id", "run_id", "seq", "speaker", "event_at", "valid_from", "valid_to", "expires_at"]

    body = alice.remember("Nulls say nothing.", **dict.fromkeys(names))

    assert {body[name] for name in names if name != "event_at"} == {None}


def test_the_same_memory_again_is_200_with_the_existing_one_marked_duplicate(alice: Caller) -> None:
    first = alice.remember("The port is 8000.", tags=["a"])

    again = alice.post("memories/", {"content": "  The port\nis 8000. ", "tags": ["b"]})

    assert again.status_code == 200
    assert set(again.json()) == keys_of(shapes.AddedReply)
    assert again.json()["duplicate"] is True
    assert (again.json()["id"], again.json()["tags"]) == (first["id"], ["a", "b"])


def test_messages_become_one_memory_each_without_the_system_ones(alice: Caller) -> None:
    reply = alice.post(
        "memories/",
        {
            "messages": [
                {"role": "system", "content": "You are helpful."},
                {"role": "user", "content": "yes", "name": "Ann"},
                {"role": "assistant", "content": "yes"},
                {"role": "tool", "content": "42"},
            ],
            "run_id": "r9",
            "user_id": "ann",
            "tags": ["chat"],
            "infer": True,
        },
    )

    assert reply.status_code == 201
    body = reply.json()
    assert set(body) == keys_of(shapes.MessagesReply)
    assert alice.get(f"operations/{body['operation']}/").json()["state"] == "waiting"
    assert [set(row) for row in body["results"]] == [keys_of(shapes.WrittenReply)] * 3
    rows = [alice.get(f"memories/{row['id']}/").json() for row in body["results"]]
    assert [(row["seq"], row["speaker"], row["content"]) for row in rows] == [
        (0, "Ann", "yes"),
        (1, "assistant", "yes"),
        (2, "tool", "42"),
    ]
    assert {(row["kind"], row["run_id"], row["user_id"], tuple(row["tags"])) for row in rows} == {
        ("message", "r9", "ann", ("chat",))
    }


def test_messages_without_a_run_can_be_sent_again_under_their_key(alice: Caller) -> None:
    said = {"messages": [{"role": "user", "content": word} for word in "ab"], "idempotency_key": "k"}

    first, again = alice.post("memories/", said), alice.post("memories/", said)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert len(alice.listed()) == 2


def test_messages_without_a_run_share_a_new_one(alice: Caller) -> None:
    results = alice.post("memories/", {"messages": [{"role": "user", "content": word} for word in "ab"]}).json()

    runs = {alice.get(f"memories/{row['id']}/").json()["run_id"] for row in results["results"]}
    assert len(runs) == 1
    assert None not in runs


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"content": "a", "messages": [{"role": "user", "content": "b"}]}, None),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "only"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "b"}], "kind": "fact"}, "kind"),
        ({"messages": [{"role": "user", "content": "b"}], "seq": 1}, "seq"),
        ({"messages": [{"role": "user", "content": "b"}], "speaker": "x"}, "speaker"),
        ({"content": "a", "seq": 1}, "run_id"),
        ({"content": "a", "valid_from": "2026-02-01T00:00:00Z", "valid_to": "2026-01-01T00:00:00Z"}, "valid_to"),
    ],
)
def test_what_does_not_go_together_is_refused(alice: Caller, body: Any, field: str | None) -> None:
    errors = refusal(alice.post("memories/", body), 400, "invalid_argument").get("errors", {})

    assert field is None or field in errors


def test_a_secret_is_refused_with_its_kind_and_place_and_stored_when_allowed(alice: Caller) -> None:
    text = "The token is ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dF3gH6"

    body = refusal(alice.post("memories/", {"content": text}), 422, "secret_detected")

    assert body["errors"]["content"][0].keys() == {"kind", "offset"}
    assert "ghp_" not in str(body)
    assert alice.post("memories/", {"content": text, "allow_secret": True}).status_code == 201


# Idempotency ---------------------------------------------------------------------------------------------------------


def test_an_idempotency_key_in_the_body_or_the_header_answers_again_without_writing_again(alice: Caller) -> None:
    message = {"content": "yes", "kind": "message", "run_id": "r"}

    by_field = [alice.post("memories/", message | {"idempotency_key": "one"}) for _ in range(2)]
    by_header = alice.post("memories/", message, Idempotency_Key="one")
    both = alice.post("memories/", message | {"idempotency_key": "one"}, Idempotency_Key="one")

    assert {reply.status_code for reply in (*by_field, by_header, both)} == {201}
    assert len({reply.json()["id"] for reply in (*by_field, by_header, both)}) == 1
    assert alice.listed() == ["yes"]


def test_a_field_and_a_header_that_differ_are_refused(alice: Caller) -> None:
    body = {"content": "yes", "idempotency_key": "one"}

    assert "differ" in refusal(alice.post("memories/", body, Idempotency_Key="two"), 400, "invalid_argument")["detail"]


def test_an_idempotency_key_with_another_body_is_409(alice: Caller) -> None:
    alice.post("memories/", {"content": "one", "idempotency_key": "k"})

    refusal(alice.post("memories/", {"content": "two", "idempotency_key": "k"}), 409, "conflict")


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb"])
def test_an_idempotency_key_that_is_none_is_refused(alice: Caller, key: str) -> None:
    refusal(alice.post("memories/", {"content": "one", "idempotency_key": key}), 400, "invalid_argument")
    refusal(alice.post("memories/", {"content": "one"}, Idempotency_Key=key), 400, "invalid_argument")


def test_every_other_write_takes_an_idempotency_key_too(alice: Caller) -> None:
    memory = alice.remember("Once.")
    path = f"memories/{memory['id']}/"

    changed = [alice.patch(path, {"content": "Twice."}, Idempotency_Key="p") for _ in range(2)]
    deleted = [alice.delete(path, Idempotency_Key="d") for _ in range(2)]
    restored = [alice.post(path + "restore/", Idempotency_Key="r") for _ in range(2)]
    batch = {"operations": [{"op": "update", "id": memory["id"], "content": "Thrice."}], "idempotency_key": "b"}
    batched = [alice.post("memories/batch/", batch) for _ in range(2)]

    assert {reply.status_code for reply in (*changed, *deleted, *restored, *batched)} == {200}
    assert alice.get(path).json()["version"] == 5


# Changing ------------------------------------------------------------------------------------------------------------


def test_a_change_touches_the_given_fields_alone_and_raises_the_version(alice: Caller) -> None:
    memory = alice.remember(**FULL)

    reply = alice.patch(f"memories/{memory['id']}/", {"content": "Alice prefers black tea."})

    assert reply.status_code == 200
    body = reply.json()
    assert set(body) == keys_of(shapes.MemoryReply)
    assert {name for name in body if body[name] != memory[name]} == {"content", "version", "updated_at"}
    assert body["version"] == 2


def test_null_takes_a_value_away(alice: Caller) -> None:
    path = f"memories/{alice.remember(**FULL)['id']}/"
    names = ["speaker", "valid_from", "valid_to", "expires_at"]

    body = alice.patch(path, dict.fromkeys(names)).json()

    assert [body[name] for name in names] == [None] * 4


@pytest.mark.parametrize(
    "name", ["content", "kind", "metadata", "tags", "categories", "namespace", "event_at", "pinned", "state"]
)
def test_null_is_refused_for_what_cannot_be_without_a_value(alice: Caller, name: str) -> None:
    path = f"memories/{alice.remember('Something.')['id']}/"

    assert name in refusal(alice.patch(path, {name: None}), 400, "invalid_argument")["errors"]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"kind": "decision"}, {"kind": "decision"}),
        ({"metadata": {"a": [1]}}, {"metadata": {"a": [1]}}),
        ({"tags": ["X"]}, {"tags": ["x"]}),
        ({"tags": []}, {"tags": []}),
        ({"categories": ["B", "a"]}, {"categories": ["a", "b"]}),
        ({"namespace": "git@github.com:a/b.git"}, {"namespace": "github.com/a/b"}),
        ({"event_at": "2026-01-01T00:00:00Z"}, {"event_at": "2026-01-01T00:00:00Z"}),
        ({"pinned": True}, {"pinned": True}),
        ({"state": "paused"}, {"state": "paused"}),
        ({"standing": "rejected"}, {"standing": "rejected"}),
    ],
    ids=lambda value: next(iter(value)),
)
def test_each_field_can_be_changed(alice: Caller, changes: Any, shown: Any) -> None:
    path = f"memories/{alice.remember('Something.')['id']}/"

    assert alice.patch(path, changes).status_code == 200
    assert alice.get(path).json().items() >= shown.items()


def test_a_successor_makes_a_memory_superseded(alice: Caller) -> None:
    old, new = alice.remember("Port 8000."), alice.remember("Port 9000.")

    body = alice.patch(f"memories/{old['id']}/", {"superseded_by": new["id"]}).json()

    assert (body["standing"], body["superseded_by"]) == ("superseded", new["id"])


def test_an_expected_version_that_is_past_is_409_with_the_present_one(alice: Caller) -> None:
    path = f"memories/{alice.remember('First.')['id']}/"
    assert alice.patch(path, {"content": "Second.", "expected_version": 1}).status_code == 200

    stale = refusal(alice.patch(path, {"content": "Third.", "expected_version": 1}), 409, "conflict")
    on_delete = refusal(alice.delete(path + "?expected_version=1"), 409, "conflict")

    assert stale["errors"] == on_delete["errors"] == {"version": 2, "content": "Second."}
    assert alice.delete(path + "?expected_version=2").status_code == 200


def test_an_empty_change_and_unknown_memories_are_refused(alice: Caller, bob: Caller) -> None:
    path = f"memories/{alice.remember('Mine.')['id']}/"

    refusal(alice.patch(path, {}), 400, "invalid_argument")
    refusal(alice.patch(path, {"expected_version": 1}), 400, "invalid_argument")
    for caller, some in ((alice, f"memories/{UNKNOWN}/"), (bob, path)):
        refusal(caller.get(some), 404, "not_found")
        refusal(caller.patch(some, {"content": "x"}), 404, "not_found")
        refusal(caller.delete(some), 404, "not_found")
        refusal(caller.post(some + "restore/"), 404, "not_found")
        refusal(caller.get(some + "history/"), 404, "not_found")


def test_a_change_into_what_another_memory_says_is_409(alice: Caller) -> None:
    alice.remember("One.")
    path = f"memories/{alice.remember('Two.')['id']}/"

    refusal(alice.patch(path, {"content": "One."}), 409, "conflict")


def test_a_fact_cannot_become_a_message_without_a_run(alice: Caller) -> None:
    path = f"memories/{alice.remember('One.')['id']}/"

    body = refusal(alice.patch(path, {"kind": "message"}), 400, "invalid_argument")

    assert "kind" in body["errors"]


# Deleting, restoring, history ----------------------------------------------------------------------------------------


def test_deleting_answers_200_with_json_and_restoring_brings_it_back(alice: Caller) -> None:
    memory = alice.remember("Here.")
    path = f"memories/{memory['id']}/"

    gone = alice.delete(path)

    assert (gone.status_code, gone.json()) == (200, {"id": memory["id"], "event": "DELETE"})
    assert set(gone.json()) == keys_of(shapes.WrittenReply)
    refusal(alice.get(path), 404, "not_found")
    refusal(alice.delete(path), 404, "not_found")
    back = alice.post(path + "restore/")
    assert back.status_code == 200
    assert set(back.json()) == keys_of(shapes.MemoryReply)
    assert (back.json()["state"], back.json()["deleted_at"]) == ("active", None)
    refusal(alice.post(path + "restore/"), 409, "conflict")


def test_restoring_into_a_taken_place_is_409(alice: Caller) -> None:
    first = alice.remember("Same.")
    alice.delete(f"memories/{first['id']}/")
    alice.remember("Same.")

    refusal(alice.post(f"memories/{first['id']}/restore/"), 409, "conflict")


def test_history_tells_every_change_newest_first_and_pages(alice: Caller) -> None:
    path = f"memories/{alice.remember('One.')['id']}/"
    alice.patch(path, {"content": "Two."})
    alice.delete(path)
    alice.post(path + "restore/")

    body = alice.get(path + "history/").json()

    assert set(body) == {"next", "previous", "results"}
    assert [row["event"] for row in body["results"]] == ["RESTORE", "DELETE", "UPDATE", "ADD"]
    assert all(set(row) == keys_of(shapes.HistoryReply) for row in body["results"])
    change = body["results"][2]
    assert (change["before"], change["after"]) == ({"content": "One."}, {"content": "Two."})
    assert (change["by"], change["door"], change["version"]) == ("alice", "rest", 2)
    paged, url = [], path + "history/?page_size=1&order=created_at"
    while url:
        page = alice.get(url).json()
        paged += page["results"]
        url = page["next"]
    assert [row["event"] for row in paged] == ["ADD", "UPDATE", "DELETE", "RESTORE"]


def test_the_history_of_a_shared_memory_is_for_its_owner_alone(alice: Caller, bob: Caller) -> None:
    memory = alice.remember("Shared.")
    alice.post("shares/", {"grantee": "bob", "memory": memory["id"]})

    assert bob.get(f"memories/{memory['id']}/").status_code == 200
    refusal(bob.get(f"memories/{memory['id']}/history/"), 403, "forbidden")
    refusal(bob.patch(f"memories/{memory['id']}/", {"content": "Bob's."}), 403, "forbidden")
    refusal(bob.delete(f"memories/{memory['id']}/"), 403, "forbidden")


# Deleting many -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["", "dry_run=true", "all=false", "user=ann", "all=true&q=x", "user_id=", "namespace=%20", "all=yes"]
)
def test_deleting_many_without_a_scope_or_with_an_unknown_one_is_refused(alice: Caller, query: str) -> None:
    alice.remember("Stays.")

    refusal(alice.delete(f"memories/?{query}"), 400, "invalid_argument")

    assert alice.listed() == ["Stays."]


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("user_id=u1", ["b", "c", "d"]),
        ("agent_id=a1", ["a", "c", "d"]),
        ("run_id=r1", ["a", "b", "d"]),
        ("namespace=n1", ["a", "b", "c"]),
        ("namespace=none", ["a", "b", "c", "d"]),
        ("user_id=u1&agent_id=a1", ["a", "b", "c", "d"]),
        ("all=true", []),
    ],
)
def test_deleting_many_deletes_the_scope_and_says_how_many(alice: Caller, query: str, left: list[str]) -> None:
    alice.remember("a", user_id="u1")
    alice.remember("b", agent_id="a1")
    alice.remember("c", run_id="r1")
    alice.remember("d", namespace="n1")

    counted = alice.delete(f"memories/?{query}&dry_run=true").json()
    assert len(alice.listed()) == 4
    reply = alice.delete(f"memories/?{query}")

    assert set(reply.json()) == keys_of(shapes.DeletedReply)
    assert counted == {"deleted": 4 - len(left), "dry_run": True}
    assert (reply.status_code, reply.json()) == (200, {"deleted": 4 - len(left), "dry_run": False})
    assert sorted(alice.listed()) == left


def test_a_key_limited_to_namespaces_deletes_all_of_those_alone(alice: Caller) -> None:
    alice.remember("here", namespace="n1")
    alice.remember("there", namespace="n2")

    limited = Caller(alice.user, namespaces=["n1"])

    assert limited.delete("memories/?all=true").json()["deleted"] == 1
    assert alice.listed() == ["there"]


# Batches -------------------------------------------------------------------------------------------------------------


def test_a_batch_adds_changes_and_deletes_in_order(alice: Caller) -> None:
    old, other = alice.remember("Old."), alice.remember("Other.")

    reply = alice.post(
        "memories/batch/",
        {
            "operations": [
                {"op": "add", "content": "New.", "tags": ["t"]},
                {"op": "update", "id": old["id"], "content": "Changed.", "expected_version": 1},
                {"op": "delete", "id": other["id"]},
                {"op": "add", "content": "New."},
            ]
        },
    )

    assert reply.status_code == 200
    body = reply.json()
    assert set(body) == keys_of(shapes.BatchReply)
    assert (body["written"], body["refused"]) == (4, 0)
    assert [row["event"] for row in body["results"]] == ["ADD", "UPDATE", "DELETE", "CONFIRM"]
    assert body["results"][0]["id"] == body["results"][3]["id"]
    assert sorted(alice.listed()) == ["Changed.", "New."]


def test_a_batch_that_is_partly_wrong_writes_the_rest_and_says_why_not(alice: Caller) -> None:
    memory = alice.remember("Old.")

    body = alice.post(
        "memories/batch/",
        {
            "operations": [
                {"op": "add", "content": "Good."},
                {"op": "add", "content": 5},
                {"op": "add", "content": "x", "tags": ["a", 7]},
                {"op": "add", "content": "x", "colour": "red"},
                {"op": "explode"},
                {},
                {"op": "delete", "id": UNKNOWN},
                {"op": "update", "id": memory["id"], "content": "No.", "expected_version": 9},
                {"op": "update", "id": memory["id"]},
                {"op": "delete", "id": "nonsense"},
            ]
        },
    ).json()

    assert (body["written"], body["refused"]) == (1, 9)
    assert all(set(row) <= keys_of(shapes.OutcomeReply) for row in body["results"])
    assert body["results"][0]["event"] == "ADD"
    codes = [row["error"]["code"] for row in body["results"][1:]]
    assert codes == ["invalid_argument"] * 5 + ["not_found", "conflict", "invalid_argument", "invalid_argument"]
    for row in body["results"][1:]:
        assert "ErrorDetail" not in row["error"]["detail"]
    assert "tags[1]" in body["results"][2]["error"]["detail"]


def test_an_atomic_batch_writes_all_or_nothing(alice: Caller) -> None:
    operations = [{"op": "add", "content": "Good."}, {"op": "delete", "id": UNKNOWN}]

    body = refusal(alice.post("memories/batch/", {"operations": operations, "atomic": True}), 404, "not_found")

    assert "Operation 1" in body["detail"]
    assert alice.listed() == []
    operations[1] = {"op": "add", "content": 5}
    refusal(alice.post("memories/batch/", {"operations": operations, "atomic": True}), 422, "invalid_argument")
    assert alice.listed() == []


def test_a_batch_in_which_nothing_is_valid_is_422_with_every_reason(alice: Caller) -> None:
    shapeless = [{"op": "add"}, {"op": "delete", "id": 5}]
    unknown = [{"op": "delete", "id": UNKNOWN}, {"op": "update", "id": UNKNOWN, "content": "x"}]

    for operations in (shapeless, unknown, shapeless + unknown):
        body = refusal(alice.post("memories/batch/", {"operations": operations}), 422, "invalid_argument")
        assert set(body["errors"]) == {str(place) for place in range(len(operations))}
        assert all(set(reason) == {"code", "detail"} for reason in body["errors"].values())


def test_a_batch_takes_1000_operations_and_no_more(alice: Caller) -> None:
    operations = [{"op": "add", "content": f"Memory number {place}."} for place in range(1001)]

    body = alice.post("memories/batch/", {"operations": operations[:1000]}).json()

    assert (body["written"], len({row["id"] for row in body["results"]})) == (1000, 1000)
    refusal(alice.post("memories/batch/", {"operations": operations}), 400, "invalid_argument")
    refusal(alice.post("memories/batch/", {"operations": []}), 400, "invalid_argument")


# Numbers that JSON can hold and Python's and PostgreSQL's readers see differently -------------------------------------


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**64 - 1, 1.5e-300, 0.1, -0.0, 1e15], ids=str)
def test_numbers_in_metadata_come_back_as_they_went_in(alice: Caller, number: float) -> None:
    memory = alice.remember("A number.", metadata={"n": number})

    assert alice.get(f"memories/{memory['id']}/").json()["metadata"] == {"n": number}
    assert alice.patch(f"memories/{memory['id']}/", {"metadata": {"n": 1}}).status_code == 200
    assert alice.get(f"memories/{memory['id']}/history/").status_code == 200


@pytest.mark.parametrize("raw", [b"1e30", b"-1e19", b"123456789012345678901234567890", b"1e308"])
def test_a_whole_number_past_64_bits_is_refused_in_metadata(alice: Caller, raw: bytes) -> None:
    reply = alice.request("POST", "memories/", raw=b'{"content": "Huge.", "metadata": {"a": [' + raw + b"]}}")

    assert "metadata" in refusal(reply, 400, "invalid_argument")["errors"]


# Listing -------------------------------------------------------------------------------------------------------------


def test_a_list_is_a_page_of_memories_newest_first(alice: Caller) -> None:
    for word in ("one", "two", "three"):
        alice.remember(word)

    body = alice.get("memories/").json()

    assert set(body) == {"next", "previous", "results"}
    assert (body["next"], body["previous"]) == (None, None)
    assert [row["content"] for row in body["results"]] == ["three", "two", "one"]
    assert all(set(row) == keys_of(shapes.MemoryReply) for row in body["results"])


@pytest.fixture
def two(alice: Caller) -> Caller:
    """With one memory that has a value for everything and one that has none."""
    alice.remember(**FULL)
    other = alice.remember("Bare.", event_at="2026-06-01T00:00:00Z")
    alice.patch(f"memories/{other['id']}/", {"standing": "superseded", "valid_to": None})
    return alice


@pytest.mark.parametrize(
    "params",
    [
        {"namespace": "github.com/alice/tea"},
        {"namespace": "https://github.com/alice/tea.git"},
        {"app": "cursor"},
        {"user_id": "alice"},
        {"user_id": "*"},
        {"agent_id": "planner"},
        {"run_id": "r1"},
        {"run_id": ["r0", "r1"]},
        {"speaker": "Alice"},
        {"kind": "preference"},
        {"kind": ["preference", "decision"]},
        {"state": "active", "q": "tea"},
        {"standing": "current"},
        {"tags": "tea"},
        {"tags": "TEA"},
        {"tags": ["tea", "drinks"]},
        {"categories": "taste"},
        {"q": "GREEN tea"},
        {"pinned": "true"},
        {"seq": "3"},
        {"seq__gte": "3"},
        {"seq__lt": "4"},
        {"version": "1"},
        {"version__lt": "2"},
        {"importance__gt": "0.6"},
        {"confidence__gte": "0.1", "seq": "3"},
        {"quality__lte": "1", "seq": "3"},
        {"event_at__lt": "2026-02-01"},
        {"event_at__lte": "2026-01-02"},
        {"event_at__gte": "2026-01-02T03:04:05Z", "event_at__lte": "2026-01-02T03:04:05Z"},
        {"valid_from__lte": "2026-01-01"},
        {"valid_to__gt": "2026-01-01"},
        {"expires_at__gt": "2026-01-01"},
        {"created_at__gte": "2020-01-01", "tags": "tea"},
        {"updated_at__gte": "2020-01-01T00:00:00+02:00", "tags": "tea"},
        {"metadata.source": "chat"},
        {"metadata.source": "*"},
        {"metadata.n": "1"},
    ],
    ids=lambda params: "&".join(f"{name}={value}" for name, value in params.items()),
)
def test_each_filter_keeps_what_fits_it(two: Caller, params: Any) -> None:
    assert two.listed(**params) == [FULL["content"]]


@pytest.mark.parametrize(
    "params",
    [
        {"namespace": "personal"},
        {"pinned": "false"},
        {"standing": "superseded"},
        {"version__gt": "1"},
        {"event_at__gt": "2026-01-02"},
        {"importance__lt": "0.6"},
        {"q": "bare"},
    ],
    ids=lambda params: "&".join(f"{name}={value}" for name, value in params.items()),
)
def test_each_filter_also_keeps_what_is_on_the_other_side(two: Caller, params: Any) -> None:
    assert two.listed(**params) == ["Bare."]


@pytest.mark.parametrize(
    "params",
    [
        {"user_id": "bob"},
        {"tags": ["tea", "coffee"]},
        {"q": "50%"},
        {"metadata.source": "mail"},
        {"metadata.none": "1"},
        {"kind": "error"},
        {"created_at__lt": "2020-01-01"},
        {"state": "deleted"},
    ],
    ids=str,
)
def test_a_filter_that_nothing_fits_gives_an_empty_page(two: Caller, params: Any) -> None:
    assert two.get("memories/", params).json() == {"next": None, "previous": None, "results": []}


@pytest.mark.parametrize(
    ("stored", "asked"),
    [("1", "1"), (1, "1"), (1.5, "1.5"), (1, "1.0"), (True, "true"), (False, "false"), ("true", "true"), (-7, "-7")]
    + [("1e3", "1e3"), (1000, "1e3"), ("007", "007"), ("nan", "nan"), ("", "")],
)
def test_metadata_in_a_query_matches_text_and_what_the_text_says(alice: Caller, stored: Any, asked: str) -> None:
    alice.remember("Meta.", metadata={"a": stored, "b": 0})

    assert alice.listed(**{"metadata.a": asked}) == ["Meta."]
    assert alice.listed(**{"metadata.a": "2"}) == []


def test_a_boolean_is_not_the_number_one_in_metadata(alice: Caller) -> None:
    alice.remember("True.", metadata={"a": True})
    alice.remember("One.", metadata={"a": 1})

    assert alice.listed(**{"metadata.a": "1"}) == ["One."]
    assert alice.listed(**{"metadata.a": "true"}) == ["True."]


def test_deleted_and_expired_ones_show_when_asked_for(alice: Caller) -> None:
    gone, past = alice.remember("Gone."), alice.remember("Past.")
    alice.delete(f"memories/{gone['id']}/")
    alice.patch(f"memories/{past['id']}/", {"expires_at": "2020-01-01T00:00:00Z"})

    assert alice.listed() == []
    assert alice.listed(state="deleted") == ["Gone."]
    assert alice.listed(show_expired="true") == ["Past."]
    assert alice.get(f"memories/{past['id']}/").status_code == 200


@pytest.mark.parametrize(
    "params",
    [
        {"order": "content"},
        {"order": ""},
        {"page_size": "0"},
        {"page_size": "501"},
        {"page_size": "ten"},
        {"page_size": "-1"},
        {"page_size": "1.0"},
        {"page_size": "٣"},
        {"page_size": "000000001" + "9" * 5000},
        {"kind": "wish"},
        {"state": "gone"},
        {"standing": ""},
        {"namespace": ""},
        {"tags": " "},
        {"q": ""},
        {"q": "\x00"},
        {"pinned": "1"},
        {"show_expired": "yes"},
        {"seq": "a"},
        {"seq": "1.5"},
        {"seq": "1_0"},
        {"seq": " 1"},
        {"seq": "1" * 4999},
        {"seq": "1" + " " * 50 + "x"},
        {"seq__gt": "99999999999999999999"},
        {"importance": "NaN"},
        {"importance": "Infinity"},
        {"importance": "1e999"},
        {"created_at__gt": "2026-02-30"},
        {"created_at__gt": "yesterday"},
        {"created_at__gt": "2026-01-01T00:00:00"},
        {"created_at__lt": "0000-01-01"},
        {"created_at__lt": "10000-01-01"},
        {"created_at__lt": "9999-12-31T23:59:59-12:00"},
        {"created_at__gt": "9999-12-31"},
        {"created_at": "2026-01-01"},
        {"metadata.a\x00": "x"},
        {"metadata.a": "\x00"},
        {"content": "x"},
        {"users_id": "x"},
        {"cursor": ""},
        {"cursor": "rubbish"},
        {"cursor": "a:b:c"},
        {"cursor": "é\x00"},
    ],
    ids=lambda params: ascii(next(f"{name}={value[:20]}" for name, value in params.items())),
)
def test_a_query_that_says_nothing_sensible_is_refused(alice: Caller, params: Any) -> None:
    assert refusal(alice.get("memories/", params), 400, "invalid_argument")["errors"]


@pytest.mark.parametrize("order", ["created_at", "updated_at", "event_at"])
def test_lists_come_in_the_order_that_was_asked_for(alice: Caller, order: str) -> None:
    for place, day in ((0, 3), (1, 1), (2, 2)):
        alice.remember(str(place), event_at=f"2026-01-0{day}T00:00:00Z")
    alice.patch(f"memories/{alice.get('memories/', {'q': '0'}).json()['results'][0]['id']}/", {"pinned": True})
    expected = {"created_at": ["0", "1", "2"], "updated_at": ["1", "2", "0"], "event_at": ["1", "2", "0"]}[order]

    assert alice.listed(order=order) == expected
    assert alice.listed(order=f"-{order}") == expected[::-1]
    walked, url = [], f"memories/?order={order}&page_size=1"
    while url:
        page = alice.get(url).json()
        walked += [row["content"] for row in page["results"]]
        url = page["next"]
    assert walked == expected


def _walk(caller: Caller, url: str, direction: str) -> tuple[list[list[str]], str]:
    pages, last = [], url
    while url:
        body = caller.get(url).json()
        pages.append([row["id"] for row in body["results"]])
        last, url = url, body[direction]
    return pages, last


def test_pages_over_1200_equal_times_and_two_arms_have_no_gap_and_no_double(alice: Caller, bob: Caller) -> None:
    for caller, count, fields in ((alice, 700, {}), (bob, 500, {"namespace": "team"})):
        adds = [{"op": "add", "content": f"{caller.user.username} {n}", **fields} for n in range(count)]
        assert caller.post("memories/batch/", {"operations": adds}).json()["written"] == count
    bob.post("shares/", {"grantee": "alice", "namespace": "team"})
    now = timezone.now()
    for caller in (alice, bob):
        _set_times(caller, now)

    for order in ("-created_at", "created_at"):
        forwards, last = _walk(alice, f"memories/?page_size=97&order={order}", "next")
        ids = [one for page in forwards for one in page]
        assert (len(ids), len(set(ids))) == (1200, 1200)
        assert [len(page) for page in forwards] == [97] * 12 + [36]
        assert ids == sorted(ids, reverse=order == "-created_at")
        backwards, _ = _walk(alice, last, "previous")
        assert [one for page in reversed(backwards) for one in page] == ids


def _set_times(caller: Caller, moment: Any) -> None:
    with acting_as(Actor.of(caller.user, door="rest")):
        Memory.objects.filter(owner=caller.user).update(created_at=moment)


def test_a_cursor_of_another_order_another_route_or_with_a_changed_letter_is_refused(alice: Caller) -> None:
    memories = [alice.remember(word) for word in ("one", "two")]
    cursor = alice.get("memories/", {"page_size": 1}).json()["next"].split("cursor=")[1].split("&")[0]
    cursor = cursor.replace("%3A", ":")
    assert alice.get("memories/", {"page_size": 1, "cursor": cursor}).status_code == 200

    changed = ("x" if cursor[0] != "x" else "y") + cursor[1:]
    for params in ({"cursor": changed}, {"cursor": cursor[:-1]}, {"cursor": cursor, "order": "created_at"}):
        body = refusal(alice.get("memories/", params), 400, "invalid_argument")
        assert "cursor" in body["errors"]
    for route in ("shares/", "keys/", f"memories/{memories[0]['id']}/history/"):
        refusal(alice.get(route, {"cursor": cursor}), 400, "invalid_argument")


def test_the_addresses_of_neighbours_keep_the_query(alice: Caller) -> None:
    for word in ("tea one", "tea two", "coffee"):
        alice.remember(word, tags=["a b"])

    page = alice.get("memories/", {"page_size": 1, "q": "tea", "tags": "a b"}).json()
    second = alice.get(page["next"]).json()

    assert page["next"].startswith("http://testserver/api/v2/memories/?")
    assert [row["content"] for row in page["results"] + second["results"]] == ["tea two", "tea one"]
    assert second["next"] is None
    assert alice.get(second["previous"]).json()["results"] == page["results"]


def test_what_is_shared_is_listed_without_what_belongs_to_its_owner(alice: Caller, bob: Caller) -> None:
    memory = alice.remember(**FULL)
    alice.post("shares/", {"grantee": "bob", "memory": memory["id"]})

    [seen] = bob.get("memories/").json()["results"]

    assert set(seen) == keys_of(shapes.MemoryReply)
    hidden = {"metadata": {}, "app": None, "user_id": None, "agent_id": None, "categories": [], "written_by": None}
    assert seen.items() >= hidden.items()
    assert (seen["content"], seen["owner"], seen["tags"]) == (FULL["content"], "alice", ["tea", "drinks"])
    assert bob.listed(**{"metadata.source": "chat"}) == []
