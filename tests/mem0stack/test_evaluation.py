"""Evaluation measures what it says: figures by hand, sets as they are read, and whole runs that leave nothing."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from math import log2
from pathlib import Path
from typing import Any

import pytest

from mem0stack.evaluation import metrics, report
from mem0stack.evaluation.metrics import Answered, Bin
from mem0stack.evaluation.sets import read_sets
from mem0stack.lib.errors import InvalidArgument
from memories import ranking
from tests.running import CHECKOUT

EVALUATION = CHECKOUT / "tests" / "evaluation"


@pytest.mark.parametrize(
    ("ranking", "gold", "k", "recall", "hit"),
    [
        ("abcde", "a", 1, 1.0, 1.0),
        ("abcde", "b", 1, 0.0, 0.0),
        ("abcde", "be", 2, 0.5, 1.0),
        ("abcde", "be", 5, 1.0, 1.0),
        ("abcde", "xyz", 5, 0.0, 0.0),
        ("ab", "abcd", 10, 0.5, 1.0),
        ("", "a", 5, 0.0, 0.0),
    ],
)
def test_recall_is_the_share_of_the_gold_and_hit_is_any_of_it(
    ranking: Sequence[str], gold: Collection[str], k: int, recall: float, hit: float
) -> None:
    assert metrics.recall(ranking, gold, k) == recall
    assert metrics.hit(ranking, gold, k) == hit


@pytest.mark.parametrize(("gold", "expected"), [("a", 1.0), ("c", 1 / 3), ("ec", 1 / 3), ("x", 0.0)])
def test_the_reciprocal_rank_is_that_of_the_first_answer(gold: str, expected: float) -> None:
    assert metrics.reciprocal_rank("abcde", gold) == expected


@pytest.mark.parametrize(
    ("gold", "k", "expected"),
    [
        ("a", 5, 1.0),
        ("b", 5, 1 / log2(3)),
        ("ac", 5, (1 + 1 / log2(4)) / (1 + 1 / log2(3))),
        ("ab", 1, 1.0),
        ("e", 4, 0.0),
    ],
)
def test_ndcg_is_a_share_of_the_best_possible_order(gold: str, k: int, expected: float) -> None:
    assert metrics.ndcg("abcde", gold, k) == pytest.approx(expected)


def test_figures_are_means_over_questions_and_abstention_counts_each_side_apart() -> None:
    found = metrics.figures(
        [
            Answered("abcdef", "a", is_answerable=True, ms=1.0),
            Answered("abcdef", "fx", is_answerable=False, ms=2.0),
            Answered("abcdef", "", is_answerable=False, ms=3.0),
            Answered("abcdef", "", is_answerable=True, ms=9.0),
            Answered("", "", is_answerable=False, ms=4.0),
        ]
    )

    assert found.questions == 5
    assert found.recall == {5: 0.5, 10: 0.75, 20: 0.75, 50: 0.75}
    assert found.hit_at_5 == 0.5
    assert found.mrr == pytest.approx((1 + 1 / 6) / 2)
    assert found.abstained_right == pytest.approx(2 / 3)
    assert found.abstained_wrong == 0.5
    assert (found.p50_ms, found.p95_ms) == (3.0, 9.0)


def test_figures_without_a_question_for_them_are_none() -> None:
    found = metrics.figures([Answered("ab", "")]).to_json()

    assert found.pop("questions") == 1
    assert set(found.values()) == {None}
    assert "recall_at_50" in found


def test_reliability_sorts_scores_into_tenths() -> None:
    bins = metrics.reliability([(0.0, False), (0.05, True), (0.31, True), (0.99, True), (1.0, False)])

    assert bins[0] == Bin(0.0, 2, pytest.approx(0.025), 0.5)
    assert bins[3] == Bin(0.3, 1, 0.31, 1.0)
    assert bins[9] == Bin(0.9, 2, pytest.approx(0.995), 0.5)
    assert bins[5] == Bin(0.5, 0, None, None)


def test_a_table_is_markdown_and_can_be_read_as_text() -> None:
    assert report.table(["percent", "r@5"], [["ours", "100.0"], ["cosine", ""]]) == (
        "| percent |   r@5 |\n|---------|------:|\n| ours    | 100.0 |\n| cosine  |       |"
    )


def test_the_coding_set_is_read_with_its_halves_and_its_questions_about_the_past() -> None:
    [coding] = read_sets([EVALUATION / "coding" / "queries.jsonl"])
    [space] = coding.spaces
    questions = {question.text: question for question in space.questions}
    past = questions["what did celery use as broker before valkey"]

    assert [each.digest for each in read_sets([EVALUATION / "coding"])] == [coding.digest]
    assert (coding.name, space.size, len(space.questions)) == ("coding", 304, 332)
    assert past.is_past
    assert past.slices == ("overall", "temporal", "held-out half", "in a project")
    first = space.facts[0]
    assert first.superseded_by == "m075"
    assert first.body.keys() == {"namespace", "kind", "content", "tags", "app", "event_at"}


def test_a_folder_of_conversations_is_one_set_with_a_space_for_each() -> None:
    [conversations] = read_sets([EVALUATION / "conversations"])

    assert len(conversations.spaces) == 5
    assert sum(bool(question.answers) for space in conversations.spaces for question in space.questions) == 298
    assert len({space.name for space in conversations.spaces}) == 5


TURNS = [
    {"speaker": "Ada", "dia_id": "D1:1", "text": "I sold the blue kayak to my neighbour."},
    {"speaker": "Ben", "dia_id": "D1:2", "text": "Good, I never liked it.", "blip_caption": "a kayak on a lake"},
    {"speaker": "Ada", "dia_id": "D1:3", "text": "My violin lessons begin on Monday."},
]
QUESTIONS: list[dict[str, Any]] = [
    {"question": "Who bought the kayak?", "category": 4, "evidence": ["D1:1; D1:2"], "answer": "the neighbour"},
    {"question": "When do violin lessons begin?", "category": 2, "evidence": ["D1:3", "D", "D9:9"], "answer": "Monday"},
    {"question": "Nobody said this?", "category": 3, "evidence": ["D9:9"], "answer": ""},
    {"question": "What did Ben sell?", "category": 5, "evidence": ["D1:1"], "adversarial_answer": "a kayak"},
]


def _conversation(path: Path, **talk: Any) -> Path:
    talk = {"session_1_date_time": "7:40 pm on 14 January, 2024", "session_1": TURNS} | talk
    path.write_text(json.dumps([{"sample_id": "talk", "conversation": talk, "qa": QUESTIONS}]))
    return path


def test_only_questions_with_evidence_in_the_conversation_count(tmp_path: Path) -> None:
    [talk] = read_sets([_conversation(tmp_path / "small.json")])
    [space] = talk.spaces

    assert (talk.name, space.name, space.size) == ("small", "small.talk", 3)
    assert [(each.kind, each.answers) for each in space.questions] == [
        ("single-hop", {"D1:1", "D1:2"}),
        ("temporal", {"D1:3"}),
    ]
    assert all(each.is_held_out is None for each in space.questions)


@pytest.mark.parametrize(("text", "said"), [("{", "is not JSON"), ("[]", "no questions"), ('[{"qa": []}]', "LoCoMo")])
def test_a_file_that_is_no_set_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=said):
        read_sets([file])


def _coding(folder: Path) -> Path:
    folder.mkdir()
    plain = {"kind": "fact", "tags": [], "app": "cursor", "language": "en"}
    memories = [
        {"id": "m1", "content": "The broker is RabbitMQ.", "namespace": "shop", "superseded_by": "m3"},
        {"id": "m2", "content": "Deployments go out on Tuesdays.", "namespace": "shop"},
        {"id": "m3", "content": "The broker is Valkey.", "namespace": "shop"},
        {"id": "m4", "content": "The broker is Kafka.", "namespace": "other"},
    ]
    asked = {"asked_at": "2026-04-01T09:00:00Z", "language": "en", "type": "decision", "held_out": True}
    queries: list[dict[str, Any]] = [
        {"id": "q1", "query": "which broker", "namespace": "shop", "answers": ["m3"]},
        {"id": "q2", "query": "which broker before", "namespace": "shop", "answers": ["m1"], "past": True},
        {"id": "q3", "query": "who paints the fence", "namespace": None, "answers": [], "type": "none"},
    ]
    rows = [row | plain | {"at": f"2026-03-0{n}T09:00:00Z"} for n, row in enumerate(memories, start=1)]
    (folder / "memories.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "queries.jsonl").write_text("\n".join(json.dumps(asked | row) for row in queries))
    return folder


def _home(run: "subprocess.Popen[str]") -> Path:
    """Each run has one of its own: others may be going on."""
    return Path(tempfile.gettempdir()) / f"mem0-evaluation-{run.pid}"


def _command(*words: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "manage.py", *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT, start_new_session=True
    )


def test_a_small_run_measures_both_formats_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    sets = [_coding(tmp_path / "facts"), _conversation(tmp_path / "small.json")]
    run = _command("evaluate", *sets, "--json", file)
    printed, said = run.communicate(timeout=200)

    assert run.returncode == 0, said
    assert not _home(run).exists()
    facts, talk = json.loads(file.read_text())["sets"]
    assert list(facts["systems"]) == [*("ours", "plain cosine", "plain BM25", "mem0's scoring", "mem0's, no entities")]
    # What follows are questions of the other set, which nothing here answers.
    broker, before, fence, *of_other_lives = facts["questions"]
    assert all(one["slices"] == ["of other lives"] and one["answers"] == [] for one in of_other_lives)
    # What is superseded is no answer unless the past is asked for, and nothing of another project ever is.
    assert set(broker["found"]) == {"m2", "m3"}
    assert set(before["found"]) == {"m1", "m2", "m3"}
    assert set(fence["found"]) <= {"m2", "m3", "m4"}
    for system in facts["systems"].values():
        assert system["held-out half"]["recall_at_50"] == 1.0
        assert system["everywhere"]["recall_at_50"] is None
        assert system["overall"]["questions"] == 3
    assert facts["systems"]["ours"]["none"]["abstained_right"] in (0.0, 1.0)
    assert talk["systems"]["ours"]["temporal"]["recall_at_5"] == 1.0
    assert talk["systems"]["ours"]["overall"]["p50_ms"] > 0
    assert "### facts: 3 questions to 4 memories" in printed
    assert "| mem0's scoring |" in printed


def test_a_run_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    folder = _coding(tmp_path / "facts")
    memories = folder / "memories.jsonl"
    memories.write_text(memories.read_text().replace("The broker is Kafka.", "  "))
    run = _command("evaluate", folder)
    _, said = run.communicate(timeout=200)

    assert run.returncode == 1
    assert "POST /api/v2/memories/ was answered with 400" in said
    assert "Traceback" not in said
    assert not _home(run).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    run = _command("evaluate", EVALUATION / "conversations")
    try:
        deadline = time.monotonic() + 60
        while not (_home(run) / "logs").exists():
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(2.5)  # somewhere in the start or in the loading
        # As a terminal does it: the whole group.
        os.killpg(run.pid, number)
        run.communicate(timeout=60)
    finally:
        run.kill()

    assert run.returncode != 0
    assert not _home(run).exists()


def test_weights_are_fitted_written_and_ranked_by(tmp_path: Path) -> None:
    weights, file = tmp_path / "weights.json", tmp_path / "figures.json"
    talks = [_conversation(tmp_path / "one.json"), _conversation(tmp_path / "two.json")]
    run = _command("fit_ranking", *talks, "--out", weights)
    printed, said = run.communicate(timeout=200)
    assert run.returncode == 0, said
    assert not _home(run).exists()
    fitted = json.loads(weights.read_text())

    assert "### two: what was not fitted on" in printed
    assert tuple(fitted["weights"]) == ranking.COLUMNS
    assert [(each["name"], each["questions"]) for each in fitted["fitted_on"]] == [("one", 2), ("two", 2)]
    assert fitted["held_out"]["one"]["figures"]["overall"]["questions"] == 2
    assert ranking.load(weights).weights == fitted["weights"]

    # Turned round, what fits best comes last.
    upside_down = {name: -weight for name, weight in fitted["weights"].items()} | {
        f"message.{name}": 0.0 for name in ("length", "asks")
    }
    weights.write_text(json.dumps(fitted | {"weights": upside_down}))
    run = _command("evaluate", talks[0], "--weights", weights, "--json", file)
    _, said = run.communicate(timeout=200)
    assert run.returncode == 0, said
    assert json.loads(file.read_text())["sets"][0]["questions"][1]["found"][-1] == "D1:3"
    assert not _home(run).exists()
