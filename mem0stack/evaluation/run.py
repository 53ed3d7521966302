"""One run: sets into a service of its own, every question asked, figures."""

import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from rich.progress import Progress

from mem0stack.embedded.scratch import ScratchError, ScratchService, ask, scratch_service
from mem0stack.evaluation import metrics
from mem0stack.evaluation.metrics import Answered
from mem0stack.evaluation.sets import SLICES, EvaluationSet, Question, Space, read_sets

SCHEMA = 1
OURS = "ours"
# As many as a caller gets who names no number: the hits whose scores are looked at.
_SHOWN = 10


def evaluate(paths: Sequence[Path], progress: Progress, weights: Path | None = None) -> dict[str, Any]:
    """The report that docs/evaluation.md describes; ranked by what ships, or by the `weights` of `fit_ranking`. Raises
    InvalidArgument for files that are no sets, ScratchError."""
    sets = read_sets(paths)
    with loaded(sets, paths, progress) as evaluation:
        total = sum(len(space.questions) for each in sets for space in each.spaces)
        lines = evaluation.run("ask", weights=weights and str(weights.resolve()))
        said = iter(list(progress.track(lines, total=total, description="Questions")))
    return {
        "schema": SCHEMA,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sets": [_report(each, [(question, next(said)) for question in _questions(each)]) for each in sets],
    }


class Evaluation:
    """A service that holds the sets, a user for each space."""

    def __init__(self, service: ScratchService, paths: Sequence[Path]) -> None:
        self._service = service
        self._paths = [str(path.resolve()) for path in paths]
        self._ids: dict[str, dict[str, str]] = {}

    def load(self, spaces: Iterable[Space], stored: Callable[[int], None]) -> None:
        """Conversations as `load_conversations` does it, facts one at a time through the REST door, as agents do. Where
        the environment names an embedder, it embeds them all."""
        keys = {}
        for said in self.run("load"):
            if "key" in said:
                keys[said["space"]] = said["key"]
            stored(said.get("stored", 0))
        for space in spaces:
            self._ids[space.name] = self._write(keys[space.name], space, stored)
        if settings.PROVIDERS["embedder"]["kind"]:
            self._service.reembed()
        self._service.settle()

    def run(self, job: str, **more: Any) -> Iterator[Any]:
        """The lines that a job inside the product answers with. Raises ScratchError where it fails."""
        process = self._service.inside(
            "mem0stack.evaluation.inside", job, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        asked = orjson.dumps({"paths": self._paths, "ids": self._ids, **more})
        try:
            with process.stdin as pipe, process.stdout as lines:  # type: ignore[union-attr]  # both were asked for
                pipe.write(asked)
                pipe.close()
                yield from map(orjson.loads, lines)
        except BaseException:
            process.kill()
            raise
        finally:
            status = process.wait()
        if status:
            raise ScratchError(f"{job!r} within the service ended with {status}; the reason is above.")

    def _write(self, key: str, space: Space, stored: Callable[[int], None]) -> dict[str, str]:
        """Returns the facts' keys by the ids they were given. A superseded one is patched as soon as its successor
        is there."""
        ids: dict[str, str] = {}
        waiting: dict[str, list[str]] = defaultdict(list)
        for fact in space.facts:
            made = ask(self._service.url, key, "POST", "/api/v2/memories/", fact.body)
            if made.get("duplicate"):
                raise ScratchError(f"{space.name}: {fact.key} says what another memory says already.")
            ids[fact.key] = made["id"]
            for old in waiting.pop(fact.key, ()):
                change = {"superseded_by": made["id"]}
                ask(self._service.url, key, "PATCH", f"/api/v2/memories/{ids[old]}/", change)
            if fact.superseded_by:
                waiting[fact.superseded_by].append(fact.key)
            stored(1)
        return {id_: key for key, id_ in ids.items()}


@contextmanager
def loaded(sets: Sequence[EvaluationSet], paths: Sequence[Path], progress: Progress) -> Iterator[Evaluation]:
    """The sets in a service of their own, which is gone afterwards."""
    spaces = [space for each in sets for space in each.spaces]
    task = progress.add_task("Starting a service", total=None)
    with scratch_service("evaluation") as service:
        evaluation = Evaluation(service, paths)
        progress.update(task, description="Memories", total=sum(space.size for space in spaces))
        evaluation.load(spaces, lambda count: progress.advance(task, count))
        yield evaluation


def _questions(each: EvaluationSet) -> Iterator[Question]:
    return (question for space in each.spaces for question in space.questions)


def _report(each: EvaluationSet, asked: Sequence[tuple[Question, Mapping[str, Any]]]) -> dict[str, Any]:
    outcomes: dict[str, dict[str, list[Answered]]] = defaultdict(lambda: defaultdict(list))
    scored: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for question, said in asked:
        gold = question.answers
        ours = Answered(said["found"], gold, said["answerable"], said["ms"])
        others = {name: Answered(ranking, gold) for name, ranking in said["baselines"].items()}
        for slice_ in question.slices:
            for system, outcome in {OURS: ours, **others}.items():
                outcomes[system][slice_].append(outcome)
            shown = zip(said["found"][:_SHOWN], said["scores"], strict=False)
            scored[slice_] += [(score, key in gold) for key, score in shown]
    return {
        "name": each.name,
        "sha256": each.digest,
        "memories": sum(space.size for space in each.spaces),
        "systems": {
            system: {slice_: metrics.figures(slices[slice_]).to_json() for slice_ in sorted(slices, key=slice_order)}
            for system, slices in outcomes.items()
        },
        "reliability": {
            slice_: [asdict(one) for one in metrics.reliability(pairs)] for slice_, pairs in scored.items()
        },
        "questions": [
            {
                "query": question.text,
                "slices": question.slices,
                "answers": sorted(question.answers),
                "found": said["found"],
                "scores": said["scores"],
                "answerable": said["answerable"],
                "ms": said["ms"],
            }
            for question, said in asked
        ],
    }


def slice_order(slice_: str) -> tuple[int, str]:
    """What cuts through all kinds comes before them."""
    return (SLICES.index(slice_), "") if slice_ in SLICES else (len(SLICES), slice_)
