"""The figures for people: tables on a terminal or in Markdown, and the promises beside what was measured."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

SCHEMA = 1
# What the project promises at 100,000 memories: milliseconds, seconds, bytes.
_SEARCH_P50_MS, _SEARCH_P95_MS, _CALL_P95_MS = 10.0, 30.0, 30.0
# With more than these it may take longer.
_PROMISED_MEMORIES, _MANY_SEARCH_P95_MS = 100_000, 50.0
_FIRST_MEMORY_S = 60.0
_BYTES_EACH = 6_000


@dataclass(frozen=True)
class Grid:
    """A table: its title, its headings, its cells; every column but the first is of numbers."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def targets(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Each promise, what was measured, and whether it was kept."""
    rows = {row["call"]: row for row in report["open"]["calls"]}
    start = report["start"]
    found: list[tuple[str, str, float, float]] = []
    if "search" in rows:
        is_many = report["corpus"]["memories"] > _PROMISED_MEMORIES
        if not is_many:
            found.append(("search, open loop, p50", "ms", _SEARCH_P50_MS, rows["search"]["p50_ms"]))
        at_most = _MANY_SEARCH_P95_MS if is_many else _SEARCH_P95_MS
        found.append(("search, open loop, p95", "ms", at_most, rows["search"]["p95_ms"]))
    for call in ("create", "get", "update", "delete"):
        if call in rows:
            found.append((f"{call}, open loop, p95", "ms", _CALL_P95_MS, rows[call]["p95_ms"]))
    first_s = round(start["first_s"] + start["first_memory_s"], 2)
    found.append(("from nothing to the first found memory", "s", _FIRST_MEMORY_S, first_s))
    found.append(("a memory with every index, history, outbox", "bytes", _BYTES_EACH, report["bytes"]["each"]))
    found.append(("wrong replies", "", 0, _errors(report)))
    return [
        {"what": what, "unit": unit, "at_most": most, "measured": measured, "met": measured <= most}
        for what, unit, most, measured in found
    ]


def show(report: dict[str, Any], console: Console) -> None:
    """On a terminal."""
    for grid in _grids_of(report):
        table = Table(title=grid.title, title_justify="left", caption=grid.note or None, caption_justify="left")
        for place, heading in enumerate(grid.headings):
            table.add_column(heading, justify="right" if place else "left")
        for cells in grid.rows:
            table.add_row(*(escape(cell) for cell in cells))
        console.print(table)
    console.print(_machine(report), highlight=False)
    for wrong in wrong_replies(report):
        console.print(f"[red]Wrong:[/] {escape(wrong)}")


def markdown(report: dict[str, Any]) -> str:
    """The same for a document."""
    parts = [_machine(report)]
    for grid in _grids_of(report):
        lines = [f"| {' | '.join(grid.headings)} |", "|---" + "|---:" * (len(grid.headings) - 1) + "|"]
        lines += [f"| {' | '.join(cells)} |" for cells in grid.rows]
        parts.append(f"**{grid.title}**\n\n" + "\n".join(lines) + (f"\n\n{grid.note}" if grid.note else ""))
    parts += [f"Wrong: {wrong}" for wrong in wrong_replies(report)]
    return "\n\n".join(parts) + "\n"


def _grids_of(report: dict[str, Any]) -> Iterator[Grid]:
    if "growth" in report:
        yield _growth(report["growth"])
    elif "curve" in report:
        yield _curve(report["curve"])
    else:
        yield from _grids(report)


