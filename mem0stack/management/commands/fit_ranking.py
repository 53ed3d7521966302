"""`manage.py fit_ranking`: the weights of search, fitted on sets. docs/evaluation.md says how."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import CommandError

from mem0stack.embedded.scratch import ScratchError
from mem0stack.evaluation import report
from mem0stack.evaluation.fitting import fit_ranking
from mem0stack.lib.commands import ServiceCommand


class Command(ServiceCommand):
    help = (
        "Fits the ranking's weights on sets, in a service of its own, and prints how well they rank what they were not"
        " fitted on: each conversation by weights of the others, each split set's held-out half. Writes with --out"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("sets", nargs="+", type=Path, metavar="FILE", help="as for `evaluate`")
        parser.add_argument("--out", type=Path, help="write the weights there, for example to memories/ranking.json")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with report.bars() as progress:
                fitted = fit_ranking(options["sets"], progress)
        except ScratchError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(report.fitted(fitted), ending="")
        if options["out"]:
            options["out"].write_bytes(orjson.dumps(fitted, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
