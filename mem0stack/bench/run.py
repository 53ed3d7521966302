"""One run of the bench, from an empty directory to the report."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from mem0stack.bench import figures
from mem0stack.bench.corpus import Owner, owners, size_class
from mem0stack.bench.host import Host
from mem0stack.bench.load import Generator, Measured
from mem0stack.bench.report import SCHEMA, targets
from mem0stack.embedded.service import CHILDREN

# In this order: what writes much comes last, so that the rest sees the memories as they were loaded.
CALLS = ("me", "search", "get", "list", "update", "delete", "create", "batch")


@dataclass(frozen=True)
class Plan:
    """How large and how long a run is."""

    memories: int = 100_000
    seconds: float = 8.0
    open_seconds: float = 60.0
    clients: Sequence[int] = (1, 8, 20)
    calls: Sequence[str] = CALLS
    kills: Sequence[str] = CHILDREN
    seed: int = 1

    def owners(self) -> list[Owner]:
        return owners(self.memories, self.seed)


class Steps:
    """Told what goes on; the command shows it."""

    def begin(self, text: str) -> None: ...

    def advance(self, text: str, done: int, total: int) -> None: ...

    def done(self, text: str, seconds: float) -> None: ...


def run(host: Host, plan: Plan, steps: Steps) -> dict[str, Any]:
    """The report, as `docs/performance.md` describes it. The service is running afterwards."""
    everybody = plan.owners()
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": figures.machine(),
        "plan": asdict(plan),
        "corpus": {"memories": sum(one.size for one in everybody), "owners": [one.size for one in everybody]},
    }
    with _step(steps, "Start from nothing"):
        report["start"] = {"first_s": round(host.up(with_indexes=False), 2)}
        report["start"]["first_memory_s"] = round(host.first_memory(), 3)
    report["loading"], keys = _fill(host, everybody, steps)
    with _step(steps, "Vector indexes of large owners"):
        host.down()
        host.up()
        report["loading"]["indexes_s"] = round(host.await_indexes(), 1)
    with _step(steps, "Start again, over the memories, of which this machine knows nothing any more"):
        host.down()
        host.forget_pages()
        report["start"]["again_s"] = round(host.up(), 2)
        report["cold"] = _first_searches(host, everybody, keys)
    sizes, count = host.sizes(), host.memories()
    report["bytes"] = {"each": round(sum(sizes.values()) / count), "tables": sizes}
    generator = Generator(host.url, owners=everybody, keys=keys, cwd=str(settings.BASE_DIR))
    try:
        report |= _load(host, generator, plan, steps)
    finally:
        generator.close()
    if "me" in plan.calls:
        with _step(steps, "Floor: the SQL of searches without the service"):
            floor = host.sql_floor(plan.seconds)
        report["floors"] = [row for row in report["closed"] if row["call"] == "me"] + floor["rows"]
    report["recovery_s"] = {}
    for part in plan.kills:
        with _step(steps, f"kill -9 of {part}"):
            report["recovery_s"][part] = round(host.kill(part), 2)
    report["targets"] = targets(report)
    return report


def curve(host: Host, everybody: Sequence[Owner], searches: int, steps: Steps) -> dict[str, Any]:
    """What a search costs by the size of its owner, alone on the machine: no HTTP, no other caller."""
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": figures.machine(),
    }
    with _step(steps, "Start from nothing"):
        host.up(with_indexes=False)
    report["loading"], _ = _fill(host, everybody, steps)
    with _step(steps, "Vector indexes of large owners"):
        host.down()
        host.up()
        report["loading"]["indexes_s"] = round(host.await_indexes(), 1)
    text, done = f"{searches} searches of each owner", 0

    def progress(row: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        steps.advance(text, done, len(everybody))

    steps.begin(text)
    began = time.perf_counter()
    report["curve"] = host.curve(searches, progress)
    steps.done(text, time.perf_counter() - began)
    return report


def _fill(host: Host, everybody: Sequence[Owner], steps: Steps) -> tuple[dict[str, Any], list[str]]:
    total = sum(owner.size for owner in everybody)
    text, done = f"{total} memories of {len(everybody)} owners", 0
    began = time.perf_counter()

    def progress(count: int) -> None:
        nonlocal done
        done += count
        steps.advance(text, done, total)

    steps.begin(text)
    keys = host.fill(everybody, progress)
    seconds = time.perf_counter() - began
    steps.done(text, seconds)
    with _step(steps, "Outbox, VACUUM, ANALYZE: what autovacuum would do in the next minutes"):
        drained_s = host.settle()
    return {
        "seconds": round(seconds, 1),
        "per_second": round(total / seconds),
        "outbox_s": round(drained_s, 1),
    }, keys


def _first_searches(host: Host, everybody: Sequence[Owner], keys: Sequence[str]) -> list[dict[str, Any]]:
    """The first search after a start, the largest owner's, then those of smaller ones; and each once more."""
    largest = everybody[-1].size
    of_each_class = {size_class(owner, largest): place for place, owner in enumerate(everybody)}
    draw = random.Random(everybody[0].seed)  # noqa: S311  no secret
    rows = []
    for size, place in reversed(of_each_class.items()):
        owner = everybody[place]
        query = owner.query(draw.randrange(owner.size), draw)
        first_ms, again_ms = (round(host.search_ms(keys[place], query), 1) for _ in range(2))
        rows.append({"size": size, "memories": owner.size, "first_ms": first_ms, "again_ms": again_ms})
    return rows


def _load(host: Host, generator: Generator, plan: Plan, steps: Steps) -> dict[str, Any]:
    usage = figures.Usage(host.home)
    with _step(steps, "Warm-up"):
        _measure(generator, usage, open=min(10.0, plan.open_seconds))
    with _step(steps, f"Open loop: 20 users, 2 calls a second each, {plan.open_seconds:g} s"):
        measured, spent = _measure(generator, usage, open=plan.open_seconds)
    opened = {
        "calls": figures.by_call(measured, 20),
        "searches": figures.searches_by_size(measured, 20),
        "late_ms": round(measured.late_ms, 2),
        **spent,
    }
    memory = usage.memory()
    closed = []
    for call in plan.calls:
        for clients in plan.clients:
            with _step(steps, f"{call}, {clients} client{'s' if clients > 1 else ''}"):
                measured, spent = _measure(generator, usage, call=call, clients=clients, seconds=plan.seconds)
            closed.append(figures.row(call, clients, measured.samples, measured.wall_s) | spent)
            if call == "search":
                closed += figures.searches_by_size(measured, clients)
    return {"open": opened, "closed": closed, "memory": memory, "memory_after": usage.memory()}


def _measure(generator: Generator, usage: figures.Usage, **job: Any) -> tuple[Measured, dict[str, Any]]:
    """The samples, and the processor time they took of the service's parts and of the generator."""
    generator.prepare(**job)
    before, busy_before = usage.cpu_s(), figures.busy_s()
    measured = generator.run()
    after, busy = usage.cpu_s(), figures.busy_s() - busy_before
    others = busy - measured.cpu_s - (sum(after.values()) - sum(before.values()))
    return measured, {
        "cpu_ms": figures.cpu_ms_each(before, after, len(measured.samples)),
        "generator_cpu_percent": round(100 * measured.cpu_s / measured.wall_s, 1),
        "others_cpu_percent": max(0.0, round(100 * others / measured.wall_s, 1)),
    }


@contextmanager
def _step(steps: Steps, text: str) -> Iterator[None]:
    steps.begin(text)
    began = time.perf_counter()
    yield
    steps.done(text, time.perf_counter() - began)
