"""The breaker over a part that can be taken away."""

import threading
import time

import pytest
import structlog
from prometheus_client import REGISTRY

from mem0stack.lib.resilience import CircuitOpen, circuit


def call(name: str, error: Exception | None = None, retry_after_s: float = 0.1) -> None:
    with circuit(name, ConnectionError, threshold=2, retry_after_s=retry_after_s):
        if error:
            raise error


def failing(name: str, times: int, error: Exception) -> None:
    for _ in range(times):
        with pytest.raises(type(error)):
            call(name, error)


def is_open(name: str) -> float | None:
    return REGISTRY.get_sample_value("mem0_breaker_open", {"part": name})


def test_it_opens_after_failures_in_a_row_and_one_good_call_closes_it() -> None:
    failing("a", 2, ConnectionError("away"))
    with pytest.raises(CircuitOpen, match="a failed 2 times"):
        call("a")
    assert is_open("a") == 1

    time.sleep(0.15)
    call("a")
    assert is_open("a") == 0
    failing("a", 1, ConnectionError("away"))
    call("a")


def test_the_first_failure_after_the_pause_opens_it_again() -> None:
    failing("b", 2, ConnectionError("away"))
    time.sleep(0.15)
    failing("b", 1, ConnectionError("still away"))
    with pytest.raises(CircuitOpen):
        call("b")


def test_a_good_call_between_failures_and_other_errors_do_not_open_it() -> None:
    for _ in range(3):
        failing("c", 1, ConnectionError("away"))
        call("c")
    failing("c", 5, ValueError("the caller's mistake"))
    call("c")


def test_many_threads_at_once_leave_it_whole() -> None:
    surprises: list[BaseException] = []

    def use() -> None:
        for turn in range(300):
            try:
                call("d", ConnectionError("away") if turn % 3 else None, retry_after_s=0.001)
            except (ConnectionError, CircuitOpen):
                pass
            except BaseException as error:  # noqa: BLE001  the test is about any
                surprises.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert surprises == []
    time.sleep(0.01)
    call("d")
    assert is_open("d") == 0


def test_after_the_pause_one_call_alone_decides() -> None:
    failing("e", 2, ConnectionError("away"))
    time.sleep(0.15)
    with (
        circuit("e", ConnectionError, threshold=2, retry_after_s=5),
        pytest.raises(CircuitOpen, match="being tried"),
    ):
        call("e", retry_after_s=5)
    call("e")


def test_a_call_that_never_came_back_keeps_nobody_out() -> None:
    failing("f", 2, ConnectionError("away"))
    time.sleep(0.15)
    with circuit("f", ConnectionError, threshold=2, retry_after_s=0.1):
        time.sleep(0.15)
        call("f")


def test_a_part_that_stays_away_is_told_of_once() -> None:
    with structlog.testing.capture_logs() as logs:
        failing("g", 2, ConnectionError("away"))
        for _ in range(3):
            time.sleep(0.15)
            failing("g", 1, ConnectionError("still away"))
        time.sleep(0.15)
        call("g")
    assert [line["event"] for line in logs] == ["circuit_opened", "circuit_closed"]
