"""`kill -9` of bridges and servers at random moments: nothing acknowledged is lost, nothing is doubled."""

from collections.abc import Callable
from pathlib import Path

from tests.mcp_server_at_the_edge import EdgeProcess
from tests.running import running_service
from tests.storm import UNLIMITED, ServiceServer, storm


def test_no_acknowledged_write_is_lost_or_doubled_by_fifty_kills(
    tmp_path: Path, seed: int, told: Callable[[str], None]
) -> None:
    with running_service(UNLIMITED) as service, ServiceServer(service) as server:
        for line in storm(server, tmp_path / "bridge", seed, kills=50, servers=0.2, pause_s=2.4):
            told(line)


def test_a_server_that_also_cuts_replies_after_it_has_written_doubles_nothing(
    tmp_path: Path, seed: int, told: Callable[[str], None]
) -> None:
    with EdgeProcess(tmp_path / "server.db", seed) as server:
        for line in storm(server, tmp_path / "bridge", seed, kills=20):
            told(line)
