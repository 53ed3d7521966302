"""`manage.py evaluate`: how well search finds, in figures. docs/evaluation.md says how to read them."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import CommandError

from mem0stack.embedded.scratch import ScratchError
from mem0stack.evaluation import report
from mem0stack.evaluation.run import evaluate
from mem0stack.lib.commands import ServiceCommand


class Command(ServiceCommand):
    help = (
        "Loads sets of memories into a service of its own, asks every question of them, and prints how much of what"
        " answers was found, beside plain cosine, plain BM25 and mem0's scoring. Leaves nothing behind."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "sets",
            nargs="+",
            type=Path,
            metavar="FILE",
            help="conversations in LoCoMo's format, or a folder with a set",
        )
        parser.add_argument("--weights", type=Path, help="rank by this file of fit_ranking instead of what ships")
        parser.add_argument("--json", type=Path, help="write everything there, every question with what was found")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with report.bars() as progress:
                measured = evaluate(options["sets"], progress, options["weights"])
        except ScratchError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            options["json"].write_bytes(orjson.dumps(measured, option=orjson.OPT_INDENT_2))
        self.stdout.write(report.markdown(measured), ending="")
