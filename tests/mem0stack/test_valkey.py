"""Valkey behind a breaker: what asks it gets an answer in any case, and soon."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from celery import Celery
from prometheus_client import REGISTRY

from mem0stack.lib import resilience, valkey


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@contextmanager
def absent() -> Iterator[str]:
    yield "unix:///nonexistent/valkey.sock"


def use(settings: Any, url: str) -> None:
    settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": url}}


def failures() -> float:
    return REGISTRY.get_sample_value("mem0_cache_failures_total", {"operation": "nudge"}) or 0.0


def get() -> bytes | None | str:
    return valkey.ask("nudge", lambda client: client.get(valkey.key("test", 1)), otherwise="away")


def test_it_answers_when_it_is_there() -> None:
    valkey.ask("nudge", lambda client: client.set(valkey.key("test", 1), b"yes", ex=5), otherwise=None)
    assert get() == b"yes"


@pytest.mark.parametrize("server", [silent, absent], ids=["hangs", "absent"])
def test_when_it_is_away_three_pay_and_the_others_do_not(server: Any, settings: Any) -> None:
    before = failures()
    with server() as url, structlog.testing.capture_logs() as logs:
        use(settings, url)
        for _ in range(3):
            began = time.perf_counter()
            assert get() == "away"
            assert time.perf_counter() - began < 2  # 0.25 s on a machine with time
        began = time.perf_counter()
        for _ in range(100):
            assert get() == "away"
        assert time.perf_counter() - began < 1
    assert failures() - before == 103
    assert [line["event"] for line in logs] == ["valkey_failed", "valkey_failed", "circuit_opened", "valkey_failed"]
    assert REGISTRY.get_sample_value("mem0_breaker_open", {"part": "valkey"}) == 1


def test_when_it_is_back_it_is_asked_again(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resilience, "RETRY_AFTER_S", 0.2)
    url = settings.CACHES["default"]["LOCATION"]
    use(settings, "unix:///nonexistent/valkey.sock")
    for _ in range(5):
        assert get() == "away"
    use(settings, url)
    assert get() == "away"
    deadline = time.monotonic() + 10
    while get() == "away":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert REGISTRY.get_sample_value("mem0_breaker_open", {"part": "valkey"}) == 0


def test_a_task_sent_to_a_queue_that_hangs_is_an_answer_too() -> None:
    with silent() as url:
        alone = Celery(set_as_current=False)
        alone.config_from_object("django.conf:settings", namespace="CELERY")
        alone.conf.broker_url = url
        began = time.perf_counter()
        for _ in range(20):
            assert valkey.ask("nudge", lambda client: alone.send_task("x"), otherwise="away") == "away"
        assert time.perf_counter() - began < 6


def test_a_mistake_of_ours_is_not_taken_for_its_absence() -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            valkey.ask("nudge", lambda client: 1 // 0, otherwise=None)
    assert get() != "away"
