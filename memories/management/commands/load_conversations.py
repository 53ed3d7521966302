import time
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from accounts.actors import Actor
from accounts.models import User
from mem0stack.lib.commands import ServiceCommand
from memories import portability


class Command(ServiceCommand):
    help = "Load conversations in LoCoMo's format, a memory a turn. Loading a file again adds nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--user", required=True, help="whose memories they become")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(
                f"There is no user {options['user']!r}. Make it with: manage.py create_user {options['user']}"
            )
        turns = portability.read_conversations(options["file"])
        started = time.perf_counter()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("Turns", total=len(turns))
            actor = Actor.of(user, door="command", app="load_conversations")
            loaded = portability.load(actor, turns, progress=lambda count: bar.advance(task, count))
        seconds = time.perf_counter() - started
        self.stdout.write(
            f"{len(turns)} turns in {seconds:.1f} s ({len(turns) / max(seconds, 1e-9):.0f} a second):"
            f" {loaded.added} added, {loaded.known} known already, {sum(loaded.refused.values())} refused."
        )
        for detail, count in loaded.refused.items():
            self.stderr.write(f"  {count} refused: {detail}")
