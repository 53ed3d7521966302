"""What a text says, word by word, put into one wording: markup, case and fillers gone, what says the same made equal.

Made for comparing two memories of a few sentences (`memories.near_duplicates`), not for search, which keeps more and
knows less of what words mean.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from memories import word_lists
from memories.embeddings import Vector, embed_documents
from memories.lexical import query_terms
from memories.texts import asks

# Longer texts are documents; of those only the beginning is read.
MAX_CHARACTERS = 2_000


@dataclass(frozen=True)
class Word:
    """A word as it is compared (`term`) and as it was written (`surface`, folded), and what it stands with."""

    term: str
    surface: str
    part: int  # which part of the text: those between commas, full stops, "and", "but"
    after: str  # the word right before it that gives it its role: from, to, over, of, not, ...
    is_negated: bool  # a "not" stands before it in its part
    is_past: bool  # "removed", not "was removed" and not "remove"
    is_listed: bool  # nothing but a comma, "and" or "or" stands between it and the word before

    @property
    def is_quantity(self) -> bool:
        """Whether it matters how often it stands there: numbers, names in code, "only"."""
        return not self.term.isalpha() or self.term in _QUANTITIES


@dataclass(frozen=True)
class Text:
    """A text, read once and compared often."""

    content: str

    @cached_property
    def vector(self) -> Vector:
        return embed_documents([self.content])[0]

    @cached_property
    def words(self) -> Sequence[Word]:
        return _words(_TOKEN.findall(self._folded))

    @cached_property
    def distinct(self) -> frozenset[str]:
        """Its words as they are compared, each once."""
        return frozenset(word.term for word in self.words)

    @cached_property
    def negations(self) -> int:
        tokens = _TOKEN.findall(self._folded)
        return sum(map(_is_negation, tokens)) + len(_UNSPACED_NOT.findall(self._folded))

    @cached_property
    def tenses(self) -> frozenset[str]:
        """Which of past, present, state (is), must, future and once (used to) its auxiliaries show."""
        return frozenset(name for name, pattern in _TENSES.items() if pattern.search(self._folded))

    @cached_property
    def persons(self) -> frozenset[str]:
        """Which of i, he and she it speaks of."""
        return frozenset(name for name, pattern in _PERSONS.items() if pattern.search(self._folded))

    @cached_property
    def is_conditional(self) -> bool:
        return _CONDITION.search(self._folded) is not None

    @cached_property
    def is_sequence(self) -> bool:
        """Whether it says what comes first and what then."""
        return _SEQUENCE.search(self._folded) is not None

    @cached_property
    def is_passive(self) -> bool:
        return _PASSIVE.search(self._folded) is not None

    @property
    def is_cut(self) -> bool:
        return len(self.content) > MAX_CHARACTERS

    @property
    def asks(self) -> bool:
        return asks(self.content)

    @cached_property
    def _folded(self) -> str:
        return _fold(self.content)


_WHOLE = "\u00b7"  # keeps together what is one value; behind a name in camelCase it keeps the stemmer off
_LINK = re.compile(r"!?\[([^][\n]*)\]\(([^)\s]{1,300})\)")
_POSSESSIVE = re.compile(r"'s\b")
_STRONG = re.compile(r"(\*{1,3}|(?<!\w)_{1,2})(?=\w)([^*\n]+?)\1(?!\w)")
_MARKUP = re.compile(r"`+|^\s*(?:#{1,6}|[-*+>]|\d+[.)])\s+", re.MULTILINE)
_CAMEL = re.compile(r"\b[A-Za-z]*[a-z][A-Z][A-Za-z]*\b")
# The letter, not the article: "service A".
_LETTER = re.compile(r"(?<=\w )A(?![\w'-])|(?<![A-Za-z0-9_./-])A(?![A-Za-z0-9_'./-])(?! [a-z])")
_CRON = re.compile(r"(?<!\S)(?:[\d*/,-]+ ){4}[\d*/,-]+(?!\S)")
_INTRODUCTION = re.compile(rf"(?<![\w-]){word_lists.INTRODUCTIONS}(?![\w-])[,: ]*")
_REWORDED = [(re.compile(pattern), new) for pattern, new in word_lists.REWORDED]
_NUMBER_WORD = re.compile(rf"(?<![\w-])(?:{'|'.join(word_lists.NUMBERS)})(?![\w-])")
_UNITS = "|".join(sorted((re.escape(unit) for unit in word_lists.UNITS), key=len, reverse=True))
_MEASURE = re.compile(rf"(?<![\w.,/:-])(\d+(?:[.,]\d+)*)[ -]?({_UNITS})(?![\w/])")
_UNSPACED_WORD = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han; kana and Thai run on
_KATAKANA, _HIRAGANA = "\u30a0-\u30ff", "\u3040-\u309f"
_TOKEN = re.compile(
    rf"[{_UNSPACED_WORD}]|[{_KATAKANA}]+|[{_HIRAGANA}]+"
    rf"|(?<![\d*/,-])[\d*/,-]+(?:{_WHOLE}[\d*/,-]+){{4}}"
    rf"|(?:(?<![\w)-])--?(?=[a-z\d])|[@#~./]+|(?<!\w)!)?(?:(?![{_UNSPACED_WORD}{_KATAKANA}{_HIRAGANA}])\w)+"
    rf"(?:(?:://|::|[-./\\@':=+&{_WHOLE}]|,(?=\d))(?:(?![{_UNSPACED_WORD}{_KATAKANA}{_HIRAGANA}])\w)+)*(?:\+\+|#(?!\w)|%|{_WHOLE})?"
    r"|->|=>|→|[<>!=]=?|[$€£¥*^✅❌✔✗👍👎🚫]"
    r"|[,;.!?:、，。；：！？()\n–—]"
)
_BREAKS = frozenset(",;.!?:、，。；：！？()\n–—")
_AND = frozenset(["and", "or", "but", "while", "whereas", "und", "oder", "aber", "während", "и", "или", "а", "но"])
_OR = frozenset(("or", "oder", "или", "或"))
_LISTED = frozenset(("and", "or", "und", "oder", "и", "или", ",", "、"))
# What stands right after one of these must not stand after another's: its role would be another.
_DIRECTIONS = {
    "of": "of", "is": "is", "are": "is", "with": "with", "in": "in", "on": "on", "at": "at", "as": "as",
    "must": "must", "should": "must", "shall": "must",
    "from": "from", "to": "to", "into": "to", "onto": "to", "than": "than", "over": "over", "by": "by",
    "before": "before", "after": "after", "behind": "behind", "instead": "instead", "for": "for", "under": "under",
    "von": "from", "aus": "from", "nach": "to", "vor": "before", "als": "than", "statt": "instead",
    "из": "from", "после": "after", "до": "before", "чем": "than", "вместо": "instead",
    "от": "from", "к": "to", "->": "to", "=>": "to", "→": "to",
}  # fmt: skip
_AUXILIARIES = frozenset(
    ("is", "are", "was", "were", "be", "been", "being", "am", "has", "have", "had", "having")
    + ("get", "gets", "got", "getting", "isn't", "aren't", "wasn't", "weren't")
)
PAST_FORMS = word_lists.IRREGULAR.keys() - set(word_lists.IRREGULAR.values())
# "не" and "没" stand before, "ない" after; in Chinese a single character can be part of a word, so only these.
_UNSPACED_NOT = re.compile(r"不|没|未(?!来)|勿|别(?!名)|无(?!线)|ない|なく|ません|なかっ|ずに")
_KEPT_HIRAGANA = re.compile(r"から|まで|だけ|しか|より|のみ|まえ|あと|ほしい|たい")
_EMPTY_HAN = frozenset("的了是在要用将会就都已被把")
_TENSES = {
    "past": re.compile(
        r"\b(?:was|were|did|had|wasn't|weren't|didn't|war|waren|wurde|wurden|был|была|было|были)\b|た[。、]|た$"
    ),
    "present": re.compile(r"\b(?:is|are|am|do|does|has|isn't|aren't|don't|doesn't|ist|sind|wird|werden)\b"),
    "state": re.compile(r"\b(?:is|are|isn't|aren't|ist|sind)\b"),
    "must": re.compile(r"\b(?:must|should|shall|ought|needs?|soll|sollen|sollte|muss|müssen)\b"),
    "future": re.compile(
        r"\b(?:will|won't|'ll|going to|plans? to|planned|soon|later|todo|demnächst|будет|будем|будут)\b|将来|予定"
    ),
    "once": re.compile(r"(?<!\bis )(?<!\bare )(?<!\bwas )(?<!\bbe )(?<!\bget )\bused to\b|\bfrüher\b|\bраньше\b"),
}
_PERSONS = {
    "i": re.compile(r"\b(?:i|my|me|mine|ich|mein|meine|я|мой|моя)\b"),
    "he": re.compile(r"\b(?:he|him|his)\b"),
    "she": re.compile(r"\b(?:she|her|hers)\b"),
}
_CONDITION = re.compile(
    r"\b(?:if|when|whenever|unless|until|wenn|falls|sobald|если|когда|пока)\b|如果|当|的时候|場合|ときは?|たら|なら"
)
_SEQUENCE = re.compile(
    r"\b(?:first|then|afterwards|next|finally|zuerst|dann|danach|сначала|потом|затем)\b|先|再|然后|最後|まず|次に|それから"
)
_PASSIVE = re.compile(
    rf"\b(?:is|are|was|were|be|been|being|gets?|got|isn't|aren't)\b(?:\W+\w+)?\W+(?:\w+ed|{'|'.join(sorted(PAST_FORMS))})\b"
    r"|\b(?:wird|werden|wurde|wurden|worden)\b|られ|され"
)


def _fold(content: str) -> str:
    """Without markup, case and introductions; words that are two elsewhere put as one."""
    text = unicodedata.normalize("NFKC", content[:MAX_CHARACTERS]).replace("’", "'")
    text = _POSSESSIVE.sub("", text)
    text = _LINK.sub(lambda link: link[2] if link[2].endswith(link[1]) else f"{link[1]} {link[2]}", text)
    text = _MARKUP.sub("", _STRONG.sub(r"\2", text))
    text = _LETTER.sub("A" + _WHOLE, _CAMEL.sub(lambda name: name[0] + _WHOLE, text))
    text = _CRON.sub(lambda times: times[0].replace(" ", _WHOLE), text)
    text = text.casefold().replace("ß", "ss")
    for pattern, new in _REWORDED:
        text = pattern.sub(new, text)
    text = _INTRODUCTION.sub("", text)
    text = _NUMBER_WORD.sub(lambda word: word_lists.NUMBERS[word[0]], text)
    return _MEASURE.sub(lambda measure: f"{measure[1]}{_WHOLE}{word_lists.UNITS[measure[2]]}", text)


def _is_negation(token: str) -> bool:
    return token in word_lists.NEGATIONS or token.endswith("n't")


def _words(tokens: Sequence[str]) -> list[Word]:
    words: list[Word] = []
    part, after, is_negated, is_listed = 0, "", False, False
    for place, token in enumerate(tokens):
        if token in _BREAKS or token in _AND:
            if token in _OR:
                words.append(Word("or", token, part, "", is_negated=False, is_past=False, is_listed=False))
            part, after, is_negated, is_listed = part + 1, "", False, token in _LISTED
            continue
        is_negated |= _is_negation(token)
        direction = "not" if _is_negation(token) else _DIRECTIONS.get(token, "")
        # "over" tells where, but "over 20" tells how much.
        if direction != "over" or (place + 1 < len(tokens) and tokens[place + 1][0].isdigit()):
            for term in _terms(token):
                words.append(
                    Word(
                        term,
                        token.replace(_WHOLE, " ").rstrip(),
                        part,
                        "" if direction else after,
                        is_negated=is_negated,
                        is_past=_is_past(tokens, place),
                        is_listed=is_listed,
                    )
                )
                is_listed = False
                after = after if direction else ""
        after = direction or after
    return words


def _is_past(tokens: Sequence[str], place: int) -> bool:
    token = tokens[place]
    return (token.endswith("ed") or token in PAST_FORMS) and not _AUXILIARIES & set(tokens[max(0, place - 4) : place])


@lru_cache(maxsize=16_384)
def _terms(token: str) -> tuple[str, ...]:
    """What a token says; nothing for fillers and negations, which are counted apart."""
    if token in word_lists.EMPTY or _is_negation(token) or token in _DIRECTIONS_ONLY or token in _EMPTY_HAN:
        return ("can",) if token in ("can't", "cannot") else ()
    if token in _KEPT:
        return (_KEPT[token],)
    if _HIRAGANA_ONLY.fullmatch(token):
        return tuple(_KEPT_HIRAGANA.findall(token))
    if token in _CANONICAL:
        return (_CANONICAL[token],)
    if token.endswith(_WHOLE):
        name = token.rstrip(_WHOLE)
        return (_CANONICAL.get(name, name),)
    name = token.removesuffix("'")
    if name.isalpha():
        return _word(name)
    parts = name.split("-")
    if all(part.isalpha() for part in parts):
        # "force-push" is "force push", and a flag keeps its dashes.
        return tuple(term for part in parts for term in _terms(part))
    if _NUMBER.fullmatch(name):
        return (name.lstrip("#v").replace(",", ""),)
    return (name,)


def _word(word: str) -> tuple[str, ...]:
    word = _CANONICAL.get(word, word)
    # Kana are whole words here; search stores them as pairs.
    stems = query_terms(word) if word[0] not in _KANA else [word]
    return tuple(_CANONICAL.get(stem, stem) for stem in stems)


_KANA = frozenset(map(chr, range(0x3040, 0x3100)))
_HIRAGANA_ONLY = re.compile(f"[{_HIRAGANA}]+")
_NUMBER = re.compile(r"[#v-]?\d+(?:,\d{3})*(?:\.\d+)*")
_DIRECTIONS_ONLY = frozenset(("->", "=>", "→"))


def _canonical() -> dict[str, str]:
    """Every word and stem that has another word for it, and that one's stem."""
    known: dict[str, str] = {}
    for word, first in (*word_lists.IRREGULAR.items(), *word_lists.SAME.items()):
        meaning = word_lists.SAME.get(first, first)
        term = (query_terms(meaning) or [meaning])[0]
        for form in (word, *query_terms(word)[:1]):
            known.setdefault(form, term)
    return known


_CANONICAL = _canonical()
# Stop words of search that mean something here.
_KEPT = {"can": "can", "could": "can", "may": "can", "might": "can", "some": "some", "both": "both"} | {
    "just": _CANONICAL["only"]
}
_QUANTITIES = frozenset((*_KEPT.values(), _CANONICAL["every"], *query_terms("nur только")))
