from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from accounts.models import User
from mem0stack.lib.commands import ServiceCommand
from memories import outbox


class Command(ServiceCommand):
    help = "Show what the outbox has not delivered, by consumer; with --replay-dead have dead events tried again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--replay-dead", action="store_true", help="try dead events again, from the first attempt")
        parser.add_argument("--consumer", help="this consumer's alone")
        parser.add_argument("--owner", help="the events of this user alone")

    def handle(self, *args: Any, **options: Any) -> None:
        which = {"consumer": options["consumer"], "owner_id": _owner_id(options["owner"])}
        if options["replay_dead"]:
            self.stdout.write(f"{outbox.replay(**which)} dead deliveries are tried again.")
        found = outbox.backlog(**which)
        if not found:
            self.stdout.write("Nothing waits, and nothing is dead.")
        for one in found:
            age = int((timezone.now() - one.oldest).total_seconds())
            errors = f" ({', '.join(one.reasons)})" if one.reasons else ""
            self.stdout.write(f"{one.consumer}: {one.waiting} waiting, {one.dead} dead, the oldest {age} s old{errors}")


def _owner_id(username: str | None) -> int | None:
    if username is None:
        return None
    owner_id = User.objects.filter(username=username).values_list("pk", flat=True).first()
    if owner_id is None:
        raise CommandError(f"There is no user named {username!r}.")
    return owner_id
