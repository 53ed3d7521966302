"""The stdio bridge against a server that fails as networks and servers fail."""

import ast
import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mcp_bridge import stdio
from tests.bridge import BRIDGE, KEY, MODERN, BridgeProcess, bridge, eventually
from tests.mcp_server_at_the_edge import Edge


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    server = Edge(str(tmp_path / "server.db"))
    yield server
    server.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "bridge"


@pytest.fixture
def session(edge: Edge, folder: Path) -> Iterator[BridgeProcess]:
    with bridge(edge.url, folder, "--project", "notes") as one:
        yield one


def queue_of(edge: Edge, folder: Path, key: str = KEY) -> stdio.Queue:
    return stdio.Queue(str(folder / f"{stdio.file_name(edge.url, key)}.db"))


# What the file is


def test_the_file_is_python_3_9_and_imports_the_standard_library_only() -> None:
    tree = ast.parse(BRIDGE.read_text(), feature_version=(3, 9))
    roots = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert len(roots) > 10
    assert roots <= sys.stdlib_module_names
    assert "fcntl" not in roots, "Windows has none"


def test_the_copied_file_forwards_as_the_module_does(edge: Edge, folder: Path, tmp_path: Path) -> None:
    lines = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}) + "\n"
    copy = tmp_path / "mem0_bridge.py"
    copy.write_text(BRIDGE.read_text())
    for words in ([str(copy)], ["-m", "mcp_bridge.stdio"]):
        done = subprocess.run(
            [sys.executable, *words, "--url", edge.url, "--data-dir", str(folder)],
            input=lines,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
            cwd=BRIDGE.parent.parent,
            env={**os.environ, "MEM0_API_KEY": KEY},
        )
        (line,) = done.stdout.splitlines()
        assert json.loads(line)["result"]["tools"] == edge.tools


def test_help_and_version_explain_themselves() -> None:
    def run(word: str) -> str:
        return subprocess.run([sys.executable, str(BRIDGE), word], capture_output=True, text=True, check=True).stdout

    assert "hook save" in run("--help")
    assert "MEM0_API_KEY" in run("--help")
    assert run("--version").startswith("mem0_bridge ")


def test_it_is_small(edge: Edge, folder: Path, told: Callable[[str], None]) -> None:
    """Times are shown, not asserted: the machine has other things to do."""
    began = time.monotonic()
    with bridge(edge.url, folder) as session:
        first_s = time.monotonic() - began
        for _ in range(20):
            session.tool("search_memory", query="x")
            session.tool("add_memories", text="x")
        took = []
        for _ in range(200):
            began = time.monotonic()
            session.tool("search_memory", query="x")
            took.append(time.monotonic() - began)
        size = psutil.Process(session.process.pid).memory_info().rss / 2**20
    told(f"bridge: first reply {1000 * first_s:.0f} ms, a call p50 {1000 * sorted(took)[100]:.2f} ms, {size:.1f} MiB")
    assert size <= 30


# Forwarding


def test_a_call_goes_out_as_it_came_with_the_callers_identity(edge: Edge, session: BridgeProcess) -> None:
    session.tool("search_memory", query="tests", top_k=3)
    message, headers = edge.last
    assert message["params"] == {"name": "search_memory", "arguments": {"query": "tests", "top_k": 3}}
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["X-Mem0-Project"] == "notes"
    assert headers["X-Mem0-Client"] == "test-client"
    assert headers["MCP-Protocol-Version"] == "2025-06-18"
    assert 0 < len(headers["X-Mem0-Run"]) <= 128
    assert headers["X-Mem0-Said-At"].endswith("Z")
    assert "Mcp-Method" not in headers


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_the_version_of_the_handshake_is_named_afterwards(edge: Edge, folder: Path, version: str) -> None:
    with bridge(edge.url, folder, version=version) as session:
        session.ask("tools/list")
        assert "MCP-Protocol-Version" not in edge.seen[0][1]
        assert edge.last[1]["MCP-Protocol-Version"] == version


