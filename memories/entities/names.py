"""Names by their capital letters: people, organisations, places, products, and what is none of these."""

import re
from functools import lru_cache

from memories.entities.code import VERSION
from memories.entities.found import EntityKind, Found, found
from memories.entities.tokens import Token
from memories.entities.words import (
    AMBIGUOUS_NAMES,
    BEFORE_PERSON,
    CALLED,
    COMMON,
    CONNECTORS,
    CONTRACTIONS,
    GERMAN,
    GIVEN_NAMES,
    MONTHS,
    NO_NAMES,
    NUMBERED,
    ORGANISATION_WORDS,
    PERSON_VERBS,
    PLACE_WORDS,
    PLACES,
    PRODUCTS,
    RAISES,
    RUSSIAN_PLACES,
    SUFFIXES,
    TITLES,
    UNITS,
    WEAK_VERBS,
    WORKS,
)

_MODEL = re.compile(r"[A-Z]{0,3}\d{1,4}[a-z]{0,3}|[a-z]{1,2}[A-Z]{1,3}")
_ROLES = frozenset(("user", "assistant", "system", "tool", "human", "ai", "agent", "bot"))
_LONGEST = 6


class Surroundings:
    """What the whole text tells about the words in it."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        # What has a capital letter although no sentence begins with it.
        self.within = {token.text for token in tokens if not token.is_first}
        small = [token.text for token in tokens if token.text.islower()]
        # A German noun has a capital letter whether it names somebody or not.
        self.is_german = sum(word in GERMAN for word in small) * 7 > len(small) or any(
            token.text in ("Der", "Die", "Das", "Wir", "Ich") for token in tokens
        )
        # In such a text an unknown name is a program's rather than a person's.
        self.is_technical = any(token.span or "_" in token.text or "/" in token.text for token in tokens)

    def is_raised(self, place: int) -> bool:
        """Whether the word before says that this is an exception."""
        return place > 0 and self._tokens[place - 1].text.casefold() in RAISES


def speaker(name: str) -> Found | None:
    """Who said a memory, unless it is a role."""
    words = name.split()
    return _person(words) if words and name.casefold() not in _ROLES and len(name) <= 60 else None


def goes_on(tokens: list[Token], place: int) -> bool:
    """Whether a word in CamelCase is part of a longer name, as in FitHaus 2."""
    following = tokens[place + 1] if place + 1 < len(tokens) else None
    return (
        following is not None
        and not tokens[place].is_last
        and not following.span
        and bool(_MODEL.fullmatch(following.text))
    )


def name(tokens: list[Token], place: int, around: Surroundings) -> tuple[int, Found | None]:
    """The name that begins at this capital letter, if it is one: how many tokens it takes, and what it names."""
    end = _end(tokens, place)
    start, last = _trimmed(tokens, place, end)
    if start == last:
        return end - place, None
    if package := _versioned(tokens, start, last):
        return last + 1 - place, package
    words = [token.text for token in tokens[start:last]]
    thing = _listed(words, tokens, start, last, around)
    if thing is None and around.is_german:
        thing = _within(words)
    elif thing is None:
        thing = _unlisted(words, tokens, start, last, around)
    return end - place, thing


# --- where a name ends


def _end(tokens: list[Token], place: int) -> int:
    end = place + 1
    if _is_contraction(tokens[place].text):
        return end
    while end < len(tokens) and end - place < _LONGEST and not tokens[end - 1].is_last:
        before, token = tokens[end - 1], tokens[end]
        if token.span or _is_contraction(token.text):
            break
        if before.is_possessive and token.text.casefold() not in PLACE_WORDS:
            break
        if token.text[0].isupper():
            if not _joins(before.text, token.text):
                break
            end += 1
        elif _MODEL.fullmatch(token.text) and _is_model(tokens, end):
            return end + 1
        elif token.text.casefold() in CONNECTORS and not token.is_last:
            step = 2 if end + 1 < len(tokens) and tokens[end + 1].text.casefold() in ("the", "la") else 1
            if token.text == "the" or not _starts_upper(tokens, end + step):
                break
            end += step + 1
        else:
            break
    return end


def _is_contraction(word: str) -> bool:
    return word == "I" or ("'" in word and word.casefold().endswith(CONTRACTIONS))


def _joins(before: str, word: str) -> bool:
    """Whether a second capital letter goes on with the name: not in another script, nor in a keyword of SQL."""
    if before.isascii() is not word.isascii() and ("\u0400" <= before[0] <= "\u04ff") is not (
        "\u0400" <= word[0] <= "\u04ff"
    ):
        return False
    return len(word) <= 3 or not word.isupper() or before.isupper()


def _is_cyrillic(word: str) -> bool:
    return "\u0400" <= word[0] <= "\u04ff"


def _starts_upper(tokens: list[Token], place: int) -> bool:
    return place < len(tokens) and not tokens[place].span and tokens[place].text[0].isupper()


def _is_model(tokens: list[Token], place: int) -> bool:
    """Whether a number names a model, instead of counting what follows it or numbering what stands before."""
    number, before = tokens[place].text, tokens[place - 1].text
    if before.casefold() in NUMBERED or (before.isupper() and len(before) > 2):
        return False
    if before.casefold() in COMMON and before.casefold() not in PRODUCTS:
        return False
    if not number.isdecimal():
        return True
    if len(number) > 2 or number[0] == "0":
        return False
    after = "" if tokens[place].is_last or place + 1 >= len(tokens) else tokens[place + 1].text.casefold()
    return after not in UNITS and after not in MONTHS


def _trimmed(tokens: list[Token], start: int, end: int) -> tuple[int, int]:
    """Without what begins the sentence, and without weekdays and the like at both ends."""
    if tokens[start].is_first and end - start > 1 and _is_plain(tokens[start].text) and not _is_called(tokens, start):
        start += 1
    while start < end and _names_nothing(tokens[start].text) and not (start + 1 < end and _is_called(tokens, start)):
        start += 1
    while end > start and _names_nothing(tokens[end - 1].text):
        end -= 1
    return start, end


def _names_nothing(word: str) -> bool:
    folded = word.casefold()
    return folded in NO_NAMES or folded in CONNECTORS or _is_contraction(word)


def _is_called(tokens: list[Token], place: int) -> bool:
    """Whether a given name that is also a word (May, Will) stands before somebody's second name."""
    following = tokens[place + 1].text.casefold()
    return (
        tokens[place].text.casefold() in GIVEN_NAMES
        and following not in PRODUCTS
        and following not in PLACES
        and not _is_plain(following)
    )


