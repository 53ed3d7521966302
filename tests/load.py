"""Clients that keep on while things break, and that remember what they were told: was it true afterwards?"""

import logging
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg

from mem0stack.embedded import postgres
from mem0stack.lib.home import Home
from tests.running import RunningService

# A request may arrive for 12 seconds and be answered for 12; the rest is for a machine with too much to do.
LONGEST_S = 12 + 12 + 6
TOP_K = 10
_WORDS = """
alert branch budget cache certificate column deploy disk driver export failure feature folder gateway host import
invoice journal key label ledger license machine merge migration node order package parser pipeline policy port
price profile proxy query region release review role sample schema secret server session signal storage table
ticket token trace upload vector version window worker
"""

# A line for each request would bury what a failing test has to say.
logging.getLogger("httpx").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Call:
    """One request as its sender saw it. `outcome` is the status, or the name of the exception without one."""

    kind: str
    outcome: int | str
    began: float
    seconds: float

    @property
    def is_well(self) -> bool:
        return self.outcome in (200, 201)


@dataclass
class Seen:
    """What all clients of a load saw, in the order in which they saw it."""

    calls: list[Call] = field(default_factory=list)
    # Content by the id that the service gave for it.
    acknowledged: dict[str, str] = field(default_factory=dict)
    sent: set[str] = field(default_factory=set)
    retries: int = 0
    # What must never be, in words.
    wrong: list[str] = field(default_factory=list)

    def failures(self) -> Counter[int | str]:
        return Counter(call.outcome for call in self.calls if not call.is_well)

    def seconds(self, kind: str) -> list[float]:
        return sorted(call.seconds for call in self.calls if call.kind == kind and call.is_well)

    def longest(self) -> float:
        return max((call.seconds for call in self.calls), default=0.0)

    def longest_gap(self, kind: str) -> float:
        """Seconds without any success of this kind, at worst."""
        ends = sorted(call.began + call.seconds for call in self.calls if call.kind == kind and call.is_well)
        return max((later - earlier for earlier, later in zip(ends, ends[1:], strict=False)), default=0.0)


