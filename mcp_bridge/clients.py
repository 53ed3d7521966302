"""Configurations of MCP clients, and how they are put into files that hold other things as well.

Nothing here touches a disk: text goes in, text comes out.
"""

import base64
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from mcp_bridge import texts
from mem0stack.lib.errors import InvalidArgument

CLIENTS = ("cursor", "claude-code", "claude-desktop", "vscode", "windsurf", "codex", "zed")
# They read no environment variable in their file, so the key itself has to stand there.
WANT_THE_KEY = ("claude-desktop", "zed")
WITH_HOOKS = ("cursor", "claude-code")
# Their file belongs to a project, so it may name it.
WITH_PROJECT_FILE = ("cursor", "claude-code", "vscode")
KEY_VARIABLE = "MEM0_API_KEY"
NO_KEY_YET = "YOUR_KEY"
# Absolute, since a client starts the bridge in a folder of its own, often with another `python` first in its path.
BRIDGE = (sys.executable, str(Path(__file__).resolve().with_name("stdio.py")))

_KEY_IN_FILE = {
    "cursor": f"${{env:{KEY_VARIABLE}}}",
    "claude-code": f"${{{KEY_VARIABLE}}}",
    "vscode": "${input:mem0}",
    "windsurf": f"${{env:{KEY_VARIABLE}}}",
}
_RULES_FILE = {"cursor": ".cursor/rules/memory.mdc", "claude-code": "CLAUDE.md", "claude-desktop": ""}
_HOOKS_FILE = {"cursor": ".cursor/hooks.json", "claude-code": ".claude/settings.json"}
_INDENT = "  "

Is = Callable[[dict[str, Any]], bool]
Where = tuple[str | int, ...]


class Unmergeable(InvalidArgument):
    """The file cannot be changed without risk to what else it holds; the text says what to paste by hand."""


@dataclass(frozen=True)
class Entry:
    """One value and its place. `is_ours` tells it from others in a list; `is_default` yields to what is there."""

    path: tuple[str, ...]
    value: Any
    is_ours: Is | None = None
    is_default: bool = False


@dataclass(frozen=True)
class Snippet:
    """What belongs into one file. `path` begins with `~/`, or is relative to the project; "" means: paste it."""

    client: str
    path: str
    format: Literal["json", "toml", "markdown"]
    text: str
    entries: tuple[Entry, ...] = ()
    note: str = ""
    key: str = ""


def configuration(
    client: str,
    mcp_url: str,
    *,
    key: str | None = None,
    project: str | None = None,
    bridge: bool = False,
    program: tuple[str, str] = BRIDGE,
) -> Snippet:
    """How `client` reaches the server, directly or by the bridge (`program`: a Python and the bridge's file).

    Without `key` the file names a variable or asks for the key; where the client can do neither, it says YOUR_KEY.
    `project` should be given only for a file of that project.
    """
    _known(client)
    url = _checked(mcp_url)
    is_bridge = bridge or client == "claude-desktop"
    if client == "codex":
        return _codex(url, key, project, program if is_bridge else None)
    secret = key or _KEY_IN_FILE.get(client, NO_KEY_YET)
    where = project or ("${workspaceFolder}" if client == "cursor" else "")
    if is_bridge:
        server: dict[str, Any] = {"type": "stdio"} if client == "vscode" else {}
        server |= {"command": program[0], "args": [program[1], "--url", url, *(["--project", where] if where else [])]}
        server["env"] = {KEY_VARIABLE: secret}
    else:
        server = {"type": "http"} if client in ("claude-code", "vscode") else {}
        server["serverUrl" if client == "windsurf" else "url"] = url
        server["headers"] = _headers(secret, where)
    return _json(client, _path(client, project), _servers(client, server, key), _note(client, key), key or "")


def rules(client: str) -> Snippet:
    """The instructions, where `client` reads rules of a project."""
    _known(client)
    path = _RULES_FILE.get(client, "AGENTS.md")
    note = "" if path else "Paste it into Settings, Profile, personal preferences."
    return Snippet(client, path, "markdown", texts.cursor_rule() if client == "cursor" else texts.section(), note=note)


