"""`manage.py up`: the whole service by one command."""

import json
import os
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from mem0stack.embedded import launch
from mem0stack.embedded.account import EmbeddedError
from mem0stack.embedded.progress import Display, Event, show_ready
from mem0stack.embedded.service import load
from mem0stack.embedded.supervisor import Options

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class Command(BaseCommand):
    help = (
        "Runs the whole service: PostgreSQL, Valkey, web, MCP and worker. Ctrl-C stops it. Over a running service it "
        "restarts that when the code has changed, and else only says where it is. Exit status 0, or 1 with a sentence "
        "that says what to do. The service's directory is --home DIR or MEM0_HOME (default ~/.mem0stack, for root "
        "/var/lib/mem0stack)."
    )
    requires_system_checks = ["mem0stack"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", help="address to listen on (MEM0_HOST, 127.0.0.1)")
        parser.add_argument("--port", type=int, help="port of the web process (MEM0_PORT, 8000)")
        parser.add_argument("--mcp-port", type=int, help="port of the MCP process (MEM0_MCP_PORT, the web's + 1)")
        parser.add_argument("--detach", action="store_true", help="return when everything is ready")
        parser.add_argument("--json", action="store_true", help="print one JSON object last; progress goes to stderr")
        parser.add_argument("--report-fd", type=int, help="internal: the pipe of a detached start")

    def handle(self, *args: Any, **given: Any) -> None:
        home = settings.HOME
        host = given["host"] or os.environ.get("MEM0_HOST") or None
        port = given["port"] or _port("MEM0_PORT", os.environ.get("MEM0_PORT", ""))
        mcp_port = given["mcp_port"] or _port("MEM0_MCP_PORT", os.environ.get("MEM0_MCP_PORT", ""))
        # What runs, or was killed, is taken over where it is.
        earlier = load(home)
        web_port = port or (earlier.port if earlier else 8000)
        options = Options(
            host=host or (earlier.host if earlier else "127.0.0.1"),
            port=web_port,
            # Beside the web's, unless it was somewhere else before and the web stays where it was.
            mcp_port=mcp_port or (earlier.mcp_port if earlier and earlier.port == web_port else 0) or web_port + 1,
            first_account=os.environ.get("MEM0_ADMIN_USER") or "admin",
        )
        if given["report_fd"] is not None:
            self._run_for(given["report_fd"], options)
            return
        console = Console(stderr=given["json"], highlight=False)
        display = Display(console)
        if options.host not in _LOOPBACK:
            display(
                Event(
                    "warning",
                    f"Listening on {options.host} without TLS: keys and memories cross the network readable. "
                    "Put a proxy with TLS in front of it.",
                )
            )

        def report(event: Event) -> None:
            display(event)
            if event.kind == "ready":
                service = load(home)
                if service:
                    show_ready(console, home, service, event)
                    if given["json"]:
                        self.stdout.write(json.dumps(service.summary(home)))
                        self.stdout.flush()

        try:
            if launch.find_running(home, host, port, mcp_port, report):
                report(Event("ready"))
            elif given["detach"]:
                report(launch.run_detached(home, options, report))
            else:
                launch.run_here(home, options, report)
                display(Event("notice", "Stopped."))
        except EmbeddedError as error:
            raise CommandError(str(error)) from error
        finally:
            display.close()

    def _run_for(self, descriptor: int, options: Options) -> None:
        report = launch.pipe_report(descriptor)
        try:
            launch.run_here(settings.HOME, options, report)
        except EmbeddedError as error:
            report(Event("error", str(error)))
            raise CommandError(str(error)) from error


def _port(name: str, text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal():
        raise CommandError(f"{name} must be a number, and it is {text!r}.")
    return int(text)
