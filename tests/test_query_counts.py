"""How many statements each route sends, against tests/query_counts.json: a rise is seen in review, or mended.

Renew the file with MEM0_RENEW_QUERY_COUNTS=1 .venv/bin/python -m pytest tests/test_query_counts.py
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from memories import embedding_spaces
from tests.rest import Caller

COMMITTED = Path(__file__).with_name("query_counts.json")
_measured: dict[str, int] = {}

Call = Callable[[Caller, dict[str, str]], Any]

CALLS: dict[str, Call] = {
    "me": lambda alice, ids: alice.get("me/"),
    "me, changed": lambda alice, ids: alice.patch("me/", {"timezone": "UTC"}),
    "keys": lambda alice, ids: alice.get("keys/"),
    "key, made": lambda alice, ids: alice.post("keys/", {"name": "x"}),
    "key, limited": lambda alice, ids: alice.patch(f"keys/{ids['key']}/", {"rate_limit": 5}),
    "key, revoked": lambda alice, ids: alice.delete(f"keys/{ids['key']}/"),
    "memories": lambda alice, ids: alice.get("memories/"),
    "memories, filtered": lambda alice, ids: alice.get("memories/", {"tags": "t", "namespace": "team", "q": "one"}),
    "memory": lambda alice, ids: alice.get(f"memories/{ids['memory']}/"),
    "memory, added": lambda alice, ids: alice.post("memories/", {"content": "New."}),
    "memory, added with everything": lambda alice, ids: alice.post(
        "memories/",
        {"content": "New.", "namespace": "team", "app": "a", "tags": ["t"], "categories": ["c"], "run_id": "r"},
    ),
    "memory, added with new names": lambda alice, ids: alice.post(
        "memories/", {"content": "New.", "namespace": "n2", "app": "a2", "categories": ["c2"]}
    ),
    "memory, added with an idempotency key": lambda alice, ids: alice.post(
        "memories/", {"content": "New.", "idempotency_key": "k"}
    ),
    "memory, added to be inferred from": lambda alice, ids: alice.post("memories/", {"content": "New.", "infer": True}),
    "memory, known already": lambda alice, ids: alice.post("memories/", {"content": "One."}),
    "messages, 2": lambda alice, ids: alice.post(
        "memories/", {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}
    ),
    "memory, changed": lambda alice, ids: alice.patch(f"memories/{ids['memory']}/", {"content": "Changed."}),
    "memory, pinned": lambda alice, ids: alice.patch(f"memories/{ids['memory']}/", {"pinned": True}),
    "memory, deleted": lambda alice, ids: alice.delete(f"memories/{ids['memory']}/"),
    "memory, restored": lambda alice, ids: alice.post(f"memories/{ids['deleted']}/restore/"),
    "memory, useful": lambda alice, ids: alice.post(f"memories/{ids['memory']}/feedback/", {"verdict": "useful"}),
    "memory, wrong": lambda alice, ids: alice.post(f"memories/{ids['memory']}/feedback/", {"verdict": "wrong"}),
    "memory, superseded": lambda alice, ids: alice.patch(
        f"memories/{ids['memory']}/", {"superseded_by": ids["another"]}
    ),
    "operations": lambda alice, ids: alice.get("operations/", {"state": "waiting"}),
    "operation": lambda alice, ids: alice.get(f"operations/{ids['operation']}/"),
    "relations": lambda alice, ids: alice.get("relations/", {"source": ids["memory"]}),
    "relation, made": lambda alice, ids: alice.post(
        "relations/", {"source": ids["memory"], "relation": "depends_on", "target": ids["another"]}
    ),
    "relation, made and superseded by": lambda alice, ids: alice.post(
        "relations/", {"source": ids["memory"], "relation": "supersedes", "target": ids["another"]}
    ),
    "relation, known already": lambda alice, ids: alice.post(
        "relations/", {"source": ids["third"], "relation": "relates_to", "target": ids["memory"]}
    ),
    "relation, taken back": lambda alice, ids: alice.delete(f"relations/{ids['relation']}/"),
    "entities": lambda alice, ids: alice.get("entities/", {"q": "one", "kind": "path"}),
    "entity": lambda alice, ids: alice.get(f"entities/{ids['entity']}/"),
    "memory, added with entities": lambda alice, ids: alice.post(
        "memories/", {"content": "`run()` in docs/one.md raises KeyError, says Priya Raman in #12."}
    ),
    "access log": lambda alice, ids: alice.get(f"memories/{ids['memory']}/access/"),
    "history": lambda alice, ids: alice.get(f"memories/{ids['memory']}/history/"),
    "near duplicates": lambda alice, ids: alice.get(f"memories/{ids['memory']}/near-duplicates/"),
    "batch, 2 added": lambda alice, ids: alice.post(
        "memories/batch/", {"operations": [{"op": "add", "content": text} for text in ("a", "b")]}
    ),
    "batch, 20 added": lambda alice, ids: alice.post(
        "memories/batch/", {"operations": [{"op": "add", "content": f"Number {n}."} for n in range(20)]}
    ),
    "all deleted": lambda alice, ids: alice.delete("memories/?all=true"),
    "all counted": lambda alice, ids: alice.delete("memories/?all=true&dry_run=true"),
    "digest": lambda alice, ids: alice.get("digest/"),
    "digest, a project": lambda alice, ids: alice.get("digest/", {"namespace": "team"}),
    "search": lambda alice, ids: alice.post("search/", {"query": "one"}),
    "search, a project": lambda alice, ids: alice.post("search/", {"query": "one", "namespace": "team"}),
    "search, expanded and filtered": lambda alice, ids: alice.post(
        "search/", {"query": "one", "expand": 2, "filters": {"tags": "t"}}
    ),
    "shares": lambda alice, ids: alice.get("shares/"),
    "share": lambda alice, ids: alice.get(f"shares/{ids['share']}/"),
    "share, made": lambda alice, ids: alice.post("shares/", {"grantee": "bob", "memory": ids["memory"]}),
    "share, revoked": lambda alice, ids: alice.delete(f"shares/{ids['share']}/"),
    "categories": lambda alice, ids: alice.get("categories/"),
    "category": lambda alice, ids: alice.get(f"categories/{ids['category']}/"),
    "category, made": lambda alice, ids: alice.post("categories/", {"name": "new"}),
    "category, deleted": lambda alice, ids: alice.delete(f"categories/{ids['category']}/"),
    "apps": lambda alice, ids: alice.get("apps/"),
    "app": lambda alice, ids: alice.get(f"apps/{ids['app']}/"),
    "app, paused": lambda alice, ids: alice.patch(f"apps/{ids['app']}/", {"is_active": False}),
    "namespaces": lambda alice, ids: alice.get("namespaces/"),
    "stats": lambda alice, ids: alice.get("stats/"),
}


@pytest.fixture
def alice(db: None) -> Caller:
    caller = Caller("alice", scopes=["read", "write", "admin"])
    return caller


@pytest.fixture(autouse=True)
def _known_spaces(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which space is active is asked once a second, and then belongs to nobody's count."""
    monkeypatch.setattr(embedding_spaces, "GOOD_FOR_S", 60.0)
    embedding_spaces.forget()
    embedding_spaces.active()


