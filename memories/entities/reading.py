"""One pass over a text's tokens, which asks the rules of code and of prose in turn."""

import re
from collections.abc import Iterator
from itertools import chain, pairwise

from memories.entities import code, names, prose, unspaced
from memories.entities.found import EntityKind, Found, found, key_of
from memories.entities.tokens import MAX_CHARACTERS, Token, tokens_of
from memories.entities.words import (
    COMMON,
    ENGLISH_TOO,
    PRODUCTS,
    PROGRAMS,
    SMALL_IS_A_WORD,
    SUBCOMMANDS,
    TALKED_ABOUT,
)

MAX_ENTITIES = 64
_MAX_QUERY_KEYS = 64

_QUOTE = re.compile(r"\"([^\"\n]{3,80})\"|“([^”\n]{3,80})”|„([^“”\n]{3,80})[“”]|«([^»\n]{3,80})»")


def entities_of(text: str, speaker: str | None = None) -> list[Found]:
    """The distinct things that a text names, in its order, at most 64; first who said it.

    Reads the first 20,000 characters. A person or firm that is named in full and in short is found once.
    """
    things: dict[tuple[str, str], Found] = {}
    said_by = names.speaker(speaker) if speaker else None
    for thing in chain((said_by,) if said_by else (), _read(text)):
        if len(things) >= MAX_ENTITIES:
            break
        if thing.key:  # nothing is left of "_"
            things.setdefault((thing.kind, thing.key), thing)
    short = {alias.key for thing in things.values() for alias in thing.aliases if thing.kind in _NAMED_IN_SHORT}
    return [thing for thing in things.values() if not (thing.key in short and thing.kind in _SHORT)]


_NAMED_IN_SHORT = frozenset((EntityKind.PERSON, EntityKind.ORGANISATION, EntityKind.PATH, EntityKind.PRODUCT))
_SHORT = frozenset((EntityKind.PERSON, EntityKind.ORGANISATION, EntityKind.PATH, EntityKind.PRODUCT, EntityKind.NAME))


def query_keys(text: str) -> list[str]:
    """The keys under which the things that a query names are stored, aliases included, the kinds left out; at most 64.

    A query is often written small and without marks, so its words and pairs of words are keys too: whether they are
    names is for the owner's entities to say.
    """
    keys = dict.fromkeys(key for thing in entities_of(text) for key in thing.keys)
    words = [word for token in tokens_of(text) if len(word := key_of(token.text)) > 2]
    keys |= dict.fromkeys(f"{first}-{second}" for first, second in pairwise(words))
    keys |= dict.fromkeys(word for word in words if word not in COMMON)
    return list(keys)[:_MAX_QUERY_KEYS]


def _read(text: str) -> Iterator[Found]:
    text = text[:MAX_CHARACTERS]
    tokens = tokens_of(text)
    quotes = _quotes(text)
    surroundings = names.Surroundings(tokens)
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token.span:
            end = place
            while end < len(tokens) and tokens[end].span == token.span:
                end += 1
            yield from _in_backticks(text, tokens, place, end)
            place = end
            continue
        taken, things = _in_sentence(
            tokens, place, surroundings, in_quote=any(a <= token.start < b for a, b, _ in quotes)
        )
        yield from things
        place += taken
    for _, _, thing in quotes:
        yield thing
    if not text.isascii():
        yield from unspaced.names(text)


def _quotes(text: str) -> list[tuple[int, int, Found]]:
    """Titles and messages: two to nine words in quotation marks."""
    if '"' not in text and text.isascii():
        return []
    made: list[tuple[int, int, Found]] = []
    for match in _QUOTE.finditer(text):
        inside = next(group for group in match.groups() if group)
        if 1 <= inside.strip().count(" ") <= 8 and len(made) < MAX_ENTITIES:
            made.append((match.start(), match.end(), found(EntityKind.QUOTE, inside.strip(".,;:!? "))))
    return made


# --- in backticks


_SELECTOR = re.compile(r"[-+]\[(\w+) ")
_SEPARATORS = frozenset(("&&", "||", "|", ";", "\\", "then", "do"))


def _in_backticks(text: str, tokens: list[Token], start: int, end: int) -> Iterator[Found]:
    words = [token.text for token in tokens[start:end]]
    if len(words) == 1:
        yield from code.of_token(words[0], quoted=True)
        return
    if match := _SELECTOR.match(text, max(0, tokens[start].start - 2)):
        yield found(EntityKind.CLASS, match[1])
        return
    calls = True  # a command may begin here
    for place, word in enumerate(words):
        if word in _SEPARATORS:
            calls = True
            continue
        if calls and (word == "$" or word == "sudo" or ("=" in word and word.split("=", 1)[0].isupper())):
            yield from code.of_token(word, quoted=False)
            continue
        if calls and (called := code.command(words[place : place + 2])):
            yield called
        else:
            yield from code.of_token(word, quoted=False)
        calls = False


# --- in a sentence


def _in_sentence(
    tokens: list[Token], place: int, surroundings: names.Surroundings, *, in_quote: bool
) -> tuple[int, tuple[Found, ...]]:
    """How many tokens are read from this place on, at least one, and what they name."""
    token = tokens[place]
    text = token.text
    if (text in PROGRAMS or text.casefold() in PROGRAMS) and (called := _called(tokens, place)):
        return 1, (called,)
    if dated := prose.date(tokens, place):
        return dated
    if text[0].isdigit() and (numbered := prose.numbered(tokens, place)):
        return 1, (numbered,)
    things = code.of_token(text, quoted=False)
    is_raised = surroundings.is_raised(place)
    if things and not (is_raised and things[0].kind == EntityKind.CLASS):
        if things[0].kind != EntityKind.CLASS or not names.goes_on(tokens, place):
            return 1, things
    elif is_raised and text[0].isupper() and text.isalnum():
        return 1, (found(EntityKind.ERROR, text),)
    if branch := prose.branch(tokens, place):
        return 1, (branch,)
    if text[0].isupper():
        taken, thing = (1, None) if in_quote else names.name(tokens, place, surroundings)
        return taken, (thing,) if thing else ()
    if versioned := prose.versioned(tokens, place):
        return 1, (versioned,)
    return 1, _small(text)


def _small(word: str) -> tuple[Found, ...]:
    """A product that is written small, or whose first letter is: postgres, macOS."""
    if word.casefold() not in PRODUCTS or word in SMALL_IS_A_WORD:
        return ()
    return (found(EntityKind.PRODUCT, word),)


def _called(tokens: list[Token], place: int) -> Found | None:
    """A command without backticks."""
    token = tokens[place]
    words = [token.text]
    if not token.is_last:
        for following in tokens[place + 1 : place + 3]:
            if following.span:
                break
            words.append(following.text)
            if following.is_last:
                break
    program = words[0] if words[0] in PROGRAMS else words[0].casefold()
    following_word = words[1] if len(words) > 1 else ""
    has_flag = following_word.startswith("-")
    is_certain = has_flag or (following_word in SUBCOMMANDS and program not in ENGLISH_TOO)
    if not is_certain and (
        program in ENGLISH_TOO or program in TALKED_ABOUT or program in PRODUCTS or not token.text.islower()
    ):
        return None
    return code.command([program, *(words[1:] if is_certain else ())])