def test_a_message_of_2026_names_itself_in_headers(edge: Edge, folder: Path) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "newest", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    with bridge(edge.url, folder, version="") as session:
        session.ask("tools/call", {"name": "search_memory", "arguments": {"query": "x"}, "_meta": meta})
        headers = edge.last[1]
        assert headers["MCP-Protocol-Version"] == MODERN
        assert (headers["Mcp-Method"], headers["Mcp-Name"]) == ("tools/call", "search_memory")
        assert headers["X-Mem0-Client"] == "newest"
        session.ask("resources/read", {"uri": "memory://project/größe", "_meta": meta})
        assert edge.last[1]["Mcp-Name"].startswith("=?base64?")
        session.notify("notifications/cancelled")
        with edge.away():
            queued = session.ask("tools/call", {"name": "add_memories", "arguments": {"text": "kept"}, "_meta": meta})[
                "result"
            ]
            assert queued["resultType"] == "complete"
            discovered = session.ask("server/discover", {"_meta": meta})["result"]
            assert MODERN in discovered["supportedVersions"]
        eventually(lambda: edge.texts == ["kept"])
        assert edge.last[1]["Mcp-Name"] == "add_memories"
        assert all(message["method"] != "notifications/cancelled" for message, _ in edge.seen)


def test_calls_do_not_wait_for_each_other_and_writes_keep_their_order(edge: Edge, session: BridgeProcess) -> None:
    slow = session.begin("tools/call", {"name": "search_memory", "arguments": {"query": "slow"}})
    writes = [
        session.begin("tools/call", {"name": "add_memories", "arguments": {"text": f"write {number}"}})
        for number in range(40)
    ]
    for waiting in writes:
        assert waiting.get(timeout=10)
    assert slow.empty()
    assert slow.get(timeout=10)
    assert edge.texts == [f"write {number}" for number in range(40)]


def test_every_write_has_a_key_and_the_callers_own_is_kept(edge: Edge, session: BridgeProcess) -> None:
    session.tool("add_memories", text="one")
    session.tool("add_memories", text="two", idempotency_key="mine")
    first, second = edge.applied.rows()
    assert len(first["key"]) == 32
    assert second["key"] == "mine"
    session.tool("search_memory", query="one")
    assert "idempotency_key" not in edge.last[0]["params"]["arguments"]


def test_a_stream_is_read_too_and_what_it_says_aside_is_passed_on(edge: Edge, session: BridgeProcess) -> None:
    edge.as_stream = True
    assert session.tool("add_memories", text="streamed").startswith("saved")
    assert session.others.get(timeout=5)["method"] == "notifications/progress"
    assert session.tool("search_memory", query="x").startswith("a1b2c3d4")


@pytest.mark.parametrize(
    ("line", "code"),
    [(b"{", -32700), (b"\xff\xfe{}", -32700), (b"[]", -32600), (b'{"id": 77}', -32600), (b"[" * 100_000, -32700)],
    ids=["cut", "not UTF-8", "batch", "no method", "deep"],
)
def test_a_bad_line_is_answered_and_the_session_goes_on(session: BridgeProcess, line: bytes, code: int) -> None:
    session.send(line)
    assert session.others.get(timeout=5)["error"]["code"] == code
    assert session.ask("ping")["result"] == {}


def test_an_unfit_write_is_the_servers_to_judge(edge: Edge, session: BridgeProcess) -> None:
    session.begin("tools/call", {"name": "add_memories", "arguments": [1]})
    session.begin("tools/call", {"name": ["add_memories"]})
    assert session.ask("ping")["result"] == {}
    assert session.tool("search_memory", query="x").startswith("a1b2c3d4")


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "ERROR forbidden"), (403, "ERROR forbidden"), (413, "ERROR too_large"), (421, "ERROR forbidden")],
)
def test_a_refusal_before_the_tools_is_said_in_their_words(
    edge: Edge, session: BridgeProcess, status: int, words: str
) -> None:
    edge.always = status
    for tool in ("search_memory", "add_memories"):
        result = session.result(tool, query="x", text="x")
        assert result["isError"]
        assert result["content"][0]["text"].startswith(words)
    assert session.ask("tools/list")["error"]["message"].startswith(words)
    edge.always = ""
    assert session.tool("memory_status").endswith("queued writes: 0")