def hooks(client: str, mcp_url: str, *, project: str | None = None, program: tuple[str, str] = BRIDGE) -> Snippet:
    """What has `client` recall when a session starts, and save when the agent stops."""
    if client not in WITH_HOOKS:
        raise InvalidArgument(f"{client} has no hooks that could recall and save; there are for: {_of(WITH_HOOKS)}.")
    url = _checked(mcp_url)

    def hook(which: str, timeout: int) -> dict[str, Any]:
        words = [*program, "hook", which, "--url", url, "--client", client]
        return {"command": _shell([*words, *(["--project", project] if project else [])]), "timeout": timeout}

    recall, save = hook("recall", 5), hook("save", 10)
    entries: tuple[Entry, ...]
    if client == "cursor":
        entries = (
            Entry(("version",), 1, is_default=True),
            Entry(("hooks", "sessionStart"), recall, is_ours=_is_hook("recall")),
            Entry(("hooks", "stop"), save, is_ours=_is_hook("save")),
        )
    else:
        entries = (
            Entry(("hooks", "SessionStart"), {"hooks": [{"type": "command", **recall}]}, is_ours=_is_hook("recall")),
            Entry(("hooks", "Stop"), {"hooks": [{"type": "command", **save}]}, is_ours=_is_hook("save")),
        )
    path = _HOOKS_FILE[client] if project else f"~/{_HOOKS_FILE[client]}"
    return _json(client, path, entries)


def one_click(mcp_url: str) -> str:
    """The link that has Cursor offer to install the server. It holds no key."""
    server = {"url": _checked(mcp_url), "headers": _headers(_KEY_IN_FILE["cursor"], "${workspaceFolder}")}
    packed = base64.b64encode(json.dumps(server, separators=(",", ":")).encode()).decode()
    return f"cursor://anysphere.cursor-deeplink/mcp/install?name=memory&config={quote(packed, safe='')}"


def merge(existing_text: str, snippet: Snippet) -> str:
    """The file's text with the snippet in it; all that is not ours stays byte for byte. Twice is as once.

    Raises Unmergeable for a file that is not what its name says.
    """
    mark = "\ufeff" if existing_text.startswith("\ufeff") else ""
    text = existing_text.removeprefix(mark)
    # What is new takes over the line ends of what is there.
    newline = "\r\n" if "\r\n" in text else "\n"
    into = {"json": _merge_json, "toml": _merge_toml, "markdown": _merge_section}[snippet.format]
    return mark + into(text, snippet, newline)


# The clients ----------------------------------------------------------------------------------------------------------


def _known(client: str) -> None:
    if client not in CLIENTS:
        raise InvalidArgument(f"There is no client {client!r}. Choose one of: {_of(CLIENTS)}.")


