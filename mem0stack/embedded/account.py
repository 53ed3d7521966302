"""Who runs the embedded servers: the caller, or, for root, the system account that PostgreSQL insists on."""

import grp
import os
import pwd
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM_ACCOUNT = "mem0stack"


class EmbeddedError(Exception):
    """Something that keeps the service from starting. Its text says what it is and what to do about it."""


@dataclass(frozen=True)
class Account:
    """The account of PostgreSQL and Valkey. `is_borrowed` when it is not the one that runs this process."""

    name: str
    uid: int
    gid: int

    @property
    def is_borrowed(self) -> bool:
        return self.uid != os.geteuid()

    def popen_options(self) -> dict[str, Any]:
        """What `subprocess` needs to start a program as this account."""
        if not self.is_borrowed:
            return {"cwd": "/", "umask": 0o077}
        return {"user": self.uid, "group": self.gid, "extra_groups": [], "cwd": "/", "umask": 0o077}

    def own(self, path: Path) -> None:
        if self.is_borrowed:
            os.chown(path, self.uid, self.gid)

    def barrier(self, path: Path) -> Path | None:
        """The first directory on the way to `path` that this account may not enter, or None."""
        for directory in [*reversed(path.parents), path]:
            if not directory.is_dir():
                continue
            found = directory.stat()
            if found.st_uid == self.uid:
                bit = 0o100
            elif found.st_gid == self.gid:
                bit = 0o010
            else:
                bit = 0o001
            if not found.st_mode & bit:
                return directory
        return None


def current_user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL refuses to run as user id {os.geteuid()}, which has no name on this machine. "
            "Run as a user that /etc/passwd knows."
        ) from None


def server_account(announce: Callable[[str], None]) -> Account:
    """The caller's own account; for root the system account, which is made (and announced) when missing."""
    if os.geteuid() != 0:
        return Account(current_user_name(), os.geteuid(), os.getegid())
    try:
        found = pwd.getpwnam(SYSTEM_ACCOUNT)
    except KeyError:
        announce(f"PostgreSQL does not run as root: making the system account '{SYSTEM_ACCOUNT}' for it")
        _make_system_account()
        found = pwd.getpwnam(SYSTEM_ACCOUNT)
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def _make_system_account() -> None:
    words = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    try:
        grp.getgrnam(SYSTEM_ACCOUNT)
    except KeyError:
        words.append("--user-group")
    else:
        words += ["--gid", SYSTEM_ACCOUNT]
    try:
        result = subprocess.run([*words, SYSTEM_ACCOUNT], capture_output=True, text=True, check=False)  # noqa: S603
        reason = result.stderr.strip()
    except FileNotFoundError:
        reason = "there is no useradd command"
    try:
        pwd.getpwnam(SYSTEM_ACCOUNT)  # two starts at once: either one may have made it
    except KeyError:
        raise EmbeddedError(
            f"Could not make the system account '{SYSTEM_ACCOUNT}' ({reason}). "
            "Make it yourself, or run as an ordinary user: that needs no account."
        ) from None
