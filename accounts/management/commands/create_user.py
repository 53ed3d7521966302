import secrets
from typing import Any

from django.core.management.base import CommandParser

from accounts import services
from mem0stack.lib.commands import ServiceCommand


class Command(ServiceCommand):
    help = "Make an account. With --staff it may use the admin, and its password is printed once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--staff", action="store_true", help="may sign in to the admin")

    def handle(self, *args: Any, **options: Any) -> None:
        password = secrets.token_urlsafe(16) if options["staff"] else None
        user = services.create_user(options["name"], is_staff=options["staff"], password=password)
        self.stdout.write(f"Created {user.username}.")
        if password is not None:
            self.stdout.write(f"Password, shown this once: {password}")
        self.stdout.write(f"A key for its programs: manage.py create_api_key {user.username}")
