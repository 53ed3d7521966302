"""`manage.py down`: stops what `up` started."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from mem0stack.embedded import service
from mem0stack.embedded.account import EmbeddedError


class Command(BaseCommand):
    help = (
        "Stops the service and returns when nothing of it runs any more, also after its supervisor was killed. "
        "Exit status 0, whether it was running or not."
    )
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        home = settings.HOME
        try:
            was_running = service.stop(home, self.stdout.write)
        except EmbeddedError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Stopped. The data stays in {home.root}." if was_running else f"Nothing runs in {home.root}."
        )