class Load:
    """Writers that repeat each write under its idempotency key until it is acknowledged, and searchers that look for
    what was acknowledged, for as long as the block lasts. Reproducible by its seed, but for the order of threads."""

    def __init__(
        self, service: RunningService, seed: int, *, writers: int = 4, searchers: int = 2, pause_s: float = 0.01
    ) -> None:
        self._service = service
        self._rng = random.Random(seed)  # noqa: S311  no secret
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._name = f"{seed:x}{time.time_ns():x}"
        self._known: list[tuple[str, str]] = []
        works = [(self._write_on, number) for number in range(writers)]
        works += [(self._search_on, number) for number in range(searchers)]
        seeds = [self._rng.getrandbits(32) for _ in works]
        self._threads = [
            threading.Thread(target=self._run, args=(work, number, random.Random(one)), daemon=True)  # noqa: S311
            for (work, number), one in zip(works, seeds, strict=True)
        ]
        self.seen = Seen()

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Each writer still has its last write acknowledged."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(120)
        if not exc[0]:
            assert not any(thread.is_alive() for thread in self._threads), "a client hangs"

    def wait_for_writes(self, count: int, timeout_s: float = 60) -> None:
        """Returns when this many more writes have been acknowledged."""
        wanted, deadline = len(self.seen.acknowledged) + count, time.monotonic() + timeout_s
        while len(self.seen.acknowledged) < wanted:
            assert time.monotonic() < deadline, f"no {count} writes within {timeout_s} s: {self.seen.failures()}"
            time.sleep(0.05)

    def _run(self, work: Any, number: int, rng: random.Random) -> None:
        # A connection for each request, so that both web processes get their share.
        limits = httpx.Limits(max_keepalive_connections=0)
        with self._service.client(timeout=LONGEST_S + 10, limits=limits) as client:
            try:
                work(client, number, rng)
            except Exception as error:  # noqa: BLE001  a thread's end must not pass for a success
                self.seen.wrong.append(f"a client ended: {error!r}")

    def _write_on(self, client: httpx.Client, number: int, rng: random.Random) -> None:
        turn = 0
        while not self._stopping.is_set():
            turn += 1
            name = f"{self._name}w{number}n{turn}"
            contents = [
                f"{' '.join(rng.choices(_WORDS.split(), k=12))} {name}p{part}"
                for part in range(3 if turn % 5 == 0 else 1)
            ]
            self.seen.sent.update(contents)
            self._write(client, name, contents, number)
            time.sleep(self._pause_s)

    def _write(self, client: httpx.Client, name: str, contents: list[str], number: int) -> None:
        give_up = time.monotonic() + 180
        while True:
            body: dict[str, Any]
            if len(contents) > 1:
                path = "/api/v2/memories/batch/"
                body = {"operations": [{"op": "add", "content": content} for content in contents], "atomic": True}
            else:
                path, body = "/api/v2/memories/", {"content": contents[0], "tags": [f"writer{number}"]}
            reply = self._call("write", client, path, body, {"Idempotency-Key": name})
            if reply is not None and reply.status_code in (200, 201):
                said = reply.json()
                ids = [one["id"] for one in said["results"]] if len(contents) > 1 else [said["id"]]
                self.seen.acknowledged.update(zip(ids, contents, strict=True))
                self._known.extend(zip(ids, contents, strict=True))
                return
            self.seen.retries += 1
            if time.monotonic() > give_up:
                self.seen.wrong.append(f"no acknowledgement for {contents} in 180 seconds")
                return
            time.sleep(0.1)

    def _search_on(self, client: httpx.Client, number: int, rng: random.Random) -> None:
        while not self._stopping.is_set():
            known = len(self._known)
            if known < TOP_K:
                time.sleep(0.05)
                continue
            memory_id, content = self._known[rng.randrange(known)]
            reply = self._call("search", client, "/api/v2/search/", {"query": content, "top_k": TOP_K}, {})
            if reply is not None and reply.status_code == 200:
                ids = [hit["id"] for hit in reply.json()["results"]]
                if memory_id not in ids:
                    self.seen.wrong.append(f"not found although acknowledged: {memory_id}")
                if len(ids) != TOP_K:
                    self.seen.wrong.append(f"{len(ids)} results of {known} memories")
            time.sleep(self._pause_s if reply is not None and reply.status_code == 200 else 0.1)

    def _call(
        self, kind: str, client: httpx.Client, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> httpx.Response | None:
        began = time.monotonic()
        reply, outcome = None, ""
        try:
            reply = client.post(path, json=body, headers=headers)
        except httpx.TransportError as error:
            outcome = type(error).__name__
        self.seen.calls.append(
            Call(kind, reply.status_code if reply is not None else outcome, began, time.monotonic() - began)
        )
        if reply is not None and reply.status_code not in (200, 201):
            self._check_refusal(reply)
        return reply

    def _check_refusal(self, reply: httpx.Response) -> None:
        """Whatever breaks, the caller reads what it was, in our shape."""
        try:
            said = reply.json()
        except ValueError:
            self.seen.wrong.append(f"{reply.status_code} without JSON: {reply.text[:200]!r}")
            return
        is_shaped = {"detail", "code", "request_id"} <= set(said)
        is_expected = reply.status_code in (503, 507) and "Retry-After" in reply.headers
        if not (is_shaped and is_expected):
            self.seen.wrong.append(f"{reply.status_code} {dict(reply.headers)} {reply.text[:300]}")


def as_superuser(service: RunningService) -> psycopg.Connection[Any]:
    """A connection that no policy binds."""
    socket_dir = str(Home(service.home).postgres_socket_dir)
    return psycopg.connect(
        host=socket_dir, dbname=postgres.DATABASE, user=postgres.SUPERUSER, autocommit=True, connect_timeout=5
    )


def assert_true(service: RunningService, seen: Seen) -> None:
    """Everything acknowledged is there exactly once and under its id, and nothing that was sent is there twice."""
    assert seen.wrong == []
    with as_superuser(service) as database:
        rows = database.execute("SELECT id::text, content FROM memories_memory WHERE state <> 'deleted'").fetchall()
    stored = Counter(content for _, content in rows)
    ids = dict(rows)
    lost = [content for memory_id, content in seen.acknowledged.items() if ids.get(memory_id) != content]
    assert lost == [], f"{len(lost)} acknowledged writes are lost"
    twice = [content for content in seen.sent if stored[content] > 1]
    assert twice == [], f"{len(twice)} writes are there twice"


def wait_for_drained_outbox(service: RunningService, timeout_s: float = 60) -> float:
    """Seconds until nothing waits in any outbox; nothing is dead, and the statistics counted each memory once."""
    began = time.monotonic()
    with as_superuser(service) as database:
        while True:
            [(waiting, dead)] = database.execute(
                "SELECT count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'dead')"
                " FROM memories_outboxdelivery"
            ).fetchall()
            if not waiting:
                break
            assert time.monotonic() - began < timeout_s, f"{waiting} deliveries still wait"
            time.sleep(0.2)
        assert dead == 0
        off = database.execute(
            "SELECT owner_id, s.memories, count(m.id) FROM memories_ownerstatistics s JOIN memories_memory m"
            " USING (owner_id) WHERE m.state <> 'deleted' GROUP BY 1, 2 HAVING s.memories <> count(m.id)"
        ).fetchall()
        assert off == [], "(owner, memories as the worker counted them, memories)"
    return time.monotonic() - began
