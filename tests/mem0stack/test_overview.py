"""What `/health/` says of each part, with each of them away."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client, override_settings

from mem0stack.lib import valkey
from memories import parts, providers
from memories.providers import ProviderAway
from memories.tasks import HEARTBEAT, drain_everything
from tests.running import RunningService

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _look_anew() -> Iterator[None]:
    """No answer of the test before, and a worker that was just there."""
    parts._recent.at = float("-inf")
    valkey.client().set(HEARTBEAT, 1, ex=30)
    yield
    parts._recent.at = float("-inf")


@contextmanager
def _silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield server.getsockname()[1]


@contextmanager
def _dead_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server.getsockname()[1]


def ask() -> tuple[int, str, dict[str, Any]]:
    began = time.monotonic()
    reply = Client().get("/health/")
    assert time.monotonic() - began < 2
    said = reply.json()
    assert set(said) == {"status", "parts"}
    assert set(said["parts"]) == {"database", "cache", "worker", "embedder"}
    for part in said["parts"].values():
        assert part["ms"] >= 0
        assert ("detail" in part) == (part["status"] not in ("ok", "absent"))
    if said["parts"]["database"]["status"] == "ok":
        assert said["parts"]["embedder"]["status"] == "absent"
    del said["parts"]["embedder"]
    return reply.status_code, said["status"], {name: part["status"] for name, part in said["parts"].items()}


def test_with_everything_there_it_is_ok() -> None:
    assert ask() == (200, "ok", {"database": "ok", "cache": "ok", "worker": "ok"})


@pytest.mark.parametrize("port", [_dead_port, _silent_server], ids=["refuses", "hangs"])
def test_without_the_database_it_is_down(port: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with port() as number:
        monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        monkeypatch.setitem(connection.settings_dict, "PORT", str(number))
        assert ask() == (503, "down", {"database": "down", "cache": "ok", "worker": "ok"})
        said = Client().get("/health/")
    assert said["Retry-After"] == "1"
    assert "127.0.0.1" not in said.content.decode()


@pytest.mark.parametrize("port", [_dead_port, _silent_server], ids=["refuses", "hangs"])
def test_without_the_cache_it_is_degraded(port: Callable[[], Any], settings: Any) -> None:
    with port() as number:
        address = f"redis://:private-word@127.0.0.1:{number}/0"
        settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": address}}
        assert ask() == (200, "degraded", {"database": "ok", "cache": "down", "worker": "down"})
        said = Client().get("/health/").content.decode()
    assert "private-word" not in said
    assert "127.0.0.1" not in said


def test_without_the_worker_it_is_degraded() -> None:
    valkey.client().delete(HEARTBEAT)
    assert ask() == (200, "degraded", {"database": "ok", "cache": "ok", "worker": "down"})
    drain_everything()
    parts._recent.at = float("-inf")
    assert ask() == (200, "ok", {"database": "ok", "cache": "ok", "worker": "ok"})


def test_a_heartbeat_that_cannot_be_written_stops_no_work(settings: Any) -> None:
    with _dead_port() as number:
        settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": f"redis://127.0.0.1:{number}/0"}}
        drain_everything()


def test_many_who_ask_look_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    real = parts.probe_parts
    monkeypatch.setattr(parts, "probe_parts", lambda: looks.append(1) or real())
    # Twenty requests may take longer than the second on a busy machine.
    monkeypatch.setattr(parts, "_GOOD_FOR_S", 60.0)
    for _ in range(20):
        assert Client().get("/health/").status_code == 200
    assert len(looks) == 1


def test_a_running_service_says_that_all_is_well(service: RunningService) -> None:
    with service.client() as client:
        deadline = time.monotonic() + 20
        while (said := client.get("/health/").json())["status"] != "ok":
            assert time.monotonic() < deadline, said
            time.sleep(0.2)


def embedder(**changes: Any) -> Any:
    given = {"kind": "compatible", "base_url": "http://127.0.0.1:9/v1", "model": "m", "dimensions": 8} | changes
    return override_settings(PROVIDERS=settings.PROVIDERS | {"embedder": given})


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [({}, "degraded", "reembed"), ({"model": ""}, "down", "doctor")],
    ids=["not in use", "not usable"],
)
def test_an_embedder_that_does_not_embed_is_said(changes: dict[str, Any], status: str, says: str) -> None:
    with embedder(**changes):
        providers.forget()
        part = Client().get("/health/").json()["parts"]["embedder"]
    providers.forget()
    assert part["status"] == status
    assert says in part["detail"]


def test_an_embedder_that_failed_just_now_is_down() -> None:
    with embedder():
        providers.forget()
        found = providers.configured("embedder")
        assert found is not None
        for _ in range(4):
            with pytest.raises(ProviderAway):
                found.embed(["x"])
        said = Client().get("/health/").json()
    providers.close()
    assert (said["status"], said["parts"]["embedder"]["status"]) == ("degraded", "down")
