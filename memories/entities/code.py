"""Things that their spelling gives away: paths, names of code, packages, flags, errors, hosts, issues, dates.

One token at a time, without what stands around it. Every pattern reads its token once.
"""

import re
from functools import lru_cache

from memories.entities.found import EntityKind, Found, found, key_of
from memories.entities.words import (
    CODE_PREFIXES,
    COMMON,
    ERRNOS,
    EXTENSIONS,
    FILES,
    FUNCTION_VERBS,
    NO_ISSUES,
    PRODUCTS,
    PROGRAMS,
    TOP_DOMAINS,
    WITHOUT_SUBCOMMANDS,
)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}://[^\s<>\"]+")
_EMAIL = re.compile(r"([\w.+-]+)@((?:[\w-]+\.)+[A-Za-z]{2,12})")
_AT_HOST = re.compile(r"[\w.+-]+@([\w.-]+)")
_NPM = re.compile(r"(@[a-z0-9][\w.-]*/[\w.-]+?|[A-Za-z][\w.-]*)(?:@[\^~]?v?(\d[\w.-]*))")
_SCOPED = re.compile(r"@[a-z0-9][\w.-]*/[\w.-]+")
_REQUIREMENT = re.compile(r"([A-Za-z][\w.-]*)(?:\[[\w,-]+\])?(?:==|>=|<=|~=|!=|\^=)v?\d[\w.*-]*(?:,.*)?")
_EXTRA = re.compile(r"([a-z][\w.-]*)\[([a-z][a-z0-9,_-]*)\]")
_IMAGE = re.compile(r"((?:[a-z0-9][\w.-]*/)*[a-z][\w.-]*):([a-z]*-?v?\d[\w.-]*|latest|[a-z]+-\d[\w.-]*)")
_LONG_FLAG = re.compile(r"(--[A-Za-z][\w-]*)(?:=(.*))?")
_SHORT_FLAG = re.compile(r"-[A-Za-z]{1,2}")
_DEFINITION = re.compile(r"(-D[A-Z][\w.]*)=(.*)")
_HANDLE = re.compile(r"@[^\W\d][\w-]*[^\W_]")
_NUMBERED = re.compile(r"(?:#|[Gg][Hh]-)(\d{1,7})")
_MERGE_REQUEST = re.compile(r"!\d{1,6}")
_TAG = re.compile(r"#[^\W\d][\w-]*")
_HEX_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}){1,2}")
_TICKET = re.compile(r"([A-Z][A-Z0-9]{1,9})-\d{1,6}")
_CVE = re.compile(r"(?:CVE|GHSA)-[\w-]{4,20}", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")
_CONSTANT = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_FAILURE = re.compile(
    r"(?:^|_)(?:ERR|ERROR|FAILED|FAILURE|DENIED|REFUSED|EXCEEDED|TIMED_OUT|NOT_EXIST|NOT_FOUND|MISMATCH|UNAVAILABLE)"
    r"(?:_|$)"
)
_ERROR_CODE = re.compile(r"([A-Z]{1,5})-?(\d{3,5})")
_BRACKETED = re.compile(r"(?:error|warning)\[([A-Z]\d{3,5})\]")
_EXCEPTION = re.compile(
    r"[A-Z]\w*[a-z]\w*(?:Error|Exception|Warning|Timeout|Fault|Panic)|PoolTimeout|KeyboardInterrupt"
)
_SQLSTATE = re.compile(r"\d{2}[0-9A-Z]\d[0-9A-Z]")
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?")
_ISO_DATE = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d))?(?:T.*)?")
_GERMAN_DATE = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
_NAME = re.compile(r"[^\W\d]\w*", re.ASCII)
_DOTTED = re.compile(r"\w+(?:\.\w+)+", re.ASCII)
_CAMEL = re.compile(r"[a-z][a-z0-9]+(?:[A-Z][a-z0-9]*)+")
_PASCAL = re.compile(
    r"(?:[A-Z][a-z0-9]+){2,}[A-Z]?|[A-Z]{2,}[a-z][a-z0-9]+(?:[A-Z]+[a-z0-9]*)*|(?:[A-Z][a-z0-9]+)+[A-Z]{2,}[a-z0-9]*"
)
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_LIBRARY = re.compile(r"lib[a-z0-9_+-]{2,20}")
VERSION = re.compile(r"v?\d+\.\d+(?:\.\d+)*(?:[-+.]?(?:rc|alpha|beta|a|b|dev|post|preview|canary|[A-Z]+)[\w.]*)?")

