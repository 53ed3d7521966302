"""What all our management commands share: a caller's mistake is a sentence and exit status 1, no traceback."""

import logging
import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from mem0stack.lib.errors import Mem0Error


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
