"""The SDK's own client through the bridge, in each era of the protocol, with and without a server."""

import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from tests.bridge import BRIDGE, KEY
from tests.mcp_server_at_the_edge import Edge
from tests.running import RunningService


def through_bridge(url: str, folder: Path, key: str) -> Any:
    words = [str(BRIDGE), "--url", url, "--data-dir", str(folder), "--project", "sdk"]
    return stdio_client(
        StdioServerParameters(command=sys.executable, args=words, env={**os.environ, "MEM0_API_KEY": key})
    )


async def saved(client: Client, text: str) -> str:
    result = await client.call_tool("add_memories", {"text": text})
    return str(result.content[0].text)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_sdk_client_works_through_the_bridge(service: RunningService, tmp_path: Path, mode: Any) -> None:
    url = service.status()["mcp_url"]

    async def session() -> None:
        async with Client(through_bridge(url, tmp_path / "bridge", service.api_key), mode=mode) as client:
            assert len((await client.list_tools()).tools) == 9
            assert (await saved(client, f"The SDK was here in mode {mode}.")).startswith("saved")
            found = await client.call_tool("search_memory", {"query": "was the SDK here"})
            assert mode in found.content[0].text  # type: ignore[union-attr]
            assert (await client.read_resource("memory://profile")).contents

    anyio.run(session)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_sdk_client_starts_without_a_server(tmp_path: Path, mode: Any) -> None:
    edge = Edge(str(tmp_path / "server.db"))
    edge.stop()

    async def session() -> None:
        async with Client(through_bridge(edge.url, tmp_path / "bridge", KEY), mode=mode) as client:
            assert [tool.name for tool in (await client.list_tools()).tools][0] == "add_memories"
            assert (await saved(client, "kept")).startswith("QUEUED")

    anyio.run(session)
