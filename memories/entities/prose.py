"""Things of prose: people, organisations, places, products and other names; dates and numbers in words."""

import re
from functools import lru_cache

from memories.entities.code import VERSION, day_of, issue
from memories.entities.found import EntityKind, Found, found
from memories.entities.tokens import Token
from memories.entities.words import (
    AMBIGUOUS_NAMES,
    COMMON,
    GERMAN,
    GIVEN_NAMES,
    MONTHS,
    NO_NAMES,
    ORGANISATION_WORDS,
    PERSON_VERBS,
    PLACE_WORDS,
    PLACES,
    PRODUCTS,
    RUSSIAN_PLACES,
    SUFFIXES,
    TITLES,
)

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


_ISSUE_WORDS = frozenset(["issue", "issues", "pr", "prs", "mr", "ticket", "tickets", "bug", "#"])
_STATUS_WORDS = frozenset(
    ["http", "status", "answers", "answered", "returns", "returned", "gets", "got", "gives", "gave"]
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
        return found(EntityKind.ERROR, text, key=f"http-{text}")
    if before in ("code", "status") and place > 1 and tokens[place - 2].text.casefold() == "exit":
        return found(EntityKind.ERROR, text, key=f"exit-{text}")
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


_CHANGES = frozenset(
    [
        "bump",
        "bumped",
        "bumps",
        "upgrade",
        "upgraded",
        "upgrades",
        "pin",
        "pinned",
        "pins",
        "update",
        "updated",
        "downgraded",
        "downgrade",
    ]
)
_BEFORE_VERSION = frozenset(["to", "at", "from", "version", "v"])


def versioned(tokens: list[Token], place: int) -> Found | None:
    """A package that is written small and stands before its version: axum 0.7.4, tokio to 1.41."""
    text, token = tokens[place].text, tokens[place]
    if token.is_last or place + 1 >= len(tokens) or text in COMMON or len(text) < 2:
        return None
    following = tokens[place + 1].text
    if VERSION.fullmatch(following):
        return found(EntityKind.PACKAGE, text)
    if following in _BEFORE_VERSION and place + 2 < len(tokens) and VERSION.fullmatch(tokens[place + 2].text):
        return found(EntityKind.PACKAGE, text)
    return None


# --- names


_CONNECTORS = frozenset(
    [
        "of",
        "de",
        "del",
        "della",
        "di",
        "da",
        "du",
        "von",
        "van",
        "der",
        "den",
        "ten",
        "la",
        "le",
        "el",
        "al",
        "bin",
        "ibn",
        "&",
        "the",
        "und",
    ]
)
_MODEL = re.compile(r"[A-Z]{0,3}\d{1,4}[a-z]{0,3}|[a-z]{1,2}[A-Z]{1,3}")
_UNITS = frozenset(
    [
        "percent",
        "%",
        "s",
        "ms",
        "kg",
        "km",
        "m",
        "h",
        "hours",
        "days",
        "minutes",
        "seconds",
        "weeks",
        "months",
        "years",
        "euros",
        "euro",
        "times",
        "gb",
        "mb",
    ]
)


class Surroundings:
    """What the whole text tells about the words in it."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        # What has a capital letter although no sentence begins with it.
        self.within = {token.text for token in tokens if not token.is_first}
        small = [token.text for token in tokens if token.text.islower()]
        # A German noun has a capital letter whether it names somebody or not.
        self.is_german = sum(word in GERMAN for word in small) * 6 > len(small) or any(
            token.text in ("Der", "Die", "Das", "Wir", "Ich") for token in tokens
        )

    def is_raised(self, place: int) -> bool:
        """Whether the word before says that this is an exception."""
        return place > 0 and self._tokens[place - 1].text.casefold() in _RAISES


_RAISES = frozenset(["raise", "raises", "raised", "throw", "throws", "threw", "thrown", "catch", "catches"])


def speaker(name: str) -> Found | None:
    """Who said a memory, unless it is a role."""
    if name.casefold() in ("user", "assistant", "system", "tool", "human", "ai", "agent", "bot") or len(name) > 60:
        return None
    return _person(name.split()) if name.strip() else None


def goes_on(tokens: list[Token], place: int) -> bool:
    """Whether a word in CamelCase is part of a longer name, as in FitHaus Berlin."""
    token = tokens[place]
    following = tokens[place + 1] if place + 1 < len(tokens) else None
    return following is not None and not token.is_last and not following.span and bool(_MODEL.fullmatch(following.text))


def names(tokens: list[Token], place: int, around: Surroundings) -> tuple[int, tuple[Found, ...]]:
    """The name that begins at this capital letter, if it is one: how many tokens it takes, and what it names."""
    end = _end_of_name(tokens, place, around)
    taken = end - place
    start = place
    if tokens[place].is_first and taken > 1 and _is_plain(tokens[place].text):
        start += 1
        if tokens[start].text.casefold() in _CONNECTORS:
            return 1, ()
    while start < end and tokens[start].text.casefold() in NO_NAMES:
        start += 1
    while end > start and (
        tokens[end - 1].text.casefold() in NO_NAMES or tokens[end - 1].text.casefold() in _CONNECTORS
    ):
        end -= 1
    if start == end:
        return taken, ()
    if version := _version_after(tokens, start, end):
        return taken + version[0], (version[1],)
    thing = _typed(tokens, start, end, around)
    return taken, (thing,) if thing else ()


def _is_plain(word: str) -> bool:
    """Whether a sentence may well begin with this word without naming anything."""
    word = word.casefold()
    if word in GIVEN_NAMES:
        return word in AMBIGUOUS_NAMES and word in COMMON
    if word in COMMON or word in NO_NAMES:
        return True
    for ending in ("s", "es", "ed", "d", "ing", "ly", "er"):
        if word.endswith(ending) and (word[: -len(ending)] in COMMON or word[: -len(ending)] + "e" in COMMON):
            return True
    return False


def _end_of_name(tokens: list[Token], place: int, around: Surroundings) -> int:
    end = place + 1
    if tokens[place].text == "I":
        return end
    longest = 2 if around.is_german else 6
    while (
        end < len(tokens)
        and end - place < longest
        and not tokens[end - 1].is_last
        and not tokens[end - 1].is_possessive
    ):
        token = tokens[end]
        text = token.text
        if token.span or text == "I":
            break
        if text[0].isupper() and (text[1:].islower() or text.isalnum() or "-" in text or "'" in text or "." in text):
            end += 1
        elif _MODEL.fullmatch(text) and not _is_counted(tokens, end):
            end += 1
            break
        elif text.casefold() in _CONNECTORS and _starts_upper(tokens, end + 1) and not token.is_last:
            if text == "the" and tokens[end - 1].text.casefold() not in _CONNECTORS:
                break
            end += 2
        elif (
            text in ("of", "de", "&")
            and end + 2 < len(tokens)
            and tokens[end + 1].text in ("the", "la")
            and _starts_upper(tokens, end + 2)
        ):
            end += 3
        else:
            break
    return end


_NUMBERED = _ISSUE_WORDS | _STATUS_WORDS | frozenset(("code", "figure", "section", "chapter", "table", "step", "page"))


def _starts_upper(tokens: list[Token], place: int) -> bool:
    return place < len(tokens) and not tokens[place].span and tokens[place].text[0].isupper()


def _is_counted(tokens: list[Token], place: int) -> bool:
    """Whether a number counts what follows it, instead of naming a model."""
    if tokens[place - 1].text.casefold() in _NUMBERED:
        return True
    if not tokens[place].text.isdecimal():
        return False
    if len(tokens[place].text) > 2 or tokens[place].text[0] == "0":
        return True
    if tokens[place].is_last or place + 1 >= len(tokens):
        return False
    return tokens[place + 1].text.casefold() in _UNITS or tokens[place + 1].text.casefold() in MONTHS


_NOT_VERSIONED = frozenset(["figure", "section", "chapter", "table", "page", "step", "version", "about", "python's"])


def _version_after(tokens: list[Token], start: int, end: int) -> tuple[int, Found] | None:
    """A name with a dotted version behind it is a package: Django 5.2, Spring Boot 3.3."""
    if end >= len(tokens) or tokens[end - 1].is_last or tokens[end - 1].is_possessive:
        return None
    words = [token.text for token in tokens[start:end]]
    if not VERSION.fullmatch(tokens[end].text) or words[-1].casefold() in _NOT_VERSIONED:
        return None
    if len(words) == 1 and tokens[start].is_first and _is_plain(words[0]) and words[0].casefold() not in PRODUCTS:
        return None
    return 1, found(EntityKind.PACKAGE, " ".join(words))


def _typed(tokens: list[Token], start: int, end: int, around: Surroundings) -> Found | None:
    words = [token.text for token in tokens[start:end]]
    name = " ".join(words)
    folded = name.casefold()
    small = [word.casefold() for word in words]
    first, last = small[0], small[-1]
    before = tokens[start - 1].text.casefold() if start and not tokens[start - 1].is_last else ""
    after = "" if end >= len(tokens) or tokens[end - 1].is_last else tokens[end].text.casefold()
    single = len(words) == 1

    if first.rstrip(".") in TITLES and not single:
        return _person(words[1:])
    if before.rstrip(".") in TITLES:
        return _person(words)
    if folded in PRODUCTS:
        return found(EntityKind.PRODUCT, name)
    if folded in PLACES:
        is_person = first in GIVEN_NAMES and (after in PERSON_VERBS or tokens[end - 1].is_possessive)
        return _person(words) if is_person else found(EntityKind.PLACE, name)
    if not name.isascii() and (place := _russian(folded)):
        return found(EntityKind.PLACE, name) if place == "place" else _person(words)
    if not single and any(word.rstrip(".") in ORGANISATION_WORDS for word in small):
        return _organisation(words)
    if not single and (
        last in PLACE_WORDS
        or first in PLACE_WORDS
        or any(last.endswith(end_) for end_ in ("straße", "strasse", "platz"))
    ):
        return found(EntityKind.PLACE, name)
    if (
        first in GIVEN_NAMES
        and (not single or first not in AMBIGUOUS_NAMES or after in PERSON_VERBS and after not in COMMON)
        and (single or not around.is_german or len(words) == 2)
    ):
        return _person(words)
    if not single and (_MODEL.fullmatch(words[-1]) and not words[-1].isalpha() or first in PRODUCTS):
        return found(EntityKind.PRODUCT, name, parts=(words[0],))
    if around.is_german:
        return None
    if single:
        return _single(words[0], before, after, tokens[start], around)
    if all(_is_plain(word) or word.casefold() in _CONNECTORS for word in words) and tokens[start].is_first:
        return None
    if after in PERSON_VERBS or before in _BEFORE_PERSON or tokens[end - 1].is_possessive:
        return _person(words)
    return found(EntityKind.NAME, name)


_BEFORE_PERSON = frozenset(
    [
        "ask",
        "asked",
        "tell",
        "told",
        "met",
        "meet",
        "thank",
        "ping",
        "remind",
        "invite",
        "with",
        "by",
        "and",
        "hired",
        "aunt",
        "uncle",
    ]
)
_BEFORE_PLACE = frozenset(["in", "near"])
_BEFORE_ORGANISATION = frozenset(["at", "from", "joined", "joins", "join", "for"])


def _single(word: str, before: str, after: str, token: Token, around: Surroundings) -> Found | None:
    """One word that no list knows."""
    folded = word.casefold()
    if len(word) < 3 or not any(letter.islower() for letter in word):
        return None  # an acronym, or the letter of a list
    if (
        folded in NO_NAMES
        or folded in COMMON
        and folded not in GIVEN_NAMES
        or not word.replace("-", "").replace("'", "").isalpha()
    ):
        return None
    if after in PERSON_VERBS or token.is_possessive:
        return None if token.is_first and _is_plain(word) else _person([word])
    if token.is_first:
        return found(EntityKind.NAME, word) if word in around.within and not _is_plain(word) else None
    if before in _BEFORE_PLACE:
        return found(EntityKind.PLACE, word)
    if before in ("at", "joined", "joins"):
        return found(EntityKind.ORGANISATION, word)
    if before in _BEFORE_PERSON and before != "and":
        return _person([word])
    return found(EntityKind.NAME, word)


def _person(words: list[str]) -> Found:
    names_ = [word for word in words if word.casefold().rstrip(".") not in TITLES] or words
    parts = tuple(dict.fromkeys((names_[0], names_[-1]))) if len(names_) > 1 else ()
    return found(EntityKind.PERSON, " ".join(names_), parts=tuple(part for part in parts if len(part) > 2))


def _organisation(words: list[str]) -> Found:
    proper = [word for word in words if word.casefold().rstrip(".") not in SUFFIXES]
    parts = (" ".join(proper),) if 0 < len(proper) < len(words) else ()
    if words[0].casefold() not in COMMON and words[0].casefold() not in ORGANISATION_WORDS and len(words[0]) > 3:
        parts = (*parts, words[0])
    return found(EntityKind.ORGANISATION, " ".join(words), parts=parts)


@lru_cache(maxsize=1_024)
def _russian(name: str) -> str:
    """person, place, or nothing: names decline, so only their beginning is looked at."""
    if not "\u0400" <= name[0] <= "\u04ff":
        return ""
    first = name.split()[0]
    if first in GIVEN_NAMES or first[:-1] + "а" in GIVEN_NAMES or first[:-1] in GIVEN_NAMES:
        return "person"
    return "place" if any(first.startswith(stem) for stem in RUSSIAN_PLACES.values()) else ""
