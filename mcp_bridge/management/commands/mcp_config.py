"""`manage.py mcp_config`: connect an MCP client."""

import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from mcp_bridge import clients
from mcp_bridge.stdio import DEFAULT_URL, remote_of, repository_of
from mem0stack.lib.commands import ServiceCommand
from mem0stack.lib.remotes import project_key


class Command(ServiceCommand):
    help = (
        "Print what connects a client to this service, or with --write put it into the client's own file, where "
        "everything else stays. In a git repository the project is named by its remote."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--client", required=True, choices=clients.CLIENTS)
        parser.add_argument(
            "--url", help=f"the server's address; else MEM0_MCP_URL, else where `up` runs, else {DEFAULT_URL}"
        )
        parser.add_argument("--project", help="the project's folder, git remote or name; else the repository's remote")
        parser.add_argument("--bridge", action="store_true", help="go through the bridge, which keeps what is saved")
        parser.add_argument("--rules", action="store_true", help="also tell the agent when to use memory")
        parser.add_argument("--hooks", action="store_true", help="also recall at the start and save at the end")
        parser.add_argument("--write", action="store_true", help="merge it into the client's files; a backup is kept")
        parser.add_argument(
            "--with-key", action="store_true", help=f"write out the key that {clients.KEY_VARIABLE} holds"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        client, url = options["client"], options["url"] or settings.MCP_URL or DEFAULT_URL
        root = repository_of(str(Path.cwd()))
        given = project_key(options["project"] or "") or None
        # A file in the home serves every project: none of them is named there unless somebody asked for it.
        project = given or (project_key(remote_of(root)) if client in clients.WITH_PROJECT_FILE else "") or None
        key = self._key(client, options)
        snippets = [clients.configuration(client, url, key=key, project=project, bridge=options["bridge"])]
        snippets += [clients.rules(client)] if options["rules"] else []
        snippets += [clients.hooks(client, url, project=project)] if options["hooks"] else []
        top = Path(root or Path.cwd())
        if not options["write"]:
            for snippet in snippets:
                self.stderr.write(f"{_file(snippet, top) or 'To paste'}: {snippet.note}".rstrip(": "))
                self.stdout.write(snippet.text)
            return
        # All are merged before one is written: a file that must not be touched leaves the others alone too.
        plans = [(snippet, _file(snippet, top)) for snippet in snippets]
        changes = [(snippet, file, *_merged(snippet, file)) for snippet, file in plans if file]
        for snippet, file, before, after in changes:
            self.stdout.write(_write(file, before, after, is_secret=bool(snippet.key)))
            if snippet.note:
                self.stdout.write(f"  {snippet.note}")
        for snippet in (snippet for snippet, file in plans if not file):
            self.stdout.write(f"{snippet.note}\n\n{snippet.text}")

    def _key(self, client: str, options: dict[str, Any]) -> str | None:
        if options["with_key"]:
            if key := os.environ.get(clients.KEY_VARIABLE, "").strip():
                return key
            raise CommandError(f"--with-key writes out what {clients.KEY_VARIABLE} holds, and that is not set.")
        if options["write"] and client in clients.WANT_THE_KEY:
            # The placeholder would also take the place of a key that somebody put in before.
            raise CommandError(
                f"{client} reads no variables, so the key has to stand in its file: set {clients.KEY_VARIABLE} and "
                "add --with-key; or leave --write away and paste what is printed."
            )
        return None


def _file(snippet: clients.Snippet, top: Path) -> Path | None:
    if not snippet.path:
        return None
    path = Path(snippet.path).expanduser() if snippet.path.startswith("~/") else top / snippet.path
    # People keep such files elsewhere and link to them: the link stays.
    return path.resolve()


def _merged(snippet: clients.Snippet, file: Path) -> tuple[bytes | None, bytes]:
    try:
        before = file.read_bytes() if file.exists() else None
        text = (before or b"").decode()
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not UTF-8, so it was left as it is.") from error
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
    return before, clients.merge(text, snippet).encode()


def _write(file: Path, before: bytes | None, after: bytes, *, is_secret: bool) -> str:
    if before == after:
        return f"{file} says it already."
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = _keep(file) if before is not None else None
        _replace(file, after, mode=(0o600 if is_secret else 0o644) if before is None else file.stat().st_mode & 0o7777)
    except OSError as error:
        raise CommandError(f"{file} was left as it is: {error.strerror}.") from error
    return f"{file} changed; what it was is in {kept.name}." if kept else f"{file} made."


def _keep(file: Path) -> Path:
    name = f"{file.name}.bak-{datetime.now():%Y%m%d%H%M%S}"  # noqa: DTZ005  a name for people, in their own time
    kept, again = file.with_name(name), 1
    while kept.exists():
        kept, again = file.with_name(f"{name}-{again}"), again + 1
    shutil.copy2(file, kept)
    return kept


def _replace(file: Path, content: bytes, *, mode: int) -> None:
    """Whoever reads the file meets the old one or the new one, whole, whatever happens in between."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    new = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        new.chmod(mode)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
