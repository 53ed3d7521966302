"""A home before anything runs in it: its directories, its secret, and the checks that spare a failed start."""

import contextlib
import errno
import os
import random
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from mem0stack.embedded.account import Account, EmbeddedError
from mem0stack.embedded.service import write_private
from mem0stack.lib.home import Home

_FREE_BYTES_NEEDED = 500 * 1024 * 1024
_NETWORK_ERRORS = {
    errno.EACCES: "this user may not use it (ports below 1024 are for root)",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


@contextmanager
def clear_os_errors(home: Home) -> Iterator[None]:
    """Turns what a disk or a directory can do wrong into a sentence that helps."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EmbeddedError(f"The disk of {home.root} is full: free some space and start again.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            place = error.filename or home.root
            raise EmbeddedError(
                f"{place} may not be written ({error.strerror}). Run as the user that owns it, or choose another "
                "directory with --home."
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise EmbeddedError(
                f"{error.filename or home.root} is a file where a directory is needed. Choose another --home."
            ) from error
        raise


def make_home(home: Home) -> None:
    """The directory and those below it, private; root's lets the database's account pass through."""
    is_root = os.geteuid() == 0
    home.root.mkdir(mode=0o755, parents=True, exist_ok=True)
    home.root.chmod(0o711 if is_root else 0o700)
    home.run.mkdir(exist_ok=True)
    home.run.chmod(0o711 if is_root else 0o700)
    home.logs.mkdir(mode=0o700, exist_ok=True)
    home.ready.mkdir(mode=0o700, exist_ok=True)
    home.metrics.mkdir(mode=0o700, exist_ok=True)


def check_reachable(home: Home, account: Account) -> None:
    barrier = account.barrier(home.root)
    if barrier is not None:
        raise EmbeddedError(
            f"PostgreSQL runs as the account '{account.name}', which may not enter {barrier}. "
            f"Allow it with `chmod o+x {barrier}`, or choose another directory with --home "
            "(root's default is /var/lib/mem0stack)."
        )


def check_disk(home: Home) -> None:
    place = home.root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < _FREE_BYTES_NEEDED:
        raise EmbeddedError(
            f"The disk is full: {free // 2**20} MB are free at {place}, "
            f"{_FREE_BYTES_NEEDED // 2**20} MB are needed. Free some space, or choose another directory with --home."
        )


def resolve(host: str, port: int) -> str:
    """The address that a name like localhost stands for; the web server takes no names."""
    try:
        return str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
    except (socket.gaierror, OverflowError) as error:
        raise EmbeddedError(f"--host {host} --port {port} is no address of this machine: {error}.") from error


def check_port(host: str, port: int, option: str = "--port") -> None:
    address = resolve(host, port)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OverflowError as error:
            raise EmbeddedError(f"There is no port {port}: the last one is 65535.") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise EmbeddedError(
                    f"Port {port} on {host} is taken by {holder(port) or 'another program'}. Stop it, or "
                    "choose another port: "
                    f"{option} {port + 1}."
                ) from error
            reason = _NETWORK_ERRORS.get(error.errno or 0, error.strerror)
            raise EmbeddedError(f"Cannot listen on {host}, port {port}: {reason}.") from error


def free_port() -> int:
    """A port of the loopback address that nobody holds, nor the one after it, which is MCP's.

    Below those that the kernel gives to outgoing connections: one of them would take the second before `up` does.
    """
    while True:
        port = random.randrange(20_000, 32_000, 2)  # noqa: S311  no secret
        with socket.socket() as probe, socket.socket() as beside, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            beside.bind(("127.0.0.1", port + 1))
            return port


def holder(port: int) -> str:
    """Who listens there, as far as this user may know; empty when nobody seems to."""
    with contextlib.suppress(psutil.Error):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
                return f"{psutil.Process(found.pid).name()} (pid {found.pid})"
    return ""


def make_secret_key(home: Home) -> None:
    if not home.secret_key_file.exists():
        write_private(home.secret_key_file, secrets.token_urlsafe(48))