def _growth(runs: Sequence[dict[str, Any]]) -> Grid:
    """A run a column: what stays, what grows with the memories, and what faster than they do."""

    def row(what: str, cell: Callable[[dict[str, Any]], str]) -> tuple[str, ...]:
        return (what, *(cell(run) for run in runs))

    def opened(call: str, run: dict[str, Any]) -> str:
        found = [one for one in run["open"]["calls"] + run["open"]["searches"] if one["call"] == call]
        return f"{found[0]['p50_ms']:.1f} / {found[0]['p95_ms']:.1f}" if found else ""

    def closed(run: dict[str, Any], member: Callable[[dict[str, Any]], str]) -> str:
        return " / ".join(member(one) for one in run["closed"] if one["call"] == "search")

    searches = ("search", "search, small", "search, medium", "search, large", "search, largest")
    clients = ", ".join(str(one["clients"]) for one in runs[0]["closed"] if one["call"] == "search")
    return Grid(
        "How cost grows",
        ("", *(f"{run['corpus']['memories']} memories" for run in runs)),
        [
            row("largest owner", lambda run: str(run["corpus"]["owners"][-1])),
            row("loaded, a second", lambda run: str(run["loading"]["per_second"])),
            row("outbox empty after, s", lambda run: str(run["loading"]["outbox_s"])),
            row("vector indexes built in, s", lambda run: str(run["loading"]["indexes_s"])),
            row("bytes a memory", lambda run: str(run["bytes"]["each"])),
            row("up, cold, s", lambda run: str(run["start"]["again_s"])),
            row("first search then, largest owner, ms", lambda run: f"{run['cold'][0]['first_ms']}"),
            *(
                row(f"{call}, p50 / p95 ms", partial(opened, call))
                for call in (*searches, "create", "get", "update", "delete")
            ),
            row("CPU-ms a call of the open loop", lambda run: f"{run['open']['cpu_ms']['total']:.1f}"),
            row(
                f"search, closed loops of {clients}, CPU-ms",
                lambda run: closed(run, lambda one: f"{one['cpu_ms']['total']:.1f}"),
            ),
            row(
                f"search, closed loops of {clients}, a second",
                lambda run: closed(run, lambda one: f"{one['per_second']:.0f}"),
            ),
            row("wrong replies", lambda run: str(_errors(run))),
        ],
    )


def _errors(run: dict[str, Any]) -> int:
    """Each wrong reply once: searches by the size of their owner are among the searches."""
    rows = run["closed"] + run["open"]["calls"]
    return sum(row["errors"] for row in rows if not row["call"].startswith("search, "))


def _curve(rows: Sequence[dict[str, Any]]) -> Grid:
    return Grid(
        "A search by the size of its owner",
        ("memories", "p50 ms", "p95 ms", "CPU-ms", "python / postgres", "lexical arm, p50 ms", "p95 ms"),
        [
            (
                str(row["memories"]),
                *_times(row["whole"])[:2],
                f"{sum(row['cpu_ms'].values()):.1f}",
                f"{row['cpu_ms']['python']:.1f} / {row['cpu_ms']['postgres']:.1f}",
                *_times(row["lexical"])[:2],
            )
            for row in rows
        ],
        "`search()` in a process by itself, one caller. EXPLAIN ANALYZE times the lexical arm, and slows it down.",
    )


