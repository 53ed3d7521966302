"""The git repository that a folder lies in, read from its files: git itself may be missing."""

import configparser
from pathlib import Path

from mem0stack.lib.remotes import project_key


def root_of(folder: Path) -> Path | None:
    """The top folder of the repository, or worktree, that `folder` lies in."""
    return next((one for one in (folder, *folder.parents) if (one / ".git").exists()), None)


def project_of(root: Path) -> str | None:
    """The project's key by the remote `origin`, else by the first one; None where there is no remote."""
    remotes = _remotes(_git_folder(root / ".git") / "config")
    url = remotes.get("origin") or next(iter(remotes.values()), "")
    return project_key(url) or None


def _git_folder(git: Path) -> Path:
    """Where the configuration lies. Of a worktree or a submodule `.git` is a file that names the folder."""
    if git.is_file():
        git = git.parent / _text(git).removeprefix("gitdir:").strip()
    common = _text(git / "commondir").strip()
    return git / common if common else git


def _remotes(path: Path) -> dict[str, str]:
    # Git indents its options, which may mean to this parser that the line before goes on.
    lines = "\n".join(line.strip() for line in _text(path).splitlines())
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True, delimiters=("=",))
    try:
        parser.read_string(lines)
    except configparser.Error:
        return {}
    found = {}
    for name in parser.sections():
        if name.startswith('remote "') and (url := parser[name].get("url")):
            found[name[8:-1]] = url.strip('"')
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
