"""`kill -9` of bridges and servers at random moments: nothing acknowledged is lost, nothing is doubled."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bridge import KEY
from tests.mcp_server_at_the_edge import Applied
from tests.running import CHECKOUT, free_port
from tests.storm import storm


class EdgeProcess:
    """The server at the edge as a process; it is durable, and now and then cuts a connection after it has applied."""

    key = KEY

    def __init__(self, path: Path, seed: int) -> None:
        self._port, self._path, self._seed = free_port(), path, seed
        self.url = f"http://127.0.0.1:{self._port}/mcp"
        self.revive()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def revive(self) -> None:
        self._seed += 1
        words = ["-m", "tests.mcp_server_at_the_edge", str(self._port), str(self._path), str(self._seed)]
        self._process = subprocess.Popen([sys.executable, *words], cwd=CHECKOUT)

    def texts(self) -> list[str]:
        return [row["text"] for row in Applied(str(self._path)).rows()]


@pytest.fixture
def server(tmp_path: Path, seed: int) -> Iterator[EdgeProcess]:
    process = EdgeProcess(tmp_path / "server.db", seed)
    yield process
    process.kill()


def test_no_acknowledged_write_is_lost_or_doubled_by_fifty_kills(
    server: EdgeProcess, tmp_path: Path, seed: int, told: Callable[[str], None]
) -> None:
    began = time.monotonic()
    for line in storm(server, tmp_path / "bridge", seed, kills=50):
        told(line)
    assert time.monotonic() - began < 120