# The server goes, and comes back


def test_a_restart_between_two_calls_is_not_seen(edge: Edge, session: BridgeProcess) -> None:
    session.tool("add_memories", text="before")
    with edge.away():
        pass
    assert session.tool("add_memories", text="after").startswith("saved")
    assert session.tool("search_memory", query="x").startswith("a1b2c3d4")
    assert edge.texts == ["before", "after"]


@pytest.mark.parametrize("fault", ["cut", "drop"])
def test_a_cut_connection_is_tried_once_more_and_applied_once(edge: Edge, session: BridgeProcess, fault: str) -> None:
    edge.faults = [fault]
    assert session.tool("add_memories", text="once").startswith("saved")
    edge.faults = [fault, fault]
    assert session.tool("add_memories", text="and once").startswith("QUEUED")
    eventually(lambda: edge.texts == ["once", "and once"])
    eventually(lambda: session.tool("memory_status").endswith("queued writes: 0"))
    assert edge.texts == ["once", "and once"]


def test_writes_wait_on_disk_and_are_applied_once_in_order_with_their_own_time(
    edge: Edge, session: BridgeProcess
) -> None:
    session.tool("add_memories", text="first")
    run = edge.last[1]["X-Mem0-Run"]
    with edge.away():
        said = [session.tool("add_memories", text=f"away {number}") for number in range(5)]
        assert [words.split(": ", 1)[1] for words in said] == [
            f"{number} waiting; saved when the server is back." for number in range(1, 6)
        ]
        assert session.tool("update_memory", memory_id="a1b2c3d4", text="new").startswith("QUEUED")
        assert session.tool("delete_memories", memory_ids=["0badcafe"]).startswith("QUEUED")
        moment = stdio.now()
        time.sleep(0.6)
    eventually(lambda: len(edge.texts) == 8)
    rows = edge.applied.rows()
    assert [row["text"] for row in rows[:6]] == ["first", *(f"away {number}" for number in range(5))]
    assert rows[6]["text"] == "new"
    assert "0badcafe" in rows[7]["text"]
    assert all(row["said_at"] < moment and row["run"] == run and row["project"] == "notes" for row in rows)
    assert session.tool("add_memories", text="live again").startswith("saved")


def test_a_write_behind_waiting_ones_lets_them_go_first(edge: Edge, session: BridgeProcess) -> None:
    edge.always = 503
    for number in range(20):
        assert session.tool("add_memories", text=f"away {number}").startswith("QUEUED")
    edge.always = ""
    assert session.tool("add_memories", text="live").startswith("saved")
    assert edge.texts == [*(f"away {number}" for number in range(20)), "live"]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 404, 408, 429])
def test_a_status_that_says_nothing_about_the_memory_loses_none(
    edge: Edge, session: BridgeProcess, status: int
) -> None:
    edge.faults = [status]
    assert session.tool("add_memories", text="kept").startswith("QUEUED")
    edge.faults = [status]
    eventually(lambda: edge.texts == ["kept"])


@pytest.mark.parametrize("code", ["unavailable", "timeout", "rate_limited", "storage_full", "internal"])
def test_a_server_without_its_database_is_a_server_that_is_away(edge: Edge, session: BridgeProcess, code: str) -> None:
    edge.faults = [f"error {code}", f"error {code}"]
    assert session.tool("add_memories", text="kept").startswith("QUEUED")
    eventually(lambda: edge.texts == ["kept"])
    assert session.tool("memory_status").endswith("queued writes: 0")


