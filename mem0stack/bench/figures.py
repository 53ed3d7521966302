"""From samples to figures, and what of the machine they took."""

import math
import os
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

from mem0stack.bench.load import Measured, Sample
from mem0stack.embedded import service
from mem0stack.lib.home import Home


def percentiles(ms: Iterable[float]) -> dict[str, float]:
    """p50, p95 and p99 of milliseconds: the smallest value that so many per cent are not above."""
    ordered = sorted(ms)
    if not ordered:
        return {"p50_ms": 0.0, "p95_ms": 0.0, "p99_ms": 0.0}

    def at(share: float) -> float:
        return round(ordered[math.ceil(share * len(ordered)) - 1], 2)

    return {"p50_ms": at(0.5), "p95_ms": at(0.95), "p99_ms": at(0.99)}


def row(call: str, clients: int, samples: Sequence[Sample], wall_s: float) -> dict[str, Any]:
    """The figures of one kind of call. Wrong replies count as errors and are named; their times count too."""
    wrong = Counter(sample.wrong for sample in samples if sample.wrong)
    return {
        "call": call,
        "clients": clients,
        "count": len(samples),
        "errors": wrong.total(),
        **({"wrong": dict(wrong.most_common(5))} if wrong else {}),
        **percentiles(sample.ms for sample in samples),
        "per_second": round(len(samples) / wall_s, 1) if wall_s else 0.0,
    }


def by_call(measured: Measured, clients: int) -> list[dict[str, Any]]:
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in measured.samples:
        found[sample.call].append(sample)
    return [row(call, clients, samples, measured.wall_s) for call, samples in sorted(found.items())]


def searches_by_size(measured: Measured, clients: int) -> list[dict[str, Any]]:
    """The searches of small, medium and large owners apart: one figure over all would hide the largest."""
    found = {
        size: [sample for sample in measured.samples if sample.call == "search" and sample.size == size]
        for size in ("small", "medium", "large", "largest")
    }
    return [row(f"search, {size}", clients, samples, measured.wall_s) for size, samples in found.items() if samples]


class Usage:
    """Processor time and memory of a service's processes, each part with all that it started."""

    def __init__(self, home: Path) -> None:
        self._home = Home(home)

    def cpu_s(self) -> dict[str, float]:
        """Seconds since each part began. Children that have ended count through the parent that reaped them."""
        spent: dict[str, float] = {}
        for part, processes in self._processes().items():
            spent[part] = 0.0
            for process in processes:
                try:
                    times = process.cpu_times()
                except psutil.NoSuchProcess:
                    continue
                spent[part] += times.user + times.system + times.children_user + times.children_system
        return spent

    def memory(self) -> list[dict[str, Any]]:
        """Of each process, in megabytes. `pss` shares what is shared among those that share it; the sum of `rss` counts
        PostgreSQL's buffers once for every backend. None where this user may not see it."""
        found = []
        for part, processes in self._processes().items():
            for process in processes:
                row = {"part": part, "pid": process.pid, "pss_mb": None, "uss_mb": None}
                try:
                    row["rss_mb"] = _mb(process.memory_info().rss)
                    full = process.memory_full_info()
                    row |= {"pss_mb": _mb(full.pss), "uss_mb": _mb(full.uss)}
                except psutil.NoSuchProcess:
                    continue
                except psutil.AccessDenied:
                    pass
                found.append(row)
        return found

    def _processes(self) -> dict[str, list[psutil.Process]]:
        state = service.load(self._home)
        if state is None:
            return {}
        found = {"supervisor": [psutil.Process(state.supervisor.pid)]}
        for part, child in state.children.items():
            root = psutil.Process(child.pid)
            found[part] = [root, *root.children(recursive=True)]
        return found


def cpu_ms_each(before: dict[str, float], after: dict[str, float], calls: int) -> dict[str, float]:
    """Milliseconds of processor time a call, by part and in all."""
    spent = {part: (after[part] - before.get(part, 0.0)) * 1000 / max(1, calls) for part in after}
    spent["total"] = sum(spent.values())
    return {part: round(ms, 2) for part, ms in spent.items()}


def busy_s() -> float:
    """Seconds that the machine's cores have worked in all, for whomever."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def machine() -> dict[str, Any]:
    """What the figures were made on, and how busy it was before."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "busy_percent": psutil.cpu_percent(interval=1.0),
    }


def is_busy(found: dict[str, Any]) -> bool:
    """Whether other work would spoil the figures."""
    return bool(found["busy_percent"] > 15 or found["load_average"][0] > 0.5 * (found["cores"] or 1))


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _mb(size: int) -> float:
    return round(size / 2**20, 1)
