"""Keys and the caller over REST v2."""

from datetime import timedelta
from typing import Any

import pytest
import structlog
from django.db import OperationalError
from django.utils import timezone

from accounts import api, authentication, services
from accounts.models import ApiKey
from tests.rest import Caller, refusal

pytestmark = pytest.mark.django_db

UNKNOWN = "01890000-0000-7000-8000-000000000000"
ALL = ["read", "write", "admin"]


@pytest.fixture
def alice() -> Caller:
    return Caller("alice", scopes=ALL)


def test_me_says_who_the_key_makes_me(alice: Caller) -> None:
    body = alice.get("me/").json()

    assert set(body) == set(api.MeReply().fields)
    assert set(body["key"]) == set(api.KeyReply().fields)
    assert (body["id"], body["username"], body["timezone"]) == (str(alice.user.uuid), "alice", "UTC")
    assert (body["scopes"], body["namespaces"], body["key"]["prefix"]) == (sorted(ALL), None, alice.plain[:11])


def test_my_time_zone_can_be_changed_to_one_that_exists(alice: Caller) -> None:
    changed = alice.patch("me/", {"timezone": "Europe/Berlin"})

    assert (changed.status_code, changed.json()["timezone"]) == (200, "Europe/Berlin")
    assert alice.get("me/").json()["timezone"] == "Europe/Berlin"
    for body in ({}, {"timezone": "Mars/North"}, {"timezone": None}, {"timezone": 5}, {"timezone": ""}, {"name": "x"}):
        refusal(alice.patch("me/", body), 400, "invalid_argument")
    refusal(Caller(alice.user, scopes=["read"]).patch("me/", {"timezone": "UTC"}), 403, "forbidden")


def test_a_key_is_made_shown_once_and_works(alice: Caller) -> None:
    made = alice.post("keys/", {"name": "cursor"})

    assert made.status_code == 201
    body = made.json()
    assert set(body) == set(api.NewKeyReply().fields)
    assert (body["name"], body["scopes"], body["namespaces"]) == ("cursor", ["read", "write"], None)
    assert body["key"].startswith(body["prefix"])
    assert alice.http.get("/api/v2/me/", headers={"Authorization": f"Bearer {body['key']}"}).status_code == 200
    listed = alice.get("keys/").json()
    assert set(listed) == {"next", "previous", "results"}
    assert [row["name"] for row in listed["results"]] == ["cursor", "tests"]
    assert all(set(row) == set(api.KeyReply().fields) for row in listed["results"])
    assert body["key"] not in str(listed)


def test_only_the_digest_of_a_key_is_stored(alice: Caller) -> None:
    plain = alice.post("keys/", {"name": "cursor"}).json()["key"]

    stored = ApiKey.objects.filter(name="cursor").values().get()

    assert plain not in str(stored)
    assert plain[11:] not in str(stored)


def test_every_option_of_a_key_is_kept(alice: Caller) -> None:
    body = alice.post(
        "keys/",
        {"name": "x", "scopes": ["admin", "read"], "namespaces": ["b", "a", "a"], "expires_at": "2999-01-01T00:00:00Z"},
    ).json()

    assert (body["scopes"], body["namespaces"], body["expires_at"]) == (
        ["read", "admin"],
        ["a", "b"],
        "2999-01-01T00:00:00Z",
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": " "},
        {"name": 5},
        {"name": "x" * 129},
        {"name": "a\x00b"},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": "read"},
        {"name": "x", "scopes": ["root"]},
        {"name": "x", "scopes": None},
        {"name": "x", "namespaces": []},
        {"name": "x", "namespaces": [5]},
        {"name": "x", "namespaces": [""]},
        {"name": "x", "namespaces": [" "]},
        {"name": "x", "namespaces": ["n" * 201]},
        {"name": "x", "expires_at": "2020-01-01T00:00:00Z"},
        {"name": "x", "expires_at": "2999-01-01T00:00:00"},
        {"name": "x", "expires_at": 5},
        {"name": "x", "user": "bob"},
    ],
    ids=str,
)
def test_a_key_that_makes_no_sense_is_refused(alice: Caller, body: Any) -> None:
    assert refusal(alice.post("keys/", body), 400, "invalid_argument")["errors"]
    assert ApiKey.objects.count() == 1


def test_the_namespaces_of_a_key_are_taken_without_the_blanks_around_them(alice: Caller) -> None:
    assert alice.post("keys/", {"name": "x", "namespaces": [" team "]}).json()["namespaces"] == ["team"]


def test_making_and_ending_keys_needs_the_scope_admin(alice: Caller) -> None:
    writer = Caller(alice.user)

    refusal(writer.post("keys/", {"name": "x"}), 403, "forbidden")
    refusal(writer.delete(f"keys/{alice.key.id}/"), 403, "forbidden")
    assert writer.get("keys/").status_code == 200
    refusal(Caller(alice.user, scopes=["admin"]).get("keys/"), 403, "forbidden")