_THIS_HOST = "localhost"
_MAX = 200  # characters; what is longer names nothing that somebody writes twice


@lru_cache(maxsize=8_192)
def of_token(token: str, *, quoted: bool) -> tuple[Found, ...]:
    """What one token names by its spelling: nothing, mostly. `quoted` means that it stood in backticks, so that it is
    code although it may look like a word."""
    if not 1 < len(token) <= _MAX:
        return ()
    if token.isalpha() and not quoted:
        return _one(_of_letters(token))
    first = token[0]
    if first == "-":
        return _flag(token)
    if "://" in token:
        return _url(token)
    if first == "#" or first == "!":
        return _one(_hash(token))
    if "@" in token:
        return _with_at(token)
    if dated := date_of(token):
        return (dated,)
    if "=" in token:
        if assigned := _assignment(token):
            return assigned
        token = token.split("=", 1)[0].rstrip("!<>~")
    if "{" in token:
        return ()  # a template
    if "(" in token or "[" in token:
        name, _, inside = token.partition("(")
        if name in ("Err", "Ok", "Some"):  # Rust wraps what counts
            return of_token(inside.rstrip(")"), quoted=False)
        return _one(_call(token, quoted=quoted))
    if ("/" in token or "\\" in token) and (path := _path(token, quoted=quoted)):
        return path
    return _one(_plain(token, quoted=quoted))


def command(words: list[str]) -> Found | None:
    """The program and its subcommand, where these words begin with a program that is known."""
    program = words[0].rsplit("/", 1)[-1] if words[0].startswith(("/usr/", "/bin/", "/opt/")) else words[0]
    if program not in PROGRAMS:
        return None
    subcommand = words[1] if len(words) > 1 and program not in WITHOUT_SUBCOMMANDS else ""
    if not _SUBCOMMAND.fullmatch(subcommand):
        return found(EntityKind.COMMAND, program)
    return found(EntityKind.COMMAND, f"{program} {subcommand}", parts=(program,))


_SUBCOMMAND = re.compile(r"[a-z][a-z0-9]*(?:[-:][a-z0-9]+)*")


def date_of(token: str) -> Found | None:
    """2026-11-25, 2026-11, 2026-11-25T08:00Z, 25.11.2026."""
    if not token[0].isdigit():
        return None
    if match := _ISO_DATE.fullmatch(token):
        year, month, day = int(match[1]), int(match[2]), int(match[3] or 0)
    elif match := _GERMAN_DATE.fullmatch(token):
        year, month, day = int(match[3]), int(match[2]), int(match[1])
    else:
        return None
    return day_of(token, year, month, day)


def day_of(name: str, year: int, month: int, day: int) -> Found | None:
    """A date by its numbers; 0 for a year or a day that is not said."""
    if not 1 <= month <= 12 or day > 31 or not (year == 0 or 1900 <= year <= 2199):
        return None
    if year == 0:
        return found(EntityKind.DATE, name, key=f"{month:02}-{day:02}") if day else None
    if day == 0:
        return found(EntityKind.DATE, name, key=f"{year}-{month:02}")
    return found(EntityKind.DATE, name, key=f"{year}-{month:02}-{day:02}", parts=(f"{year}-{month:02}",))


def _one(thing: Found | None) -> tuple[Found, ...]:
    return () if thing is None else (thing,)


def _of_letters(word: str) -> Found | None:
    """An identifier without any sign: camelCase, PascalCase, ECONNRESET, libpq."""
    if word.islower():
        return found(EntityKind.SYMBOL, word) if _LIBRARY.fullmatch(word) and word not in COMMON else None
    if word in ERRNOS:
        return found(EntityKind.ERROR, word)
    if word.casefold() in PRODUCTS or word[1:].islower() or word.isupper() or not word.isascii():
        return None
    return _identifier(word)


def _flag(token: str) -> tuple[Found, ...]:
    if match := _LONG_FLAG.fullmatch(token) or _DEFINITION.fullmatch(token):
        value = of_token(match[2], quoted=False) if match[2] else ()
        return (
            found(
                EntityKind.FLAG, match[1], key="--" + key_of(match[1]) if match[1][1] == "-" else "-" + key_of(match[1])
            ),
            *value,
        )
    if _SHORT_FLAG.fullmatch(token):
        return (found(EntityKind.FLAG, token, key=token.casefold()),)
    return ()


