from typing import Any

from django.core.management.base import CommandError, CommandParser

from mem0stack.lib.commands import ServiceCommand
from memories.services.reindexing import owners_of_memories, reindex


class Command(ServiceCommand):
    help = (
        "Read every memory's text again and write what follows from it, where this release reads it otherwise: terms,"
        " local vectors, entities. Works beside the service, and can be stopped and run again at any time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", help="only this user's memories")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["user"]
        owners = [owner for owner in owners_of_memories() if name in (None, owner[1])]
        if name is not None and not owners:
            raise CommandError(f"There is no user named {name!r}, or none with memories.")
        read = changed = 0
        with self.progress("Reindexing", sum(number for _, _, number in owners)) as advance:
            try:
                for owner_id, _, _ in owners:
                    for batch in reindex(owner_id):
                        read += batch.memories
                        changed += batch.changed
                        advance(batch.memories)
            except KeyboardInterrupt:
                raise CommandError("Stopped. What is done is kept: run it again.", returncode=130) from None
        self.stdout.write(f"{read} memories read, {changed} of them written anew.")