def _of(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not re.fullmatch(r"[\x21-\x7e]+", url):
        raise InvalidArgument("The address of the server must be like http://127.0.0.1:8001/mcp.")
    if parts.username or parts.password:
        raise InvalidArgument(f"The address must hold no user and no password; the key goes into {KEY_VARIABLE}.")
    return url


def _headers(secret: str, project: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}", **({"X-Mem0-Project": project} if project else {})}


def _path(client: str, project: str | None) -> str:
    if client == "cursor":
        return ".cursor/mcp.json" if project else "~/.cursor/mcp.json"
    if client == "claude-desktop":
        folder = {"darwin": "Library/Application Support", "win32": "AppData/Roaming"}.get(sys.platform, ".config")
        return f"~/{folder}/Claude/claude_desktop_config.json"
    if client == "zed":
        return "~/AppData/Roaming/Zed/settings.json" if sys.platform == "win32" else "~/.config/zed/settings.json"
    return {
        "claude-code": ".mcp.json",
        "vscode": ".vscode/mcp.json",
        "windsurf": "~/.codeium/windsurf/mcp_config.json",
        "codex": "~/.codex/config.toml",
    }[client]


def _servers(client: str, server: dict[str, Any], key: str | None) -> tuple[Entry, ...]:
    if client == "zed":
        return (Entry(("context_servers", "memory"), server),)
    if client != "vscode":
        return (Entry(("mcpServers", "memory"), server),)
    asked = {"type": "promptString", "id": "mem0", "description": "mem0-stack key", "password": True}
    ask = Entry(("inputs",), asked, is_ours=lambda one: one.get("id") == "mem0")
    return (*(() if key else (ask,)), Entry(("servers", "memory"), server))


def _note(client: str, key: str | None) -> str:
    if key:
        return "The file holds the key in plain: keep it out of repositories."
    if client in WANT_THE_KEY:
        return f"{client} reads no variables here: put the key in place of {NO_KEY_YET}."
    if client == "vscode":
        return "VS Code asks for the key once and keeps it."
    return f"The key comes from the variable {KEY_VARIABLE}, which {client} must find in its environment."


def _codex(url: str, key: str | None, project: str | None, program: tuple[str, str] | None) -> Snippet:
    lines = ["[mcp_servers.memory]"]
    if program:
        words = [program[1], "--url", url, *(["--project", project] if project else [])]
        lines += [f"command = {_toml(program[0])}", f"args = [{', '.join(map(_toml, words))}]"]
        lines += [f"env = {{ {KEY_VARIABLE} = {_toml(key)} }}" if key else f"env_vars = [{_toml(KEY_VARIABLE)}]"]
    else:
        headers = _headers(key, project or "") if key else {"X-Mem0-Project": project} if project else {}
        lines += [f"url = {_toml(url)}"]
        lines += [] if key else [f"bearer_token_env_var = {_toml(KEY_VARIABLE)}"]
        pairs = ", ".join(f"{_toml(name)} = {_toml(value)}" for name, value in headers.items())
        lines += [f"http_headers = {{ {pairs} }}"] if pairs else []
    lines += ["startup_timeout_sec = 10", "tool_timeout_sec = 20", ""]
    return Snippet("codex", _path("codex", project), "toml", "\n".join(lines), (), _note("codex", key), key or "")


def _toml(text: str) -> str:
    # A string of JSON is one of TOML, but for the one control character that JSON lets pass.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_hook(which: str) -> Is:
    ours = re.compile(rf"(?:mem0_bridge|mcp_bridge).*\bhook {which}\b", re.DOTALL)
    return lambda one: isinstance(one.get("command"), str) and ours.search(one["command"]) is not None


def _shell(words: list[str]) -> str:
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


# JSON, changed in its text so that nothing else moves -----------------------------------------------------------------


def _json(client: str, path: str, entries: tuple[Entry, ...], note: str = "", key: str = "") -> Snippet:
    bare = Snippet(client, path, "json", "", entries, note, key)
    return replace(bare, text=_merge_json("", bare))


def _merge_json(text: str, snippet: Snippet, newline: str = "\n") -> str:
    text = text if text.strip() else "{}\n"
    for entry in snippet.entries:
        document = _parse(text, snippet)
        where, value = _place(document, entry, snippet)
        if value is not None:
            text = _put(text, where, value, _indent_of(text), newline)
            _set(document, where, value)
            if _parse(text, snippet) != document:
                raise _unmergeable(snippet, "has a shape that is not understood")
    return text


def _parse(text: str, snippet: Snippet) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _unmergeable(snippet, "is not plain JSON (comments, commas at the end, or a name twice)") from error
    if not isinstance(document, dict):
        raise _unmergeable(snippet, "holds no JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A name that stands twice means one thing to one program and another to the next: better not touched."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _place(document: dict[str, Any], entry: Entry, snippet: Snippet) -> tuple[Where, Any]:
    """Where to write what; None as the value when nothing is to be written."""
    inner: Any = document
    for depth, name in enumerate(entry.path):
        if not isinstance(inner, dict):
            raise _unmergeable(snippet, f"has something else at {'.'.join(entry.path[:depth])}")
        if name not in inner:
            value = [entry.value] if entry.is_ours else entry.value
            for outer in reversed(entry.path[depth + 1 :]):
                value = {outer: value}
            return entry.path[: depth + 1], value
        inner = inner[name]
    if entry.is_ours is None:
        return entry.path, None if entry.is_default or inner == entry.value else entry.value
    if not isinstance(inner, list):
        raise _unmergeable(snippet, f"has something else at {'.'.join(entry.path)}")
    there = _find(inner, entry.is_ours)
    if there is None:
        return (*entry.path, len(inner)), entry.value
    _, new = _find([entry.value], entry.is_ours) or ((), entry.value)
    return (*entry.path, *there[0]), None if there[1] == new else new


def _find(inner: Any, is_ours: Is) -> tuple[Where, Any] | None:
    """The first object that is ours, in lists within objects too: a group of hooks may hold another's beside it."""
    if isinstance(inner, dict) and is_ours(inner):
        return (), inner
    members = inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
    for name, value in members:
        if found := _find(value, is_ours):
            return (name, *found[0]), found[1]
    return None


def _set(document: Any, where: Where, value: Any) -> None:
    for name in where[:-1]:
        document = document[name]
    if isinstance(document, list) and where[-1] == len(document):
        document.append(value)
    else:
        document[where[-1]] = value


def _put(text: str, where: Where, value: Any, indent: str, newline: str) -> str:
    """`text` with `value` at `where`, all but the last step of which exists."""
    at = _skip(text, 0)
    for step in where[:-1]:
        at = _members(text, at)[step][0]
    members = _members(text, at)
    is_object = text[at] == "{"
    outer, lead = newline + indent * (len(where) - 1), newline + indent * len(where)
    shown = json.dumps(value, indent=indent, ensure_ascii=False).replace("\n", lead)
    if where[-1] in members:
        begins, ends = members[where[-1]]
        return text[:begins] + shown + text[ends:]
    name = f"{json.dumps(where[-1], ensure_ascii=False)}: " if is_object else ""
    if members:
        last = max(end for _, end in members.values())
        return f"{text[:last]},{lead}{name}{shown}{text[last:]}"
    close = _skip(text, at + 1)
    return f"{text[: at + 1]}{lead}{name}{shown}{outer}{text[close:]}"


def _members(text: str, at: int) -> dict[str | int, tuple[int, int]]:
    """Where the values begin and end of the object or list that begins at `at`."""
    decoder = json.JSONDecoder()
    is_object = text[at] == "{"
    found: dict[str | int, tuple[int, int]] = {}
    at = _skip(text, at + 1)
    while text[at] not in "}]":
        name: str | int = len(found)
        if is_object:
            name, at = decoder.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        begins = at
        _, at = decoder.raw_decode(text, at)
        found[name] = (begins, at)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


def _indent_of(text: str) -> str:
    found = re.search(r"^[{\[]\s*?\n([ \t]+)\S", text.lstrip())
    return found[1] if found else _INDENT


# TOML -----------------------------------------------------------------------------------------------------------------

_OUR_TABLE = re.compile(r"""\s*\[\s*(?:mcp_servers|"mcp_servers")\s*\.\s*["']?memory["']?\s*\]\s*(?:#.*)?""")


def _merge_toml(text: str, snippet: Snippet, newline: str) -> str:
    before = _parse_toml(text, snippet)
    new = snippet.text.replace("\n", newline)
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    begins = next((number for number, line in enumerate(lines) if _OUR_TABLE.fullmatch(line.rstrip("\r\n"))), None)
    if begins is None:
        merged = text + _gap(text, newline) + new
    else:
        rest = range(begins + 1, len(lines))
        ends = next((number for number in rest if lines[number].lstrip().startswith("[")), len(lines))
        # Comments and empty lines above the next table are that table's.
        while ends > begins + 1 and (not lines[ends - 1].strip() or lines[ends - 1].lstrip().startswith("#")):
            ends -= 1
        merged = "".join(lines[:begins]) + new + "".join(lines[ends:])
    after = _parse_toml(merged, snippet)
    ours = tomllib.loads(snippet.text)["mcp_servers"].pop("memory")
    now = after["mcp_servers"].pop("memory")
    before.get("mcp_servers", {}).pop("memory", None)
    # Tables below ours stay ([mcp_servers.memory.tools]), and what is ours must have come through.
    if _without_empty(before) != _without_empty(after) or any(now.get(name) != ours[name] for name in ours):
        raise _unmergeable(snippet, "has a shape that is not understood")
    return merged


def _parse_toml(text: str, snippet: Snippet) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _unmergeable(snippet, "is not TOML, or sets mcp_servers.memory in another way") from error


def _without_empty(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "mcp_servers" or value}


# Text -----------------------------------------------------------------------------------------------------------------


def _merge_section(text: str, snippet: Snippet, newline: str) -> str:
    if not text.strip():
        return snippet.text
    new = texts.section().replace("\n", newline)
    begins, ends = text.find(texts.SECTION_BEGINS), text.find(texts.SECTION_ENDS)
    if begins < 0 and ends < 0:
        return text + _gap(text, newline) + new
    if not 0 <= begins < ends or text.count(texts.SECTION_BEGINS) > 1 or text.count(texts.SECTION_ENDS) > 1:
        raise _unmergeable(snippet, "has one of the two marks of our section without the other, or twice")
    return text[:begins] + new.removesuffix(newline) + text[ends + len(texts.SECTION_ENDS) :]


def _gap(text: str, newline: str) -> str:
    """An empty line between what is there and what is added at its end."""
    if not text.strip():
        return ""
    return newline if text.endswith("\n") else 2 * newline


def _unmergeable(snippet: Snippet, why: str) -> Unmergeable:
    shown = snippet.text.replace(snippet.key, NO_KEY_YET) if snippet.key else snippet.text
    return Unmergeable(f"{snippet.path} {why}, so it was left as it is. Put this in by hand:\n\n{shown}")
