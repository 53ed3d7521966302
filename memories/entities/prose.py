"""What several words name together without being a name: dates, numbers of issues and errors, branches, versions."""

import re

from memories.entities.code import VERSION, day_of, issue
from memories.entities.found import EntityKind, Found, found
from memories.entities.tokens import Token
from memories.entities.words import COMMON, MONTHS

# --- dates and numbers


_DAY = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?")
_YEAR = re.compile(r"(?:19|20|21)\d\d")
_QUARTER = re.compile(r"[QqKк]([1-4])")


def date(tokens: list[Token], place: int) -> tuple[int, tuple[Found, ...]] | None:
    """25 November 2026, November 25(, 2026), November 2026, 25. November, Q4 2026: how many tokens, and the date."""
    text = tokens[place].text
    if text[0].isdigit():
        if len(text) > 4 or place + 1 >= len(tokens) or not (match := _DAY.fullmatch(text)):
            return None
        month, taken = MONTHS.get(tokens[place + 1].text.casefold()), 2
        if month is None and tokens[place + 1].text == "of" and place + 2 < len(tokens):
            month, taken = MONTHS.get(tokens[place + 2].text.casefold()), 3
        if month is None:
            return None
        return _dated(tokens, place, taken, month, int(match[1]))
    if len(text) == 2 and (quarter := _QUARTER.fullmatch(text)):
        year = _year(tokens, place + 1)
        return (2, (found(EntityKind.DATE, f"{text} {year}", key=f"{year}-q{quarter[1]}"),)) if year else None
    if not text[0].isupper() or not (month := MONTHS.get(text.casefold())) or place + 1 >= len(tokens):
        return None
    if year := _year(tokens, place + 1):
        dated = day_of(f"{text} {year}", year, month, 0)
        return (2, (dated,)) if dated else None
    match = _DAY.fullmatch(tokens[place + 1].text)
    if match is None or len(text) < 3 or VERSION.fullmatch(tokens[place + 1].text):
        return None
    return _dated(tokens, place, 2, month, int(match[1]))


def _dated(tokens: list[Token], place: int, taken: int, month: int, day: int) -> tuple[int, tuple[Found, ...]] | None:
    year = _year(tokens, place + taken)
    taken += year != 0
    name = " ".join(token.text for token in tokens[place : place + taken])
    dated = day_of(name, year, month, day) if day else None
    return (taken, (dated,)) if dated else None


def _year(tokens: list[Token], place: int) -> int:
    """The year at this place, or 0."""
    return int(tokens[place].text) if place < len(tokens) and _YEAR.fullmatch(tokens[place].text) else 0


_ISSUE_WORDS = frozenset(("issue", "issues", "pr", "prs", "mr", "ticket", "tickets", "bug"))
_STATUS_WORDS = frozenset(
    ("http", "status", "answers", "answered", "returns", "returned", "gets", "got", "gives", "gave")
)


def numbered(tokens: list[Token], place: int) -> Found | None:
    """A number that the words before it make an issue, a status or an exit code."""
    text = tokens[place].text
    before = tokens[place - 1].text.casefold() if place else ""
    if before == "sqlstate":
        return found(EntityKind.ERROR, text)
    if not text.isdecimal():
        return None
    if before in _ISSUE_WORDS or (before == "request" and place > 1 and tokens[place - 2].text.casefold() == "pull"):
        return issue(text)
    if before in _STATUS_WORDS and len(text) == 3 and (text[0] in "45" or before == "http"):
        return found(EntityKind.ERROR, f"HTTP {text}")
    if before in ("code", "status") and place > 1 and tokens[place - 2].text.casefold() == "exit":
        return found(EntityKind.ERROR, f"exit code {text}", key=f"exit-{text}")
    return None


_TRUNKS = frozenset(["main", "master", "develop", "trunk"])
_TO_A_BRANCH = frozenset(["from", "to", "into", "onto", "off", "branch", "against"])


def branch(tokens: list[Token], place: int) -> Found | None:
    """What stands before or after the word branch; main and its like also after a preposition."""
    text = tokens[place].text
    before = tokens[place - 1].text.casefold() if place else ""
    after = tokens[place + 1].text if place + 1 < len(tokens) and not tokens[place].is_last else ""
    if text in _TRUNKS:
        is_branch = before in _TO_A_BRANCH and (tokens[place].is_last or not after.isalpha() or after in COMMON)
        return found(EntityKind.BRANCH, text) if is_branch or after == "branch" else None
    if after == "branch" and "-" in text and text.islower():
        return found(EntityKind.BRANCH, text)
    return None


_BEFORE_VERSION = frozenset(["to", "at", "from", "version", "v"])


def versioned(tokens: list[Token], place: int) -> Found | None:
    """A package that is written small and stands before its version: axum 0.7.4, tokio to 1.41."""
    text, token = tokens[place].text, tokens[place]
    if token.is_last or place + 1 >= len(tokens) or text in COMMON or not text[0].isalpha():
        return None
    following = tokens[place + 1].text
    if VERSION.fullmatch(following):
        return found(EntityKind.PACKAGE, text)
    if following in _BEFORE_VERSION and place + 2 < len(tokens) and VERSION.fullmatch(tokens[place + 2].text):
        return found(EntityKind.PACKAGE, text)
    return None