@pytest.fixture
def ids(alice: Caller) -> dict[str, str]:
    bob = Caller("bob")
    bob.remember("Bob's one.", namespace="his")
    bob.post("shares/", {"grantee": "alice", "namespace": "his"})
    memory = alice.remember("One.", tags=["t"], categories=["c"], app="a")
    another = alice.remember("One of a team.", namespace="team", run_id="r", infer=True)
    third = alice.remember("Written down in docs/one.md.")
    said = {"source": memory["id"], "relation": "relates_to", "target": third["id"]}
    deleted = alice.remember("Gone.")
    alice.delete(f"memories/{deleted['id']}/")
    return {
        "memory": memory["id"],
        "another": another["id"],
        "operation": another["operation"],
        "deleted": deleted["id"],
        "third": third["id"],
        "relation": alice.post("relations/", said).json()["id"],
        "share": alice.post("shares/", {"grantee": "bob", "namespace": "team"}).json()["id"],
        "category": alice.get("categories/").json()["results"][0]["id"],
        "app": alice.get("apps/").json()["results"][0]["id"],
        "entity": alice.get("entities/").json()["results"][0]["id"],
        "key": str(Caller(alice.user).key.id),
    }


@pytest.fixture(scope="module", autouse=True)
def _renewed() -> Iterator[None]:
    yield
    if os.environ.get("MEM0_RENEW_QUERY_COUNTS"):
        COMMITTED.write_text(json.dumps(_measured, indent=2, sort_keys=True) + "\n")


@pytest.mark.parametrize("name", CALLS)
def test_a_route_sends_as_many_statements_as_committed(name: str, alice: Caller, ids: dict[str, str]) -> None:
    # The key is known for some seconds after a call, and its last use noted once a minute: nobody's count.
    alice.get("me/")
    with CaptureQueriesContext(connection) as captured:
        reply = CALLS[name](alice, ids)

    assert reply.status_code < 300, reply.content
    statements = [query["sql"] or "(bound by the server)" for query in captured]
    _measured[name] = len(statements)
    if not os.environ.get("MEM0_RENEW_QUERY_COUNTS"):
        committed = json.loads(COMMITTED.read_text())
        assert len(statements) == committed.get(name), "\n".join([f"{__doc__}", *statements])


def test_no_count_is_left_of_a_call_that_is_gone() -> None:
    if not os.environ.get("MEM0_RENEW_QUERY_COUNTS"):
        assert json.loads(COMMITTED.read_text()).keys() == CALLS.keys()