def _url(token: str) -> tuple[Found, ...]:
    match = _URL.match(token)
    if match is None:
        return ()
    url = match[0].rstrip(".,;:!?'*)]}>").rstrip("/")
    host = url.split("://", 1)[1].split("/", 1)[0].rsplit("@", 1)[-1].split("?", 1)[0].split(":", 1)[0]
    return (found(EntityKind.URL, url, parts=(host,) if "." in host or host == _THIS_HOST else ()),)


def _hash(token: str) -> Found | None:
    if match := _NUMBERED.fullmatch(token):
        return issue(match[1])
    if _MERGE_REQUEST.fullmatch(token):
        return found(EntityKind.ISSUE, token)
    if _TAG.fullmatch(token) and not _HEX_COLOUR.fullmatch(token):
        return found(EntityKind.TAG, token, parts=(token[1:],))
    return None


def issue(number: str) -> Found:
    """An issue or pull request by its number alone."""
    return found(EntityKind.ISSUE, f"#{number}")


def _with_at(token: str) -> tuple[Found, ...]:
    if _SCOPED.fullmatch(token):
        return (found(EntityKind.PACKAGE, token, parts=(token.rsplit("/", 1)[1],)),)
    if match := _NPM.fullmatch(token):
        return (found(EntityKind.PACKAGE, token, key=key_of(match[1])),)
    if (match := _EMAIL.fullmatch(token)) and match[2].rsplit(".", 1)[1].casefold() in TOP_DOMAINS:
        return (found(EntityKind.EMAIL, token, parts=(match[2],)),)
    if match := _AT_HOST.fullmatch(token):
        return _one(_host(match[1]))
    if _HANDLE.fullmatch(token):
        return (found(EntityKind.HANDLE, token, parts=(token[1:],)),)
    return ()


def _assignment(token: str) -> tuple[Found, ...]:
    if match := _REQUIREMENT.fullmatch(token):
        return (found(EntityKind.PACKAGE, token, key=key_of(match[1])),)
    if match := _ASSIGNMENT.fullmatch(token):
        value = of_token(match[2].strip("\"'"), quoted=False) if match[2] else ()
        return (found(EntityKind.VARIABLE, match[1]), *value)
    return ()


def _call(token: str, *, quoted: bool) -> Found | None:
    """`Class.method(...)`, `name()`, `package[extra]`, `error[E0502]`, `-[Class method]`."""
    if match := _BRACKETED.match(token):
        return found(EntityKind.ERROR, match[1])
    name, opened, _ = token.partition("(")
    if not opened:
        if match := _EXTRA.fullmatch(token):
            return found(EntityKind.PACKAGE, token, key=key_of(match[1]))
        return _plain(token.partition("[")[0], quoted=quoted) if token[0] != "[" else None
    name = name.replace("::", ".").replace("->", ".").rstrip("!").strip(".")
    if "[" in name or "/" in name or not name:
        return None
    if _NAME.fullmatch(name):
        if len(name) < 2 or (not quoted and token != f"{name}()" and name.isalpha() and name.islower()):
            return None
        if name.isupper() and not quoted:
            return None
        kind = EntityKind.CLASS if _PASCAL.fullmatch(name) and not quoted else EntityKind.FUNCTION
        return _error_or(kind, name)
    if _DOTTED.fullmatch(name):
        return _dotted(name, called=True)
    return None


def _path(token: str, *, quoted: bool) -> tuple[Found, ...]:
    path, _, test = token.partition("::")
    path = path.replace("\\", "/")
    line = re.fullmatch(r"(.+\.\w{1,8}):\d+(?::\d+)?", path)
    if line:
        path = line[1]
    if _CHUNKS.search(path):
        return ()
    if match := _IMAGE.fullmatch(path):
        return (found(EntityKind.PACKAGE, path, key=key_of(match[1]), parts=(match[1].rsplit("/", 1)[1],)),)
    if path.startswith("origin/"):
        return (found(EntityKind.BRANCH, path, key=key_of(path[7:])),)
    if _BRANCH.fullmatch(path) and not _has_extension(path):
        return (found(EntityKind.BRANCH, path),)
    host = path.split("/", 1)[0].split(":", 1)[0]
    if (host == _THIS_HOST or ("." in host and host.rsplit(".", 1)[1] in TOP_DOMAINS)) and _host(host):
        return (found(EntityKind.URL, path.rstrip("/"), parts=(host,)),)
    if _ADDRESS.fullmatch(path):
        return _one(_host(path))
    if not _is_path(path, quoted=quoted):
        return ()
    things = [found_path(path)]
    if test and _NAME.fullmatch(test.rsplit("::", 1)[-1].partition("[")[0]):
        things.append(found(EntityKind.FUNCTION, test.rsplit("::", 1)[-1].partition("[")[0]))
    return tuple(things)


