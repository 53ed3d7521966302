"""The pairs of near duplicates are what their README says."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from memories.texts import check_content, content_hash, refuse_secrets

HOME = Path(__file__).parent / "near_duplicates"
LANGUAGES = {"en": "English", "de": "German", "ru": "Russian", "ja": "Japanese", "zh": "Chinese"}


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HOME / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_set_is_as_large_as_promised(pairs: list[dict[str, Any]]) -> None:
    assert sum(pair["duplicate"] for pair in pairs) >= 60
    assert sum(not pair["duplicate"] for pair in pairs) >= 80
    for answer in (True, False):
        halves = Counter(pair["held_out"] for pair in pairs if pair["duplicate"] is answer)
        assert abs(halves[True] - halves[False]) <= 1


def test_the_readme_tells_the_figures(pairs: list[dict[str, Any]]) -> None:
    readme = (HOME / "README.md").read_text(encoding="utf-8")

    assert f"{len(pairs)} pairs" in readme
    assert f"{sum(pair['held_out'] for pair in pairs)} pairs are `held_out`" in readme
    for kind, number in Counter(pair["kind"] for pair in pairs).items():
        assert f"| {kind} | {number} |" in readme
    for name, answer in (("the same", True), ("different", False)):
        spoken = Counter(pair["language"] for pair in pairs if pair["duplicate"] is answer)
        row = " | ".join(str(number) for number in (*(spoken[one] for one in LANGUAGES), spoken.total()))
        assert f"| {name} | {row} |" in readme


def test_every_pair_is_complete_storable_and_two_texts(pairs: list[dict[str, Any]]) -> None:
    for place, pair in enumerate(pairs, 1):
        assert pair.keys() == {"id", "kind", "language", "a", "b", "duplicate", "held_out"}
        assert pair["id"] == f"n{place:03}"
        assert pair["language"] in LANGUAGES
        for text in (pair["a"], pair["b"]):
            check_content(text)
            refuse_secrets(content=text, metadata={}, tags=[])
        assert content_hash(pair["a"]) != content_hash(pair["b"]), pair["id"]


def test_no_kind_has_both_answers_and_no_pair_comes_twice(pairs: list[dict[str, Any]]) -> None:
    answers = {(pair["kind"], pair["duplicate"]) for pair in pairs}
    assert len(answers) == len({kind for kind, _ in answers})
    assert len({frozenset((pair["a"], pair["b"])) for pair in pairs}) == len(pairs)
