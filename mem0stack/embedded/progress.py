"""What a start tells the person who waits for it: said by the supervisor, carried by a pipe, shown by rich."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.status import Status

from mem0stack.embedded.service import Service, read_api_key
from mem0stack.lib.home import Home


@dataclass(frozen=True)
class Event:
    """One thing to tell. `password` and `is_first_run` belong to `ready` only."""

    kind: Literal["begin", "done", "notice", "warning", "ready", "error"]
    text: str = ""
    seconds: float = 0.0
    account: str | None = None
    password: str | None = None
    is_first_run: bool = False

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Event":
        return cls(**json.loads(line))


Report = Callable[[Event], None]


@contextmanager
def step(report: Report, text: str) -> Iterator[None]:
    began = time.monotonic()
    report(Event("begin", text))
    yield
    report(Event("done", text, time.monotonic() - began))


class Display:
    """Shows events on a console: a spinner for what goes on, a line for what is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def __call__(self, event: Event) -> None:
        if event.kind == "begin":
            self.close()
            self._status = self._console.status(f"{event.text} ...")
            self._status.start()
            return
        self.close()
        if event.kind == "done":
            self._console.print(f"[green]✓[/] {escape(event.text)} [dim]{event.seconds:.1f} s[/]")
        elif event.kind == "warning":
            self._console.print(f"[yellow]![/] {escape(event.text)}")
        elif event.kind == "notice":
            self._console.print(f"  {escape(event.text)}")

    def close(self) -> None:
        if self._status:
            self._status.stop()
            self._status = None


def show_ready(console: Console, home: Home, service: Service, event: Event) -> None:
    """The panel that a start ends with. The key itself is shown by the first run only."""
    key = read_api_key(home) or ""
    url = service.url
    rows = [
        f"[bold]Address[/]    {url}   (REST [cyan]{url}/api/v2/[/], admin [cyan]{url}/admin/[/])",
        f"[bold]API key[/]    {key if event.is_first_run else f'in {home.api_key_file}'}",
    ]
    if event.is_first_run:
        rows.append(f"           (shown this once; also in {home.api_key_file}, readable by you only)")
    if event.password:
        rows.append(f"[bold]Account[/]    {escape(event.account or '')}, password {event.password}   (shown this once)")
    rows += [f"[bold]Data[/]       {home.root}", f"[bold]Logs[/]       {home.logs}"]
    console.print(Panel("\n".join(rows), title="mem0-stack is running", title_align="left", expand=False))
    # Outside the panel and unwrapped, so that it can be copied.
    shown_key = key if event.is_first_run else f"$(cat {home.api_key_file})"
    console.print("Store a first memory:", style="bold")
    console.print(
        f'  curl -s {url}/api/v2/memories/ -H "Authorization: Bearer {shown_key}" '
        "-H 'Content-Type: application/json' -d '{\"content\": \"The staging database is reset every Monday.\"}'",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    console.print("Cursor (~/.cursor/mcp.json), with the key in the variable MEM0_API_KEY:", style="bold")
    entry = {
        "url": service.mcp_url,
        "headers": {"Authorization": "Bearer ${env:MEM0_API_KEY}"},
    }
    console.print(
        json.dumps({"mcpServers": {"memory": entry}}, indent=2),
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
