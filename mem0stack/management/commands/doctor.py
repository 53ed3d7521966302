"""`manage.py doctor`: looks at every part of the service and says what to mend."""

import json
import logging
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mem0stack.doctor import Finding, examine


class Command(BaseCommand):
    help = (
        "Looks at every part of the service, speaks to it as a client would, and says what is wrong and how to mend "
        "it. Changes nothing. Exit status 0: all is well; 1: something is wrong."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        # What libraries say of a server that is away is in the table, in better words.
        logging.disable()
        findings = examine(settings.HOME)
        is_well = all(finding.ok for finding in findings)
        if options["json"]:
            self.stdout.write(json.dumps({"ok": is_well, "parts": [asdict(finding) for finding in findings]}))
        else:
            Console(file=self.stdout, highlight=False).print(_table(findings))  # type: ignore[arg-type]
        if not is_well:
            sys.exit(1)


def _table(findings: list[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("part", "", "what was seen", "ms"):
        table.add_column(heading, justify="right" if heading == "ms" else "left")
    for finding in findings:
        seen = Text(finding.seen)
        if finding.mend:
            seen.append(f"\n→ {finding.mend}", style="bold")
        state = Text("ok", style="green") if finding.ok else Text("WRONG", style="bold red")
        table.add_row(finding.part, state, seen, f"{finding.ms:.0f}")
    return table
