"""A provider on loopback that speaks OpenAI's language: a real HTTP server, told by the test how to behave."""

import hashlib
import json
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODES = (
    "ok",
    "hanging",  # takes the request and never answers
    "trickling",  # answers a byte at a time, for ever
    "rate_limited",  # 429 with Retry-After
    "failing",  # 500
    "unauthorized",
    "redirecting",
    "garbage",  # no JSON
    "nonsense",  # JSON, and no answer
    "wrong_dimensions",
    "wrong_count",
    "not_a_number",
)


@dataclass
class OpenAIServer:
    """`url` to call, `mode` to behave, `calls` to see what was sent; `stop` and `start` to be away and back."""

    dimensions: int = 32
    mode: str = "ok"
    retry_after_s: float = 1.0
    delay_s: float = 0.0
    # Texts with this word are refused with 400, as too long ones are.
    refused_word: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    replies: deque[str] = field(default_factory=deque)
    port: int = 0
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def embedded(self) -> list[str]:
        """Every text that was sent to be embedded."""
        return [text for call in list(self.calls) for text in call["body"].get("input", ())]

    def start(self) -> None:
        fake = self

        class Handler(_Handler):
            server_of = fake

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.released.set()
            self._server.shutdown()
            self._server.server_close()
            self._server.hang_up()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.released = threading.Event()
        self._connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.append(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        """On connections that clients keep, too."""
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *args: Any) -> None:
        """A client that hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server_of: OpenAIServer
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        fake = self.server_of
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        fake.calls.append({"path": self.path, "headers": headers, "body": body, "at": time.monotonic()})
        if fake.delay_s:
            self.server.released.wait(fake.delay_s)
        match fake.mode:
            case "hanging":
                self.server.released.wait()
                self.close_connection = True
            case "trickling":
                self._trickle()
            case "rate_limited":
                self._answer(429, {"error": {"message": "slow down"}}, {"Retry-After": f"{fake.retry_after_s:g}"})
            case "failing":
                self._answer(500, {"error": {"message": "of no use: " + json.dumps(body)}})
            case "unauthorized":
                self._answer(401, {"error": {"message": "Incorrect API key provided"}})
            case "redirecting":
                self._answer(307, {}, {"Location": f"{fake.url}/elsewhere"})
            case "garbage":
                self._send(200, b"<html>no", {})
            case "nonsense":
                self._answer(200, {"object": "list", "data": "none", "choices": []})
            case _:
                self._answer(*_reply(fake, self.path, body))

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), headers or {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _trickle(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.close_connection = True
        while not self.server.released.wait(0.02):
            self.wfile.write(b" ")
            self.wfile.flush()


def _reply(fake: OpenAIServer, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    route = path.partition("?")[0]
    if route.endswith("/embeddings"):
        texts = body["input"]
        if fake.refused_word and any(fake.refused_word in text for text in texts):
            return 400, {"error": {"message": f"too long: {texts}"}}
        dimensions = body.get("dimensions", fake.dimensions)
        vectors = [vector_of(text, dimensions, body["model"]) for text in texts]
        if fake.mode == "wrong_dimensions":
            vectors = [vector[:-1] for vector in vectors]
        if fake.mode == "wrong_count":
            vectors = vectors[:-1]
        if fake.mode == "not_a_number":
            vectors = [[math.nan] * dimensions for _ in vectors]
        rows = [{"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(vectors)]
        # The order is the index's, not the list's.
        return 200, {"object": "list", "model": body["model"], "data": rows[::-1]}
    if route.endswith("/chat/completions"):
        text = fake.replies.popleft() if fake.replies else "No more was scripted."
        return 200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
    return 404, {"error": {"message": "no such route"}}


def vector_of(text: str, dimensions: int, model: str = "") -> list[float]:
    """A bag of hashed words, so that texts with words in common are similar; another one for each model."""
    vector = [0.0] * dimensions
    for word in text.lower().split():
        digest = hashlib.blake2b(f"{model} {word.strip('.,:;!?')}".encode(), digest_size=8).digest()
        vector[int.from_bytes(digest[:4], "big") % dimensions] += 1.0 if digest[4] % 2 else -1.0
    if not any(vector):
        vector[0] = 1.0
    return vector


@contextmanager
def openai_server(**options: Any) -> Iterator[OpenAIServer]:
    fake = OpenAIServer(**options)
    fake.start()
    try:
        yield fake
    finally:
        fake.stop()
