"""MCP over HTTP against the running service, with the SDK's own client and with bare requests."""

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mcp_bridge.server import _listed
from mcp_bridge.texts import INSTRUCTIONS
from mcp_bridge.tools import TOOLS
from tests.running import Launcher, RunningService, prepared_service, wait_for
from tests.soak import hanging

GOLDEN = Path(__file__).parent / "tools.json"
REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")


def url(service: RunningService) -> str:
    found: str = service.up()["mcp_url"]
    return found


def post(service: RunningService, method: str, params: Any = None, **headers: str) -> httpx.Response:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    sent = {"Authorization": f"Bearer {service.api_key}", "Accept": "application/json, text/event-stream"} | headers
    return httpx.post(url(service), json=body, headers=sent, timeout=10)


def as_listed() -> list[dict[str, Any]]:
    return [_listed(tool).model_dump(by_alias=True, exclude_none=True, mode="json") for tool in TOOLS]


def test_the_list_of_tools_is_the_committed_one_and_within_its_budget() -> None:
    listed = as_listed()
    if os.environ.get("MEM0_RENEW_TOOLS"):
        GOLDEN.write_text(json.dumps(listed, indent=1) + "\n")
    assert listed == json.loads(GOLDEN.read_text()), "renew it with MEM0_RENEW_TOOLS=1"
    told = [{name: tool[name] for name in ("name", "description", "inputSchema")} for tool in listed]
    assert len(json.dumps(told, separators=(",", ":"))) / 4 <= 1_250
    assert len(json.dumps({"tools": listed}, separators=(",", ":"))) / 4 <= 1_600
    assert len(INSTRUCTIONS) <= 1_200
    for tool in listed:
        assert len(tool["description"]) <= 240, tool["name"]
        assert not {"anyOf", "outputSchema"} & set(json.dumps(tool).split('"')), tool["name"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_sdk_client_saves_and_finds(service: RunningService, mode: str) -> None:
    async def session() -> None:
        headers = {"Authorization": f"Bearer {service.api_key}", "X-Mem0-Project": "git@github.com:acme/tea.git"}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(url(service), http_client=http), mode=mode) as client,  # type: ignore[arg-type]
        ):
            assert {tool.name for tool in (await client.list_tools()).tools} == {tool.name for tool in TOOLS}
            saved = await client.call_tool("add_memories", {"text": f"The tea is green ({mode})."})
            short = saved.content[0].text.split()[1]  # type: ignore[union-attr]
            found = await client.call_tool("search_memory", {"query": "which tea"})
            assert short in found.content[0].text  # type: ignore[union-attr]
            assert found.structured_content is None
            project = await client.read_resource("memory://project/github.com/acme/tea")
            assert "green" in project.contents[0].text  # type: ignore[union-attr]
            assert len((await client.list_prompts()).prompts) == 3

    anyio.run(session)


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_revision_is_answered_with_itself(service: RunningService, revision: str) -> None:
    params = {"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    said = post(service, "initialize", params).json()["result"]
    assert (said["protocolVersion"], said["serverInfo"]["name"]) == (revision, "mem0-stack")
    assert said["instructions"] == INSTRUCTIONS


def test_other_methods_are_refused_at_once_and_oauth_is_not_found(service: RunningService) -> None:
    for method in ("GET", "DELETE"):
        for path in ("", "/"):
            reply = httpx.request(method, url(service) + path)
            assert (reply.status_code, reply.headers["allow"], reply.content) == (405, "POST", b"")
    root = url(service).removesuffix("/mcp")
    for path in ("oauth-protected-resource", "oauth-authorization-server/mcp", "openid-configuration"):
        assert httpx.get(f"{root}/.well-known/{path}").status_code == 404


def test_without_a_good_key_nothing_is_told(service: RunningService) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer m0_" + "x" * 40}, {"Authorization": "Basic x"}):
        reply = post(service, "tools/list", **headers)
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert reply.json()["error"] == "unauthorized"
    for scheme in ("Bearer", "Token"):
        assert post(service, "tools/list", Authorization=f"{scheme} {service.api_key}").status_code == 200
    assert post(service, "tools/list", **{"Authorization": "", "X-API-Key": service.api_key}).status_code == 200


def test_foreign_hosts_and_origins_are_refused(service: RunningService) -> None:
    assert post(service, "tools/list", Host="evil.example").status_code == 421
    assert post(service, "tools/list", Origin="https://evil.example").status_code == 403
    assert post(service, "tools/list", Origin="http://localhost:3000").status_code == 200


def test_it_lives_through_whatever_is_sent(service: RunningService) -> None:
    headers = {"Authorization": f"Bearer {service.api_key}", "Accept": "application/json, text/event-stream"}
    json_type = {"Content-Type": "application/json"}
    for body, status in ((b"{", 400), (b"[]", 400), (b'"x"', 400)):
        assert httpx.post(url(service), content=body, headers=headers | json_type).status_code == status
    huge = {"name": "add_memories", "arguments": {"text": "x" * 10_000_000}}
    assert post(service, "tools/call", huge).status_code == 413
    wrong = post(service, "tools/call", {"name": "search_memory", "arguments": {"query": {"a": []}}}).json()["result"]
    assert wrong["isError"]
    assert wrong["content"][0]["text"].startswith("ERROR invalid_argument: query is a text")
    assert post(service, "tools/call", {"name": "nothing", "arguments": {}}).json()["error"]["code"] == -32602
    unknown = post(service, "resources/read", {"uri": "memory://nothing"}).json()["error"]
    assert unknown["code"] == -32602
    assert post(service, "resources/subscribe", {"uri": "memory://profile"}).json()["result"] == {}
    assert httpx.get(f"{url(service)}/health").json()["status"] in ("ok", "degraded")


def called(reply: httpx.Response) -> str:
    result = reply.json()["result"]
    assert result["isError"] == result["content"][0]["text"].startswith("ERROR")
    text: str = result["content"][0]["text"]
    return text


def test_a_key_that_only_reads_is_shown_no_tool_that_writes_and_refused_one(service: RunningService) -> None:
    with service.client() as client:
        key = client.post("/api/v2/keys/", json={"name": "reader", "scopes": ["read"]}).json()["key"]
    as_reader = {"Authorization": f"Bearer {key}"}
    listed = post(service, "tools/list", **as_reader).json()["result"]["tools"]
    assert {tool["name"] for tool in listed} == {tool.name for tool in TOOLS if tool.scope == "read"}
    for tool in TOOLS:
        if tool.scope != "read":
            refused = post(service, "tools/call", {"name": tool.name, "arguments": {"text": "mine"}}, **as_reader)
            assert called(refused).startswith("ERROR forbidden: This key lacks the scope 'write'")


def test_a_key_that_only_writes_is_told_nothing(service: RunningService) -> None:
    with service.client() as client:
        key = client.post("/api/v2/keys/", json={"name": "writer", "scopes": ["write"]}).json()["key"]
    as_writer = {"Authorization": f"Bearer {key}"}
    status = post(service, "tools/call", {"name": "memory_status", "arguments": {}}, **as_writer)
    assert called(status).startswith("ERROR forbidden")
    for uri in ("memory://status", "memory://profile", "memory://project/shop"):
        assert "forbidden" in post(service, "resources/read", {"uri": uri}, **as_writer).json()["error"]["message"]


def test_one_call_too_many_says_how_long_to_wait(service: RunningService) -> None:
    with service.client() as client:
        key = client.post("/api/v2/keys/", json={"name": "limited", "rate_limit": 2}).json()["key"]
    limited = {"Authorization": f"Bearer {key}"}
    asked = {"name": "memory_status", "arguments": {}}
    assert not any(called(post(service, "tools/call", asked, **limited)).startswith("ERROR") for _ in range(2))
    refused = called(post(service, "tools/call", asked, **limited))
    assert re.search(r"^ERROR rate_limited: .* 2 calls a minute. Wait \d+ s\. \(ref [0-9a-f]{12}\)$", refused)


def test_with_postgres_hanging_each_call_ends_at_its_deadline() -> None:
    """Also one by a key that the process does not know yet: who calls is asked behind the same deadline."""
    with prepared_service(Launcher(environ={"MCP_TOOL_DEADLINE_S": "2"})) as hung:
        hung.up()
        with hung.client() as client:
            other = client.post("/api/v2/keys/", json={"name": "unknown to the process"}).json()["key"]
        asked = {"name": "search_memory", "arguments": {"query": "anything"}}
        assert called(post(hung, "tools/call", asked)) == "No memories match."
        where = url(hung)
        with hanging(hung, "postgres"):
            began = time.monotonic()
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": asked}
            accept = {"Accept": "application/json, text/event-stream"}
            known = httpx.post(where, json=body, headers=accept | {"X-API-Key": hung.api_key}, timeout=15)
            fresh = httpx.post(where, json=body, headers=accept | {"X-API-Key": other}, timeout=15)
            took_s = time.monotonic() - began
        assert re.match("ERROR (timeout|unavailable): ", called(known))
        assert (fresh.status_code, fresh.json()["error"] in ("timeout", "unavailable")) == (503, True)
        assert took_s < 8
        wait_for(lambda: "No memories match." in post(hung, "tools/call", asked).text)


def test_a_killed_server_is_back_for_the_next_call_of_a_client(service: RunningService) -> None:
    async def session() -> None:
        headers = {"Authorization": f"Bearer {service.api_key}"}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(url(service), http_client=http), mode="legacy") as client,
        ):
            assert not (await client.call_tool("memory_status", {})).is_error
            os.kill(service.status()["pids"]["mcp"], signal.SIGKILL)
            deadline = time.monotonic() + 30
            while True:
                try:
                    if httpx.get(f"{url(service)}/health", timeout=2).status_code == 200:
                        break
                except httpx.HTTPError:
                    assert time.monotonic() < deadline
                    await anyio.sleep(0.2)
            assert not (await client.call_tool("memory_status", {})).is_error

    anyio.run(session)