def _is_plain(word: str) -> bool:
    """Whether a sentence may well begin with this word without naming anything."""
    folded = word.casefold()
    if folded in GIVEN_NAMES:
        return folded in AMBIGUOUS_NAMES and folded in COMMON
    if folded in COMMON or folded in NO_NAMES:
        return True
    return any(
        folded.endswith(ending) and (folded[: -len(ending)] in COMMON or folded[: -len(ending)] + "e" in COMMON)
        for ending in ("s", "es", "ed", "d", "ing", "ly", "er")
    )


# --- what it names


def _versioned(tokens: list[Token], start: int, end: int) -> Found | None:
    """A name with a dotted version behind it is a package: Django 5.2, Spring Boot 3.3."""
    if end >= len(tokens) or tokens[end - 1].is_last or tokens[end - 1].is_possessive:
        return None
    words = [token.text for token in tokens[start:end]]
    folded = words[-1].casefold()
    if not VERSION.fullmatch(tokens[end].text) or tokens[end].text.count(".") > 2:
        return None
    is_known = " ".join(words).casefold() in PRODUCTS
    if not is_known and (folded in COMMON or folded in NUMBERED or words[-1].isupper() or not words[-1].isascii()):
        return None
    return found(EntityKind.PACKAGE, " ".join(words))


def _listed(words: list[str], tokens: list[Token], start: int, end: int, around: Surroundings) -> Found | None:
    """What a list, a title or an ending gives away."""
    whole = " ".join(words)
    folded = whole.casefold()
    small = [word.casefold().rstrip(".") for word in words]
    before = _before(tokens, start)
    if len(words) > 1 and small[0] in TITLES:
        return _person(words[1:])
    if before.rstrip(".") in TITLES:
        return _person(words)
    if folded in PRODUCTS:
        return found(EntityKind.PRODUCT, whole)
    if folded in PLACES:
        is_person = folded in GIVEN_NAMES and _acts(tokens, end, weakly=True)
        return _person(words) if is_person else found(EntityKind.PLACE, whole)
    if _is_cyrillic(whole):
        return _russian(whole)
    if len(words) == 1:
        is_name = small[0] in GIVEN_NAMES and (small[0] not in AMBIGUOUS_NAMES or _acts(tokens, end))
        return _person(words) if is_name else None
    is_somebodys = any(token.is_possessive for token in tokens[start : end - 1])
    if not ORGANISATION_WORDS.isdisjoint(small) and not is_somebodys:
        return _organisation(words)
    if small[-1] in PLACE_WORDS or small[0] in PLACE_WORDS or small[-1].endswith(("straße", "strasse", "platz")):
        # Possessives belong to the name of a place: St. Olav's Church.
        shown = [f"{token.text}'s" if token.is_possessive else token.text for token in tokens[start : end - 1]]
        return found(EntityKind.PLACE, " ".join([*shown, words[-1]]))
    if small[0] in GIVEN_NAMES and (len(words) == 2 or not around.is_german):
        return _person(words)
    is_model = words[0].isalnum() and not words[-1].isalpha() and _MODEL.fullmatch(words[-1]) and not around.is_german
    if small[0] in PRODUCTS or is_model:
        return found(EntityKind.PRODUCT, whole, parts=(words[0],))
    return None


