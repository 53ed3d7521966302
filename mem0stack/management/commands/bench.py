"""`manage.py bench`: a service of its own, filled and timed."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mem0stack import bench
from mem0stack.lib.home import Home

_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class
WHERE relkind = 'r' AND starts_with(relname, 'memories_')
"""


class Command(BaseCommand):
    help = (
        "Start a service of its own, store memories, and time search, create, get, update, list and delete over HTTP."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--memories", type=int, default=10_000, help="how many are stored before anything is timed")
        parser.add_argument("--rounds", type=int, default=500, help="calls of each kind")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--port", type=int, default=8790)
        parser.add_argument("--json", type=Path, help="write the figures there too")

    def handle(self, *args: Any, **options: Any) -> None:
        home = Path(tempfile.gettempdir()) / f"mem0-bench-{options['port']}"
        if home.exists():
            raise CommandError(f"{home} is there already. End what runs in it with `manage.py down --home {home}`.")
        started = time.perf_counter()
        try:
            service = json.loads(self._manage(home, "up", "--detach", "--json", "--port", str(options["port"])))
            up_s = time.perf_counter() - started
            self._run(home, service, up_s=up_s, **options)
        finally:
            self._manage(home, "down")
            shutil.rmtree(home, ignore_errors=True)

    def _run(self, home: Path, service: dict[str, Any], *, up_s: float, **options: Any) -> None:
        client = bench.Client(service["url"], service["api_key"])
        texts = list(islice(bench.sentences(options["seed"]), options["memories"]))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("Memories", total=len(texts))
            started = time.perf_counter()
            bench.load(client, texts, lambda count: bar.advance(task, count))
            load_s = time.perf_counter() - started
        time.sleep(3)  # autovacuum and the outbox: a service at rest is what is measured
        bytes_each = self._bytes(home) / max(1, len(texts))
        figures = bench.measure(client, texts, rounds=options["rounds"], seed=options["seed"])
        more = {
            "memories": len(texts),
            "up_s": round(up_s, 1),
            "loaded_per_second": round(len(texts) / load_s),
            "bytes_per_memory": round(bytes_each),
        }
        self._show(figures, more)
        if options["json"]:
            options["json"].write_text(bench.as_json(figures, **more))
        if any(row.errors for row in figures):
            raise CommandError("Some replies were wrong or short; the figures above do not count.")

    def _show(self, figures: list[bench.Figures], more: dict[str, Any]) -> None:
        table = Table(title=f"One client, {more['memories']} memories")
        for heading in ("call", "calls", "p50 ms", "p95 ms", "p99 ms", "a second", "wrong"):
            table.add_column(heading, justify="left" if heading == "call" else "right")
        for row in figures:
            times = (f"{value:.2f}" for value in (row.p50_ms, row.p95_ms, row.p99_ms))
            table.add_row(row.call, str(row.count), *times, f"{row.per_second:.0f}", str(row.errors))
        console = Console(file=sys.stdout, width=100)
        console.print(table)
        console.print(
            f"Started in {more['up_s']} s; stored {more['loaded_per_second']} a second in batches of 500;"
            f" {more['bytes_per_memory']} bytes a memory with every index, history and outbox."
        )

    def _bytes(self, home: Path) -> int:
        address = settings.DATABASES["default"] | {"HOST": str(Home(home).postgres_socket_dir)}
        with psycopg.connect(host=address["HOST"], dbname=address["NAME"], user=address["USER"]) as database:
            row = database.execute(_SIZE).fetchone()
        return int(row[0]) if row else 0

    def _manage(self, home: Path, *words: str) -> str:
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), *words, "--home", str(home)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603  our own program
        return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
