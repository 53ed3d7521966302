"""`manage.py reembed` beside a running service: searches and writes go on, and a kill -9 costs next to nothing."""

import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.openai_server import OpenAIServer, openai_server
from tests.running import Launcher, RunningService, prepared_service

MEMORIES = 400


@pytest.fixture(scope="module")
def fake() -> Iterator[OpenAIServer]:
    with openai_server() as server:
        yield server


def _environ(fake: OpenAIServer) -> dict[str, str]:
    return {
        "EMBEDDER_KIND": "compatible",
        "EMBEDDER_BASE_URL": fake.url,
        "EMBEDDER_MODEL": "first",
        "EMBEDDER_DIMENSIONS": "32",
        "EMBEDDER_BATCH_SIZE": "16",
        "EMBEDDER_API_KEY": "sk-of-the-test",
        "EMBEDDER_QUERY_BUDGET_MS": "2000",
    }


@pytest.fixture(scope="module")
def embedding_service(fake: OpenAIServer) -> Iterator[RunningService]:
    with prepared_service(Launcher(environ=_environ(fake))) as service:
        service.up()
        with service.client(timeout=60) as client:
            operations = [
                {"op": "add", "content": f"Fact {n}: the part p{n} stands on shelf s{n % 7}."} for n in range(MEMORIES)
            ]
            for start in range(0, MEMORIES, 100):
                reply = client.post("/api/v2/memories/batch/", json={"operations": operations[start : start + 100]})
                assert reply.status_code < 300, reply.text
        yield service


class Load:
    """Searchers and a writer over HTTP, who count what they miss."""

    def __init__(self, service: RunningService) -> None:
        self.service = service
        self.searches = self.writes = 0
        self.wrong: list[Any] = []
        self._over = threading.Event()
        workers = [self._search, self._search, self._write]
        self._threads = [threading.Thread(target=work, args=(n,)) for n, work in enumerate(workers)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _search(self, seed: int) -> None:
        with self.service.client() as client:
            place = seed
            while not self._over.is_set():
                place = (place + 37) % MEMORIES
                reply = client.post("/api/v2/search/", json={"query": f"where is part p{place}", "top_k": 10})
                found = reply.json()
                contents = [hit["content"] for hit in found.get("results", ())]
                if len(contents) != 10 or not any(f"part p{place} " in text for text in contents):
                    self.wrong.append((place, reply.status_code, contents))
                self.searches += 1
                time.sleep(0.02)

    def _write(self, _: int) -> None:
        with self.service.client() as client:
            while not self._over.is_set():
                reply = client.post("/api/v2/memories/", json={"content": f"A late fact l{self.writes}."})
                if reply.status_code != 201:
                    self.wrong.append(reply.text)
                self.writes += 1
                time.sleep(0.05)


def _start(service: RunningService, *words: str) -> subprocess.Popen[str]:
    command = [*service.launcher.words, "reembed", *words, "--home", str(service.home)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, **service.launcher.popen_options())


def _wait_for(question: Any, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_reembed_under_load_survives_a_kill_and_loses_no_result(
    embedding_service: RunningService, fake: OpenAIServer
) -> None:
    service = embedding_service
    with Load(service) as load:
        # The first model, killed in the middle.
        fake.delay_s = 0.1
        killed = _start(service)
        _wait_for(lambda: len(fake.embedded) >= 100)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        sent = len(fake.embedded)
        fake.delay_s = 0.0
        again = service.manage("reembed")
        assert again.returncode == 0, again.stderr
        assert "Searches use first (compatible, 32 dimensions) from now on." in again.stdout
        # At most the batch that was under way is sent twice.
        documents = [text for text in fake.embedded if text.startswith("Fact ")]
        assert len(documents) <= MEMORIES + 16
        assert sent < MEMORIES

        # Another model, while searches ask the first.
        other = service.manage("reembed", "--model", "second", "--dimensions", "32", "--drop-old")
        assert other.returncode == 0, other.stderr
        assert re.search(r"[1-9]\d* old vectors are gone", other.stdout)
        _wait_for(lambda: any(call["body"]["model"] == "second" for call in fake.calls[-20:]))
    assert load.wrong == []
    assert load.searches > 20
    assert load.writes > 10

    # What was written meanwhile has its vector, too, by the worker.
    def is_complete() -> bool:
        active = service.manage("reembed", "--status").stdout.splitlines()[0]
        return active.startswith(
            f"active: second (compatible, 32 dimensions): {MEMORIES + load.writes} embedded, 0 not"
        )

    _wait_for(is_complete)
    with service.client() as client:
        found = client.post("/api/v2/search/", json={"query": "where is part p5"}).json()
        assert found["degraded"] == []
        assert {call["headers"]["authorization"] for call in fake.calls} == {"Bearer sk-of-the-test"}
        health = client.get("/health/").json()
        assert health["parts"]["embedder"]["status"] == "ok"
    logs = "".join(path.read_text() for path in (service.home / "logs").glob("*.log"))
    assert "sk-of-the-test" not in logs
    assert "stands on shelf" not in logs


def test_a_provider_that_is_away_is_said_with_its_mend_and_changes_nothing(
    embedding_service: RunningService, fake: OpenAIServer
) -> None:
    before = embedding_service.manage("reembed", "--status").stdout
    fake.mode = "unauthorized"
    refused = embedding_service.manage("reembed", "--model", "third")
    fake.mode = "ok"
    assert refused.returncode == 1
    assert "unauthorized" in refused.stderr
    assert "Enter a key that it accepts. Nothing was changed." in refused.stderr
    assert "Traceback" not in refused.stderr
    assert embedding_service.manage("reembed", "--status").stdout == before


def test_what_would_be_sent_is_said_before_it_costs(embedding_service: RunningService, fake: OpenAIServer) -> None:
    calls = len([call for call in fake.calls if call["body"]["model"] == "dear"])
    said = embedding_service.manage("reembed", "--dry-run", "--model", "dear").stdout
    assert re.match(r"\d+ memories, about \d+ tokens in \d+ requests or more, would be sent to dear", said)
    assert len([call for call in fake.calls if call["body"]["model"] == "dear"]) == calls


def test_without_an_embedder_it_says_what_to_set(embedding_service: RunningService) -> None:
    result = embedding_service.manage("reembed", EMBEDDER_KIND="")
    assert result.returncode == 2
    assert "No embedder is configured. Set EMBEDDER_KIND" in result.stderr


def test_a_terminal_sees_a_bar(embedding_service: RunningService) -> None:
    options = embedding_service.launcher.popen_options()
    environ = options.pop("env") | {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "120"}
    command = [*embedding_service.launcher.words, "reembed", "--model", "fourth", "--no-switch"]
    done = subprocess.run(
        [*command, "--home", str(embedding_service.home)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )
    assert done.returncode == 0, done.stderr
    assert "━" in done.stdout
    assert "run it again to switch" in done.stdout
