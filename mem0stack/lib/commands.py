"""What all our management commands share: a caller's mistake is a sentence and exit status 1, no traceback."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mem0stack.lib.errors import Mem0Error

# Without a terminal, a line so often.
_LINE_EVERY_S = 5.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s")


class ServiceCommand(BaseCommand):
    """A command that works beside a running service, found by `--home` or MEM0_HOME."""

    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        if "LOG_LEVEL" not in os.environ:
            # A person reads this; what the service notes for its logs is not for them.
            logging.getLogger().setLevel(logging.WARNING)
        super().run_from_argv(argv)

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except Mem0Error as error:
            raise CommandError(error.detail) from error
        except OperationalError as error:
            where = f"in {settings.HOME.root}" if settings.EMBEDDED_POSTGRES else "at DATABASE_URL"
            raise CommandError(
                f"No database answers {where}. Start the service with `make up`, or name its home with --home."
            ) from error

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Any]:
        """Shows how far it is, of `total` memories: a bar on a terminal, a line now and then elsewhere.

        Gives a function that wants to be told how many more are done.
        """
        console = Console()
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate())
            with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
                task = bar.add_task(what, total=total)
                yield lambda number: bar.advance(task, number)
            return
        began = said = time.monotonic()
        done = 0

        def advance(number: int) -> None:
            nonlocal done, said
            done += number
            if time.monotonic() - said >= _LINE_EVERY_S:
                said = time.monotonic()
                rate = done / (said - began)
                left = max(0, total - done) / rate if rate else 0
                self.stdout.write(f"{what}: {done} of {total}, {rate:.0f}/s, {left:.0f} s left.")
                self.stdout.flush()

        self.stdout.write(f"{what}: {total} memories.")
        self.stdout.flush()
        yield advance
        self.stdout.write(f"{what}: {done} done in {time.monotonic() - began:.1f} s.")
