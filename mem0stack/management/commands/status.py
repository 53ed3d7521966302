"""`manage.py status`: what runs, and how it is."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from mem0stack.embedded import service
from mem0stack.embedded.account import EmbeddedError
from mem0stack.embedded.service import Service

NOT_RUNNING, DEGRADED = 1, 3


class Command(BaseCommand):
    help = (
        "Tells what runs. Exit status 0: all of it, and well; 1: nothing; 3: some of it (a part is starting or "
        "restarting, or the supervisor was killed: `up` takes over)."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        home = settings.HOME
        try:
            is_supervised = service.is_supervised(home)
            found = service.load(home)
            remaining = 0 if is_supervised else len(service.leftovers(home))
        except EmbeddedError as error:
            raise CommandError(str(error)) from error
        if is_supervised and found:
            state = "running" if found.is_healthy else "degraded"
        else:
            state = "orphaned" if remaining else "stopped"
        if options["json"]:
            shown = found.summary(home) if found and state != "stopped" else {"home": str(home.root)}
            self.stdout.write(json.dumps({"state": state, **shown, "parts": _parts(found) if found else {}}))
        else:
            self._tell(state, found, remaining)
        if state != "running":
            sys.exit(NOT_RUNNING if state == "stopped" else DEGRADED)

    def _tell(self, state: str, found: Service | None, remaining: int) -> None:
        home = settings.HOME
        if state == "stopped":
            self.stdout.write(f"Nothing runs in {home.root}. Start it with `manage.py up`.")
            return
        if state == "orphaned":
            self.stdout.write(
                f"The supervisor of {home.root} is gone and {remaining} process(es) go on without it: "
                "`manage.py up` takes over, `manage.py down` ends them."
            )
            return
        if found is None:
            return
        self.stdout.write(f"{state} at {found.url}, MCP at {found.mcp_url}, data in {home.root}")
        for name, part in _parts(found).items():
            self.stdout.write(
                f"  {name:<10} pid {part['pid']:<8} {part['state']}, restarted {part['restarts']} time(s)"
            )


def _parts(found: Service) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "pid": child.pid,
            "state": child.state if child.is_healthy or child.state != "ready" else "dead",
            "restarts": child.restarts,
        }
        for name, child in sorted(found.children.items())
    }
