"""The conversation set is what its README says: long, consistent, storable, and with evidence for every question."""

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from accounts.actors import Actor
from accounts.services import create_user
from memories.portability import Loaded, load, read_conversations

CONVERSATIONS = Path(__file__).parent / "conversations"
FILES = sorted(CONVERSATIONS.glob("*.json"))
MULTI_HOP, TEMPORAL, OPEN, SINGLE_HOP = 1, 2, 3, 4

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def _sample(file: Path) -> dict[str, Any]:
    [sample] = json.loads(file.read_text(encoding="utf-8"))
    return sample


def _sessions(sample: dict[str, Any]) -> list[list[dict[str, Any]]]:
    talk = sample["conversation"]
    return [talk[f"session_{number}"] for number in range(1, 1 + sum(f"session_{n}" in talk for n in range(1, 100)))]


def _turns(sample: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {turn["dia_id"]: turn for session in _sessions(sample) for turn in session}


def test_the_set_is_as_large_as_promised() -> None:
    questions = [question for file in FILES for question in _sample(file)["qa"]]
    shares = {kind: number / len(questions) for kind, number in Counter(q["category"] for q in questions).items()}

    assert len(FILES) >= 5
    assert len(questions) >= 280
    assert shares.keys() == {MULTI_HOP, TEMPORAL, OPEN, SINGLE_HOP}
    assert 0.50 <= shares[SINGLE_HOP] <= 0.62
    assert 0.17 <= shares[TEMPORAL] <= 0.24
    assert 0.14 <= shares[MULTI_HOP] <= 0.20
    assert 0.06 <= shares[OPEN] <= 0.12


def test_the_readme_tells_the_figures() -> None:
    readme = (CONVERSATIONS / "README.md").read_text(encoding="utf-8")
    turns_of_all = questions_of_all = 0
    for file in FILES:
        sample = _sample(file)
        sessions, turns = len(_sessions(sample)), len(_turns(sample))
        kinds = Counter(question["category"] for question in sample["qa"])
        figures = [sessions, turns, len(sample["qa"]), *(kinds[k] for k in (SINGLE_HOP, TEMPORAL, MULTI_HOP, OPEN))]
        assert f"| `{file.name}` | {' | '.join(map(str, figures))} |" in readme
        turns_of_all, questions_of_all = turns_of_all + turns, questions_of_all + len(sample["qa"])

    assert f"{turns_of_all} turns" in readme
    assert f"{questions_of_all} questions" in readme


@every_file
def test_a_conversation_has_its_sessions_and_turns_in_order(file: Path) -> None:
    sample = _sample(file)
    talk, sessions = sample["conversation"], _sessions(sample)
    dates = {f"session_{number}_date_time" for number in range(1, len(sessions) + 1)}
    names = {f"session_{number}" for number in range(1, len(sessions) + 1)}

    assert sample.keys() == {"sample_id", "conversation", "qa"}
    assert sample["sample_id"] == file.stem
    assert talk.keys() == {"speaker_a", "speaker_b"} | dates | names
    assert len(sessions) >= 12
    assert sum(map(len, sessions)) >= 200
    for number, session in enumerate(sessions, start=1):
        assert [turn["dia_id"] for turn in session] == [f"D{number}:{n}" for n in range(1, len(session) + 1)]


@every_file
def test_two_people_talk_and_say_nothing_twice(file: Path) -> None:
    sample = _sample(file)
    pair = {sample["conversation"]["speaker_a"], sample["conversation"]["speaker_b"]}
    texts = Counter(turn["text"].casefold() for turn in _turns(sample).values())

    assert len(pair) == 2
    assert all({turn["speaker"] for turn in session} == pair for session in _sessions(sample))
    assert all(turn.keys() - {"blip_caption"} == {"speaker", "dia_id", "text"} for turn in _turns(sample).values())
    # A turn that repeats another may be confirmed instead of stored, and its dia_id would answer nothing.
    assert set(texts.values()) == {1}


@every_file
def test_the_service_stores_every_turn(file: Path, db: None) -> None:
    sample = _sample(file)
    actor = Actor.of(create_user("listener"), door="command")
    memories = read_conversations(file)
    loaded = load(actor, memories, progress=lambda _: None)

    assert [memory.metadata["dia_id"] for memory in memories] == list(_turns(sample))
    assert {memory.namespace for memory in memories} == {file.stem}
    assert loaded == Loaded(added=len(memories), known=0, refused={})


@every_file
def test_sessions_ascend_through_months_of_one_year(file: Path) -> None:
    moments = list({memory.run_id: memory.event_at for memory in read_conversations(file)}.values())
    times = [moment for moment in moments if moment is not None]

    assert len(times) == len(moments) == len(_sessions(_sample(file)))
    assert times == sorted(set(times))
    assert len({time.year for time in times}) == 1
    assert times[-1] - times[0] > timedelta(days=150)


@every_file
def test_questions_are_well_formed_and_have_evidence(file: Path) -> None:
    sample = _sample(file)
    place = {dia_id: number for number, dia_id in enumerate(_turns(sample))}

    assert len(sample["qa"]) >= 45
    for question in sample["qa"]:
        asked, evidence = question["question"], question["evidence"]
        assert question.keys() == {"question", "answer", "evidence", "category"}, asked
        assert asked.endswith("?"), asked
        assert question["answer"].strip(), asked
        assert question["category"] in {MULTI_HOP, TEMPORAL, OPEN, SINGLE_HOP}, asked
        assert evidence, asked
        assert evidence == sorted(set(evidence), key=place.__getitem__), asked
        if question["category"] == MULTI_HOP:
            assert 2 <= len(evidence) <= 5, asked
            assert len({turn.partition(":")[0] for turn in evidence}) >= 2, asked


@every_file
def test_questions_are_spread_over_sessions_and_speakers(file: Path) -> None:
    sample = _sample(file)
    turns = _turns(sample)
    evidence = [turn for question in sample["qa"] for turn in question["evidence"]]
    speakers = Counter(turns[dia_id]["speaker"] for dia_id in evidence)

    assert {dia_id.partition(":")[0] for dia_id in evidence} == {f"D{n}" for n in range(1, 1 + len(_sessions(sample)))}
    assert min(speakers.values()) >= 0.35 * len(evidence)


def test_no_question_is_asked_twice() -> None:
    asked = Counter(question["question"].casefold() for file in FILES for question in _sample(file)["qa"])

    assert set(asked.values()) == {1}
