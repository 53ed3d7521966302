"""How fast a running service is, over HTTP, as one client sees it. Every reply is checked: a wrong one is an error."""

import http.client
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

_WORD_LIST = """
agent alert api archive backup batch bench branch broker browser bucket budget build cache cargo celery certificate
cluster column commit config container cookie cron curl customer dashboard database decision deploy design discount
docker domain driver editor embed endpoint error export failure feature filter flag folder function gateway graph
header hook host hour image import index ingest invoice issue journal key kubernetes label latency ledger library
limit lint listener lock log machine mail memory merge message metric migration model module monday network node
notebook number order package page parser password patch payment pipeline plan pod policy pool postgres prefix price
profile project prompt proxy python query queue quota rate record redis region release replica report request retry
review role rollback route rule sample schema scope script search secret server session setting shard share shell
signal socket source sprint staging status storage stream table tag task team template tenant terminal test thread
ticket timeout token trace transaction trigger tunnel type update upload user valkey vector version view volume
webhook window worker workflow yaml
"""
_WORDS = _WORD_LIST.split()
_WARM_UP = 20


@dataclass(frozen=True)
class Figures:
    """Of one kind of call: milliseconds at three percentiles, calls a second by one client, wrong replies."""

    call: str
    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    per_second: float
    errors: int


class Client:
    """One keep-alive connection with a key."""

    def __init__(self, url: str, key: str) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the JSON of the reply."""
        payload = None if body is None else orjson.dumps(body)
        self._connection.request(method, path, body=payload, headers=self._headers)
        reply = self._connection.getresponse()
        return reply.status, orjson.loads(reply.read())


def sentences(seed: int) -> Iterator[str]:
    """Endless texts of 8 to 30 words, a few of them common, as people's words are; each ends in a word of its own."""
    draw = random.Random(seed)  # noqa: S311  no secret
    weights = [1 / (place + 3) for place in range(len(_WORDS))]
    number = 0
    while True:
        words = draw.choices(_WORDS, weights, k=draw.randint(8, 30))
        yield f"{' '.join(words)} case{number}"
        number += 1


def load(client: Client, texts: Sequence[str], progress: Callable[[int], None]) -> None:
    """Store texts in batches of 500. Raises RuntimeError when one is refused."""
    for start in range(0, len(texts), 500):
        some = texts[start : start + 500]
        operations = [{"op": "add", "content": text, "tags": ["bench"]} for text in some]
        status, reply = client.call("POST", "/api/v2/memories/batch/", {"operations": operations, "atomic": True})
        if status != 200 or reply["written"] != len(some):
            raise RuntimeError(f"The batch was answered with {status}: {reply}")
        progress(len(some))


def measure(client: Client, stored: Sequence[str], *, rounds: int, seed: int) -> list[Figures]:
    """Closed loops of one client, one kind of call after the other, over what `load` has stored."""
    draw = random.Random(seed)  # noqa: S311  no secret
    fresh = sentences(seed + 1)
    ids: list[str] = []

    def search() -> bool:
        text = draw.choice(stored)
        query = " ".join([*draw.sample(text.split()[:-1], 4), text.split()[-1]])
        status, reply = client.call("POST", "/api/v2/search/", {"query": query})
        return status == 200 and len(reply["results"]) == 10 and reply["results"][0]["content"] == text

    def create() -> bool:
        status, reply = client.call("POST", "/api/v2/memories/", {"content": "new " + next(fresh)})
        ids.append(reply.get("id", ""))
        return status == 201

    def get() -> bool:
        chosen = draw.choice(ids)
        status, reply = client.call("GET", f"/api/v2/memories/{chosen}/")
        return status == 200 and reply["id"] == chosen

    def update() -> bool:
        status, reply = client.call("PATCH", f"/api/v2/memories/{draw.choice(ids)}/", {"content": "now " + next(fresh)})
        return status == 200 and reply["content"].startswith("now ")

    def page() -> bool:
        status, reply = client.call("GET", "/api/v2/memories/?page_size=50")
        return status == 200 and len(reply["results"]) == 50

    def delete() -> bool:
        status, reply = client.call("DELETE", f"/api/v2/memories/{ids.pop()}/")
        return status == 200 and reply["event"] == "DELETE"

    def floor() -> bool:
        return client.call("GET", "/api/v2/me/")[0] == 200

    calls = {"floor: who am I": floor, "search": search, "create": create, "get": get, "update": update}
    calls |= {"list of 50": page, "delete": delete}
    return [_time(name, call, rounds) for name, call in calls.items()]


def as_json(figures: Sequence[Figures], **more: Any) -> str:
    return orjson.dumps({"calls": [asdict(row) for row in figures], **more}, option=orjson.OPT_INDENT_2).decode()


def _time(name: str, call: Callable[[], bool], rounds: int) -> Figures:
    # The same calls, unmeasured: connections, plans and caches are then as in a service that has been up for a minute.
    if name != "delete":
        for _ in range(_WARM_UP):
            call()
    taken: list[float] = []
    errors = 0
    for _ in range(rounds):
        started = time.perf_counter()
        errors += not call()
        taken.append((time.perf_counter() - started) * 1000)
    ordered = sorted(taken)

    def percentile(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)], 2)

    return Figures(
        call=name,
        count=rounds,
        p50_ms=percentile(0.5),
        p95_ms=percentile(0.95),
        p99_ms=percentile(0.99),
        per_second=round(1000 * rounds / sum(taken), 1),
        errors=errors,
    )
