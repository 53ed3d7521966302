"""`manage.py bench`: a service of its own, filled and timed. docs/performance.md says how to read it."""

import signal
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.status import Status

from mem0stack.bench import BenchError, figures, report
from mem0stack.bench.corpus import Owner, owners_of
from mem0stack.bench.host import Host
from mem0stack.bench.run import Plan, Steps, curve, run
from mem0stack.embedded.scratch import ScratchError

# Of each owner of a curve.
_SEARCHES = 100


class Command(BaseCommand):
    help = (
        "Starts a service of its own, stores memories for twenty owners of very uneven size, and measures it over HTTP:"
        " latency, throughput, processor time, memory, start and recovery. Exit status 1 when a reply was wrong."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        plan = Plan()
        parser.add_argument("--memories", type=int, default=plan.memories, help=f"stored before ({plan.memories})")
        parser.add_argument("--seconds", type=float, default=plan.seconds, help=f"each closed loop ({plan.seconds:g})")
        parser.add_argument("--open-seconds", type=float, default=plan.open_seconds, help="the open loop (60)")
        parser.add_argument("--seed", type=int, default=plan.seed, help="of texts, queries and moments")
        parser.add_argument(
            "--growth",
            type=_numbers,
            metavar="N,N",
            help="a short run with each of these numbers of memories, compared",
        )
        parser.add_argument(
            "--curve", type=_numbers, metavar="N,N", help="what a search costs for owners of these sizes, and no more"
        )
        parser.add_argument("--quick", action="store_true", help="a small run, for trying it out; its times say little")
        parser.add_argument("--port", type=int, default=8790)
        parser.add_argument("--json", type=Path, help="write everything that was measured there")
        parser.add_argument("--markdown", action="store_true", help="print the tables in Markdown")
        parser.add_argument("--show", type=Path, help="measure nothing: print the tables of an earlier run's JSON")
        parser.add_argument("--keep", action="store_true", help="leave the service running and its home in place")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["show"]:
            self._show(orjson.loads(options["show"].read_bytes()), options["markdown"])
            return
        plan = Plan(options["memories"], options["seconds"], options["open_seconds"], seed=options["seed"])
        if options["quick"]:
            plan = Plan(1_000, 0.15, 1.0, clients=(1, 4), kills=("postgres",), seed=options["seed"])
        sizes = options["growth"] or options["curve"] or [plan.memories]
        if min(sizes) < 100 or plan.seconds <= 0 or plan.open_seconds <= 0:
            raise CommandError("--memories is 100 or more, --seconds and --open-seconds are above 0.")
        if options["curve"]:
            owners = owners_of(sorted(sizes), plan.seed)
            measured = self._measure(owners, lambda host, steps: curve(host, owners, _SEARCHES, steps), options)
        elif options["growth"]:
            short = replace(plan, calls=("search",), clients=(1, 8), kills=())
            plans = [replace(short, memories=size) for size in sorted(sizes)]
            runs = [self._measure(one.owners(), partial(_run, one), options) for one in plans]
            measured = {"schema": report.SCHEMA, "growth": runs}
        else:
            measured = self._measure(plan.owners(), partial(_run, plan), options)
        if options["json"]:
            options["json"].write_bytes(orjson.dumps(measured, option=orjson.OPT_INDENT_2))
        self._show(measured, options["markdown"])
        if any(report.wrong_replies(measured)):
            raise CommandError("Some replies were wrong or short: the figures do not count.")

    def _measure(
        self, owners: Sequence[Owner], job: Callable[[Host, Steps], dict[str, Any]], options: dict[str, Any]
    ) -> dict[str, Any]:
        """What the job makes of a service of its own, which is gone afterwards."""
        home = Path(tempfile.gettempdir()) / f"mem0-bench-{options['port']}"
        if home.exists():
            raise CommandError(
                f"{home} is there already, of a run that goes on or was kept. End it with"
                f" `manage.py down --home {home}`, remove the directory, or name another --port."
            )
        host = Host(home, options["port"], owners)
        console = Console(stderr=True, highlight=False)
        steps = _Shown(console)
        # Whatever ends a run early ends its service too.
        signal.signal(signal.SIGTERM, _interrupt)
        if figures.is_busy(figures.machine()):
            console.print("[yellow]![/] This machine is busy with other work: the figures will be worse than they are.")
        try:
            return job(host, steps)
        except (BenchError, ScratchError) as error:
            raise CommandError(str(error)) from error
        finally:
            steps.close()
            if options["keep"]:
                console.print(
                    f"Left running: {host.url}, home {host.home}. `manage.py down --home {host.home}` ends it."
                )
            else:
                host.remove()

    def _show(self, measured: dict[str, Any], as_markdown: bool) -> None:
        if as_markdown:
            self.stdout.write(report.markdown(measured), ending="")
        else:
            report.show(measured, Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _run(plan: Plan, host: Host, steps: Steps) -> dict[str, Any]:
    return run(host, plan, steps)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _Shown(Steps):
    """A spinner with how far it is; without a terminal a line for each step, and one for each tenth of a long one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._tenth = 0

    def begin(self, text: str) -> None:
        self.close()
        self._tenth = 0
        self._status = self._console.status(f"{text} ...")
        self._status.start()

    def advance(self, text: str, done: int, total: int) -> None:
        if self._status and self._console.is_terminal:
            self._status.update(f"{text}: {done} ...")
        elif done * 10 // total > self._tenth:
            self._tenth = done * 10 // total
            self._console.print(f"  {text}: {done}")

    def done(self, text: str, seconds: float) -> None:
        self.close()
        self._console.print(f"[green]✓[/] {text} [dim]{seconds:.1f} s[/]")

    def close(self) -> None:
        if self._status:
            self._status.stop()
            self._status = None