def _within(words: list[str]) -> Found | None:
    """In German, where any noun may stand beside a name: the person or place among these words."""
    for place, word in enumerate(words):
        if word.casefold() in PRODUCTS:
            return found(EntityKind.PRODUCT, word)
        if word.casefold() in PLACES:
            return found(EntityKind.PLACE, word)
        if word.casefold() in GIVEN_NAMES:
            return _person(words[place : place + 2])
    return None


def _unlisted(words: list[str], tokens: list[Token], start: int, end: int, around: Surroundings) -> Found | None:
    """What only its surroundings give away."""
    before = _before(tokens, start)
    if len(words) == 1:
        return _single(words[0], before, tokens, start, around)
    plain = [_is_plain(word) or word.casefold() in CONNECTORS for word in words]
    if all(plain) and (tokens[start].is_first or around.is_technical) or all(word.isupper() for word in words):
        return None
    if not plain[0] and (_acts(tokens, end) or _is_somebody(before, around)):
        return _person(words)
    return found(EntityKind.NAME, " ".join(words))


def _single(word: str, before: str, tokens: list[Token], place: int, around: Surroundings) -> Found | None:
    """One word that no list knows."""
    token, folded = tokens[place], word.casefold()
    if "-" in word:
        return _hyphenated(word, token)
    # Without a small letter it is an acronym; a word of English is a heading, or shouted.
    if len(word) < 3 or word.isupper() or folded in NO_NAMES or folded in COMMON or not word.isalpha():
        return None
    if _acts(tokens, place + 1) or _is_somebody(before, around) or (token.is_possessive and not around.is_technical):
        return None if token.is_first and _is_plain(word) else _person([word])
    if token.is_first:
        return found(EntityKind.NAME, word) if word in around.within and not _is_plain(word) else None
    if before in CALLED or around.is_technical:
        return found(EntityKind.NAME, word)
    if before in ("in", "near"):
        return found(EntityKind.PLACE, word)
    works = place > 1 and tokens[place - 2].text.casefold() in WORKS
    if before in ("joined", "joins") or (before in ("at", "for") and works):
        return found(EntityKind.ORGANISATION, word)
    return found(EntityKind.NAME, word)


def _hyphenated(word: str, token: Token) -> Found | None:
    """Idempotency-Key is a header, Rohr-Blitz a name, Read-only nothing."""
    pieces = word.split("-")
    if not all(piece[:1].isupper() and piece.isalpha() for piece in pieces):
        return None
    if pieces[0].casefold() in COMMON:
        return found(EntityKind.SYMBOL, word)
    return None if token.is_first or word.isupper() else found(EntityKind.NAME, word)


def _before(tokens: list[Token], place: int) -> str:
    return tokens[place - 1].text.casefold() if place and not tokens[place - 1].is_last else ""


def _acts(tokens: list[Token], place: int, *, weakly: bool = False) -> bool:
    """Whether the word at this place says what a person did."""
    if place >= len(tokens) or tokens[place - 1].is_last:
        return False
    word = tokens[place].text.casefold()
    return word in PERSON_VERBS or (weakly and (word in WEAK_VERBS or tokens[place - 1].is_possessive))


def _is_somebody(before: str, around: Surroundings) -> bool:
    """Whether the word before says so."""
    return before in BEFORE_PERSON or (before == "with" and not around.is_technical)


def _person(words: list[str]) -> Found:
    proper = [word for word in words if word.casefold().rstrip(".") not in TITLES] or words
    parts = tuple(part for part in dict.fromkeys((proper[0], proper[-1])) if len(part) > 2)
    return found(EntityKind.PERSON, " ".join(proper), parts=parts)


def _organisation(words: list[str]) -> Found:
    proper = [word for word in words if word.casefold().rstrip(".") not in SUFFIXES]
    parts = [" ".join(proper)] if 0 < len(proper) < len(words) else []
    first = words[0].casefold()
    if first not in COMMON and first not in ORGANISATION_WORDS and len(first) > 3:
        parts.append(words[0])
    return found(EntityKind.ORGANISATION, " ".join(words), parts=tuple(parts))


@lru_cache(maxsize=1_024)
def _russian(name: str) -> Found | None:
    """A person or a place. Names decline, so of places only the beginning is looked at."""
    first = name.split()[0].casefold()
    if first in GIVEN_NAMES or first[:-1] in GIVEN_NAMES or f"{first[:-1]}а" in GIVEN_NAMES:
        return _person(name.split())
    return found(EntityKind.PLACE, name) if first.startswith(tuple(RUSSIAN_PLACES)) else None