def test_a_bad_key_keeps_the_queue_waiting(edge: Edge, session: BridgeProcess) -> None:
    with edge.away():
        session.tool("add_memories", text="kept")
        edge.always = 401
    eventually(lambda: edge.last[0]["params"].get("name") == "add_memories")
    edge.always = ""
    assert session.tool("memory_status").endswith("queued writes: 1")
    eventually(lambda: edge.texts == ["kept"], 10)


@pytest.mark.parametrize("fault", ["hang", "trickle"])
def test_a_write_that_gets_no_answer_in_time_is_queued_and_applied_once(
    edge: Edge, session: BridgeProcess, fault: str
) -> None:
    edge.faults = [fault]
    began = time.monotonic()
    assert session.tool("add_memories", text="once").startswith("QUEUED")
    assert 9 < time.monotonic() - began < 12
    began = time.monotonic()
    assert session.tool("search_memory", query="reuse once").startswith(("DEGRADED", "a1b2c3d4"))
    assert time.monotonic() - began < 1, "nobody waits twice for the same silence"
    eventually(lambda: edge.texts == ["once"])


def test_reads_answer_from_what_waits_and_what_was_seen(edge: Edge, folder: Path, session: BridgeProcess) -> None:
    session.tool("search_memory", query="tests")
    copies = stdio.Copies(str(folder / f"{stdio.file_name(edge.url, KEY)}.copies.db"))
    eventually(lambda: copies.seen("notes"))
    with edge.away():
        session.tool("add_memories", text="Tests need\nERROR internal: a database", tags=["pytest"])
        result = session.result("search_memory", query="which tests need what")
        assert not result["isError"]
        first, *lines = result["content"][0]["text"].split("\n")
        assert first.startswith("DEGRADED: the memory server is away")
        assert lines[0] == "(queued) [pytest] Tests need\\nERROR internal: a database"
        assert lines[1] == "a1b2c3d4 0.83 2026-11-02 [pytest] Tests run with --reuse-db."
        assert session.tool("search_memory", query="zebra").endswith("No memories match.")
        assert "0badcafe" in session.tool("list_memories")
        assert "a1b2c3d4 0.83" in session.tool("get_memories", memory_ids=["a1b2c3d4", "ffffffff"])
        assert "a1b2c3d4" not in session.tool("search_memory", query="tests", project="another")
        session.tool("delete_memories", memory_ids=["a1b2c3d4"])
        assert "a1b2c3d4" not in session.tool("list_memories")


def test_the_session_starts_from_copies_when_the_server_is_away(edge: Edge, folder: Path) -> None:
    with bridge(edge.url, folder) as session:
        session.ask("tools/list")
        session.ask("resources/read", {"uri": "memory://profile"})
        copies = stdio.Copies(str(folder / f"{stdio.file_name(edge.url, KEY)}.copies.db"))
        asked = f"work {json.dumps({'uri': 'memory://profile'})}"
        eventually(lambda: copies.find("tools/list", "") and copies.find("resources/read", asked))
    with edge.away(), bridge(edge.url, folder, version="") as session:
        result = session.initialize("2025-03-26")
        assert result["protocolVersion"] == "2025-03-26"
        assert result["instructions"] == "at the edge"
        assert session.ask("tools/list")["result"]["tools"] == edge.tools
        profile = session.ask("resources/read", {"uri": "memory://profile"})["result"]["contents"][0]["text"]
        assert profile == "memory://profile as stored"
        assert "no copy" in session.ask("resources/read", {"uri": "memory://status"})["error"]["message"]
        assert session.ask("resources/list")["result"]["resources"] == []
        assert session.ask("resources/subscribe", {"uri": "memory://profile"})["result"] == {}


