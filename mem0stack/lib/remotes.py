"""Projects by one name on every machine: git remotes, and folders where there is no remote."""

import re
from urllib.parse import unquote

_UNEXPANDED = re.compile(r"\$\{[^}]*\}.*", re.DOTALL)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?P<rest>.+)", re.IGNORECASE | re.DOTALL)
# What an editor opens; everything else with :// is a remote.
_FOLDER_URL = re.compile(r"(?:file|vscode-remote)://", re.IGNORECASE)
_PATH = re.compile(r"[/\\]|~(?:[/\\]|$)|\.{1,2}(?:[/\\]|$)|[A-Za-z]:(?:[/\\]|$)")
# Without a user a colon means a remote only after a host that has a dot, and before a path that has a slash.
_LIKE_SCP = re.compile(
    r"(?:[^\s/]*@(?P<host>\[[^\]\s]+\]|[A-Za-z0-9._-]+)|(?P<dotted>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+))"
    r":(?P<path>(?(dotted)[^\s?#]+/[^\s?#]+|[^\s?#]*))\S*"
)
_PORT = re.compile(r":\d*$")
_BARE_REMOTE = re.compile(r"(?:[^\s/]*@)?(?P<host>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)/(?P<path>[^\s/]+/\S+)")
_CREDENTIALS = re.compile(r"://\S*@")
_ENDS_IN_GIT = re.compile(r"(?:/*\.git)+/*$", re.IGNORECASE)


def project_key(given: str) -> str:
    """`host/owner/repo` for a git remote in any spelling (the host in lower case, no `.git`), the last folder's name
    for a path; "" where there is none (blank, or a `${...}` that nobody filled in); other names trimmed.

    No password is kept, wherever it stands. The key of a key is itself.
    """
    name = given.strip()
    while (key := _once(name)) != name:
        name = key
    return name


def _once(name: str) -> str:
    if _UNEXPANDED.fullmatch(name):
        return ""
    if _FOLDER_URL.match(name):
        return _last_folder(unquote(name.partition("://")[2].partition("?")[0].partition("#")[0]))
    if url := _URL.fullmatch(name):
        return _CREDENTIALS.sub("://", name) if re.search(r"\s", name) else _of_url(url["rest"])
    if _PATH.match(name):
        return _last_folder(name)
    if remote := _LIKE_SCP.fullmatch(name):
        return _remote(remote["host"] or remote["dotted"], remote["path"])
    if remote := _BARE_REMOTE.fullmatch(name):
        return _remote(remote["host"], remote["path"])
    return _CREDENTIALS.sub("://", name).strip()


def _of_url(rest: str) -> str:
    """From what follows the scheme."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in rest and ":" in _PORT.sub("", authority) + authority.partition("@")[0]:
        # A user with a password, which may hold any of /?#@ when nobody encoded it.
        rest = rest.rpartition("@")[2]
    elif "@" in authority:
        rest = rest[authority.rfind("@") + 1 :]
    host, _, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return _remote(_PORT.sub("", host), path)


def _remote(host: str, path: str) -> str:
    parts = [part for part in _ENDS_IN_GIT.sub("", path).split("/") if part]
    return "/".join([host.lower(), *parts]) if host else "/".join(parts)


def _last_folder(path: str) -> str:
    folders = re.split(r"[/\\]+", _ENDS_IN_GIT.sub("", re.sub(r"^[A-Za-z]:", "", path)))
    named = [folder.strip() for folder in folders if folder.strip(" .") and folder.strip() not in ("*", "~")]
    return named[-1] if named else ""
