"""Keys that a process knows: who is let in, and how soon a change holds in every process."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import psutil
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import known_keys, services
from accounts.models import ApiKey, User
from mem0stack.lib import valkey
from tests.rest import Caller, refusal
from tests.running import RunningService

# What is promised is a second; the rest is for a machine that has other things to do.
WITHIN_S = 1.0


@pytest.fixture
def alice(db: None) -> Caller:
    return Caller("alice", scopes=["read", "write", "admin"])


@pytest.fixture
def valkey_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise ConnectionError

    monkeypatch.setattr(valkey, "client", away)


def statements(call: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert call().status_code == 200
    return len(captured)


def test_a_key_is_asked_for_once(alice: Caller) -> None:
    first = statements(lambda: alice.get("me/"))

    assert first > 0
    assert statements(lambda: alice.get("me/")) == 0


def test_a_key_that_nobody_has_is_asked_for_each_time(alice: Caller) -> None:
    made = Caller(alice.user)
    ApiKey.objects.filter(pk=made.key.pk).update(prefix="m0_elsewher")
    refusal(made.get("me/"), 401, "unauthenticated")

    ApiKey.objects.filter(pk=made.key.pk).update(prefix=made.plain[:11])

    assert made.get("me/").status_code == 200


def test_a_known_key_does_not_open_for_another_with_its_first_part(alice: Caller) -> None:
    assert alice.get("me/").status_code == 200
    alice.plain = alice.plain[:-1] + ("a" if alice.plain[-1] != "a" else "b")

    refusal(alice.get("me/"), 401, "unauthenticated")


def test_a_key_ends_at_its_moment_though_it_is_known(alice: Caller) -> None:
    brief = Caller(alice.user, expires_at=timezone.now() + timedelta(seconds=0.7))
    assert brief.get("me/").status_code == 200

    time.sleep(0.8)

    refusal(brief.get("me/"), 401, "unauthenticated")


@pytest.mark.parametrize("change", [{"is_active": False}, {"username": "alicia"}], ids=str)
def test_a_change_of_the_user_holds_at_once_in_this_process(alice: Caller, change: dict[str, Any]) -> None:
    assert alice.get("me/").status_code == 200
    user = User.objects.get(pk=alice.user.pk)
    for name, value in change.items():
        setattr(user, name, value)
    user.save()

    if "username" in change:
        assert alice.get("me/").json()["username"] == "alicia"
    else:
        refusal(alice.get("me/"), 403, "forbidden")


def test_a_time_zone_is_changed_in_the_row_and_not_in_what_is_known(alice: Caller) -> None:
    assert alice.patch("me/", {"timezone": "Europe/Berlin"}).json()["timezone"] == "Europe/Berlin"
    assert alice.get("me/").json()["timezone"] == "Europe/Berlin"


def test_what_was_read_before_a_change_is_not_known_after_it(alice: Caller) -> None:
    digest = services._digest(alice.plain)
    before = known_keys.version()
    read = services.find_api_key(alice.plain)
    assert read is not None
    known_keys._forget_everywhere()  # somebody changed the key between the read and what follows

    known_keys.remember(digest, read, version=before, until=float("inf"))

    assert known_keys.get(digest) is None


@pytest.mark.usefixtures("valkey_is_away")
def test_without_valkey_a_change_elsewhere_holds_after_five_seconds(
    alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alice.get("me/").status_code == 200
    ApiKey.objects.filter(pk=alice.key.pk).update(revoked_at=timezone.now())  # as another process would
    assert alice.get("me/").status_code == 200

    later = time.monotonic() + known_keys.KNOWN_FOR_S
    monkeypatch.setattr(known_keys.time, "monotonic", lambda: later)

    refusal(alice.get("me/"), 401, "unauthenticated")


def test_no_more_keys_are_known_than_there_is_room_for(alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_keys, "_MAX_KNOWN", 3)

    for caller in [Caller(alice.user) for _ in range(5)]:
        assert caller.get("me/").status_code == 200

    assert len(known_keys._process.known) == 3


# Several processes ---------------------------------------------------------------------------------------------------


class Crowd:
    """Eight clients, each call on a connection of its own, until the block ends: both web processes answer them."""

    def __init__(self, service: RunningService, key: str) -> None:
        self._url, self._headers = service.url, {"Authorization": f"Bearer {key}", "Connection": "close"}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(8)]
        self.replies: list[tuple[float, int]] = []

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def statuses(self, *, since: float, until: float = float("inf")) -> set[int]:
        """Of the calls that began then."""
        return {status for began, status in self.replies if since <= began <= until}

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=10) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                self.replies.append((began, client.get("/api/v2/me/").status_code))


@pytest.fixture
def web_processes(service: RunningService) -> Iterator[None]:
    """Both of the service's web processes have worked while the test ran."""
    assert service.pids is not None
    workers = psutil.Process(service.pids["web"]).children()
    before = [sum(worker.cpu_times()[:2]) for worker in workers]
    yield
    worked = [sum(w.cpu_times()[:2]) - then for w, then in zip(workers, before, strict=True)]
    assert len(worked) == 2
    assert all(worked), worked


