"""Git remotes: the one name that a project has on every machine."""

import re

_GIT_REMOTE = re.compile(
    r"(?:(?:https?|ssh|git)://(?:[^/@\s]+@)?|[^/@:\s]+@)(?P<host>[A-Za-z0-9.-]+)(?::\d+(?=/))?[:/](?P<path>[^\s?#]+)"
)


def project_key(name: str) -> str:
    """`host/owner/repo` for a git remote in any spelling (the host in lower case, no `.git`); other names trimmed."""
    stripped = name.strip()
    remote = _GIT_REMOTE.fullmatch(stripped)
    if remote is None:
        return stripped
    return f"{remote['host'].lower()}/{remote['path'].strip('/').removesuffix('.git')}"
