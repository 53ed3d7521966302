"""Shares, categories, apps, namespaces and figures over REST v2."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.actors import Actor, acting_as
from memories.api import shapes
from memories.models import Share
from tests.rest import Caller, refusal

pytestmark = pytest.mark.django_db

UNKNOWN = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
def alice() -> Caller:
    return Caller("alice")


@pytest.fixture
def bob() -> Caller:
    return Caller("bob")


@pytest.fixture
def charlie() -> Caller:
    return Caller("charlie")


def fields(shape: type[Any]) -> set[str]:
    return set(shape().fields)


def rows(caller: Caller, path: str, params: Any = None) -> list[dict[str, Any]]:
    body = caller.get(path, params).json()
    assert set(body) == {"next", "previous", "results"}
    listed: list[dict[str, Any]] = body["results"]
    return listed


# Shares --------------------------------------------------------------------------------------------------------------


def test_a_share_of_a_memory_is_made_shown_to_both_and_ended(alice: Caller, bob: Caller, charlie: Caller) -> None:
    memory = alice.remember("Shared.")

    made = alice.post("shares/", {"grantee": "bob", "memory": memory["id"]})

    assert made.status_code == 201
    share = made.json()
    assert set(share) == fields(shapes.ShareReply)
    assert (share["owner"], share["grantee"], share["memory"], share["namespace"]) == (
        "alice",
        "bob",
        memory["id"],
        None,
    )
    path = f"shares/{share['id']}/"
    assert alice.get(path).json() == bob.get(path).json() == share
    refusal(charlie.get(path), 404, "not_found")
    refusal(bob.delete(path), 404, "not_found")
    assert bob.get(f"memories/{memory['id']}/").status_code == 200

    ended = alice.delete(path)

    assert (ended.status_code, set(ended.json())) == (200, fields(shapes.ShareReply))
    assert ended.json()["revoked_at"]
    refusal(alice.delete(path), 404, "not_found")
    refusal(bob.get(path), 404, "not_found")
    refusal(bob.get(f"memories/{memory['id']}/"), 404, "not_found")


def test_the_same_share_again_is_200_and_changes_its_terms(alice: Caller) -> None:
    Caller("bob")
    alice.remember("Team.", namespace="team")
    first = alice.post("shares/", {"grantee": "bob", "namespace": "team"})

    again = alice.post(
        "shares/", {"grantee": "bob", "namespace": "team", "can_add": True, "expires_at": "2999-01-01T00:00:00Z"}
    )

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert (again.json()["can_add"], again.json()["expires_at"]) == (True, "2999-01-01T00:00:00Z")


def test_who_may_add_to_a_namespace_writes_into_its_owners_space(alice: Caller, bob: Caller) -> None:
    alice.remember("Team.", namespace="team")
    alice.post("shares/", {"grantee": "bob", "namespace": "team", "can_add": True})

    added = bob.remember("From Bob.", namespace="alice/team")

    assert (added["owner"], added["namespace"]) == ("alice", "team")
    assert sorted(alice.listed(namespace="team")) == ["From Bob.", "Team."]
    assert alice.get(f"memories/{added['id']}/").json()["written_by"] == "bob"


def test_shares_are_listed_by_direction(alice: Caller, bob: Caller) -> None:
    given = alice.post("shares/", {"grantee": "bob", "memory": alice.remember("A.")["id"]}).json()
    received = bob.post("shares/", {"grantee": "alice", "memory": bob.remember("B.")["id"]}).json()
    ended = alice.post("shares/", {"grantee": "bob", "memory": alice.remember("C.")["id"]}).json()
    alice.delete(f"shares/{ended['id']}/")

    assert [row["id"] for row in rows(alice, "shares/")] == [ended["id"], received["id"], given["id"]]
    assert [row["id"] for row in rows(alice, "shares/", {"direction": "given"})] == [ended["id"], given["id"]]
    assert [row["id"] for row in rows(alice, "shares/", {"direction": "received"})] == [received["id"]]
    assert [row["id"] for row in rows(bob, "shares/", {"direction": "received"})] == [given["id"]]
    assert len(rows(alice, "shares/", {"page_size": 2})) == 2
    refusal(alice.get("shares/", {"direction": "both"}), 400, "invalid_argument")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"grantee": "bob"}, 400, "invalid_argument"),
        ({"grantee": "bob", "memory": "MEMORY", "namespace": "personal"}, 400, "invalid_argument"),
        ({"memory": "MEMORY"}, 400, "invalid_argument"),
        ({"grantee": 5, "memory": "MEMORY"}, 400, "invalid_argument"),
        ({"grantee": "bob", "memory": 5}, 400, "invalid_argument"),
        ({"grantee": "bob", "memory": None}, 400, "invalid_argument"),
        ({"grantee": "bob", "memory": "MEMORY", "can_add": True}, 400, "invalid_argument"),
        ({"grantee": "bob", "memory": "MEMORY", "can_add": "yes"}, 400, "invalid_argument"),
        ({"grantee": "bob", "memory": "MEMORY", "expires_at": "2020-01-01T00:00:00Z"}, 400, "invalid_argument"),
        ({"grantee": "alice", "memory": "MEMORY"}, 400, "invalid_argument"),
        ({"grantee": "nobody", "memory": "MEMORY"}, 404, "not_found"),
        ({"grantee": "bob", "memory": UNKNOWN}, 404, "not_found"),
        ({"grantee": "bob", "namespace": "unknown"}, 404, "not_found"),
        ({"grantee": "bob", "namespace": "*"}, 400, "invalid_argument"),
    ],
)
def test_a_share_that_makes_no_sense_is_refused(
    alice: Caller, bob: Caller, body: dict[str, Any], status: int, code: str
) -> None:
    memory = alice.remember("Mine.")

    refusal(alice.post("shares/", {k: memory["id"] if v == "MEMORY" else v for k, v in body.items()}), status, code)


def test_nobody_shares_what_is_not_theirs(alice: Caller, bob: Caller, charlie: Caller) -> None:
    memory = alice.remember("Alice's.")
    alice.post("shares/", {"grantee": "bob", "memory": memory["id"]})

    refusal(bob.post("shares/", {"grantee": "charlie", "memory": memory["id"]}), 403, "forbidden")
    refusal(charlie.post("shares/", {"grantee": "charlie", "memory": memory["id"]}), 400, "invalid_argument")
    refusal(charlie.post("shares/", {"grantee": "bob", "memory": memory["id"]}), 404, "not_found")


def test_a_share_that_has_expired_shows_nothing(alice: Caller, bob: Caller) -> None:
    memory = alice.remember("Soon gone.")
    soon = (timezone.now() + timedelta(milliseconds=300)).isoformat()
    share = alice.post("shares/", {"grantee": "bob", "memory": memory["id"], "expires_at": soon}).json()

    # A test's transaction has one clock, so the end is set back instead of waited for.
    with acting_as(Actor.of(alice.user, door="rest")):
        Share.objects.filter(id=share["id"]).update(expires_at=timezone.now() - timedelta(days=1))

    refusal(bob.get(f"memories/{memory['id']}/"), 404, "not_found")
    assert alice.get(f"shares/{share['id']}/").status_code == 200


# Categories ----------------------------------------------------------------------------------------------------------


def test_a_category_is_made_once_counted_and_taken_away(alice: Caller, bob: Caller) -> None:
    made = alice.post("categories/", {"name": " Food ", "description": "What she eats."})
    again = alice.post("categories/", {"name": "food"})
    memory = alice.remember("Alice eats rice.", categories=["food"])

    assert (made.status_code, again.status_code) == (201, 200)
    assert made.json()["id"] == again.json()["id"]
    path = f"categories/{made.json()['id']}/"
    category = alice.get(path).json()
    assert set(category) == fields(shapes.CategoryReply)
    assert (category["name"], category["description"], category["memories"]) == ("food", "What she eats.", 1)
    assert rows(alice, "categories/") == [category]
    assert rows(bob, "categories/") == []
    for call in (bob.get, bob.delete):
        refusal(call(path), 404, "not_found")

    gone = alice.delete(path)

    assert (gone.status_code, gone.json()) == (200, category)
    refusal(alice.get(path), 404, "not_found")
    refusal(alice.delete(path), 404, "not_found")
    assert alice.get(f"memories/{memory['id']}/").json()["categories"] == []


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": "  "}, {"name": 5}, {"name": "x" * 129}, {"name": "a", "description": 5}]
)
def test_a_category_that_has_no_name_is_refused(alice: Caller, body: Any) -> None:
    refusal(alice.post("categories/", body), 400, "invalid_argument")


def test_categories_page_by_name_in_both_directions(alice: Caller) -> None:
    for name in ("b", "a", "d", "c"):
        alice.post("categories/", {"name": name})

    page = alice.get("categories/", {"page_size": 3}).json()
    rest = alice.get(page["next"]).json()

    assert [row["name"] for row in page["results"] + rest["results"]] == ["a", "b", "c", "d"]
    assert alice.get(rest["previous"]).json()["results"] == page["results"]
    assert [row["name"] for row in rows(alice, "categories/", {"order": "-name"})] == ["d", "c", "b", "a"]
    refusal(alice.get("categories/", {"order": "memories"}), 400, "invalid_argument")
    refusal(alice.get("categories/", {"q": "a"}), 400, "invalid_argument")


# Apps, namespaces, figures -------------------------------------------------------------------------------------------


def test_an_app_that_is_paused_may_not_write(alice: Caller, bob: Caller) -> None:
    alice.remember("By Cursor.", app="cursor")
    [app] = rows(alice, "apps/")
    path = f"apps/{app['id']}/"
    assert set(app) == fields(shapes.AppReply)
    assert (app["name"], app["is_active"], alice.get(path).json()) == ("cursor", True, app)

    paused = alice.patch(path, {"is_active": False})

    assert (paused.status_code, paused.json()) == (200, app | {"is_active": False})
    refusal(alice.post("memories/", {"content": "More.", "app": "cursor"}), 403, "forbidden")
    refusal(alice.post("memories/", {"content": "More."}, X_Mem0_App="cursor"), 403, "forbidden")
    assert alice.patch(path, {"is_active": True}).status_code == 200
    assert alice.post("memories/", {"content": "More."}, X_Mem0_App="cursor").json()["app"] == "cursor"
    for body in ({}, {"is_active": 1}, {"is_active": None}, {"name": "x"}):
        refusal(alice.patch(path, body), 400, "invalid_argument")
    refusal(bob.get(path), 404, "not_found")
    refusal(bob.patch(path, {"is_active": False}), 404, "not_found")
    assert rows(bob, "apps/") == []


def test_namespaces_are_counted_the_shared_ones_too(alice: Caller, bob: Caller) -> None:
    for text in ("one", "two"):
        alice.remember(text, namespace="team")
    alice.remember("mine")
    bob.remember("his", namespace="team")
    alice.post("shares/", {"grantee": "bob", "namespace": "team"})

    listed = rows(bob, "namespaces/")

    assert all(set(row) == fields(shapes.NamespaceReply) for row in listed)
    assert sorted((row["owner"], row["name"], row["memories"]) for row in listed) == [
        ("alice", "team", 2),
        ("bob", "team", 1),
    ]
    assert sorted((row["name"], row["memories"]) for row in rows(alice, "namespaces/")) == [
        ("personal", 1),
        ("team", 2),
    ]
    assert [row["name"] for row in rows(Caller(alice.user, namespaces=["team"]), "namespaces/")] == ["team"]


def test_the_figures_count_what_there_is(alice: Caller, bob: Caller) -> None:
    alice.remember("one", namespace="n", app="a", categories=["c"])
    gone = alice.remember("two", kind="decision")
    alice.delete(f"memories/{gone['id']}/")
    alice.post("shares/", {"grantee": "bob", "namespace": "n"})

    body = alice.get("stats/").json()

    assert set(body) == fields(shapes.StatsReply)
    assert body == {
        "memories": 1,
        "by_state": {"active": 1, "deleted": 1},
        "by_kind": {"fact": 1},
        "by_standing": {"current": 1},
        "namespaces": 2,
        "apps": 1,
        "categories": 1,
        "shares_given": 1,
        "shares_received": 0,
    }
    assert bob.get("stats/").json()["shares_received"] == 1
    refusal(alice.get("stats/", {"namespace": "n"}), 400, "invalid_argument")


def test_the_root_names_every_collection(alice: Caller) -> None:
    body = alice.get("").json()

    assert body["memories"] == "http://testserver/api/v2/memories/"
    for name, url in body.items():
        assert alice.get(url).status_code in (200, 405), name


@pytest.mark.parametrize("path", ["", "me/", "stats/", "keys/", "apps/", "namespaces/", "categories/", "shares/"])
def test_an_unknown_parameter_is_refused_everywhere(alice: Caller, path: str) -> None:
    refusal(alice.get(path, {"colour": "red"}), 400, "invalid_argument")
