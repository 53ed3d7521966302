"""The figures for people: Markdown tables, which a terminal shows as well and a document can hold."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_RANKING = {
    "recall_at_5": "r@5",
    "recall_at_10": "r@10",
    "recall_at_20": "r@20",
    "recall_at_50": "r@50",
    "hit_at_5": "hit@5",
    "mrr": "MRR",
    "ndcg_at_10": "nDCG@10",
}
_SAID = {"abstained_right": "abstained, right", "abstained_wrong": "abstained, wrong"}
_TIMES = {"p50_ms": "p50 ms", "p95_ms": "p95 ms"}
_BY_KIND = "recall_at_10"


def bars() -> Progress:
    """How far a run is, beside what it prints."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def markdown(report: Mapping[str, Any]) -> str:
    """Everything but the single questions."""
    return "\n\n".join(part for each in report["sets"] for part in _set(each)) + "\n"


def _set(each: Mapping[str, Any]) -> Iterator[str]:
    systems, ours = each["systems"], each["systems"]["ours"]
    overall = ours["overall"]
    yield f"### {each['name']}: {overall['questions']} questions to {each['memories']} memories"
    yield table(
        ["percent", *_RANKING.values()],
        [[name, *(percent(slices["overall"][key]) for key in _RANKING)] for name, slices in systems.items()],
    )
    yield "Ours by kind:"
    yield table(
        ["percent", "questions", *_RANKING.values(), *_SAID.values(), *_TIMES.values()],
        [_row(name, found) for name, found in ours.items()],
    )
    yield "r@10 by kind:"
    yield table(
        ["percent", *systems],
        [[kind, *(percent(slices[kind][_BY_KIND]) for slices in systems.values())] for kind in ours],
    )
    yield _reliability(each["reliability"]["overall"])


def fitted(found: Mapping[str, Any]) -> str:
    """How weights rank what they were not fitted on, then the weights."""
    weights = [[signal, f"{weight:.3f}"] for signal, weight in found["weights"].items()]
    parts = [part for name, held_out in found["held_out"].items() for part in _held_out(name, held_out)]
    parts += ["Fitted on everything that may be:", table(["signal", "weight"], weights)]
    calibration = ", ".join(f"{name} {value:g}" for name, value in found["calibration"].items())
    return "\n\n".join([*parts, f"Calibration: {calibration}; answerable from {found['answerable']:g}."]) + "\n"


def _held_out(name: str, held_out: Mapping[str, Any]) -> Iterator[str]:
    headings = [*_RANKING.values(), *_SAID.values()]
    yield f"### {name}: what was not fitted on"
    yield table(
        ["percent", "questions", *headings],
        [
            [slice_, str(row["questions"]), *(percent(row[key]) for key in (*_RANKING, *_SAID))]
            for slice_, row in held_out["figures"].items()
        ],
    )
    yield _reliability(held_out["reliability"])


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns, but for the first, are of numbers; the cells padded, so that it reads as text."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [" | ".join(_padded(row, widths)) for row in (headings, *rows)]
    rule = "|".join(
        "-" * (widths[0] + 2) if not place else "-" * (width + 1) + ":" for place, width in enumerate(widths)
    )
    return "\n".join([f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])])


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _row(name: str, found: Mapping[str, Any]) -> list[str]:
    times = ["" if found[key] is None else f"{found[key]:.1f}" for key in _TIMES]
    return [name, str(found["questions"]), *(percent(found[key]) for key in (*_RANKING, *_SAID)), *times]


def _reliability(bins: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{one['low']:.1f} to {one['low'] + 0.1:.1f}",
            str(one["count"]),
            *map(percent, (one["mean_score"], one["share_relevant"])),
        ]
        for one in bins
    ]
    title = "Score of a hit (the first ten of each question), and how many of these hits answer, in percent:"
    return f"{title}\n\n{table(['score', 'hits', 'mean score', 'answer'], rows)}"


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