def test_a_key_gives_no_scope_that_it_lacks(alice: Caller) -> None:
    maker = Caller(alice.user, scopes=["read", "admin"])

    refusal(maker.post("keys/", {"name": "x"}), 403, "forbidden")
    refusal(maker.post("keys/", {"name": "x", "scopes": ["read", "write"]}), 403, "forbidden")
    assert maker.post("keys/", {"name": "x", "scopes": ["read", "admin"]}).status_code == 201


def test_a_keys_namespace_may_be_any_spelling_of_a_git_remote(alice: Caller) -> None:
    made = alice.post("keys/", {"name": "shop", "namespaces": ["git@GitHub.com:acme/shop.git", "personal"]}).json()
    assert made["namespaces"] == ["github.com/acme/shop", "personal"]

    limited = Caller(alice.user)
    limited.plain = made["key"]
    for spelling in ("https://github.com/acme/shop.git", "github.com/acme/shop"):
        stored = limited.post("memories/", {"content": f"From {spelling}.", "namespace": spelling})
        assert (stored.status_code, stored.json()["namespace"]) == (201, "github.com/acme/shop")


def test_a_key_gives_no_namespace_that_it_lacks(alice: Caller) -> None:
    maker = Caller(alice.user, scopes=ALL, namespaces=["a", "b"])

    refusal(maker.post("keys/", {"name": "x"}), 400, "invalid_argument")
    refusal(maker.post("keys/", {"name": "x", "namespaces": ["c"]}), 403, "forbidden")
    refusal(maker.post("keys/", {"name": "x", "namespaces": ["a", "c"]}), 403, "forbidden")
    assert maker.post("keys/", {"name": "x", "namespaces": ["a"]}).json()["namespaces"] == ["a"]


def test_a_key_is_ended_at_once_and_stays_listed(alice: Caller) -> None:
    other = Caller(alice.user)

    ended = alice.delete(f"keys/{other.key.id}/")

    assert (ended.status_code, set(ended.json())) == (200, set(api.KeyReply().fields))
    assert ended.json()["revoked_at"]
    refusal(other.get("me/"), 401, "unauthenticated")
    assert alice.delete(f"keys/{other.key.id}/").json()["revoked_at"] == ended.json()["revoked_at"]
    assert len(alice.get("keys/").json()["results"]) == 2


def test_others_keys_cannot_be_seen_or_ended(alice: Caller) -> None:
    bob = Caller("bob", scopes=ALL)

    refusal(alice.delete(f"keys/{bob.key.id}/"), 404, "not_found")
    refusal(alice.delete(f"keys/{UNKNOWN}/"), 404, "not_found")
    assert bob.get("me/").status_code == 200
    assert [row["id"] for row in alice.get("keys/").json()["results"]] == [str(alice.key.id)]


def test_keys_page_in_both_orders(alice: Caller) -> None:
    for name in "bcd":
        alice.post("keys/", {"name": name})

    page = alice.get("keys/", {"page_size": 3}).json()
    rest = alice.get(page["next"]).json()["results"]

    assert [row["name"] for row in page["results"] + rest] == ["d", "c", "b", "tests"]
    assert alice.get("keys/", {"order": "created_at"}).json()["results"][0]["name"] == "tests"


@pytest.mark.django_db(transaction=True)
def test_the_last_use_is_noted_at_most_once_a_minute(alice: Caller) -> None:
    def used() -> Any:
        """The note after one more call; it is taken beside the request."""
        assert alice.get("me/").status_code == 200
        with authentication._noting:
            return ApiKey.objects.get(pk=alice.key.pk).last_used_at

    first = used()
    assert first is not None
    assert used() == first
    key = ApiKey.objects.get(pk=alice.key.pk)
    key.last_used_at = timezone.now() - timedelta(seconds=61)
    key.save()
    assert used() > first


@pytest.mark.django_db(transaction=True)
def test_a_use_that_cannot_be_noted_harms_nobody_and_is_noted_later(
    alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(key: ApiKey) -> None:
        raise OperationalError

    with structlog.testing.capture_logs() as logs, monkeypatch.context() as patched:
        patched.setattr(services, "note_use", fail)
        assert alice.get("me/").status_code == 200
        with authentication._noting:
            assert ApiKey.objects.get(pk=alice.key.pk).last_used_at is None
    assert [line["error"] for line in logs if line["event"] == "use_not_noted"] == ["OperationalError"]

    assert alice.get("me/").status_code == 200
    with authentication._noting:
        assert ApiKey.objects.get(pk=alice.key.pk).last_used_at is not None
