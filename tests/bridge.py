"""The stdio bridge as a client runs it: a process, lines in, lines out."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BRIDGE = Path(__file__).resolve().parent.parent / "mcp_bridge" / "stdio.py"
KEY = "m0_abcdefgh_not_a_key_of_anybody"
MODERN = "2026-07-28"


class BridgeProcess:
    """One client with its bridge. Replies may come in any order; `tool` waits for its own."""

    def __init__(self, url: str, folder: Path, *words: str, key: str = KEY, cwd: Path | None = None) -> None:
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("MEM0", "CLAUDE", "CURSOR"))
        }
        self.process = subprocess.Popen(
            [sys.executable, str(BRIDGE), "--url", url, "--data-dir", str(folder), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environ, "MEM0_API_KEY": key},
            cwd=cwd or folder.parent,
        )
        self.others: queue.Queue[dict[str, Any]] = queue.Queue()
        self._answers: dict[Any, queue.Queue[dict[str, Any] | None]] = {}
        self._lock = threading.Lock()
        self._last = 0
        self._has_ended = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            message = json.loads(line)
            waiting = self._answers.get(message.get("id")) if "method" not in message else None
            (waiting or self.others).put(message)
        with self._lock:
            for waiting in self._answers.values():
                waiting.put(None)
            self._has_ended = True

    def send(self, line: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def begin(self, method: str, params: dict[str, Any] | None = None) -> "queue.Queue[dict[str, Any] | None]":
        waiting: queue.Queue[dict[str, Any] | None] = queue.Queue()
        with self._lock:
            self._last += 1
            number = self._last
            self._answers[number] = waiting
            if self._has_ended:
                waiting.put(None)
        with contextlib.suppress(OSError):
            self.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}).encode())
        return waiting

    def ask(self, method: str, params: dict[str, Any] | None = None, timeout: float = 20) -> dict[str, Any]:
        answer = self.begin(method, params).get(timeout=timeout)
        if answer is None:
            raise ConnectionError("the bridge has ended")
        return answer

    def notify(self, method: str) -> None:
        self.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": {}}).encode())

    def initialize(self, version: str = "2025-06-18") -> dict[str, Any]:
        info = {"name": "test-client", "version": "1"}
        answer = self.ask("initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": info})
        self.notify("notifications/initialized")
        result: dict[str, Any] = answer["result"]
        return result

    def result(self, name: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("tools/call", {"name": name, "arguments": arguments})["result"]
        return answer

    def tool(self, name: str, **arguments: Any) -> str:
        text: str = self.result(name, **arguments)["content"][0]["text"]
        return text

    def kill(self) -> None:
        self.process.kill()
        self._wait()

    def close(self) -> int:
        """As a client ends it; the exit status."""
        assert self.process.stdin
        with contextlib.suppress(OSError):  # it has ended already
            self.process.stdin.close()
        return self._wait()

    def _wait(self) -> int:
        status = self.process.wait(timeout=15)
        self._listener.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        return status


@contextlib.contextmanager
def bridge(url: str, folder: Path, *words: str, version: str = "2025-06-18", **options: Any) -> Iterator[BridgeProcess]:
    """A session that has begun, unless `version` is empty."""
    process = BridgeProcess(url, folder, *words, **options)
    try:
        if version:
            process.initialize(version)
        yield process
    finally:
        process.kill()


def eventually(condition: Any, timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
