"""`up`, `down` and `status` as a person calls them."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time

import httpx
import psutil
import pytest

from mem0stack.embedded.service import CHILDREN
from tests.running import RunningService, prepared_service, running_service, wait_until_gone


def start_foreground(service: RunningService) -> subprocess.Popen[str]:
    """`up` in the foreground; returns once it has said that it is ready."""
    process = subprocess.Popen(
        [*service.launcher.words, "up", "--port", str(service.port), "--home", str(service.home)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **service.launcher.popen_options(),
    )
    timer = threading.Timer(120, process.kill)
    timer.start()
    for line in process.stdout or ():
        if "mem0-stack is running" in line:
            break
    timer.cancel()
    return process


def test_up_says_all_that_a_program_needs(service: RunningService) -> None:
    said = service.up()  # over the running service
    assert said["url"] == f"http://127.0.0.1:{service.port}"
    assert said["mcp_url"] == f"http://127.0.0.1:{service.port + 1}/mcp"
    assert said["home"] == str(service.home)
    assert said["api_key"].startswith("m0_")
    assert set(said["pids"]) == {"supervisor", *CHILDREN}
    assert httpx.get(f"{said['mcp_url']}/health").json()["status"] in ("ok", "degraded")
    elsewhere = httpx.post(f"{said['url']}/mcp")
    assert (elsewhere.status_code, said["mcp_url"] in elsewhere.json()["detail"]) == (404, True)
    assert httpx.get(f"{said['url']}/health/live").status_code == 200


def test_secrets_are_private_files(service: RunningService) -> None:
    for name in ("api_key", "secret_key", "service.json"):
        assert stat.S_IMODE((service.home / name).stat().st_mode) == 0o600, name
    assert (service.home / "api_key").read_text().strip() == service.api_key


def test_status_tells_each_part(service: RunningService) -> None:
    result = service.manage("status")
    assert result.returncode == 0
    for name in CHILDREN:
        assert re.search(rf"{name} +pid \d+ +ready", result.stdout), result.stdout
    assert service.status()["state"] == "running"


def test_servers_listen_on_no_port(service: RunningService) -> None:
    assert service.pids
    for name in ("postgres", "valkey"):
        assert psutil.Process(service.pids[name]).net_connections("inet") == []


def test_a_second_up_changes_nothing_and_another_port_restarts(service: RunningService) -> None:
    before = service.up()
    began = time.monotonic()
    assert service.up() == before
    assert time.monotonic() - began < 8


def test_up_restarts_older_code_and_keeps_key_and_data() -> None:
    with running_service() as service:
        before, key = service.pids, service.api_key
        state = service.home / "service.json"
        changed = json.loads(state.read_text()) | {"fingerprint": "of older code"}
        state.write_text(json.dumps(changed))
        # Without --port: it stays where it was.
        said = json.loads(service.manage("up", "--detach", "--json").stdout.splitlines()[-1])
        assert said["url"] == service.url
        assert said["pids"] != before
        assert said["api_key"] == key


def test_two_services_live_side_by_side(service: RunningService) -> None:
    with running_service() as other:
        assert other.url != service.url
        for each in (service, other):
            assert httpx.get(f"{each.url}/health/live").status_code == 200
        other.manage("down")
        assert service.manage("status").returncode == 0


def test_down_is_idempotent_and_status_says_stopped() -> None:
    with prepared_service() as service:
        assert service.manage("status").returncode == 1
        assert service.manage("down").returncode == 0
        service.up()
        first = service.manage("down")
        assert first.returncode == 0
        assert "Stopped" in first.stdout
        assert wait_until_gone(service.home, 0) == []
        again = service.manage("down")
        assert again.returncode == 0
        assert "Nothing runs" in again.stdout
        assert service.manage("status").returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_stops_everything(number: signal.Signals) -> None:
    with prepared_service() as service:
        process = start_foreground(service)
        os.kill(process.pid, number)
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert wait_until_gone(service.home, 0) == []


def test_ctrl_c_during_the_first_start_leaves_nothing_and_the_next_up_goes_on() -> None:
    with prepared_service() as service:
        for pause_s in (0.9, 1.7, 2.5, 3.5):
            process = subprocess.Popen(
                [*service.launcher.words, "up", "--port", str(service.port), "--home", str(service.home)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                **service.launcher.popen_options(),
            )
            time.sleep(pause_s)
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
            assert wait_until_gone(service.home, 0) == []
        service.up()


def test_a_taken_port_is_said_with_the_way_out() -> None:
    with prepared_service() as service, socket.socket() as taken:
        taken.bind(("127.0.0.1", service.port))
        taken.listen()
        result = service.manage("up", "--detach", "--port", str(service.port))
        assert result.returncode == 1
        assert "taken" in result.stderr
        assert f"--port {service.port + 1}" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_foreign_data_directory_is_left_alone() -> None:
    with prepared_service() as service:
        data = service.home / "postgres"
        data.mkdir()
        (data / "PG_VERSION").write_text("16\n")
        result = service.manage("up", "--detach", "--port", str(service.port))
        assert result.returncode == 1
        assert "was not made by mem0-stack" in result.stderr
        assert "Traceback" not in result.stderr
        assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_another_major_version_is_refused() -> None:
    with prepared_service() as service:
        data = service.home / "postgres"
        data.mkdir()
        (data / "PG_VERSION").write_text("15\n")
        (data / "MEM0STACK").write_text("")
        result = service.manage("up", "--detach", "--port", str(service.port))
        assert result.returncode == 1
        assert "PostgreSQL 15" in result.stderr


def test_a_half_made_data_directory_is_made_anew() -> None:
    with prepared_service() as service:
        unfinished = service.home / "postgres.new"
        unfinished.mkdir()
        (unfinished / "PG_VERSION").write_text("16\n")
        service.up()
        assert not unfinished.exists()


def test_a_too_long_path_is_said_before_anything_starts() -> None:
    with prepared_service() as service:
        deep = RunningService(service.home / ("d" * 100), service.port, service.launcher)
        result = deep.manage("up", "--detach", "--port", str(service.port))
        assert result.returncode == 1
        assert "too deep" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another account")
def test_a_directory_the_account_cannot_reach_is_named() -> None:
    with prepared_service() as service:
        private = service.home / "private"
        private.mkdir(mode=0o700)
        inner = RunningService(private / "home", service.port, service.launcher)
        result = inner.manage("up", "--detach", "--port", str(service.port))
        assert result.returncode == 1
        assert f"chmod o+x {private}" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_name_that_cannot_be_is_said() -> None:
    with prepared_service() as service:
        result = service.manage("up", "--detach", "--port", str(service.port), MEM0_ADMIN_USER="not a name!")
        assert result.returncode == 1
        assert "MEM0_ADMIN_USER" in result.stderr
        assert "Traceback" not in result.stderr
        assert wait_until_gone(service.home, 0) == []


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_other_names_of_loopback_work_without_a_warning(host: str) -> None:
    with prepared_service() as service:
        result = service.manage("up", "--detach", "--json", "--port", str(service.port), "--host", host)
        assert result.returncode == 0, result.stderr
        assert "TLS" not in result.stderr
        url = json.loads(result.stdout.splitlines()[-1])["url"]
        assert httpx.get(f"{url}/health/live").status_code == 200


def test_another_host_warns_that_there_is_no_tls() -> None:
    with prepared_service() as service:
        result = service.manage("up", "--detach", "--json", "--port", str(service.port), "--host", "0.0.0.0")  # noqa: S104
        assert result.returncode == 0, result.stderr
        assert "without TLS" in result.stderr
        url = json.loads(result.stdout.splitlines()[-1])["url"]
        for host in ("127.0.0.1", socket.gethostname()):
            response = httpx.get(f"{url}/health/live", headers={"Host": host})
            assert response.status_code == 200, host
        assert httpx.get(f"{url}/health/live", headers={"Host": "evil.example"}).status_code in (200, 400)
