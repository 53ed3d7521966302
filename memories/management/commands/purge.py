from typing import Any

from django.core.management.base import CommandParser

from mem0stack.lib.commands import ServiceCommand
from memories.services.purging import purge


class Command(ServiceCommand):
    help = "Remove for good what was deleted over 30 days ago. The worker does it at every start."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def handle(self, *args: Any, **options: Any) -> None:
        purged = purge(dry_run=options["dry_run"])
        verb = "would go" if options["dry_run"] else "are gone"
        self.stdout.write(
            f"{purged.memories} memories, {purged.idempotency_keys} idempotency keys, {purged.operations} operations"
            f" and {purged.entities} entities {verb}."
        )
