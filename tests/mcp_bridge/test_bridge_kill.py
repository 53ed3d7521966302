"""`kill -9` of bridges and servers at random moments: nothing acknowledged is lost, nothing is doubled."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mcp_server_at_the_edge import EdgeProcess
from tests.storm import storm


@pytest.fixture
def server(tmp_path: Path, seed: int) -> Iterator[EdgeProcess]:
    with EdgeProcess(tmp_path / "server.db", seed) as process:
        yield process


def test_no_acknowledged_write_is_lost_or_doubled_by_fifty_kills(
    server: EdgeProcess, tmp_path: Path, seed: int, told: Callable[[str], None]
) -> None:
    began = time.monotonic()
    for line in storm(server, tmp_path / "bridge", seed, kills=50):
        told(line)
    assert time.monotonic() - began < 120
