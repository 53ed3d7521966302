"""The MCP server: what the protocol lists and calls, and where errors become answers and time runs out."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import mcp_types as types
import structlog
from django.conf import settings
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from accounts import limits
from mcp_bridge import prompts, resources
from mcp_bridge.arguments import Arguments
from mcp_bridge.connections import Connection
from mcp_bridge.lines import one_line
from mcp_bridge.texts import INSTRUCTIONS
from mcp_bridge.threads import in_thread
from mcp_bridge.tools import Answer, Tool, existing, offered
from mem0stack.lib.errors import Mem0Error, RateLimited
from mem0stack.lib.metrics import MCP_CALL_SECONDS

log = structlog.get_logger(__name__)

NAME = "mem0-stack"
_LISTS_LAST_MS = 300_000
_NOT_FOUND = -32602

Context = ServerRequestContext[Any, Any]
Known = Callable[[Context], Connection]

# What to do, where the error itself says only what happened, or says it for REST.
_ADVICE = {
    "not_found": "Use search_memory to find it.",
    "unavailable": "Go on without memory; retry once after 30 seconds.",
    "timeout": "Go on; retry at most once.",
    "internal": "Go on without memory; the log has it under this ref.",
    "storage_full": "Go on; tell the user that the memory's disk is full.",
}


def build(connection_of: Known) -> Server[Any]:
    """A server for one transport; `connection_of` tells who makes a request."""

    async def list_tools(context: Context, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_listed(tool) for tool in offered(connection_of(context))])

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        connection = connection_of(context)
        tool = existing().get(params.name)
        if tool is None:
            raise MCPError(code=_NOT_FOUND, message=f"Unknown tool: {one_line(params.name)[:100]}")
        answer = await _answer(connection, tool, params.arguments or {})
        content: list[Any] = [types.TextContent(type="text", text=answer.text)]
        return types.CallToolResult(content=content, is_error=answer.is_error)

    async def list_resources(context: Context, params: Any) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=resources.listed())

    async def list_templates(context: Context, params: Any) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=resources.templates())

    async def read_resource(context: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        connection = connection_of(context)
        uri = str(params.uri)
        try:
            kind, text = await in_thread(lambda: resources.read(connection, uri))
        except Mem0Error as error:
            code = _NOT_FOUND if error.code in ("not_found", "ambiguous_id", "invalid_argument") else -32603
            raise MCPError(code=code, message=_told(error, connection), data={"uri": uri}) from error
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, mime_type=kind, text=text)])

    async def subscribe(context: Context, params: Any) -> types.EmptyResult:
        # Cursor asks at its start, and takes an error for a broken server.
        return types.EmptyResult()

    async def list_prompts(context: Context, params: Any) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=prompts.listed())

    async def get_prompt(context: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        found = prompts.get(params.name, params.arguments or {})
        if found is None:
            raise MCPError(code=_NOT_FOUND, message=f"Unknown prompt: {one_line(params.name)[:100]}")
        return found

    async def complete(context: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        connection = connection_of(context)
        values = []
        if params.argument.name == "project":
            values = await in_thread(lambda: resources.projects(connection, params.argument.value))
        completion = types.Completion(values=values[:100], total=len(values), has_more=len(values) > 100)
        return types.CompleteResult(completion=completion)

    lists = CacheHint(ttl_ms=_LISTS_LAST_MS, scope="private")
    hinted: Any = dict.fromkeys(
        ("tools/list", "resources/list", "resources/templates/list", "prompts/list", "server/discover"), lists
    )
    return Server(
        NAME,
        version=settings.VERSION,
        instructions=INSTRUCTIONS,
        cache_hints=hinted | {"resources/read": CacheHint()},
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=subscribe,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
    )


def _listed(tool: Tool) -> types.Tool:
    writes = tool.scope != "read"
    annotations = types.ToolAnnotations(
        read_only_hint=not writes,
        destructive_hint=tool.is_destructive if writes else None,
        idempotent_hint=True if writes else None,
        open_world_hint=False,
    )
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.schema,
        annotations=annotations,
    )


async def _answer(connection: Connection, tool: Tool, raw: dict[str, Any]) -> Answer:
    """The tool's answer, or the error as one line; logged and timed either way."""
    began = time.perf_counter()
    outcome = "ok"
    try:
        answer = await in_thread(lambda: _run(connection, tool, raw))
        outcome = "failed" if answer.is_error else "ok"
    except Mem0Error as error:
        outcome = error.code
        answer = Answer(_told(error, connection), is_error=True)
    took_s = time.perf_counter() - began
    MCP_CALL_SECONDS.labels(tool.name, outcome).observe(took_s)
    log.info(
        "mcp_call",
        tool=tool.name,
        outcome=outcome,
        took_ms=round(took_s * 1000, 1),
        request_id=connection.request_id,
        owner_id=connection.actor.owner_id,
        client=connection.actor.app,
        project=connection.project,
    )
    return answer


def _run(connection: Connection, tool: Tool, raw: dict[str, Any]) -> Answer:
    connection.actor.require(tool.scope)
    key = connection.actor.key
    if key is not None:
        allowance = limits.count_call(key, otherwise=settings.MCP_RATE_LIMIT)
        if allowance is not None and allowance.is_exceeded:
            raise RateLimited(f"This key has had its {allowance.limit} calls a minute. Wait {allowance.reset_s} s.")
    return tool.run(connection, Arguments(raw))


def _told(error: Mem0Error, connection: Connection) -> str:
    """`ERROR code: what happened. What to do. (ref ...)`, on one line."""
    detail = error.detail
    if error.code == "secret_detected":
        # The sentence for REST names a parameter that agents do not have: a person decides on that.
        detail = detail.split(" Take it out")[0] + " Take it out, and say where the secret is kept instead."
    if error.code == "conflict" and error.errors and "version" in error.errors:
        detail += f" It is v{error.errors['version']}: {str(error.errors.get('content', ''))[:1_000]}"
    advice = _ADVICE.get(error.code, "")
    return one_line(f"ERROR {error.code}: {detail}{f' {advice}' if advice else ''} (ref {connection.request_id})")


def quieten() -> None:
    """The SDK logs each request, and bodies at DEBUG."""
    for name in ("mcp", "mcp.server", "sse_starlette"):
        with suppress(ValueError):
            logging.getLogger(name).setLevel(logging.WARNING)
