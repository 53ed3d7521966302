"""The small parts of embedded mode: what they promise without a whole service."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from psycopg_pool.base import AttemptWithBackoff

from mem0stack.embedded import directory, postgres, processes, ready, service
from mem0stack.embedded.account import Account, EmbeddedError
from mem0stack.embedded.processes import Keeper, ProcessId, Program
from mem0stack.lib.home import Home

_FOREVER = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_process_id_knows_the_process_and_no_successor() -> None:
    with subprocess.Popen(_FOREVER) as process:
        found = ProcessId.of(process.pid)
        assert found is not None
        assert found.is_alive()
        assert not ProcessId(process.pid, found.started - 100).is_alive()
        process.kill()
        deadline = time.monotonic() + 30
        while found.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not found.is_alive(), "a zombie is dead"
    assert ProcessId.of(process.pid) is None


def test_a_group_outlives_its_leader_and_is_killed_whole() -> None:
    script = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)"
    )
    leader = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert leader.stdout is not None
    child = int(leader.stdout.readline())
    leader.wait()
    leader.stdout.close()
    assert processes.group_members(leader.pid) == [child]
    processes.kill_group(leader.pid)
    assert processes.group_members(leader.pid) == []


def test_what_carries_the_mark_is_found_at_any_depth(tmp_path: Path) -> None:
    environ = os.environ | {processes.MARK: str(tmp_path)}
    script = f"import subprocess, sys; subprocess.run({_FOREVER!r})"
    with subprocess.Popen([sys.executable, "-c", script], env=environ, start_new_session=True) as process:
        deadline = time.monotonic() + 30
        while len(processes.marked(tmp_path)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(processes.end(processes.marked(tmp_path), patience_s=2)) == 2
    assert process.returncode == -signal.SIGTERM
    assert processes.marked(tmp_path) == []


def _program(tmp_path: Path, words: list[str], *, is_ready: bool = True) -> Program:
    return Program("probe", words, tmp_path / "probe.log", os.environ, lambda pid: is_ready)


def test_a_keeper_restarts_what_dies_and_stops_it_for_good(tmp_path: Path) -> None:
    keeper = Keeper(_program(tmp_path, _FOREVER), lambda: None)
    keeper.start()
    keeper.wait_ready(5)
    first = keeper.process_id
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while (keeper.process_id == first or keeper.state != "ready") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert keeper.restarts == 1
    second = keeper.process_id
    assert second is not None
    assert second.is_alive()
    keeper.stop()
    assert not second.is_alive()
    assert keeper.state == "stopped"


def test_a_program_that_does_not_start_is_said_with_its_last_words(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import sys; sys.exit('the flux is inverted')"]
    keeper = Keeper(_program(tmp_path, words, is_ready=False), lambda: None)
    keeper.start()
    with pytest.raises(EmbeddedError, match="the flux is inverted"):
        keeper.wait_ready(10)
    keeper.stop()


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    keeper = Keeper(_program(tmp_path, [str(tmp_path / "nothing")]), lambda: None)
    keeper.start()
    with pytest.raises(EmbeddedError, match="could not be started: No such file"):
        keeper.wait_ready(10)
    keeper.stop()


def test_readiness_counts_living_processes_of_the_supervised_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM0_READY_DIR", str(tmp_path))
    ready.tell("web")
    (tmp_path / "web.999999999").touch()
    assert ready.count(tmp_path, "web", os.getpid()) == 1
    assert ready.count(tmp_path, "web", os.getppid()) == 1
    assert ready.count(tmp_path, "web", 1 if os.getppid() != 1 else 2) == 0
    assert ready.count(tmp_path, "worker", os.getpid()) == 0


def test_the_account_names_the_directory_that_bars_it(tmp_path: Path) -> None:
    barred = tmp_path / "barred"
    (barred / "inner").mkdir(parents=True)
    for directory_ in (*tmp_path.parents, tmp_path):
        if directory_.stat().st_uid == os.geteuid():
            break
    stranger = Account("stranger", 54321, 54321)
    barred.chmod(0o700)
    first_bar = stranger.barrier(barred / "inner")
    assert first_bar is not None
    barred.chmod(0o711)
    assert stranger.barrier(barred / "inner") != barred
    assert Account("owner", barred.stat().st_uid, 54321).barrier(Path("/usr")) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/somewhere"), "/somewhere may not be written"),
        (OSError(errno.EROFS, "Read-only file system"), "--home"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/a/file"), "/a/file is a file"),
    ],
    ids=["full disk", "permission", "read-only", "file"],
)
def test_what_a_disk_can_do_wrong_is_said(error: OSError, words: str, tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=words), directory.clear_os_errors(Home(tmp_path)):
        raise error


def test_a_full_disk_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9, 10**7))
    with pytest.raises(EmbeddedError, match="9 MB are free"):
        directory.check_disk(Home(tmp_path / "not" / "there"))


def test_a_full_disk_during_a_tool_is_said() -> None:
    script = "import sys; sys.exit('initdb: could not write: No space left on device')"
    with pytest.raises(EmbeddedError, match="disk is full"):
        processes.run_tool([sys.executable, "-c", script], what="Making it")


@pytest.mark.parametrize("length", [60, 120])
def test_socket_paths_have_a_limit(length: int) -> None:
    home = Home(Path("/" + "h" * length))
    if length > 100:
        with pytest.raises(EmbeddedError, match="too deep"):
            postgres.check_socket_paths(home)
    else:
        postgres.check_socket_paths(home)


def test_the_fingerprint_follows_the_code(tmp_path: Path) -> None:
    (tmp_path / "accounts").mkdir()
    code = tmp_path / "accounts" / "models.py"
    code.write_text("a = 1\n")
    before = service.fingerprint(tmp_path)
    assert service.fingerprint(tmp_path) == before
    (tmp_path / "accounts" / "models.pyc").write_text("compiled")
    assert service.fingerprint(tmp_path) == before
    code.write_text("a = 2\n")
    assert service.fingerprint(tmp_path) != before


def test_one_supervisor_holds_a_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with service.lock(home) as is_free:
        assert is_free
        assert service.is_supervised(home)
    assert not service.is_supervised(home)


def test_a_damaged_state_file_is_no_state(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert service.load(home) is None
    home.state_file.write_text('{"state": "rea')
    assert service.load(home) is None


def test_the_pool_still_has_the_pauses_that_we_shorten() -> None:
    """mem0stack.apps sets them on psycopg's class; under another name they would change nothing."""
    assert AttemptWithBackoff.INITIAL_DELAY == 0.02
    attempt = AttemptWithBackoff(timeout=3)
    attempt.update_delay(100.0)
    assert attempt.delay < 0.03
    attempt.update_delay(100.0)
    assert attempt.delay < 0.05
