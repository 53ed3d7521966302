"""`manage.py mcp`: the MCP server by itself, over HTTP or over this process's standard input and output."""

import os
import sys
import uuid
from argparse import ArgumentParser
from typing import Any

import anyio
from django.core.management.base import BaseCommand, CommandError
from mcp.server.stdio import stdio_server

from accounts.actors import Actor
from accounts.models import User
from mcp_bridge.connections import Connection, client_name
from mcp_bridge.server import build, quieten
from mem0stack.lib.remotes import project_key
from memories import access
from memories.embeddings import warm_up


class Command(BaseCommand):
    help = (
        "Serves MCP. --transport http answers POST /mcp, with a key for each call; --transport stdio speaks to whoever"
        " started this process, in the name of --user, and needs no key: the operating system's user is trusted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--transport", choices=("http", "stdio"), default="http")
        parser.add_argument("--host", default="127.0.0.1", help="http: address to listen on (127.0.0.1)")
        parser.add_argument("--port", type=int, default=8765, help="http: port (8765)")
        parser.add_argument("--user", default="admin", help="stdio: whose memories (admin)")
        parser.add_argument("--client", default="", help="stdio: the program's name, as its app")
        parser.add_argument("--project", default="", help="stdio: a git remote, a path or a name")

    def handle(self, *args: Any, **given: Any) -> None:
        if given["transport"] == "http":
            _serve_http(given["host"], given["port"])
        user = User.objects.filter(username=given["user"], is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active user {given['user']!r}. `manage.py create_user NAME` makes one.")
        connection = Connection(
            actor=Actor.of(user, door="mcp", app=client_name(given["client"]) or None),
            request_id=uuid.uuid4().hex[:12],
            project=project_key(given["project"]),
        )
        quieten()
        warm_up()
        access.start()
        anyio.run(_serve_stdio, connection)


def _serve_http(host: str, port: int) -> None:
    """Become the ASGI server, in this process."""
    words = ["-m", "granian", "mcp_bridge.asgi:application", "--interface", "asgi", "--no-ws", "--workers", "1"]
    words += ["--host", host, "--port", str(port), "--respawn-failed-workers", "--respawn-interval", "0.2"]
    os.execv(sys.executable, [sys.executable, *words])  # noqa: S606  this interpreter, and words of ours


async def _serve_stdio(connection: Connection) -> None:
    server = build(lambda context: connection)
    async with stdio_server() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())
