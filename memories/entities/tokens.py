"""A text as tokens: what stands between spaces, without the punctuation around it, and what that punctuation says."""

import re
from dataclasses import dataclass

from memories.entities.words import ABBREVIATIONS

MAX_CHARACTERS = 20_000
UNSPACED = "\u3000-\u312f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uff65"

# A run of backticks ends what an equal one began; each is looked for only as far as the next backtick.
_SPAN = re.compile(r"(?<!`)(`{1,3})(?!`)([^`]+)\1(?!`)")
_TOKEN = re.compile(rf"[^\s`{UNSPACED}]+")
_BEFORE = "([{<\"'“”„«»‹›‘’‚*~—–…¿¡|"
_AFTER = ".,;:!?)]}>\"'“”„«»‹›‘’*~—–…|"
_ENDS_SENTENCE = frozenset(".!?:…")


@dataclass(slots=True)
class Token:
    """`span` numbers the backticks that it stands in, 0 outside. `is_first` begins a sentence; `is_last` is followed by
    punctuation, so that no name goes on past it; `is_possessive` had an 's."""

    text: str
    start: int
    span: int
    is_first: bool
    is_last: bool
    is_possessive: bool


def tokens_of(text: str) -> list[Token]:
    """The tokens of the first 20,000 characters."""
    text = text[:MAX_CHARACTERS]
    made: list[Token] = []
    begins = True
    place = 0
    for span, match in enumerate(_SPAN.finditer(text), 1):
        begins = _read(text, place, match.start(), 0, begins, made)
        if made and made[-1].span == 0:
            made[-1].is_last = True  # a name in prose does not go on inside backticks
        _read(text, match.start(2), match.end(2), span, begins, made)
        begins = False
        place = match.end()
    _read(text, place, len(text), 0, begins, made)
    return made


def _read(text: str, start: int, end: int, span: int, begins: bool, made: list[Token]) -> bool:
    """Append the tokens between two places; whether a sentence begins after them."""
    last_end = start
    for match in _TOKEN.finditer(text, start, end):
        raw, at = match[0], match.start()
        if begins is False and "\n" in text[last_end:at]:
            begins = True
        last_end = match.end()
        if raw.isalnum():
            made.append(Token(raw, at, span, begins, False, False))
            begins = False
            continue
        token = _bare(raw) if len(raw) <= _LONGEST else ""
        if not token:
            if made:
                made[-1].is_last = True
            begins = begins or raw[0] in "-*•—–"
            continue
        offset = raw.find(token)
        if offset and made:
            made[-1].is_last = True
        after = raw[offset + len(token) :]
        is_possessive = len(token) > 3 and token[-1] == "s" and token[-2] in "'’"
        if is_possessive:
            token = token[:-2]
        is_abbreviation = after == "." and (token.casefold() in ABBREVIATIONS or (len(token) == 1 and token.isupper()))
        if is_abbreviation:
            token += "."
        made.append(Token(token, at + offset, span, begins, bool(after) and not is_abbreviation, is_possessive))
        begins = bool(after) and not is_abbreviation and not _ENDS_SENTENCE.isdisjoint(after)
    return begins


# What is longer is data, and names nothing.
_LONGEST = 400


def _bare(raw: str) -> str:
    """Without the punctuation around it, but with the brackets of a call and the signs of a flag or a path."""
    token = raw.lstrip(_BEFORE)
    while token and token[-1] in _AFTER:
        last = token[-1]
        if (
            (last == ")" and token.count("(") >= token.count(")"))
            or (last == "]" and "[" in token)
            or (last == "*" and "/" in token)
        ):
            break
        token = token[:-1]
    return token
