"""`up`: runs the service here or in the background, or finds that it runs already."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from django.conf import settings

from mem0stack.embedded import directory, service
from mem0stack.embedded.account import EmbeddedError
from mem0stack.embedded.processes import explain, tail
from mem0stack.embedded.progress import Event, Report
from mem0stack.embedded.service import Service
from mem0stack.embedded.supervisor import Options, Supervisor
from mem0stack.lib.home import Home

_TAKEN = "Another `up` has just started this service."
_READY_TIMEOUT_S = 180


def find_running(
    home: Home, host: str | None, port: int | None, mcp_port: int | None, report: Report
) -> Service | None:
    """The running service, when it is what was asked for; one that is older or elsewhere is stopped first."""
    if not service.is_supervised(home):
        return None
    running = service.wait_ready(home, _READY_TIMEOUT_S)
    if running is None:
        return None
    reasons = []
    if running.fingerprint != service.fingerprint(settings.BASE_DIR):
        reasons.append("runs older code")
    if host not in (None, running.host) or port not in (None, running.port):
        reasons.append(f"listens on {running.host}:{running.port}")
    if mcp_port not in (None, running.mcp_port):
        reasons.append(f"serves MCP on port {running.mcp_port}")
    if not reasons:
        return running
    report(Event("notice", f"The running service {' and '.join(reasons)}: restarting it"))
    service.stop(home, lambda text: report(Event("notice", text)))
    return None


def run_here(home: Home, options: Options, report: Report) -> None:
    """Runs the supervisor in this process until it is told to stop."""
    with directory.clear_os_errors(home):
        directory.make_home(home)
        os.umask(0o077)
        with service.lock(home) as is_free:
            if not is_free:
                raise EmbeddedError(_TAKEN)
            Supervisor(home, options, report).run()


def run_detached(home: Home, options: Options, report: Report) -> Event:
    """Starts the supervisor in the background and returns its `ready` event."""
    with directory.clear_os_errors(home):
        directory.make_home(home)
    log_file = home.logs / "supervisor.log"
    reader, writer = os.pipe()
    words = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), "up", "--report-fd", str(writer)]
    words += ["--host", options.host, "--port", str(options.port), "--mcp-port", str(options.mcp_port)]
    with directory.clear_os_errors(home), log_file.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[writer],
            cwd=settings.BASE_DIR,
            env=os.environ | {"MEM0_HOME": str(home.root), "MEM0_ADMIN_USER": options.first_account},
        )
    os.close(writer)
    try:
        with os.fdopen(reader) as lines:
            for line in lines:
                event = Event.from_line(line)
                if event.kind == "ready":
                    return event
                if event.kind == "error":
                    process.wait()
                    raise EmbeddedError(event.text)
                report(event)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    process.wait()
    raise EmbeddedError(f"The supervisor ended before the service was ready. {explain(tail(log_file))}")


def pipe_report(descriptor: int) -> Callable[[Event], None]:
    """Reports into the pipe that `run_detached` reads, until the start has ended one way or the other."""
    pipe = os.fdopen(descriptor, "w")
    os.set_inheritable(descriptor, False)

    def report(event: Event) -> None:
        if pipe.closed:
            return
        try:
            pipe.write(event.to_line())
            pipe.flush()
            if event.kind in ("ready", "error"):
                pipe.close()
        except BrokenPipeError:
            # Whoever waited for this start is gone; the start goes on.
            return

    return report
