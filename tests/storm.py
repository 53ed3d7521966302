"""Bridges and their server are killed at random moments while clients write; then every acknowledged write is counted.

In the tests for about a minute; for hours by `make soak ARGS="--bridges --minutes 60"`.
"""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mcp_bridge import stdio
from tests.bridge import BridgeProcess, eventually


class Server(Protocol):
    """What can be killed, and asked afterwards what it has."""

    url: str
    key: str

    def kill(self) -> None: ...

    def revive(self) -> None: ...

    def texts(self) -> list[str]:
        """Of all writes, in the order in which they were applied."""


class Client:
    """Writes one memory after another through a bridge of its own, and starts a new one when that was killed."""

    def __init__(self, number: int, server: Server, folder: Path, stopping: threading.Event) -> None:
        self.number = number
        self.sent = 0
        self.acknowledged: list[str] = []
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.bridge: BridgeProcess | None = None
        self._server, self._folder, self._stopping = server, folder, stopping
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._go_on()
        except Exception as error:  # noqa: BLE001  a thread's end must not pass for a success
            self.wrong.append(f"a client ended: {error!r}")

    def _go_on(self) -> None:
        while not self._stopping.is_set():
            self.bridge = BridgeProcess(self._server.url, self._folder, "--project", "storm", key=self._server.key)
            with contextlib.suppress(ConnectionError):
                self.bridge.initialize()
                while not self._stopping.is_set():
                    self._write(self.bridge)
            # Its last breath is not awaited: some are killed, and the last ones are ended as clients end them.
            self.bridge.close()

    def _write(self, bridge: BridgeProcess) -> None:
        self.sent += 1
        text = f"storm of client {self.number} write {self.sent:06d}"
        result = bridge.result("add_memories", text=text)
        words = result["content"][0]["text"]
        kind = words.split(" ")[0]
        self.answers[kind] += 1
        if kind in ("saved", "exists", "QUEUED") and not result["isError"]:
            self.acknowledged.append(text)
        else:
            self.wrong.append(words)
        self._stopping.wait(0.005)


def storm(
    server: Server,
    folder: Path,
    seed: int,
    *,
    kills: int,
    clients: int = 2,
    pause_s: float = 0.8,
    tell: Callable[[int, int], None] = lambda kills, writes: None,
) -> list[str]:
    """Runs it, asserts what must hold, and returns the figures as lines."""
    rng = random.Random(seed)  # noqa: S311  no secret
    stopping = threading.Event()
    writers = [Client(number, server, folder, stopping) for number in range(clients)]
    for one in writers:
        one.thread.start()
    done: Counter[str] = Counter()
    for number in range(kills):
        time.sleep(rng.uniform(0.05, pause_s))
        if rng.random() < 0.5:
            victim = rng.choice(writers).bridge
            if victim:
                victim.process.kill()
            done["bridge"] += 1
        else:
            server.kill()
            done["server"] += 1
            time.sleep(rng.uniform(0, pause_s))
            server.revive()
        tell(number + 1, sum(len(one.acknowledged) for one in writers))
    stopping.set()
    for one in writers:
        one.thread.join(60)
        assert not one.thread.is_alive(), "a client hangs"
    began = time.monotonic()
    last = BridgeProcess(server.url, folder, key=server.key)
    queue = stdio.Queue(str(folder / f"{stdio.file_name(server.url, server.key)}.db"))
    try:
        eventually(queue.is_empty, 60)
    finally:
        last.kill()
    drained_s = time.monotonic() - began
    lines = [
        f"storm with seed {seed}: killed {done['bridge']} bridges and {done['server']} servers, "
        f"{sum(len(one.acknowledged) for one in writers)} acknowledged, each there once, "
        f"last queue sent in {drained_s:.1f} s",
        f"answers: {dict(sum((one.answers for one in writers), Counter()))}",
    ]
    try:
        _assert_true(writers, server.texts(), queue)
    except AssertionError as error:
        error.add_note("\n".join(lines))
        raise
    return lines


def _assert_true(writers: list[Client], texts: list[str], queue: stdio.Queue) -> None:
    counted = Counter(texts)
    assert not queue.dead(), f"refused: {queue.dead()}"
    for one in writers:
        assert not one.wrong, one.wrong[:3]
        lost = [text for text in one.acknowledged if not counted[text]]
        assert not lost, f"{len(lost)} acknowledged writes are lost, the first is {lost[0]}"
        mine = [text for text in texts if f"client {one.number} " in text]
        doubled = [text for text in mine if counted[text] > 1]
        assert not doubled, f"{len(doubled)} writes are doubled, the first is {doubled[0]}"
        kept = set(one.acknowledged)
        assert [text for text in mine if text in kept] == one.acknowledged, "the order is lost"
