from typing import Any

from django.core.management.base import CommandParser

from accounts import services
from mem0stack.lib.commands import ServiceCommand


class Command(ServiceCommand):
    help = "End a key at once, by the id that create_api_key and /api/v2/keys/ show."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id")

    def handle(self, *args: Any, **options: Any) -> None:
        key = services.revoke_api_key(options["id"])
        self.stdout.write(f"Revoked {key.name!r} of {key.user.username}.")
