"""The stdio bridge in front of the service itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

from mcp_bridge import stdio
from mcp_bridge.tools import TOOLS
from tests.bridge import BRIDGE, bridge, eventually
from tests.running import RunningService, wait_for
from tests.storm import ServiceServer


def test_a_session_goes_on_while_the_server_is_killed_and_everything_is_there_once(
    service: RunningService, tmp_path: Path
) -> None:
    with (
        ServiceServer(service) as server,
        bridge(server.url, tmp_path / "bridge", "--project", "проект", key=server.key, version="") as session,
    ):
        wait_for(lambda: "instructions" in session.initialize())
        assert {tool["name"] for tool in session.ask("tools/list")["result"]["tools"]} == {tool.name for tool in TOOLS}
        assert session.tool("add_memories", text="storm of client: the kettle is green").startswith("saved")
        server.kill()
        server.revive()
        said = session.tool("add_memories", text="storm of client: the teapot is blue")
        found = session.tool("search_memory", query="which colour is the teapot")
        assert "teapot" in found
        assert said.startswith(("QUEUED", "saved"))
        eventually(lambda: session.tool("memory_status").split("\n")[-1] == "queued writes: 0", 30)
        eventually(lambda: session.tool("search_memory", query="teapot kettle").count("storm of client") == 2, 30)
    with service.client() as client:
        memories = client.get("/api/v2/memories/", params={"q": "storm of client"}).json()["results"]
    assert sorted(one["content"][17:] for one in memories) == ["the kettle is green", "the teapot is blue"]
    assert {(one["namespace"], one["app"]) for one in memories} == {("проект", "test-client")}
    assert len({one["run_id"] for one in memories}) == 1


def test_the_hook_saves_turns_as_messages_in_a_run_and_the_digest_is_told(
    service: RunningService, tmp_path: Path
) -> None:
    url: str = service.status()["mcp_url"]
    transcript = tmp_path / "session.jsonl"
    turns = ["Where do the invoices go?", "Into the folder invoices/2026."]
    transcript.write_text("".join(json.dumps({"role": "user", "message": {"content": turn}}) + "\n" for turn in turns))
    said = {"session_id": "a-session-of-a-hook", "transcript_path": str(transcript), "cursor_version": "2.4"}

    def hook(which: str) -> str:
        words = ["hook", which, "--url", url, "--data-dir", str(tmp_path / "bridge"), "--project", "invoices"]
        environ = {**os.environ, "MEM0_API_KEY": service.api_key}
        done = subprocess.run(
            [sys.executable, str(BRIDGE), *words],
            input=json.dumps(said),
            capture_output=True,
            text=True,
            check=True,
            env=environ,
        )
        return done.stdout

    for _ in range(2):
        hook("save")
    queue = stdio.Queue(str(tmp_path / "bridge" / f"{stdio.file_name(url, service.api_key)}.db"))
    assert queue.is_empty()
    assert queue.dead() == []
    with service.client() as client:
        found = client.get("/api/v2/memories/", params={"run_id": said["session_id"]}).json()["results"]
    assert [(one["content"], one["kind"]) for one in sorted(found, key=lambda one: one["seq"])] == [
        (turn, "message") for turn in turns
    ]
    assert hook("recall") == "" or "additional_context" in json.loads(hook("recall"))
