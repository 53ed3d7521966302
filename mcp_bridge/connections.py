"""Who calls over MCP, from which project, and in which run: what a call is told beside its arguments."""

import re
import secrets
import time
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

from redis import Redis

from accounts.actors import Actor
from mem0stack.lib import valkey

# A run goes on while no half hour passes without a write.
RUN_IDLE_S = 1800
_MAX_RUNS_HERE = 10_000
_UNSAFE = re.compile(r"[^A-Za-z0-9._@ -]")


@dataclass(frozen=True)
class Connection:
    """One caller. `project` is "" where the client names none; `run` and `said_at` are those of the stdio bridge."""

    actor: Actor
    request_id: str
    project: str = ""
    run: str | None = None
    said_at: datetime | None = None

    def namespace(self, project: str) -> str | None:
        """The namespace that a tool's `project` means: the connection's own for "", None where there is none."""
        return project or self.project or None

    def run_id(self, namespace: str | None) -> str:
        """The run that a write of now belongs to, so that what is said together knows its neighbours."""
        if self.run is not None:
            return self.run
        caller = self.actor.key.pk if self.actor.key is not None else f"user-{self.actor.owner_id}"
        return _current_run(f"{caller} {self.actor.app or ''} {namespace or ''}")


def client_name(given: str) -> str:
    """A client's name as an app's: lower case, at most 128 plain characters."""
    return _UNSAFE.sub("", given).strip().lower()[:128]


def _current_run(who: str) -> str:
    """The run that this caller is in: kept in Valkey for all processes, in this one alone without it."""
    here = _here.current(who)
    name = valkey.key("mcp-run", who)

    def ask(client: Redis) -> str:
        with client.pipeline(transaction=True) as pipe:
            pipe.set(name, here, ex=RUN_IDLE_S, nx=True)
            pipe.getex(name, ex=RUN_IDLE_S)
            return str(pipe.execute()[1].decode())

    return valkey.ask("mcp_run", ask, otherwise=here)


class _Runs:
    """The runs of this process, by caller."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs: dict[str, tuple[str, float]] = {}

    def current(self, who: str) -> str:
        now = time.monotonic()
        with self._lock:
            run, until = self._runs.get(who, ("", 0.0))
            if until <= now:
                run = f"mcp-{secrets.token_hex(8)}"
            if len(self._runs) >= _MAX_RUNS_HERE:
                self._runs = {other: one for other, one in self._runs.items() if one[1] > now}
            self._runs[who] = run, now + RUN_IDLE_S
        return run


_here = _Runs()
