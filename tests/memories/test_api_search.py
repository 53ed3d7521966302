"""Search over REST v2: the question's fields, the answer's shape. How well it ranks is tested elsewhere."""

from typing import Any

import pytest

from memories.api import shapes
from memories.ranking import NUDGES, SIGNALS
from tests.rest import Caller, refusal

pytestmark = pytest.mark.django_db

HIT = set(shapes.HitReply().fields)


@pytest.fixture
def alice() -> Caller:
    caller = Caller("alice")
    for place, text in enumerate(("We chose Postgres.", "The team liked its extensions.", "Then we had lunch.")):
        caller.remember(text, kind="message", run_id="r1", seq=place, speaker="Ann", namespace="db")
    caller.remember("Alice drinks green tea every morning.", tags=["tea"], metadata={"n": 1}, categories=["taste"])
    return caller


@pytest.fixture
def bob() -> Caller:
    return Caller("bob")


def found(caller: Caller, query: str, **options: Any) -> list[str]:
    reply = caller.post("search/", {"query": query, **options})
    assert reply.status_code == 200, reply.content
    return [hit["content"] for hit in reply.json()["results"]]


def test_the_answer_has_exactly_the_documented_fields(alice: Caller) -> None:
    body = alice.post("search/", {"query": "green tea"}).json()

    assert set(body) == set(shapes.SearchReply().fields)
    assert (body["answerable"], body["degraded"], body["truncated"]) == (True, [], False)
    assert body["took_ms"] > 0
    assert all(set(hit) == HIT - {"signals", "neighbours"} for hit in body["results"])
    first = body["results"][0]
    assert (first["content"], first["tags"], first["metadata"], first["categories"], first["owner"]) == (
        "Alice drinks green tea every morning.",
        ["tea"],
        {"n": 1},
        ["taste"],
        "alice",
    )
    scores = [hit["score"] for hit in body["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_a_memory_is_found_as_soon_as_it_is_acknowledged_and_not_after_it_is_deleted(alice: Caller) -> None:
    memory = alice.remember("The zanzibar-77 gateway listens on port 4711.")
    assert found(alice, "zanzibar-77")[0] == memory["content"]

    alice.delete(f"memories/{memory['id']}/")

    assert memory["content"] not in found(alice, "zanzibar-77")


def test_explain_gives_the_signals_that_the_score_is_made_of(alice: Caller) -> None:
    body = alice.post("search/", {"query": "green tea", "explain": True}).json()

    for hit in body["results"]:
        assert set(hit) == HIT - {"neighbours"}
        assert all(set(signal) == {"value", "share"} for signal in hit["signals"].values())
        assert {"base", "fit", *SIGNALS, *NUDGES} == set(hit["signals"])
        assert sum(signal["share"] for signal in hit["signals"].values()) == pytest.approx(hit["score"], abs=0.001)


def test_expand_brings_the_neighbours_in_the_run(alice: Caller) -> None:
    body = alice.post("search/", {"query": "extensions", "expand": 1, "top_k": 1}).json()

    [hit] = body["results"]
    assert set(hit) == HIT - {"signals"}
    assert [row["seq"] for row in hit["neighbours"]] == [0, 2]
    assert all(set(row) == set(shapes.MemoryReply().fields) for row in hit["neighbours"])


def test_top_k_and_threshold_bound_the_answer(alice: Caller) -> None:
    assert len(found(alice, "tea", top_k=2)) == 2
    assert len(found(alice, "tea", top_k=100)) == 4
    assert found(alice, "tea", threshold=1) == []
    assert found(alice, "tea", threshold=0.3) == ["Alice drinks green tea every morning."]


def test_a_token_budget_cuts_whole_hits_and_says_so(alice: Caller) -> None:
    body = alice.post("search/", {"query": "green tea", "token_budget": 12}).json()

    assert (len(body["results"]), body["truncated"]) == (1, True)
    assert alice.post("search/", {"query": "green tea", "token_budget": 1}).json()["results"] == []
    assert alice.post("search/", {"query": "green tea", "token_budget": 1000}).json()["truncated"] is False


def test_a_namespace_covers_itself_and_personal_and_a_star_everything(alice: Caller) -> None:
    alice.remember("Tea elsewhere.", namespace="other")

    assert len(found(alice, "tea", namespace="db")) == 4
    assert len(found(alice, "tea", namespace="unknown")) == 1
    assert len(found(alice, "tea", namespace="*")) == len(found(alice, "tea")) == 5


@pytest.mark.parametrize(
    "filters",
    [
        {"tags": ["tea"]},
        {"kind": "fact"},
        {"metadata": {"n": 1}},
        {"categories": {"in": ["taste"]}},
        {"NOT": {"kind": "message"}},
        {"AND": [{"namespace": "personal"}, {"OR": [{"tags": "tea"}, {"tags": "x"}]}]},
        {"run_id": {"ne": "r1"}},
    ],
    ids=str,
)
def test_filters_keep_what_fits_them(alice: Caller, filters: Any) -> None:
    assert found(alice, "what", filters=filters) == ["Alice drinks green tea every morning."]


def test_as_of_answers_as_it_was_then(alice: Caller) -> None:
    alice.remember("The port was 1.", valid_from="2020-01-01T00:00:00Z", valid_to="2021-01-01T00:00:00Z")
    alice.remember("The port is 2.", valid_from="2021-01-01T00:00:00Z")

    assert "The port was 1." not in found(alice, "port")
    assert found(alice, "port", as_of="2020-06-01T00:00:00Z") == ["The port was 1."]


def test_others_memories_are_found_only_when_shared(alice: Caller, bob: Caller) -> None:
    assert found(bob, "green tea") == []
    memory = alice.get("memories/", {"tags": "tea"}).json()["results"][0]
    share = alice.post("shares/", {"grantee": "bob", "memory": memory["id"]}).json()

    [hit] = bob.post("search/", {"query": "green tea"}).json()["results"]

    assert set(hit) == HIT - {"signals", "neighbours"}
    assert (hit["owner"], hit["metadata"], hit["categories"], hit["written_by"]) == ("alice", {}, [], None)
    alice.delete(f"shares/{share['id']}/")
    assert found(bob, "green tea") == []


def test_searching_needs_the_scope_read_alone(alice: Caller) -> None:
    assert found(Caller(alice.user, scopes=["read"]), "tea")
    refusal(Caller(alice.user, scopes=["write"]).post("search/", {"query": "tea"}), 403, "forbidden")


def test_a_key_limited_to_namespaces_finds_in_those_alone(alice: Caller) -> None:
    limited = Caller(alice.user, namespaces=["db"])

    assert len(found(limited, "tea")) == 3
    refusal(limited.post("search/", {"query": "tea", "namespace": "other"}), 403, "forbidden")


@pytest.mark.parametrize(
    ("field", "value"),
    [("query", value) for value in (None, "", "  ", 5, ["a"], {}, True, "x" * 2001, "a\x00b")]
    + [("top_k", value) for value in (0, 101, -1, "5", 1.5, True, None, 2**40)]
    + [("threshold", value) for value in (-0.1, 1.1, "0.5", True, None, [])]
    + [("expand", value) for value in (-1, 6, "1", None)]
    + [("token_budget", value) for value in (0, -5, "9", 1.5, 10**9)]
    + [("explain", value) for value in (1, "true", None)]
    + [("namespace", value) for value in ("", " ", 5, "x" * 401, "a\x00", "a\nb")]
    + [("as_of", value) for value in ("2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01", 5, None)]
    + [("filters", value) for value in ([], "x", 5, {"colour": 1}, {"AND": []}, {"AND": {}}, {"user_id": {}})]
    + [
        ("filters", value)
        for value in ({"metadata": {}}, {"created_at": "x"}, {"seq": -1}, {"and": [{"kind": "fact"}]})
    ]
    + [("colour", "red"), ("limit", 5)],
    ids=lambda value: ascii(value)[:30],
)
def test_a_question_that_cannot_be_asked_is_refused_by_its_field(alice: Caller, field: str, value: Any) -> None:
    body = refusal(alice.post("search/", {"query": "tea", field: value}), 400, "invalid_argument")

    assert any(name.startswith(field) for name in body["errors"]), body


def test_filters_nested_without_end_are_refused(alice: Caller) -> None:
    for depth in (9, 500):
        deep = b'{"NOT":' * depth + b'{"kind":"fact"}' + b"}" * depth
        body = b'{"query":"tea","filters":' + deep + b"}"
        refusal(alice.request("POST", "search/", raw=body), 400, "invalid_argument")