_CHUNKS = re.compile(r"[(){}<>;,|\"]")
_BRANCH = re.compile(
    r"(?:feature|feat|fix|bugfix|hotfix|release|releases|chore|refactor|dependabot|renovate|spike)/[\w.#/-]+"
)


def found_path(path: str) -> Found:
    if path.startswith("./"):
        path = path[2:]
    path = path.rstrip("/") or path
    name = path.rsplit("/", 1)[-1]
    has_name = name != path and len(name) > 3 and "*" not in name and _has_extension(name)
    return found(EntityKind.PATH, path, parts=(name,) if has_name else ())


def _is_path(path: str, *, quoted: bool) -> bool:
    segments = [segment for segment in path.split("/") if segment]
    if not segments or all(segment.isdigit() for segment in segments):
        return False
    if _has_extension(segments[-1]) or segments[-1].casefold() in FILES:
        return True
    if path.startswith(("/", "./", "../", "~/")) or re.match(r"[A-Za-z]:/", path):
        return len(segments) > 1 or quoted or len(path) > 4
    if path.endswith("/") or quoted:
        return True
    return len(segments) > 2 and all(segment.islower() for segment in segments) and bool(re.search(r"[._-]|\d", path))


def _has_extension(name: str) -> bool:
    stem, dot, extension = name.rpartition(".")
    return bool(dot and stem) and extension.casefold() in EXTENSIONS


def _plain(token: str, *, quoted: bool) -> Found | None:
    """A token without brackets, slashes and signs in front."""
    if token.casefold() in FILES:
        return found_path(token)
    token = token.replace("::", ".").replace("->", ".")
    if _CONSTANT.fullmatch(token):
        if token in ERRNOS or _FAILURE.search(token):
            return found(EntityKind.ERROR, token)
        return found(EntityKind.VARIABLE, token)
    if ":" in token and (match := _IMAGE.fullmatch(token)) and _is_image(match):
        return found(EntityKind.PACKAGE, token, key=key_of(match[1]))
    if "-" in token:
        return _hyphenated(token, quoted=quoted)
    if token in ERRNOS:
        return found(EntityKind.ERROR, token)
    if (match := _ERROR_CODE.fullmatch(token)) and match[1] in CODE_PREFIXES and len(token) > 3:
        return found(EntityKind.ERROR, token)
    if ":" in token:
        token = token.split(":", 1)[0]
    if _ADDRESS.fullmatch(token) or token == _THIS_HOST:
        return found(EntityKind.HOST, token)
    if "." in token:
        return _with_dots(token, quoted=quoted)
    return _identifier(token, quoted=quoted)


def _is_image(match: re.Match[str]) -> bool:
    """python:3.12, node:22-alpine, debian:bookworm-20260915: not ndots:5, nor a host with its port."""
    return "." not in match[1] and (match[1] in PRODUCTS or not match[2].isdecimal())


def _hyphenated(token: str, *, quoted: bool) -> Found | None:
    if _CVE.fullmatch(token):
        return found(EntityKind.ISSUE, token)
    if (match := _NUMBERED.fullmatch(token)) is not None:
        return issue(match[1])
    if match := _TICKET.fullmatch(token):
        if match[1] == "ORA":
            return found(EntityKind.ERROR, token)
        return (
            None
            if match[1].rstrip("0123456789") in NO_ISSUES or match[1] in NO_ISSUES
            else found(EntityKind.ISSUE, token)
        )
    if "." in token:
        name = token.split(":", 1)[0]
        if _has_extension(name) and re.fullmatch(r"[\w.-]+", name):
            return found_path(name)
        return _host(name)
    if quoted and re.fullmatch(r"[A-Za-z][\w-]*(?::[\w-]+)?", token):
        return found(EntityKind.SYMBOL, token)
    return None


def _host(name: str) -> Found | None:
    name = name.split(":", 1)[0].strip(".")
    if _ADDRESS.fullmatch(name) or name == _THIS_HOST:
        return found(EntityKind.HOST, name)
    labels = name.split(".")
    if (
        len(labels) < 2
        or labels[-1].casefold() not in TOP_DOMAINS
        or not all(_LABEL.fullmatch(label) for label in labels)
    ):
        return None
    return found(EntityKind.HOST, name, parts=(labels[0],) if len(labels[0]) > 3 and not labels[0].isalpha() else ())


