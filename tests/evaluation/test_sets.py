"""The coding set is what its README says: complete, consistent, storable, and split in halves."""

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memories.models import Kind
from memories.texts import (
    check_content,
    check_label,
    check_time,
    clean_namespace,
    clean_tags,
    content_hash,
    refuse_secrets,
)

CODING = Path(__file__).parent / "coding"
LANGUAGES = {"en", "de", "ru", "zh", "ja"}
TYPES = {"paraphrase", "identifier", "decision", "temporal", "typo", "language", "command", "person", "multi", "none"}
MEMORY_FIELDS = {"id", "at", "namespace", "kind", "content", "tags", "app", "language"}
QUERY_FIELDS = {"id", "query", "namespace", "asked_at", "answers", "type", "held_out", "language"}


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CODING / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def memories() -> dict[str, dict[str, Any]]:
    rows = _rows("memories.jsonl")
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


@pytest.fixture(scope="module")
def queries() -> list[dict[str, Any]]:
    return _rows("queries.jsonl")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    check_time("at", moment)
    return moment.astimezone(UTC)


def test_the_set_is_as_large_as_promised(memories: dict[str, Any], queries: list[Any]) -> None:
    assert len(memories) >= 280
    assert len(queries) >= 320
    assert sum(query["type"] == "none" for query in queries) >= 36
    assert sum("superseded_by" in memory for memory in memories.values()) >= 25


def test_the_readme_tells_the_figures(memories: dict[str, Any], queries: list[Any]) -> None:
    readme = (CODING / "README.md").read_text(encoding="utf-8")

    assert f"{len(memories)} memories" in readme
    assert f"{len(queries)} questions" in readme
    for name, number in Counter(query["type"] for query in queries).items():
        assert f"| {name} | {number} |" in readme
    for name, number in Counter(memory["namespace"] for memory in memories.values()).items():
        asked = sum(query["namespace"] == name for query in queries)
        assert f"| `{name}` | {number} | {asked} |" in readme


def test_every_memory_passes_the_checks_of_a_write(memories: dict[str, Any]) -> None:
    for memory in memories.values():
        assert memory.keys() - {"run_id", "speaker", "superseded_by"} == MEMORY_FIELDS, memory["id"]
        assert memory["kind"] in Kind.values, memory["id"]
        check_content(memory["content"])
        check_label("app", memory["app"])
        check_label("run_id", memory.get("run_id"))
        check_label("speaker", memory.get("speaker"))
        assert clean_namespace(memory["namespace"]) == memory["namespace"]
        assert clean_tags(memory["tags"]) == memory["tags"]
        refuse_secrets(content=memory["content"], tags=memory["tags"])


def test_no_memory_is_there_twice(memories: dict[str, Any]) -> None:
    # An exact duplicate would be confirmed, not stored, and its id would answer nothing.
    assert len({content_hash(memory["content"].casefold()) for memory in memories.values()}) == len(memories)


def test_memories_are_in_the_order_of_their_times(memories: dict[str, Any]) -> None:
    ids, times = list(memories), [_moment(memory["at"]) for memory in memories.values()]

    assert ids == sorted(ids)
    assert times == sorted(set(times))
    assert (times[-1] - times[0]).days > 200


def test_what_supersedes_is_a_later_memory_of_the_same_project(memories: dict[str, Any]) -> None:
    for old in memories.values():
        if "superseded_by" in old:
            new = memories[old["superseded_by"]]
            assert _moment(new["at"]) > _moment(old["at"]), old["id"]
            assert new["namespace"] == old["namespace"], old["id"]


def test_messages_have_a_run_and_a_speaker(memories: dict[str, Any]) -> None:
    messages = [memory for memory in memories.values() if memory["kind"] == Kind.MESSAGE]

    assert messages
    assert all("run_id" in memory and "speaker" in memory for memory in messages)


def test_every_language_and_project_is_present(memories: dict[str, Any], queries: list[Any]) -> None:
    shares = Counter(memory["language"] for memory in memories.values())
    projects = Counter(memory["namespace"] for memory in memories.values())

    assert shares.keys() == {query["language"] for query in queries} == LANGUAGES
    assert min(shares.values()) >= 10
    assert len(projects) == 6
    assert min(projects.values()) >= 20


def test_queries_are_well_formed_and_asked_once(queries: list[Any]) -> None:
    assert len({query["id"] for query in queries}) == len(queries)
    assert len({(query["query"].casefold(), query["namespace"]) for query in queries}) == len(queries)
    for query in queries:
        assert query.keys() - {"note", "past"} == QUERY_FIELDS, query["id"]
        assert 0 < len(query["query"]) <= 2_000, query["id"]


def test_answers_exist_can_be_seen_and_hold_when_asked(memories: dict[str, Any], queries: list[Any]) -> None:
    last = max(_moment(memory["at"]) for memory in memories.values())
    projects = {memory["namespace"] for memory in memories.values()}
    for query in queries:
        answers = [memories[id] for id in query["answers"]]
        assert len(set(query["answers"])) == len(answers), query["id"]
        assert (query["type"] == "none") == (not answers), query["id"]
        assert _moment(query["asked_at"]) > last, query["id"]
        assert query["namespace"] is None or query["namespace"] in projects, query["id"]
        for answer in answers:
            assert query["namespace"] in (None, answer["namespace"]) or answer["namespace"] == "personal", query["id"]
            assert query.get("past") or "superseded_by" not in answer, query["id"]


def test_half_of_each_type_is_held_out(queries: list[Any]) -> None:
    halves: dict[str, Counter[bool]] = defaultdict(Counter)
    for query in queries:
        halves[query["type"]][query["held_out"]] += 1

    assert halves.keys() == TYPES
    assert all(half[True] == half[False] for half in halves.values())
