"""Processes that outlive mistakes: told apart by pid and start time, ended as whole groups, restarted when they die."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mem0stack.embedded.account import EmbeddedError

# In the environment of every child and so of every descendant: what a dead supervisor left behind is found by it.
MARK = "MEM0_CHILD_OF"
_LOG_LIMIT_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True)
class ProcessId:
    """A process, and no later one that was given the same number."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    def is_alive(self) -> bool:
        """A zombie is dead: nobody may be there to reap it."""
        try:
            process = psutil.Process(self.pid)
            # The start time is computed from the wall clock, which may be set meanwhile.
            is_same = abs(process.create_time() - self.started) < 2
            return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False

    def signal(self, number: int) -> None:
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def marked(home: Path) -> list[ProcessId]:
    """Every living process that a supervisor of this home started, at any depth, this process's own line excepted."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid in own or process.environ().get(MARK) != str(home):
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(ProcessId(process.pid, process.create_time()))
        except psutil.Error:
            continue
    return found


def group_members(group: int) -> list[int]:
    """Living processes of a process group. A zombie would answer signals for ever where nobody reaps."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (psutil.Error, ProcessLookupError):
            continue
    return members


def kill_group(group: int) -> None:
    """Returns when nothing of the group lives, so that its port and its files are free."""
    deadline = time.monotonic() + 10
    while group_members(group) and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        time.sleep(0.02)


def end(processes: Iterable[ProcessId], *, patience_s: float) -> list[int]:
    """Ends them politely, then by force. Returns the pids that were alive."""
    alive = [process for process in processes if process.is_alive()]
    for process in alive:
        process.signal(signal.SIGTERM)
    rest = _wait_for_end(alive, patience_s)
    for process in rest:
        process.signal(signal.SIGKILL)
    _wait_for_end(rest, 10)
    return [process.pid for process in alive]


def _wait_for_end(processes: list[ProcessId], timeout_s: float) -> list[ProcessId]:
    deadline = time.monotonic() + timeout_s
    while (processes := [process for process in processes if process.is_alive()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return processes


def run_tool(words: list[str], *, what: str, **options: Any) -> str:
    """Runs a program to its end and returns what it printed; EmbeddedError with its last lines when it fails."""
    result = subprocess.run(words, capture_output=True, text=True, check=False, **options)  # noqa: S603
    if result.returncode != 0:
        output = f"{result.stdout}\n{result.stderr}"
        raise EmbeddedError(f"{what} failed (exit status {result.returncode}). {explain(output)}")
    return str(result.stdout)


def explain(output: str) -> str:
    """What a person should hear of a failed program's output."""
    if "No space left on device" in output:
        return "The disk is full: free some space and run the same command again."
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "It said: " + " / ".join(lines[-4:]) if lines else "It said nothing."


def tail(path: Path, size: int = 2000) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def trim_log(path: Path) -> None:
    """Keeps a log below its limit, with one older copy. The writer has it open for appending, so it may be cut."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_LIMIT_BYTES:
            older = path.with_suffix(".log.1")
            older.write_bytes(path.read_bytes())
            older.chmod(0o600)
            os.truncate(path, 0)


@dataclass(frozen=True)
class Program:
    """A child as the supervisor wants it. `is_ready` gets the pid and may raise nothing."""

    name: str
    words: list[str]
    log: Path
    environ: Mapping[str, str]
    is_ready: Callable[[int], bool]
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 15
    # PostgreSQL's first tries fail while backends of a killed one are still going.
    attempts: int = 2
    options: Mapping[str, Any] = field(default_factory=dict)


class Keeper:
    """Starts one program in a session of its own, starts it again when it dies, and stops it with all it started."""

    FIRST_PAUSE_S = 0.2
    LONGEST_PAUSE_S = 5.0
    HEALTHY_S = 30.0

    def __init__(self, program: Program, on_change: Callable[[], None]) -> None:
        self.program = program
        self.state = "stopped"
        self.restarts = 0
        self.process_id: ProcessId | None = None
        self._on_change = on_change
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: str | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=program.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self.state != "ready":
            if self._failure or self.restarts >= self.program.attempts:
                reason = self._failure or explain(tail(self.program.log))
                raise EmbeddedError(f"{self.program.name} does not start. {reason} More is in {self.program.log}.")
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self.program.name} was not ready within {timeout_s:.0f} seconds. "
                    f"{explain(tail(self.program.log))} More is in {self.program.log}."
                )
            time.sleep(0.02)

    def stop(self) -> None:
        with self._lock:
            self._stopping.set()
            process = self._process
            if process is not None and process.poll() is None:
                process.send_signal(self.program.stop_signal)
        if self._thread.ident is None:
            return
        self._thread.join(self.program.stop_timeout_s)
        if self._thread.is_alive() and process is not None:
            # For PostgreSQL this is its immediate shutdown, for the others the end.
            process.send_signal(signal.SIGQUIT)
            self._thread.join(5)
            kill_group(process.pid)
            self._thread.join(5)
        self._change("stopped")

    def _keep(self) -> None:
        pause_s = self.FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                process = self._spawn()
            except OSError as error:
                self._failure = f"{self.program.words[0]} could not be started: {error.strerror}."
                process = None
            if self._stopping.is_set():
                break
            if process is not None:
                self._watch(process)
                kill_group(process.pid)
            if self._stopping.is_set():
                break
            self.restarts += 1
            self._change("restarting")
            if time.monotonic() - began > self.HEALTHY_S:
                pause_s = self.FIRST_PAUSE_S
            if self._stopping.wait(pause_s):
                break
            pause_s = min(pause_s * 2, self.LONGEST_PAUSE_S)

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._stopping.is_set():
                return None
            trim_log(self.program.log)
            with self.program.log.open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603
                    self.program.words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=self.program.environ,
                    **self.program.options,
                )
        self._failure = None
        self.process_id = ProcessId.of(self._process.pid)
        self._change("starting")
        return self._process

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Returns when the process has died."""
        while process.poll() is None:
            if self.program.is_ready(process.pid):
                self._change("ready")
                process.wait()
                return
            time.sleep(0.05)

    def _change(self, state: str) -> None:
        self.state = state
        self._on_change()