_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


def _with_dots(token: str, *, quoted: bool) -> Found | None:
    """A file, a host, a module, a class of a module, a method."""
    if token.casefold() in PRODUCTS:
        return found(EntityKind.PRODUCT, token)
    # System.Text.Json is a namespace, and no file.
    if _has_extension(token) and not (token.count(".") > 1 and all(one[:1].isupper() for one in token.split("."))):
        return found_path(token)
    if not _DOTTED.fullmatch(token) or token[0].isdigit():
        return None
    segments = token.split(".")
    if any(segment.isdigit() for segment in segments):
        return None
    if segments[-1] in TOP_DOMAINS and all(_LABEL.fullmatch(segment) for segment in segments) and "_" not in token:
        return _host(token)
    if not quoted and (min(map(len, segments)) < 2 or _is_sentence_end(segments)):
        return None
    return _dotted(token, called=False, quoted=quoted)


def _is_sentence_end(segments: list[str]) -> bool:
    """Two words, between which somebody forgot the space."""
    first, last = segments[0], segments[-1]
    if len(segments) != 2 or not last[:1].isupper() or not last[1:].islower() or last.casefold() not in COMMON:
        return False
    return first.islower() or first.casefold() in COMMON


def _dotted(name: str, *, called: bool, quoted: bool = False) -> Found:
    segments = name.split(".")
    last, before = segments[-1], segments[-2]
    whole_class = last[:1].isupper() and not last.isupper()
    if _EXCEPTION.fullmatch(last) or (whole_class and before.endswith("Error")):
        return found(EntityKind.ERROR, name, parts=(last,) if _EXCEPTION.fullmatch(last) else ())
    if segments[0] in ("self", "this", "cls"):
        return found(
            EntityKind.FUNCTION if called else EntityKind.SYMBOL, name, parts=(last,) if _is_telling(last) else ()
        )
    if whole_class:
        if all(segment[:1].isupper() for segment in segments) and not called:
            return found(EntityKind.MODULE, name, parts=(last,) if _PASCAL.fullmatch(last) else ())
        return found(EntityKind.CLASS, name, parts=(last,) if _PASCAL.fullmatch(last) else ())
    if before[:1].isupper() and not before.isupper():
        parts = (before, *((last,) if _is_telling(last) else ()))
        return found(EntityKind.FUNCTION, name, parts=parts)
    telling = (last,) if _is_telling(last) else ()
    if called:
        return found(EntityKind.FUNCTION, name, parts=telling)
    is_column = quoted and len(segments) == 2 and "_" in last and "_" not in before
    if is_column or any(segment[:1].isupper() for segment in segments):
        return found(EntityKind.SYMBOL, name, parts=telling)
    return found(EntityKind.MODULE, name, parts=telling)


def _is_telling(name: str) -> bool:
    """Whether the last part of a dotted name is worth finding it by."""
    return len(name) > 3 and (
        "_" in name.strip("_") or _CAMEL.fullmatch(name) is not None or _PASCAL.fullmatch(name) is not None
    )


def _identifier(token: str, *, quoted: bool = False) -> Found | None:
    """One name without dots: an exception, a class, a function, or a symbol."""
    if not _NAME.fullmatch(token) or len(token) < 2:
        return None
    if _EXCEPTION.fullmatch(token):
        return found(EntityKind.ERROR, token)
    if token.casefold() in PRODUCTS:
        return found(EntityKind.PRODUCT, token) if quoted else None
    if "_" in token.strip("_") or _CAMEL.fullmatch(token):
        words = token.strip("_").split("_") if "_" in token else _WORD.findall(token)
        is_function = words[0].casefold() in FUNCTION_VERBS and not token[0].isupper()
        return found(EntityKind.FUNCTION if is_function else EntityKind.SYMBOL, token)
    if _PASCAL.fullmatch(token):
        return found(EntityKind.CLASS, token)
    if not quoted or token in ("null", "None", "true", "false", "True", "False", "undefined", "nil", "int", "str"):
        return None
    if token in PROGRAMS:
        return found(EntityKind.COMMAND, token)
    if token[0].isupper() and token[1:].islower():
        return found(EntityKind.CLASS, token)
    if token.isupper():
        return found(EntityKind.VARIABLE, token)
    return found(EntityKind.SYMBOL, token)


def _error_or(kind: EntityKind, name: str) -> Found:
    return found(EntityKind.ERROR if _EXCEPTION.fullmatch(name) else kind, name)