def new_key(service: RunningService) -> tuple[str, str]:
    with service.client() as client:
        made = client.post("/api/v2/keys/", json={"name": "crowd"}).json()
    return made["id"], made["key"]


@pytest.mark.usefixtures("web_processes")
def test_a_revoked_key_opens_nothing_in_any_process_within_a_second(service: RunningService) -> None:
    key_id, key = new_key(service)
    with Crowd(service, key) as crowd:
        time.sleep(1)
        ending = time.monotonic()
        revoked = service.manage("revoke_api_key", key_id)
        ended = time.monotonic()
        time.sleep(WITHIN_S + 1)

    assert revoked.returncode == 0, revoked.stderr
    assert crowd.statuses(since=0, until=ending) == {200}
    assert crowd.statuses(since=ended + WITHIN_S) == {401}


@pytest.mark.usefixtures("web_processes")
def test_another_limit_holds_in_every_process_within_a_second(service: RunningService) -> None:
    key_id, key = new_key(service)
    with Crowd(service, key) as crowd, service.client() as client:
        time.sleep(1)
        limiting = time.monotonic()
        assert client.patch(f"/api/v2/keys/{key_id}/", json={"rate_limit": 1}).status_code == 200
        limited = time.monotonic()
        time.sleep(WITHIN_S + 1)
        freeing = time.monotonic()
        assert client.patch(f"/api/v2/keys/{key_id}/", json={"rate_limit": 0}).status_code == 200
        freed = time.monotonic()
        time.sleep(WITHIN_S + 1)

    assert crowd.statuses(since=0, until=limiting) == {200}
    # One call of the minute was free, and many came before this.
    assert crowd.statuses(since=limited + WITHIN_S, until=freeing) == {429}
    assert crowd.statuses(since=freed + WITHIN_S) == {200}


@pytest.mark.usefixtures("web_processes")
def test_two_processes_keep_one_limit(service: RunningService) -> None:
    with service.client() as client:
        made = client.post("/api/v2/keys/", json={"name": "limited", "rate_limit": 50}).json()
    with Crowd(service, made["key"]) as crowd:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and len(crowd.replies) < 100:
            time.sleep(0.1)

    statuses = [status for _, status in crowd.replies]
    assert statuses.count(200) == 50
    assert set(statuses) == {200, 429}


@pytest.mark.usefixtures("web_processes")
def test_a_write_is_seen_by_the_next_read_and_an_ended_share_by_nobody(service: RunningService) -> None:
    """Whichever process answers: each call has a connection of its own."""
    service.manage("create_user", "reader")
    reader = service.manage("create_api_key", "reader").stdout.split()[-1]

    def call(method: str, path: str, key: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
        return httpx.request(method, f"{service.url}/api/v2/{path}", headers=headers, timeout=10, **options)

    for number in range(15):
        text = f"Number {number} is kept under the word quoll{number}."
        memory = call("POST", "memories/", service.api_key, json={"content": text}).json()
        share = call("POST", "shares/", service.api_key, json={"grantee": "reader", "memory": memory["id"]}).json()
        asked = {"query": f"quoll{number}", "top_k": 1}
        for key in (service.api_key, reader):
            for _ in range(2):
                found = call("POST", "search/", key, json=asked).json()["results"]
                assert [one["id"] for one in found] == [memory["id"]]
        assert call("DELETE", f"shares/{share['id']}/", service.api_key).status_code == 200
        for _ in range(2):
            assert all(
                one["id"] != memory["id"] for one in call("POST", "search/", reader, json=asked).json()["results"]
            )
            assert call("GET", f"memories/{memory['id']}/", reader).status_code == 404
