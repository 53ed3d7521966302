"""Where a service keeps its things: one directory, found by MEM0_HOME."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT_HOME = Path("/var/lib/mem0stack")


@dataclass(frozen=True)
class Home:
    """Every path below one service's directory. It creates nothing; `mem0stack.embedded` does."""

    root: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Home":
        """The directory named by MEM0_HOME, else /var/lib/mem0stack for root and ~/.mem0stack for anyone else."""
        named = environ.get("MEM0_HOME")
        if named:
            return cls(Path(named).expanduser().absolute())
        return cls(ROOT_HOME if os.geteuid() == 0 else Path.home() / ".mem0stack")

    @property
    def secret_key_file(self) -> Path:
        return self.root / "secret_key"

    @property
    def api_key_file(self) -> Path:
        return self.root / "api_key"

    @property
    def mcp_url_file(self) -> Path:
        """Where the MCP process answers, for whoever asks the web process or a command for it."""
        return self.root / "mcp_url"

    @property
    def state_file(self) -> Path:
        return self.root / "service.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "supervisor.lock"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    @property
    def static(self) -> Path:
        return self.root / "static"

    @property
    def postgres_data(self) -> Path:
        return self.root / "postgres"

    @property
    def postgres_binaries(self) -> Path:
        """A copy of PostgreSQL's binaries, made only where the database's account cannot reach the installed ones."""
        return self.root / "postgres-binaries"

    @property
    def postgres_socket_dir(self) -> Path:
        return self.root / "run" / "pg"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def ready(self) -> Path:
        """Web and worker processes leave their pids here once they have loaded."""
        return self.run / "ready"

    @property
    def metrics(self) -> Path:
        """Each web and worker process keeps its figures in files here."""
        return self.run / "metrics"

    @property
    def valkey_binary(self) -> Path:
        """A copy, made only where the servers' account cannot reach the installed one."""
        return self.root / "valkey-server"

    @property
    def valkey_socket(self) -> Path:
        return self.root / "run" / "valkey" / "valkey.sock"
