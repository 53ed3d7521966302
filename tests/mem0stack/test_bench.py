"""The bench measures what it says: a whole small run, and that no wrong reply passes for a right one."""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from mem0stack.bench import corpus
from mem0stack.bench.calls import Calls, User
from mem0stack.bench.client import Reply
from mem0stack.bench.figures import percentiles, row
from mem0stack.bench.load import Sample
from tests.running import CHECKOUT, free_port

OWNERS = corpus.owners(100_000, seed=1)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    port, file = free_port(), tmp_path_factory.mktemp("bench") / "bench.json"
    words = [sys.executable, "manage.py", "bench", "--quick", "--markdown", "--port", str(port), "--json", str(file)]
    environ = os.environ | {"VECTOR_INDEX_FROM": "300"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=CHECKOUT, timeout=300, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text()), done.stdout, Path(tempfile.gettempdir()) / f"mem0-bench-{port}"


def test_a_quick_run_measures_everything_and_leaves_nothing(quick: tuple[dict[str, Any], str, Path]) -> None:
    report, printed, home = quick

    assert not home.exists()
    assert set(report) == {
        *("schema", "at", "machine", "plan", "corpus", "start", "loading", "bytes", "open", "closed"),
        *("memory", "memory_after", "floors", "recovery_s", "targets", "cold"),
    }
    assert len(report["corpus"]["owners"]) == 20
    measured = report["open"]["calls"] + report["closed"] + report["floors"]
    assert [row for row in measured if row["errors"]] == []
    kinds = {"me", "search", "get", "list", "update", "delete", "create", "batch"}
    for clients in report["plan"]["clients"]:
        assert kinds <= {row["call"] for row in report["closed"] if row["clients"] == clients and row["count"]}
    for row_ in measured:
        assert row_["count"] == 0 or 0 < row_["p50_ms"] <= row_["p95_ms"] <= row_["p99_ms"]
    assert all(row["cpu_ms"]["web"] > 0 for row in report["closed"] if "cpu_ms" in row)
    assert {row["part"] for row in report["memory"]} == {"supervisor", "web", "mcp", "worker", "postgres", "valkey"}
    assert all(row["others_cpu_percent"] >= 0 for row in report["closed"] if "cpu_ms" in row)
    assert report["bytes"]["each"] > 1_000
    assert set(report["recovery_s"]) == set(report["plan"]["kills"])
    assert [row["size"] for row in report["cold"]] == ["largest", "large", "medium", "small"]
    assert all(row["first_ms"] > 0 and row["again_ms"] > 0 for row in report["cold"])
    assert report["start"]["first_s"] > report["start"]["first_memory_s"] > 0
    for one in report["targets"]:
        assert f"| {one['what']} |" in printed


def test_runs_of_several_sizes_are_compared(quick: tuple[dict[str, Any], str, Path], tmp_path: Path) -> None:
    report, *_ = quick
    file = tmp_path / "growth.json"
    file.write_text(json.dumps({"schema": 1, "growth": [report, report | {"corpus": report["corpus"]}]}))
    words = [sys.executable, "manage.py", "bench", "--show", str(file), "--markdown"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=CHECKOUT, timeout=60)
    assert "|  | 1000 memories | 1000 memories |" in done.stdout
    assert "| wrong replies | 0 | 0 |" in done.stdout


def test_the_curve_tells_the_lexical_arm_from_the_whole(tmp_path: Path) -> None:
    file = tmp_path / "curve.json"
    words = [
        sys.executable,
        "manage.py",
        "bench",
        "--curve",
        "100,400",
        "--port",
        str(free_port()),
        "--json",
        str(file),
    ]
    subprocess.run(words, capture_output=True, text=True, check=True, cwd=CHECKOUT, timeout=300)
    rows = json.loads(file.read_text())["curve"]
    assert [one["memories"] for one in rows] == [100, 400]
    for one in rows:
        assert 0 < one["lexical"]["p50_ms"] < one["whole"]["p50_ms"]
        assert one["cpu_ms"]["python"] > 0
        assert one["cpu_ms"]["postgres"] > 0


def test_an_earlier_run_is_shown_again(quick: tuple[dict[str, Any], str, Path], tmp_path: Path) -> None:
    report, printed, _ = quick
    file = tmp_path / "earlier.json"
    file.write_text(json.dumps(report))
    words = [sys.executable, "manage.py", "bench", "--show", str(file), "--markdown"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=CHECKOUT, timeout=60)
    assert done.stdout == printed


