"""A server at the network's edge, as the stdio bridge meets it: it applies writes by their key, and fails as networks
and servers fail. `python -m tests.mcp_server_at_the_edge PORT FILE SEED` runs it as a process that can be killed.

It keeps what it applied in SQLite, committed before it replies, so that a `kill -9` is one of a durable server.
"""

import contextlib
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.bridge import KEY
from tests.running import CHECKOUT, free_port

# What a fault does to one request: `cut` applies and then closes without a word, `hang` says nothing at all, `trickle`
# sends a byte now and then, a number is a status, `error CODE` a tool's error.
FAULTS = ("cut", "hang", "trickle", "drop")

TOOLS = [
    {"name": name, "inputSchema": {"type": "object"}}
    for name in ("add_memories", "search_memory", "update_memory", "delete_memories", "memory_status")
]


class Applied:
    """What reached the server's disk, in order; the same key twice is one write."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS write (seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, text TEXT, "
            "said_at TEXT, run TEXT, project TEXT)"
        )

    def apply(self, key: str, text: str, headers: Any) -> int:
        with self._lock:
            self._database.execute(
                "INSERT OR IGNORE INTO write (key, text, said_at, run, project) VALUES (?, ?, ?, ?, ?)",
                (
                    key,
                    text,
                    *(headers.get(name, "") for name in ("X-Mem0-Said-At", "X-Mem0-Run", "X-Mem0-Project")),
                ),
            )
            return int(self._database.execute("SELECT seq FROM write WHERE key = ?", (key,)).fetchone()[0])

    def rows(self) -> list[dict[str, Any]]:
        names = ("key", "text", "said_at", "run", "project")
        with self._lock:
            found = self._database.execute(f"SELECT {', '.join(names)} FROM write ORDER BY seq").fetchall()  # noqa: S608
        return [dict(zip(names, row, strict=True)) for row in found]


class Edge:
    """The server inside the test's process: `faults` are used up one a request."""

    def __init__(self, path: str, port: int = 0) -> None:
        self.applied = Applied(path)
        self.faults: list[str | int] = []
        self.always: str | int = ""
        self.seen: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.tools = TOOLS
        self.as_stream = False
        self._http: ThreadingHTTPServer | None = None
        self._connections: set[Any] = set()
        self.port = port
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def last(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The last request. A notification is none: nobody waits for it, and it may come after the next call."""
        return next(one for one in reversed(self.seen) if "id" in one[0])

    @property
    def texts(self) -> list[str]:
        return [row["text"] for row in self.applied.rows()]

    def start(self) -> None:
        edge = self

        class Handler(_Handler):
            server_of = edge

        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """As `kill` does it: nobody listens any more, and every connection is cut."""
        if self._http:
            self._http.shutdown()
            self._http.server_close()
            self._http = None
            for connection in list(self._connections):
                with contextlib.suppress(OSError):
                    connection.shutdown(2)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()

    def answer(self, message: dict[str, Any], headers: Any) -> dict[str, Any] | None:
        """The JSON-RPC result of a message, or None for a notification."""
        method, params = message["method"], message.get("params") or {}
        if "id" not in message:
            return None
        if method == "initialize":
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {"listChanged": False}},
                "serverInfo": {"name": "mem0-stack", "version": "1"},
                "instructions": "at the edge",
            }
        if method == "tools/list":
            return {"tools": self.tools}
        if method == "resources/read":
            text = f"{params['uri']} as stored"
            return {"contents": [{"uri": params["uri"], "mimeType": "text/plain", "text": text}]}
        if method == "tools/call":
            return _text(self._call(params["name"], params.get("arguments") or {}, headers))
        return {}

    def _call(self, tool: str, arguments: dict[str, Any], headers: Any) -> str:
        if tool == "memory_status":
            return "ok\nqueued writes: 0\nserver version 1"
        if tool == "search_memory":
            if arguments.get("query") == "slow":
                time.sleep(2)
            mine = f"0badcafe 0.5 2026-11-01 {headers.get('X-Mem0-Client')}"
            return f"a1b2c3d4 0.83 2026-11-02 [pytest] Tests run with --reuse-db.\n{mine}"
        if arguments.get("text") == "half":
            return f"saved {self.applied.apply(arguments['idempotency_key'], 'half', headers):08x}\nfailed too_large x"
        texts = [arguments.get("text"), *(item["text"] for item in arguments.get("items") or [])]
        words = " | ".join(text for text in texts if text) or json.dumps(arguments, sort_keys=True)
        return f"saved {self.applied.apply(arguments['idempotency_key'], words, headers):08x}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server_of: Edge

    def setup(self) -> None:
        super().setup()
        self.server_of._connections.add(self.connection)

    def finish(self) -> None:
        self.server_of._connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def do_POST(self) -> None:
        edge = self.server_of
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message = json.loads(body)
        edge.seen.append((message, dict(self.headers.items())))
        # A client's notifications run beside its calls, and must not take a fault that is meant for one of those.
        fault = (edge.faults.pop(0) if edge.faults else edge.always) if "id" in message else ""
        if isinstance(fault, int):
            self._send(fault, b'{"error":"as told"}')
            return
        if fault == "drop":
            self.close_connection = True
            return
        if fault == "hang":
            time.sleep(30)
            return
        if fault.startswith("error "):
            result: dict[str, Any] | None = _text(f"ERROR {fault[6:]}: as told. Do something else.") | {"isError": True}
        else:
            result = edge.answer(message, self.headers)
        if fault == "cut":
            self.close_connection = True
            return
        if result is None:
            self._send(202, b"")
            return
        reply = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        if fault == "trickle":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")
            for _ in range(200):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.2)
            return
        if edge.as_stream:
            progress = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}})
            self._send(200, b"event: message\r\ndata: %s\r\n\r\ndata: %s\r\n\r\n" % (progress.encode(), reply), True)
            return
        self._send(200, reply)

    def _send(self, status: int, body: bytes, is_stream: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream" if is_stream else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


class EdgeProcess:
    """The server as a process, to be killed; now and then it cuts a connection after it has applied a write."""

    key = KEY

    def __init__(self, path: Path, seed: int) -> None:
        self._port, self._path, self._seed = free_port(), path, seed
        self.url = f"http://127.0.0.1:{self._port}/mcp"
        self.revive()

    def __enter__(self) -> "EdgeProcess":
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def revive(self) -> None:
        self._seed += 1
        words = ["-m", "tests.mcp_server_at_the_edge", str(self._port), str(self._path), str(self._seed)]
        self._process = subprocess.Popen([sys.executable, *words], cwd=CHECKOUT)

    def texts(self) -> list[str]:
        return [row["text"] for row in Applied(str(self._path)).rows()]


def _text(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": False}


def main() -> None:
    """Now and then it cuts a connection after it has applied the write, as a kill in that moment would."""
    port, path, seed = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    edge = Edge(str(Path(path)), port)
    rng = random.Random(seed)  # noqa: S311  no secret
    while True:
        time.sleep(0.05)
        if rng.random() < 0.05:
            edge.faults.append("cut")


if __name__ == "__main__":
    main()
