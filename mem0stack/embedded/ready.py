"""How a web or worker process tells its supervisor that it has loaded everything and takes work."""

import contextlib
import os
from pathlib import Path

import psutil


def tell(name: str) -> None:
    """Called by the process itself; without a supervisor it does nothing."""
    directory = os.environ.get("MEM0_READY_DIR")
    if directory:
        (Path(directory) / f"{name}.{os.getpid()}").touch()


def count(directory: Path, name: str, supervised: int) -> int:
    """How many processes of this name have told so, of the supervised process and its children."""
    ready = 0
    for path in directory.glob(f"{name}.*"):
        with contextlib.suppress(psutil.Error, ValueError):
            process = psutil.Process(int(path.suffix[1:]))
            ready += supervised in (process.pid, process.ppid()) and process.status() != psutil.STATUS_ZOMBIE
    return ready