def test_owners_are_of_very_uneven_size() -> None:
    sizes = [owner.size for owner in OWNERS]
    assert (len(sizes), sum(sizes), sizes[0], sizes[-1]) == (20, 100_000, 30, 40_000)
    assert {corpus.size_class(owner, sizes[-1]) for owner in OWNERS} == {"small", "medium", "large", "largest"}


def test_texts_follow_from_the_seed_and_have_common_and_rare_words() -> None:
    owner, other = OWNERS[12], corpus.owners(100_000, seed=2)[12]
    texts = [owner.text(place) for place in range(1_000)]

    assert texts == [corpus.owners(100_000, seed=1)[12].text(place) for place in range(1_000)]
    assert owner.text(0) != other.text(0)
    assert len(set(texts)) == len(texts)
    assert all(8 <= len(text.split()) <= 40 for text in texts)
    held_by = Counter(word for text in texts for word in set(text.split()))
    assert held_by.most_common(1)[0][1] > 300
    # Recorded conversations: half of the words occur once.
    assert sum(count == 1 for count in held_by.values()) > 0.4 * len(held_by)


def test_a_query_is_made_of_words_of_its_text() -> None:
    draw = random.Random(7)  # noqa: S311  no secret
    for place in range(100):
        asked = OWNERS[-1].query(place, draw).split()
        assert 5 <= len(asked) <= 8 or len(set(OWNERS[-1].text(place).split())) < 5
        assert set(asked) <= set(OWNERS[-1].text(place).split())


def _reply(body: Any, status: int = 200) -> Reply:
    return Reply(status, orjson.dumps(body))


def _asked(request: bytes) -> Any:
    return orjson.loads(request.partition(b"\r\n\r\n")[2])


def _user() -> User:
    user = User(OWNERS[5], "m0_key")
    user.kept.append("a")
    user.doomed.append("b")
    return user


def test_a_search_is_right_only_with_ten_results_and_the_text_among_them() -> None:
    calls, user = Calls(seed=1), _user()
    call = calls.make("search", user)
    words = set(_asked(call.request)["query"].split())
    texts = [user.owner.text(place) for place in range(user.owner.size)]
    sought = next(text for text in texts if words <= set(text.split()))
    others = [text for text in texts if text != sought]

    def said(contents: list[str]) -> str | None:
        return call.check(_reply({"results": [{"content": content} for content in contents]}))

    assert said([*others[:9], sought]) is None
    assert said([sought]) == "1 results instead of 10"
    assert said(others[:10]) == "the text that was asked for is not among the results"
    assert said([*others[:10], sought]) is not None
    assert call.check(_reply({"detail": "no"}, 503)) == "status 503"


@pytest.mark.parametrize(
    ("kind", "right", "status"),
    [
        ("me", {"username": "bench05"}, 200),
        ("get", {"id": "a"}, 200),
        ("list", {"results": [{}] * 50}, 200),
        ("delete", {"event": "DELETE"}, 200),
        ("batch", {"written": 100}, 200),
    ],
)
def test_a_wrong_or_unreadable_reply_is_an_error(kind: str, right: Mapping[str, Any], status: int) -> None:
    call = Calls(seed=1).make(kind, _user())
    assert call.check(_reply(right, status)) is None
    assert call.check(_reply(right, 500)) is not None
    assert call.check(_reply(dict.fromkeys(right, "other"), status)) is not None
    assert call.check(_reply({}, status)) is not None
    assert call.check(Reply(200, b"{")) == "unreadable, status 200"


@pytest.mark.parametrize(("kind", "status"), [("create", 201), ("update", 200)])
def test_what_was_written_must_come_back(kind: str, status: int) -> None:
    call = Calls(seed=1).make(kind, _user())
    content = _asked(call.request)["content"]
    assert call.check(_reply({"content": content}, status)) is None
    assert call.check(_reply({"content": "another"}, status)) is not None


def test_a_row_counts_wrong_replies_and_names_them() -> None:
    samples = [Sample("get", "small", ms, "status 500" if ms == 4 else None) for ms in (1.0, 2.0, 3.0, 4.0)]
    found = row("get", 1, samples, wall_s=2.0)
    assert (found["count"], found["errors"], found["wrong"], found["per_second"]) == (4, 1, {"status 500": 1}, 2.0)
    assert (found["p50_ms"], found["p95_ms"]) == (2.0, 4.0)


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentiles(range(1, 101)) == {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99}
    assert percentiles([]) == {"p50_ms": 0.0, "p95_ms": 0.0, "p99_ms": 0.0}