def _grids(report: dict[str, Any]) -> Iterator[Grid]:
    opened = report["open"]
    yield Grid(
        "Promised and measured",
        ("what", "at most", "measured", "met"),
        [
            (one["what"], f"{one['at_most']:g} {one['unit']}", f"{one['measured']:g}", "yes" if one["met"] else "NO")
            for one in report["targets"]
        ],
    )
    yield Grid(
        "Open loop: 20 users, 2 calls a second each, 80 % searches",
        ("call", "calls", "p50 ms", "p95 ms", "p99 ms", "wrong"),
        [
            (row["call"], str(row["count"]), *_times(row), str(row["errors"]))
            for row in opened["calls"] + opened["searches"]
        ],
        f"CPU-ms a call: {_split(opened['cpu_ms'])}. The generator took {opened['generator_cpu_percent']} % of a core"
        f" and sent at most {opened['late_ms']} ms late (p99); programs that have nothing to do with it took"
        f" {opened['others_cpu_percent']} % of one.",
    )
    floors = [row for row in report["floors"] if row["call"] != "me"]
    yield Grid(
        "Closed loops, and the floors below them",
        ("call", "clients", "calls", "p50 ms", "p95 ms", "p99 ms", "a second", "CPU-ms", "web / postgres", "wrong"),
        [
            (
                _name(row["call"]),
                str(row["clients"]),
                str(row["count"]),
                *_times(row),
                "" if row["call"].startswith("search, ") else f"{row['per_second']:.0f}",
                f"{row['cpu_ms']['total']:.1f}" if "cpu_ms" in row else "",
                f"{row['cpu_ms'].get('web', 0):.1f} / {row['cpu_ms'].get('postgres', 0):.1f}"
                if "cpu_ms" in row
                else "",
                str(row["errors"]),
            )
            for row in report["closed"] + floors
        ],
    )
    parts = dict.fromkeys(row["part"] for row in report["memory"])
    yield Grid(
        "Memory under the open loop",
        ("part", "processes", "RSS MB, largest", "RSS MB, sum", "PSS MB, sum"),
        [_memory_row(part, [row for row in report["memory"] if row["part"] == part]) for part in parts],
        "PSS counts a page that several processes share once.",
    )
    start, loading = report["start"], report["loading"]
    yield Grid(
        "Start, loading, recovery",
        ("what", "measured"),
        [
            ("up, from nothing, packages installed", f"{start['first_s']} s"),
            ("first memory, stored and found", f"{start['first_memory_s']} s"),
            ("up, over the loaded memories, none of them in the machine's memory", f"{start['again_s']} s"),
            *(
                (
                    f"first search of an owner of {row['memories']} then",
                    f"{row['first_ms']} ms; again {row['again_ms']}",
                )
                for row in report.get("cold", ())
            ),
            ("loaded", f"{loading['per_second']} a second, outbox empty {loading['outbox_s']} s later"),
            *((("vector indexes", f"{loading['indexes_s']} s"),) if "indexes_s" in loading else ()),
            ("bytes a memory", str(report["bytes"]["each"])),
            *((f"back after kill -9 of {part}", f"{seconds} s") for part, seconds in report["recovery_s"].items()),
        ],
    )


def _name(call: str) -> str:
    return {"me": "floor: GET /api/v2/me/", "list": "list of 50", "batch": "batch of 100"}.get(call, call)


def _times(row: dict[str, Any]) -> tuple[str, str, str]:
    return f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}", f"{row['p99_ms']:.1f}"


def _split(cpu_ms: dict[str, float]) -> str:
    parts = ", ".join(f"{part} {ms:.1f}" for part, ms in cpu_ms.items() if part != "total" and ms >= 0.05)
    return f"{cpu_ms['total']:.1f} ({parts})"


def _memory_row(part: str, rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    rss = [row["rss_mb"] for row in rows]
    pss = [row["pss_mb"] for row in rows]
    shared = "" if None in pss else f"{sum(pss):.0f}"
    return part, str(len(rows)), f"{max(rss):.0f}", f"{sum(rss):.0f}", shared


def _machine(report: dict[str, Any]) -> str:
    report = report.get("growth", [report])[0]
    found = report["machine"]
    stored = ""
    if corpus := report.get("corpus"):
        sizes = corpus["owners"]
        stored = f" {corpus['memories']} memories of {len(sizes)} owners ({sizes[0]} to {sizes[-1]});"
    return (
        f"{report['at'][:10]}:{stored} {found['cores']} cores ({found['cpu']}),"
        f" {found['memory_gb']} GB, Python {found['python']};"
        f" load average before the start {found['load_average'][0]}, processors {found['busy_percent']} % busy."
    )


def wrong_replies(report: dict[str, Any]) -> Iterator[str]:
    """What was wrong, in a line for each kind. Searches of the curve have no replies."""
    for run in report.get("growth", [report]):
        yield from _wrong(run.get("open", {}).get("calls", []) + run.get("closed", []))


def _wrong(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        for reason, count in row.get("wrong", {}).items():
            yield f"{row['call']}, {row['clients']} clients, {count} times: {reason}"
