"""Entity extraction against the entity set: how much it finds, and how much of what it finds is right."""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from memories.entities import EntityKind, entities_of, key_of

SET = Path(__file__).parent / "entities" / "memories.jsonl"
CODE = frozenset(
    ("path", "module", "function", "class", "symbol", "package", "command", "flag", "variable", "error", "url")
    + ("issue", "branch", "host")
)
Pair = tuple[str, str]


@dataclass
class Score:
    right: int = 0
    wrong: int = 0
    missed: int = 0

    @property
    def f1(self) -> float:
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)

    def __str__(self) -> str:
        precision = self.right / max(1, self.right + self.wrong)
        recall = self.right / max(1, self.right + self.missed)
        return f"precision {precision:.3f}, recall {recall:.3f}, F1 {self.f1:.3f}"


@pytest.fixture(scope="module")
def memories() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SET.read_text(encoding="utf-8").splitlines()]


def scores(memories: Iterable[dict[str, Any]]) -> dict[str, Score]:
    """By kind, and of `code`, `prose` and `any` (equal keys of whatever kind, as search asks)."""
    made: dict[str, Score] = defaultdict(Score)
    for memory in memories:
        gold = {(one["kind"], one["key"]) for one in memory["entities"]}
        got = {(str(one.kind), one.key) for one in entities_of(memory["content"], memory.get("speaker"))}
        for name, kinds in {"code": CODE, "prose": set(EntityKind.values) - CODE}.items():
            _count(made[name], {one for one in gold if one[0] in kinds}, {one for one in got if one[0] in kinds})
        for kind in EntityKind.values:
            _count(made[kind], {one for one in gold if one[0] == kind}, {one for one in got if one[0] == kind})
        _count(made["any"], {key for _, key in gold}, {key for _, key in got})
    return made


def _count(score: Score, gold: set[Any], got: set[Any]) -> None:
    score.right += len(gold & got)
    score.wrong += len(got - gold)
    score.missed += len(gold - got)


def test_the_set_is_what_its_readme_says(memories: list[dict[str, Any]]) -> None:
    assert len({memory["id"] for memory in memories}) == len(memories) == 132
    assert len({memory["content"] for memory in memories}) == len(memories)
    assert Counter(memory["language"] for memory in memories) == {"en": 119, "de": 6, "ru": 4, "ja": 3}
    counted = Counter((memory["held_out"], one["kind"] in CODE) for memory in memories for one in memory["entities"])
    assert counted == {(False, True): 93, (False, False): 81, (True, True): 105, (True, False): 94}


def test_answers_are_in_canonical_form(memories: list[dict[str, Any]]) -> None:
    for memory in memories:
        pairs = [(one["kind"], one["key"]) for one in memory["entities"]]
        assert len(set(pairs)) == len(pairs), memory["id"]
        for kind, key in pairs:
            assert kind in EntityKind.values, memory["id"]
            assert kind == "flag" or key == key_of(key), memory["id"]


@pytest.mark.parametrize("held_out", [False, True], ids=["to develop on", "held out"])
def test_what_is_found(memories: list[dict[str, Any]], held_out: bool) -> None:
    found = scores(memory for memory in memories if memory["held_out"] is held_out)
    # pytest -s shows it.
    sys.stdout.writelines(f"\n{name:>12}: {score}" for name, score in found.items())
    assert found["code"].f1 >= 0.88
    assert found["prose"].f1 >= 0.88
    assert found["any"].f1 >= 0.95
