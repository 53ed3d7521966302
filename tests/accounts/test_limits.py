"""Calls a minute of a key."""

import json
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from accounts import limits
from accounts.models import ApiKey, User
from mem0stack.lib import valkey
from mem0stack.lib.metrics import CALLS_LIMITED
from tests.rest import Caller, refusal

pytestmark = pytest.mark.django_db
ALL = ["read", "write", "admin"]


@pytest.fixture
def alice() -> Caller:
    return Caller("alice", scopes=ALL)


@pytest.fixture(params=["with valkey", "without valkey"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise ConnectionError

    if request.param == "without valkey":
        monkeypatch.setattr(valkey, "client", away)


@pytest.mark.usefixtures("either_way")
def test_a_call_too_many_is_429_and_says_when_to_come_back(alice: Caller) -> None:
    caller = Caller(alice.user, rate_limit=3)
    before = CALLS_LIMITED._value.get()

    left = [caller.get("me/").headers["RateLimit-Remaining"] for _ in range(3)]
    refused = caller.get("me/")

    assert left == ["2", "1", "0"]
    body = refusal(refused, 429, "rate_limited")
    assert "1 minute" not in body["detail"]
    assert 1 <= int(refused.headers["Retry-After"]) <= limits.WINDOW_S
    assert (refused.headers["RateLimit-Limit"], refused.headers["RateLimit-Remaining"]) == ("3", "0")
    assert refused.headers["RateLimit-Reset"] == refused.headers["Retry-After"]
    assert CALLS_LIMITED._value.get() == before + 1
    assert alice.get("me/").status_code == 200


def test_another_minute_begins_when_the_last_has_ended(alice: Caller) -> None:
    caller = Caller(alice.user, rate_limit=1)
    assert caller.get("me/").status_code == 200
    refusal(caller.get("me/"), 429, "rate_limited")

    valkey.client().delete(valkey.key("calls", caller.key.pk))

    assert caller.get("me/").status_code == 200


def test_a_minute_goes_on_when_valkey_goes_away_within_it(alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise ConnectionError

    caller = Caller(alice.user, rate_limit=2)
    assert [caller.get("me/").status_code for _ in range(2)] == [200, 200]
    monkeypatch.setattr(valkey, "client", away)

    refusal(caller.get("me/"), 429, "rate_limited")


def test_counts_of_this_process_begin_anew_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    here, now = limits._Here(), 1000.0
    monkeypatch.setattr(limits.time, "monotonic", lambda: now)

    assert [here.count("a") for _ in range(2)] == [(1, 60.0), (2, 60.0)]
    assert here.count("b") == (1, 60.0)
    now += 59.5
    assert here.count("a") == (3, 0.5)
    now += 0.5
    assert here.count("a") == (1, 60.0)


def test_a_key_without_a_limit_of_its_own_has_the_services(alice: Caller, settings: Any) -> None:
    assert "RateLimit-Limit" not in alice.get("me/").headers

    settings.API_RATE_LIMIT = 100

    assert alice.get("me/").headers["RateLimit-Limit"] == "100"
    assert Caller(alice.user, rate_limit=7).get("me/").headers["RateLimit-Limit"] == "7"
    assert "RateLimit-Limit" not in Caller(alice.user, rate_limit=0).get("me/").headers


def test_a_limit_is_set_and_changed_over_rest(alice: Caller) -> None:
    made = alice.post("keys/", {"name": "x", "rate_limit": 10}).json()
    path = f"keys/{made['id']}/"

    assert made["rate_limit"] == 10
    assert alice.patch(path, {"rate_limit": 20}).json()["rate_limit"] == 20
    assert alice.patch(path, {"rate_limit": None}).json()["rate_limit"] is None
    for body in ({}, {"rate_limit": -1}, {"rate_limit": 1_000_001}, {"rate_limit": "5"}, {"name": "y"}):
        refusal(alice.patch(path, body), 400, "invalid_argument")
    refusal(Caller(alice.user).patch(path, {"rate_limit": 1}), 403, "forbidden")
    refusal(Caller("bob", scopes=ALL).patch(path, {"rate_limit": 1}), 404, "not_found")


@pytest.mark.parametrize("asked", [0, 101, None])
def test_a_limited_key_gives_no_more_than_it_has(alice: Caller, asked: int | None) -> None:
    limited = Caller(alice.user, scopes=ALL, rate_limit=100)

    refusal(limited.post("keys/", {"name": "x", "rate_limit": asked}), 403, "forbidden")
    refusal(limited.patch(f"keys/{limited.key.id}/", {"rate_limit": asked}), 403, "forbidden")
    assert limited.post("keys/", {"name": "x", "rate_limit": 100}).status_code == 201
    assert limited.post("keys/", {"name": "y"}).json()["rate_limit"] == 100


def test_a_limit_is_set_by_the_command_and_in_the_admin(alice: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("create_api_key", "alice", rate_limit=5, json=True)
    key = ApiKey.objects.get(pk=json.loads(capsys.readouterr().out.splitlines()[-1])["id"])
    assert key.rate_limit == 5

    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    page = reverse("admin:accounts_apikey_change", args=[key.pk])
    assert browser.post(page, {"rate_limit": "9", "name": "another"}).status_code == 302

    key.refresh_from_db()
    assert (key.rate_limit, key.name) == (9, "command line")
