"""Sets to judge search by: memories, questions, and which memories answer.

Two formats are read. A folder with `memories.jsonl` and `queries.jsonl` holds facts of coding agents (the README of
`tests/evaluation/coding` describes it). A JSON file, or a folder of them, holds conversations in LoCoMo's format.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from mem0stack.lib.errors import InvalidArgument
from memories import portability
from memories.services import NewMemory

# LoCoMo's numbers. 5 asks for what was never said, under the name of somebody who did say it: no set of ours has it.
_CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open", 4: "single-hop"}
_TURN = re.compile(r"D\d+:\d+")
# Headings that cut through all kinds.
OVERALL, HELD_OUT, FITTED, SCOPED, UNSCOPED = "overall", "held-out half", "fitted half", "in a project", "everywhere"
SLICES = (OVERALL, HELD_OUT, FITTED, SCOPED, UNSCOPED)
# A question that was put to somebody else's memories: nothing here answers it.
ELSEWHERE = "of other lives"
_ELSEWHERE_EACH = 40
_NOT_SENT = ("id", "at", "superseded_by", "language")


@dataclass(frozen=True)
class Question:
    """What is asked, and the keys of the memories that answer; without any nothing does."""

    text: str
    kind: str
    answers: frozenset[str]
    namespace: str | None = None
    is_past: bool = False
    asked_at: datetime | None = None  # what "yesterday" is the day before of; None: now
    is_held_out: bool | None = None  # None: the set is not split, its conversations are left out one by one

    @property
    def slices(self) -> tuple[str, ...]:
        """Under which headings its figures count."""
        if self.kind == ELSEWHERE:
            return (ELSEWHERE,)
        found = [OVERALL, self.kind]
        if self.is_held_out is not None:
            found.append(HELD_OUT if self.is_held_out else FITTED)
            found.append(SCOPED if self.namespace else UNSCOPED)
        return tuple(found)


@dataclass(frozen=True)
class Fact:
    """A memory as an agent writes it: the body of `POST /api/v2/memories/`, and the fact that later took its place."""

    key: str
    body: dict[str, Any]
    superseded_by: str | None = None


@dataclass(frozen=True)
class Space:
    """What one user remembers and is asked: a conversation, or all facts of a set. Statistics are the owner's, so
    conversations must not share one."""

    name: str
    facts: Sequence[Fact]
    turns: Sequence[NewMemory]
    questions: Sequence[Question]

    @property
    def size(self) -> int:
        return len(self.facts) + len(self.turns)


@dataclass(frozen=True)
class EvaluationSet:
    """One table of figures. `digest` is the SHA-256 of its files."""

    name: str
    digest: str
    spaces: Sequence[Space]


def read_sets(paths: Sequence[Path]) -> list[EvaluationSet]:
    """The sets, where each space is also asked some questions of the others, which nothing in it answers: they tell
    whether search knows when it has nothing.

    Raises InvalidArgument where a file is in neither format, or two sets have one name.
    """
    sets = [_read(path) for path in paths]
    names = [each.name for each in sets]
    if len(set(names)) < len(names):
        raise InvalidArgument(f"Two sets have one name ({', '.join(sorted(names))}): a file's, or its folder's.")
    spaces = [space for each in sets for space in each.spaces]
    return [replace(each, spaces=[_also_asked(space, spaces) for space in each.spaces]) for each in sets]


def _also_asked(space: Space, spaces: Sequence[Space]) -> Space:
    """With a few questions of each other space, spread over its kinds."""
    # Never what is held out: these are fitted on, wherever they are asked.
    others = [[one for one in other.questions if not one.is_held_out] for other in spaces if other is not space]
    each = _ELSEWHERE_EACH // max(1, len(others))
    is_split = any(question.is_held_out is not None for question in space.questions)
    foreign = [
        replace(question, kind=ELSEWHERE, answers=frozenset(), namespace=None, is_past=False, is_held_out=None)
        for other in others
        for question in other[:: max(1, len(other) // max(1, each))][:each]
    ]
    if is_split:
        foreign = [replace(question, is_held_out=place % 2 == 1) for place, question in enumerate(foreign)]
    return replace(space, questions=[*space.questions, *foreign])


def turn_key(turn: NewMemory) -> str:
    """By which the questions of a conversation name their evidence."""
    key: str = turn.metadata["dia_id"]
    return key


def _read(path: Path) -> EvaluationSet:
    folder = path.parent if path.name in ("queries.jsonl", "memories.jsonl") else path
    if (folder / "queries.jsonl").is_file():
        files = [folder / "memories.jsonl", folder / "queries.jsonl"]
        spaces = [_facts(folder.name, *files)]
    else:
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        spaces = [space for file in files for space in _conversations(path.stem, file)]
    if not any(space.questions for space in spaces):
        raise InvalidArgument(f"{path} holds no questions that its memories could answer.")
    digest = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return EvaluationSet(path.stem if folder is path else folder.name, digest, spaces)


def _facts(name: str, memories: Path, queries: Path) -> Space:
    facts = [
        Fact(
            key=row["id"],
            body={field: value for field, value in row.items() if field not in _NOT_SENT} | {"event_at": row["at"]},
            superseded_by=row.get("superseded_by"),
        )
        for row in _lines(memories)
    ]
    questions = [
        Question(
            text=row["query"],
            kind=row["type"],
            answers=frozenset(row["answers"]),
            namespace=row["namespace"],
            is_past=row.get("past", False),
            asked_at=datetime.fromisoformat(row["asked_at"]),
            is_held_out=row["held_out"],
        )
        for row in _lines(queries)
    ]
    unknown = {key for question in questions for key in question.answers} - {fact.key for fact in facts}
    if unknown:
        raise InvalidArgument(f"{queries} names answers that {memories.name} does not hold: {sorted(unknown)}.")
    return Space(name, facts, (), questions)


def _lines(path: Path) -> Iterator[Any]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InvalidArgument(f"{path}, line {number}, is not JSON: {error}.") from error


def _conversations(name: str, path: Path) -> Iterator[Space]:
    turns: dict[str | None, list[NewMemory]] = defaultdict(list)
    for turn in portability.read_conversations(path):
        turns[turn.namespace].append(turn)
    data = orjson.loads(path.read_bytes())
    for sample in data if isinstance(data, list) else [data]:
        spoken = turns[sample["sample_id"]]
        keys = {turn_key(turn) for turn in spoken}
        yield Space(f"{name}.{sample['sample_id']}", (), spoken, list(_evidenced(sample.get("qa", []), keys)))


def _evidenced(rows: Sequence[Any], keys: set[str]) -> Iterator[Question]:
    """The questions whose evidence was said. LoCoMo names turns that are none, and several in one string."""
    for row in rows:
        answers = keys.intersection(_TURN.findall(" ".join(row.get("evidence", []))))
        if row["category"] in _CATEGORIES and answers:
            yield Question(row["question"], _CATEGORIES[row["category"]], frozenset(answers))