def test_a_first_start_without_server_can_save_and_hears_of_the_tools_later(edge: Edge, folder: Path) -> None:
    with bridge(edge.url, folder, version="") as session:
        with edge.away():
            assert session.initialize()["capabilities"]["tools"] == {"listChanged": True}
            assert [tool["name"] for tool in session.ask("tools/list")["result"]["tools"]] == [
                "add_memories",
                "search_memory",
                "memory_status",
            ]
            assert session.tool("add_memories", text="from the first hour").startswith("QUEUED")
        assert session.others.get(timeout=10) == {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        assert session.ask("tools/list")["result"]["tools"] == edge.tools
        eventually(lambda: edge.texts == ["from the first hour"])


def test_deleting_all_is_not_queued_without_confirm(edge: Edge, session: BridgeProcess) -> None:
    with edge.away():
        assert session.tool("delete_all_memories").startswith("DEGRADED")
        assert session.tool("memory_status").endswith("queued writes: 0")
        assert session.tool("delete_all_memories", confirm=True).startswith("QUEUED")


def test_what_the_server_will_never_take_is_refused_at_once(edge: Edge, session: BridgeProcess) -> None:
    with edge.away():
        for arguments in ({"text": " "}, {"items": [{"text": "x" * 8_001}]}):
            result = session.result("add_memories", **arguments)
            assert result["isError"]
            assert result["content"][0]["text"].startswith("ERROR invalid_argument")


def test_a_write_that_the_server_refuses_is_a_dead_letter_and_the_next_one_goes(
    edge: Edge, folder: Path, session: BridgeProcess
) -> None:
    with edge.away():
        refused = session.tool("add_memories", text="refused")[7:15]
        session.tool("add_memories", text="taken")
        edge.faults = ["error secret_detected"]
    eventually(lambda: edge.texts == ["taken"])
    said = session.tool("memory_status").split("\n")
    assert said[-2] == "queued writes: 0"
    assert said[-1] == f"dead letter {refused}: ERROR secret_detected: as told. Do something else."
    assert status(edge, folder).count("dead letter") == 1
    again = status(edge, folder, "--replay-dead")
    assert "1 dead letters wait again." in again
    assert "waiting: 0" in again
    assert edge.texts == ["taken", "refused"]


def test_a_batch_that_is_refused_in_part_does_not_pass_unseen(edge: Edge, session: BridgeProcess) -> None:
    with edge.away():
        key = session.tool("add_memories", text="half")[7:15]
    eventually(lambda: edge.texts == ["half"])
    eventually(lambda: session.tool("memory_status").endswith(f"dead letter {key}: failed too_large x"))


def status(edge: Edge, folder: Path, *words: str, key: str = KEY) -> str:
    return subprocess.run(
        [sys.executable, str(BRIDGE), "status", "--url", edge.url, "--data-dir", str(folder), *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MEM0_API_KEY": key},
    ).stdout


# The queue


def test_the_queue_is_for_the_user_alone_and_holds_no_key(edge: Edge, folder: Path) -> None:
    old = os.umask(0)
    try:
        with bridge(edge.url, folder) as session, edge.away():
            session.tool("add_memories", text="private")
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert len(files) >= 3
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert KEY.encode() not in file.read_bytes()
        assert KEY not in file.name


def test_each_key_and_server_has_its_own_queue(edge: Edge, folder: Path) -> None:
    with edge.away():
        with bridge(edge.url, folder, key="m0_one") as session:
            session.tool("add_memories", text="of one")
        with bridge(edge.url, folder, key="m0_two") as session:
            assert session.tool("memory_status").endswith("queued writes: 0")
        assert "1 writes wait in" in status(edge, folder, key="m0_two")


def test_two_bridges_share_a_queue_and_apply_each_write_once_in_order(edge: Edge, folder: Path) -> None:
    with bridge(edge.url, folder) as one, bridge(edge.url, folder) as other:
        with edge.away():
            for number in range(60):
                assert (one, other)[number % 2].tool("add_memories", text=f"write {number}").startswith("QUEUED")
        assert one.tool("add_memories", text="live").startswith(("saved", "QUEUED"))
        eventually(lambda: len(edge.texts) == 61)
    assert edge.texts == [*(f"write {number}" for number in range(60)), "live"]
    sent = [
        message["params"]["arguments"]["idempotency_key"]
        for message, _ in edge.seen
        if message.get("id") and message["method"] == "tools/call"
    ]
    assert len(sent) == len(set(sent)), "no write was sent twice"


def test_the_next_bridge_sends_what_a_killed_one_has_queued(edge: Edge, folder: Path) -> None:
    with edge.away(), bridge(edge.url, folder) as session:
        session.tool("add_memories", text="left behind")
        session.kill()
    with bridge(edge.url, folder):
        eventually(lambda: edge.texts == ["left behind"])


def test_one_that_dies_while_it_sends_leaves_nothing_doubled_or_out_of_order(edge: Edge, folder: Path) -> None:
    with edge.away(), bridge(edge.url, folder) as session:
        for number in range(10):
            session.tool("add_memories", text=f"write {number}")
    edge.faults = ["", "", "", "hang"]
    with bridge(edge.url, folder, version="") as dying:
        eventually(lambda: len(edge.texts) == 4 or len(edge.seen) >= 4)
        dying.kill()
    with bridge(edge.url, folder):
        eventually(lambda: len(edge.texts) == 10, 5)
    assert edge.texts == [f"write {number}" for number in range(10)]


def test_a_session_that_ends_takes_its_last_writes_to_disk(edge: Edge, folder: Path) -> None:
    edge.always = "hang"
    with bridge(edge.url, folder, version="") as session:
        for number in range(3):
            session.begin("tools/call", {"name": "add_memories", "arguments": {"text": f"last {number}"}})
        eventually(lambda: edge.seen)
        session.process.terminate()
        assert session.process.wait(timeout=5) == 0
    edge.always = ""
    with bridge(edge.url, folder):
        eventually(lambda: len(edge.texts) == 3)


def test_a_full_queue_says_so_and_loses_nothing(
    edge: Edge, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    queue = stdio.Queue(str(tmp_path / "full" / "queue.db"))
    queue.put(*(stdio.Write(f"k{number}", "add_memories", "{}", {}) for number in range(stdio.MOST_WRITES)))
    with pytest.raises(stdio.Full, match="10000 writes"):
        queue.put(stdio.Write("more", "add_memories", "{}", {}))
    assert queue.waiting() == stdio.MOST_WRITES
    large = stdio.Queue(str(tmp_path / "full" / "large.db"))
    large.put(*(stdio.Write(f"k{number}", "add_memories", "x" * 1_000_000, {}) for number in range(50)))
    with pytest.raises(stdio.Full, match="50 MB"):
        large.put(stdio.Write("more", "add_memories", "x", {}))
    os.makedirs(folder, mode=0o700)
    os.replace(tmp_path / "full" / "queue.db", folder / f"{stdio.file_name(edge.url, KEY)}.db")
    with edge.away(), bridge(edge.url, folder) as session:
        result = session.result("add_memories", text="one too many")
        assert result["isError"]
        assert result["content"][0]["text"].startswith("ERROR unavailable: the memory server is away")
        assert "queue is full" in result["content"][0]["text"]
        assert session.tool("memory_status").endswith("queued writes: 10000")


def test_a_damaged_queue_is_kept_aside_and_the_session_goes_on(edge: Edge, folder: Path) -> None:
    os.makedirs(folder, mode=0o700)
    path = folder / f"{stdio.file_name(edge.url, KEY)}.db"
    path.write_bytes(b"no database at all" * 1000)
    with bridge(edge.url, folder) as session, edge.away():
        assert session.tool("add_memories", text="kept").startswith("QUEUED")
    assert len(list(folder.glob("*.broken-*"))) == 1


def test_without_a_place_for_the_queue_nothing_is_acknowledged(edge: Edge, tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    with bridge(edge.url, blocked / "bridge", cwd=tmp_path) as session:
        assert session.tool("add_memories", text="live").startswith("saved")
        with edge.away():
            assert session.result("add_memories", text="lost")["isError"]
            assert session.tool("search_memory", query="x").startswith("DEGRADED")


def test_done_writes_keep_no_text_and_are_forgotten_after_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue.db"
    queue = stdio.Queue(str(path))
    queue.put(stdio.Write("k1", "add_memories", '{"text": "private words"}', {}))
    write = queue.oldest()
    assert write
    queue.done(write)
    rows = sqlite3.connect(path).execute("SELECT state, body FROM write").fetchall()
    assert rows == [("done", "")]
    week = 8 * 86_400
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + week)
    stdio.Queue(str(path))
    assert sqlite3.connect(path).execute("SELECT count(*) FROM write").fetchone() == (0,)


def test_a_write_that_crashes_the_server_does_not_hold_up_the_others_for_ever(edge: Edge, folder: Path) -> None:
    with edge.away(), bridge(edge.url, folder) as session:
        session.tool("add_memories", text="poison")
        session.tool("add_memories", text="harmless")
    queue = queue_of(edge, folder)
    poison = queue.oldest()
    assert poison
    for _ in range(18):
        queue.tried(poison)
    edge.faults = ["error internal", "error internal"]
    with bridge(edge.url, folder, version=""):
        eventually(lambda: edge.texts == ["harmless"])
    assert [one.key for one in queue.dead()] == [poison.key]


# Projects


@pytest.mark.parametrize(
    ("remote", "key"),
    [
        ("https://GitHub.com/Acme/web.git", "github.com/Acme/web"),
        ("https://me:secret@github.com/acme/web", "github.com/acme/web"),
        ("git@github.com:acme/web.git", "github.com/acme/web"),
        ("ssh://git@git.example.com:2222/team/sub/web.git/", "git.example.com/team/sub/web"),
        ("../elsewhere", ""),
        ("C:\\work\\web", ""),
        ("file:///srv/web.git", ""),
    ],
)
def test_a_remote_has_one_key_and_no_password(remote: str, key: str) -> None:
    assert stdio.remote_key(remote) == key


def test_a_project_is_its_remote_else_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLAUDE_PROJECT_DIR", "CURSOR_PROJECT_DIR", "WORKSPACE_FOLDER_PATHS"):
        monkeypatch.delenv(name, raising=False)
    repository = tmp_path / "checkout"
    deep = repository / "src" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert stdio.project_of("") == "deep"
    (repository / ".git").mkdir()
    assert stdio.project_of("${workspaceFolder}") == "checkout"
    (repository / ".git" / "config").write_text(
        '[core]\n\tbare = false\n[remote "fork"]\n\turl = git@github.com:me/web.git\n'
        '[remote "origin"]\n\turl = https://x:token@github.com/acme/web.git\n\tfetch = +refs/heads/*\n'
    )
    assert stdio.project_of("") == "github.com/acme/web"
    assert stdio.project_of(str(repository)) == "github.com/acme/web"
    assert stdio.project_of("by name") == "by name"
    (repository / ".git" / "worktrees" / "b").mkdir(parents=True)
    (repository / ".git" / "worktrees" / "b" / "commondir").write_text("../..\n")
    worktree = tmp_path / "second"
    worktree.mkdir()
    (worktree / ".git").write_text(f"gitdir: {repository}/.git/worktrees/b\n")
    assert stdio.project_of(str(worktree)) == "github.com/acme/web"
    monkeypatch.setenv("HOME", str(worktree))
    assert stdio.project_of(str(worktree)) == ""
    monkeypatch.setenv("WORKSPACE_FOLDER_PATHS", str(repository))
    assert stdio.project_of("") == "github.com/acme/web"


# Hooks


def hook(edge: Edge, folder: Path, which: str, said: dict[str, Any], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BRIDGE), "hook", which, "--url", edge.url, "--data-dir", str(folder), *words],
        input=json.dumps(said),
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        env={**os.environ, "MEM0_API_KEY": KEY},
    )
    return done.stdout


def test_recall_prints_what_each_client_wants(edge: Edge, folder: Path) -> None:
    cursor = {"hook_event_name": "sessionStart", "cursor_version": "2.4", "session_id": "s"}
    said = json.loads(hook(edge, folder, "recall", cursor, "--project", "git@github.com:acme/web.git"))
    digest = said["additional_context"]
    assert digest.splitlines()[2:] == [
        "memory://profile as stored",
        "",
        "memory://project/github.com/acme/web as stored",
    ]
    with edge.away():
        claude = {"hook_event_name": "SessionStart", "source": "startup", "session_id": "s"}
        said = json.loads(hook(edge, folder, "recall", claude, "--project", "git@github.com:acme/web.git"))
    assert said == {"hookSpecificOutput": {"hookEventName": "SessionStart", "additionalContext": digest}}
    assert hook(edge, folder, "recall", {}, "--format", "text").startswith("From the memory of earlier sessions.")


def test_a_hook_that_can_do_nothing_ends_well_and_in_time(edge: Edge, folder: Path) -> None:
    edge.always = "hang"
    began = time.monotonic()
    hook(edge, folder, "recall", {}, "--timeout", "1")
    assert time.monotonic() - began < 3
    assert hook(edge, folder, "save", {"session_id": "s", "transcript_path": "/nowhere"}) == ""
    with edge.away():
        assert hook(edge, folder, "recall", {}) == ""


@pytest.fixture
def transcript(tmp_path: Path) -> Callable[[int], dict[str, Any]]:
    """`transcript(n)`: the hook's words on a session of n turns so far, as Claude Code writes it."""

    def write(turns: int) -> dict[str, Any]:
        path = tmp_path / "session.jsonl"
        entries: list[dict[str, Any]] = [{"type": "summary", "summary": "no turn"}]
        for number in range(turns):
            role = ("user", "assistant")[number % 2]
            content: Any = f"turn {number}" if role == "user" else [{"type": "text", "text": f"turn {number}"}]
            entries += [
                {"type": role, "message": {"role": role, "content": content}, "timestamp": "2026-01-02T03:04:05.678Z"},
                {"type": role, "message": {"role": role, "content": [{"type": "tool_use", "input": {}}]}},
                {"type": "user", "isMeta": True, "message": {"role": "user", "content": "no turn"}},
            ]
        path.write_text("\n".join(json.dumps(entry) for entry in entries))
        return {"hook_event_name": "Stop", "session_id": "session-1", "transcript_path": str(path)}

    return write


def test_save_takes_each_turn_of_a_session_once_and_in_order(
    edge: Edge, folder: Path, transcript: Callable[[int], dict[str, Any]]
) -> None:
    for turns in (4, 4, 7, 120):
        hook(edge, folder, "save", transcript(turns))
    rows = edge.applied.rows()
    assert " | ".join(row["text"] for row in rows) == " | ".join(f"turn {number}" for number in range(120))
    assert {row["run"] for row in rows} == {"session-1"}
    assert {row["said_at"] for row in rows} == {"2026-01-02T03:04:05.678Z"}
    items = [message["params"]["arguments"]["items"] for message, _ in edge.seen]
    assert max(len(some) for some in items) == 50
    assert {item["kind"] for some in items for item in some} == {"message"}


def test_save_queues_when_the_server_is_away(
    edge: Edge, folder: Path, transcript: Callable[[int], dict[str, Any]]
) -> None:
    with edge.away():
        for _ in range(2):
            hook(edge, folder, "save", transcript(3))
    hook(edge, folder, "save", transcript(3))
    assert edge.texts == ["turn 0 | turn 1 | turn 2"]


def test_turns_of_cursor_are_read_too() -> None:
    lines = [
        json.dumps(
            {"role": "user", "message": {"content": [{"type": "text", "text": "<user_query>\nhi\n</user_query>"}]}}
        ),
        json.dumps(
            {"role": "assistant", "message": {"content": [{"type": "text", "text": "hello"}, {"type": "tool"}]}}
        ),
        "no json",
    ]
    assert [text for text, _ in stdio.turns_of(iter(lines))] == ["hi", "hello"]
