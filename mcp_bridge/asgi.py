"""The MCP process. An ASGI server runs `mcp_bridge.asgi:application`; `manage.py mcp --transport http` is one."""

import os
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mem0stack.settings")
django.setup()

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager  # noqa: E402  Django comes first

from mcp_bridge.gate import Gate, Receive, Scope, Send, connection_of  # noqa: E402
from mcp_bridge.server import build, quieten  # noqa: E402
from memories import access  # noqa: E402
from memories.embeddings import warm_up  # noqa: E402


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Every path under /mcp, and the lifespan, in which the SDK's session manager runs."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "http":
        await _running["gate"](scope, receive, send)


_running: dict[str, Any] = {}


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    # The SDK's manager runs once, so each life of the application has its own.
    sessions = StreamableHTTPSessionManager(build(connection_of), json_response=True, stateless=True)
    async with sessions.run():
        _running["gate"] = Gate(sessions)
        await send({"type": "lifespan.startup.complete"})
        while (await receive())["type"] != "lifespan.shutdown":
            pass
    await send({"type": "lifespan.shutdown.complete"})


quieten()
# The first search would wait for the table of vectors otherwise.
warm_up()
access.start()
