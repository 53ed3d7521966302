"""Text to terms: what the postings store and what a query asks for. Pure functions, safe in any thread.

A term is a stem ("pool" for "pools"), a number, a pair of characters in scripts without spaces, or an identifier kept
whole ("psycopg_pool", "src/app/views.py", "--reuse-db", "5.2.19"). Whatever is stored whole is stored in parts too, so
that an identifier is found by itself, by its words, and by another spelling. Every step is linear in the text.

Nobody says which language a text is in, and a query is often too short to tell. So every Latin word is stemmed as
English, in all texts and queries alike; a text that shows another language by its function words gets the stems of that
language beside them. A stem too few loses an inflection, and never the word itself.
"""

import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import Stemmer

MAX_CHARACTERS = 20_000
MAX_TERM = 64
MAX_TERMS = 2_000
MAX_QUERY_TERMS = 64

_TAG = "tag:"
_DIGEST = 6  # bytes, so 12 hex digits

# Measured on conversations: without these words recall@10 rises from 59.3 to 63.3 and two fifths of the postings go.
# Question words alone are worth 2 points. Negations and words of time or place ("not", "after", "off") stay: a longer
# list found no more. Short forms (don't, we'll) are dropped by their apostrophe.
_STOP_WORDS = """
a about am an and are as at be because been being but by can could did do does doing dont for from had has have having
he her hers him his how i if in into is it its just me my of on or our ours so some such than that the their them then
there these they this those to too us very was we were what when where which who whom why will with would you your yours
"""
# Their script tells the language. "не" stays, as "not" does.
_RUSSIAN_STOP_WORDS = """
а бы был была были было быть в вам вас во вот вы где да для его ее ему если есть же за и из или им их к как какая какие
какой какое ко когда кто ли мне мой моя мои мы на нам нас наш наша наши но о об он она они оно от по почему при с со
так такой то ты у уже что чтобы эта эти это этот я
"""
_STOP = frozenset((*_STOP_WORDS.split(), *_RUSSIAN_STOP_WORDS.split()))


def document_terms(text: str) -> Counter[str]:
    """The terms of a text with their frequencies, ready to be stored as postings.

    Reads the first 20,000 characters, so a frequency fits a smallint. At most 2,000 terms (the most frequent, then the
    earliest) of at most 64 characters; none begins with `tag:` or holds NUL.
    """
    text = _fold(text)
    terms = Counter(_terms_of(text))
    if not text.isascii():
        # A question may be one character of Han; a longer one asks for pairs, which tell more.
        for character in _HAN_CHARACTER.findall(text):
            terms.setdefault(character, 1)
    if len(terms) > MAX_TERMS:
        terms = Counter(dict(terms.most_common(MAX_TERMS)))
    return terms


def query_terms(text: str, *, language: str | None = None) -> list[str]:
    """The distinct terms of a query in the order of the text, at most 64.

    A word of a `language` ("german", ...) has two, its stem there and the English one; without it the text has to show
    its language. Past that identifiers and numbers stay, then the longest words: the likely rarest.
    """
    terms = list(dict.fromkeys(_terms(text, language)))
    if len(terms) > MAX_QUERY_TERMS:
        kept = set(sorted(terms, key=lambda term: (term.isalpha() or not term.isascii(), -len(term)))[:MAX_QUERY_TERMS])
        terms = [term for term in terms if term in kept]
    return terms


@dataclass(frozen=True)
class Word:
    """A word of a text: where it stands, how it reads without case, and its terms; those that are dropped have none."""

    start: int
    end: int
    text: str
    terms: tuple[str, ...]


def words(text: str) -> list[Word]:
    """The words of a query with their terms, in order: to weigh what is made of them."""
    language = language_of(text)
    return [
        Word(found.start(), found.end(), found[0].casefold().replace("’", "'"), tuple(_terms(found[0], language)))
        for found in _WORD.finditer(text)
    ]


def language_of(text: str) -> str | None:
    """The language in Latin letters that a text gives away ("german", ...), to read a word of it alone as it is read
    there; None for English, other scripts, and where there is too little to tell."""
    return _language(_chunks(_fold(text)))


def tag_term(tag: str) -> str:
    """The posting of a tag: `tag:<tag>`, exactly as written, cut like every term. No text can produce it."""
    return _cut(_TAG + tag)


def length(terms: Mapping[str, int]) -> int:
    """The document length BM25 divides by: how often the words occur.

    An identifier kept whole counts nothing, its parts are counted already, and tags are no text. So a text in
    `snake_case` is as long as the same text with spaces.
    """
    return sum(tf for term, tf in terms.items() if _JOINERS.isdisjoint(term))


_WORD = re.compile(r"\w+(?:['’]\w+)*")


# --- from text to chunks


_JOINERS = frozenset("_-./\\:@#+")
# Marks (vowel signs of Indic and Thai words) are no \w for Python, yet belong to the word.
_MARKED = [chr(code) for code in range(0x300, 0x1E950) if unicodedata.category(chr(code)) in ("Mn", "Mc")]
# U+0F73, U+0F75 and U+0F81 count as starters and decompose into two marks.
_REORDERED = [mark for mark in _MARKED if unicodedata.combining(mark) or mark in "\u0f73\u0f75\u0f81"]


def _ranges(characters: Iterable[str]) -> str:
    """The inside of a character class for sorted characters."""
    spans: list[list[int]] = []
    for code in map(ord, characters):
        if spans and code == spans[-1][1] + 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in spans)


def _chunk_pattern(word: str) -> str:
    # Joiners stand alone between word characters, so nothing here can backtrack far: "--", "..." and "//" end a chunk.
    return rf"(?:(?<![\w-])--?|[@#])?\w{word}*+(?:(?:://|::|[-./\\@']|(?<=\d)[:,](?=\d))\w{word}*+)*+(?:(?:\+\+|\#)(?!\w))?"


_ASCII_CHUNK = re.compile(_chunk_pattern(r"\w"), re.ASCII)
_CHUNK = re.compile(_chunk_pattern(rf"[\w{_ranges(_MARKED)}]"))
# Sorting a run of marks is quadratic in CPython: 20,000 of them take 200 ms. No language needs more than four.
_LONG_RUN = re.compile(rf"[{_ranges(_REORDERED)}]{{5,}}")

_DROPPED = (
    *range(0x300, 0x370),  # accents of Latin, Greek and Cyrillic
    *range(0x591, 0x5BE),  # Hebrew points
    *range(0x5BF, 0x5C8),
    0x640,  # Arabic stretching
    *range(0x64B, 0x660),  # Arabic vowel signs
    0x670,
    *range(0x1AB0, 0x1B00),
    *range(0x1DC0, 0x1E00),
    *range(0x20D0, 0x2100),
    *range(0xFE00, 0xFE10),  # variation selectors, as after emoji
    *range(0xFE20, 0xFE30),
    *(0xAD, 0x200D, 0x2060, 0xFEFF),  # soft hyphen and invisible joiners
)
_PLAIN = zip("ØøŁłĐđıʼ‐ÆæŒœ", (*"OoLlDdi'-", "Ae", "ae", "Oe", "oe"), strict=True)
_FOLDED: dict[int, str | None] = {**dict.fromkeys(_DROPPED), **{ord(letter): plain for letter, plain in _PLAIN}}
_FOLDABLE = re.compile(f"[{_ranges(map(chr, sorted(_FOLDED)))}]+")  # finds the few places faster than translate() does


def _fold(text: str) -> str:
    """Compatibility forms unified and accents dropped; the case stays, it tells where camelCase parts begin."""
    text = text[:MAX_CHARACTERS].replace("’", "'")
    if text.isascii():
        return text
    if len(text) > 500:  # below that the search costs more than the sorting
        text = _LONG_RUN.sub(lambda run: run[0][:4], text)
    # A syllable of Hangul decomposes into three characters, a ligature into up to eighteen: those are cut.
    text = unicodedata.normalize("NFKD", text)[: 3 * MAX_CHARACTERS]
    text = _FOLDABLE.sub(lambda run: run[0].translate(_FOLDED), text.replace("и\u0306", "й").replace("И\u0306", "Й"))
    return unicodedata.normalize("NFC", text)[:MAX_CHARACTERS]


def _terms(text: str, language: str | None = None) -> list[str]:
    return _terms_of(_fold(text), language)


def _terms_of(text: str, language: str | None = None) -> list[str]:
    """The terms of a folded text, in its order."""
    terms: list[str] = []
    chunks = _chunks(text)
    if language := language or _language(chunks):
        for chunk in chunks:
            terms += _cached_foreign(chunk, language) if len(chunk) <= MAX_TERM else _chunk(chunk)
        return terms
    for chunk in chunks:
        terms += _cached_chunk(chunk) if len(chunk) <= MAX_TERM else _chunk(chunk)
    return terms


def _chunks(text: str) -> list[str]:
    found: list[str] = (_ASCII_CHUNK if text.isascii() else _CHUNK).findall(text)
    return found


# --- languages in Latin letters


# Function words tell a language, and say nothing else. Each list by frequency; folded when read.
_FUNCTION_WORDS = {
    "german": """
        der die und in den von zu das mit sich des auf für ist im dem ein eine als auch es an werden aus er hat dass sie
        wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber zur was wenn ich wir kann
        bitte schon wo wer wann warum welche welcher welches welchen welchem unser unsere unseren unserem unserer
        mein meine ihr ihre sein seine wurde wurden sollen soll muss müssen darf vom beim sowie man uns mir mich
        ans ins nicht nichts kein keine keinen nach vor seit ohne zwischen unter gegen durch mehr alle oft immer zwei
        drei heute gestern
    """,
    "french": """
        de la le et les des en un du une que est pour qui dans par plus pas au sur ne se ce il sont avec son aux ses ont
        ou mais comme elle je nous vous on cette ces leur être fait peut quel quelle quels quelles où quand comment
        pourquoi notre nos mon ma mes votre vos était
    """,
    "spanish": """
        de la que el en y los del se las por un para con una su lo como al más pero sus le ya o este sí porque esta son
        cuando muy sin sobre está tiene nos qué cuál cuáles dónde cómo cuándo quién nuestro nuestra nuestros nuestras
        mi mis hay fue ser es
    """,
    "italian": """
        di e il la che è in un a per del non sono una i della le con si da dei al nel alla lo gli delle come più ma
        anche questo questa ha o dalla nella quale quali dove quando perché chi nostro nostra nostri mio mia suo sua era
    """,
    "portuguese": """
        de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua ou
        ser quando muito há nos já está eu também só pelo pela até isso ela qual quais onde quem nosso nossa minha meu
    """,
    "dutch": """
        de van een het en in is dat op te zijn met voor die niet aan er om ook als dan maar bij uit nog naar heeft
        hebben deze dit wordt worden wij ik je hoe waar wanneer waarom welke wie onze ons mijn zou moet kan door over
    """,
}
# These are words of English, names of files, formats and locales, or words of commands as well: no sign of their own.
_NO_SIGN_WORDS = """
a al an am as at com con da das de den der des die do dos du e el em en er es est et eu ex hat i il in is la las le les
lo los ma man me mi mit no nos o on op or os ou per plus pour so son te um un use van von war was we y in over door
come era ha plan ont sur par si sua ser ne se na lui mes je ik dit dat ya im met ate fur comment
"""
_NO_SIGN = frozenset(_NO_SIGN_WORDS.split())
_SIGNS_OF = {language: frozenset(_fold(words).split()) - _NO_SIGN for language, words in _FUNCTION_WORDS.items()}
_SIGNS = frozenset().union(*_SIGNS_OF.values())
# A sign, and a word worth finding: negation, number, time and place, as in English.
_KEPT_WORDS = """
nicht nichts kein keine keinen nach vor seit ohne zwischen unter gegen durch mehr alle oft immer zwei drei heute gestern
über pas plus sans no sin sobre antes después non senza não sem até niet geen uit naar
"""
_STOP_OF = {
    language: frozenset(_fold(words).split()).difference(_fold(_KEPT_WORDS).split())
    for language, words in _FUNCTION_WORDS.items()
}


def _language(chunks: Sequence[str]) -> str | None:
    """The language of Latin letters that two of its function words give away, one of them a sign, if there are fewer of
    English; None for English, and where there is too little to tell."""
    signs = _SIGNS.intersection(chunks)
    if not signs:
        return None
    language = max(_SIGNS_OF, key=lambda language: len(signs & _SIGNS_OF[language]))
    found = signs & _SIGNS_OF[language]
    if len(found) == 1:  # "Die Datenbank ist langsam": beside a sign the article is one as well
        found |= _STOP_OF[language].intersection(chunk.lower() for chunk in chunks)
    english = _STOP.intersection(chunks) - _STOP_OF[language]
    return language if len(found) >= 2 and len(found) > len(english) else None


@lru_cache(maxsize=4_096)
def _cached_foreign(chunk: str, language: str) -> tuple[str, ...]:
    """The chunk's terms, none if it is a function word of the language, with its stem in that language beside them."""
    terms = _cached_chunk(chunk)
    if not (chunk.isascii() and chunk.isalpha()) or chunk.isupper():
        return terms
    word = chunk.casefold()
    if word in _STOP_OF[language]:
        return ()
    stem = _stem(word, language)
    return terms if stem in terms else (*terms, stem)


# --- from a chunk to terms


_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HIRAGANA = "\u3040-\u309f"
# Other scripts written without spaces, and Hangul: its words carry their particles, pairs find the noun inside.
_OTHER = "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u30a0-\u312f\ua960-\ua97f\uac00-\ud7ff"
# Japanese writes roots in Han and katakana and what bends them in hiragana: a pair across the two would be noise.
_RUN = re.compile(rf"[{_HAN}]+|[{_HIRAGANA}]+|[{_OTHER}]+|([^{_HAN}{_HIRAGANA}{_OTHER}]+)")
_HAN_CHARACTER = re.compile(rf"[{_HAN}](?<=\w)")  # those that this Python knows, as in chunks
# Pairs that say as little as the stop words above.
_STOP_PAIR_WORDS = """
する した して です ます まし でし から まで こと この その これ それ いる ある って った には では との のは
どう どの どこ いつ なぜ なに だれ とき もの よう うに され れる れた てい たら なら など
什么 怎么 怎样 如何 哪些 哪个 多少 我们 你们 他们 这个 那个 是否 可以 以及 因为 所以
"""
_STOP_PAIRS = frozenset(_STOP_PAIR_WORDS.split())
_SIGIL = re.compile(r"--?(?=[A-Za-z])|[@#](?=\w)")
_CONTRACTED = frozenset(("s", "t", "m", "d", "re", "ve", "ll"))
_DATE = re.compile(r"(\d{4})-(?:0[1-9]|1[0-2])(?:-[0-3]\d)?(?!\d)", re.ASCII)
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})++(?!\d)", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_VERSION = re.compile(r"(?<![\d.])\d+(?:\.\d+)+", re.ASCII)
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)", re.ASCII)
_ACRONYMS = re.compile(r"[A-Z]{2,}s")
_CAMEL = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z0-9]+")
# From the coarsest to the finest: each level's pieces are stored whole and split by the next.
_DOT = re.compile(r"\.")
_LEVELS = (re.compile(r"://|[/\\]"), re.compile(r"@|:+"), _DOT, re.compile("-"), re.compile("_"))
_TRIMMED = "-./\\:@#',"


def _chunk(chunk: str) -> tuple[str, ...]:
    terms: list[str] = []
    if not chunk.isascii():
        for run in _RUN.finditer(chunk):
            if spaced := run[1]:
                _compound(spaced, terms)
            else:
                _pairs(run[0], terms, is_alone=len(run[0]) == len(chunk))
    elif chunk.isalpha():
        _name(chunk, terms)
    else:
        _compound(chunk, terms)
    return tuple(terms)


_cached_chunk = lru_cache(maxsize=16_384)(_chunk)  # the common words of a language; about 4 MB


def _pairs(run: str, terms: list[str], *, is_alone: bool) -> None:
    """The pairs of neighbouring characters. A lone one is a word, unless it is hiragana after one: then a particle."""
    if len(run) > 1:
        terms += [pair for pair in map(str.__add__, run, run[1:]) if pair not in _STOP_PAIRS]
    elif is_alone or not "\u3040" <= run <= "\u309f":
        terms.append(run)


def _compound(chunk: str, terms: list[str]) -> None:
    """What stands around an identifier (sigils, apostrophes, dates), then the identifier."""
    if chunk.endswith(("+", "#")):
        name = chunk.rstrip("+#")
        if len(name) == 1 and name.isalpha():  # C++, C#: without its sign it is another language
            terms.append(chunk.casefold())
            return
        chunk = name
    if sigil := _SIGIL.match(chunk):
        name = chunk[sigil.end() :]
        if sigil[0] != "-" or len(name) <= 3:  # -v and -rf are flags, "-item" is a list without its space
            terms.append(_cut(chunk.casefold()))
        chunk = name
    chunk = chunk.strip(_TRIMMED)
    if "'" in chunk:
        chunk, suffix = _without_contraction(chunk)
        if suffix == "t":
            return
    if "," in chunk:
        chunk = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), chunk)
    for piece in re.split("[',]", chunk) if "'" in chunk or "," in chunk else (chunk,):
        scheme, found, rest = piece.partition("://")
        if found and scheme.casefold() in ("http", "https"):
            piece = rest
        if _UUID.fullmatch(piece):
            terms.append(piece.casefold())
        elif date := _DATE.match(piece):
            _dated(piece, date, terms)
        elif piece:
            _split(piece, 0, terms)


def _without_contraction(chunk: str) -> tuple[str, str]:
    """The chunk without 's, 're, n't ... and which of them it was; whole and "" for O'Brien."""
    name, _, suffix = chunk.rpartition("'")
    suffix = suffix.casefold()
    return (name, suffix) if suffix in _CONTRACTED else (chunk, "")


def _dated(piece: str, date: re.Match[str], terms: list[str]) -> None:
    """The day, its month and its year; a time of day or a name may follow."""
    terms += dict.fromkeys((date[0], date[0][:7], date[1]))
    rest = piece[date.end() :]
    if rest[:1] in ("T", "t") and rest[1:2].isdigit():
        rest = rest[1:]
    elif rest:
        terms.append(_cut(piece.casefold()))
    if rest := rest.strip(_TRIMMED):
        _split(rest, 0, terms)


def _split(segment: str, level: int, terms: list[str]) -> None:
    """A segment whole, if this level or a finer one divides it, then its pieces."""
    if segment.isalnum():
        _name(segment, terms)
        return
    for finer, separator in enumerate(_LEVELS[level:], level + 1):
        # Past a term's length it is no version, and a chain of them would recurse once for each.
        if separator is _DOT and len(segment) <= MAX_TERM and (version := _VERSION.search(segment)):
            _versioned(segment, version, terms)
            return
        pieces = separator.split(segment)
        if len(pieces) > 1:
            pieces = [piece for piece in pieces if piece]
            whole = segment.casefold()
            if pieces and not whole.startswith(_TAG):  # C++ may well have a tag::thing
                terms.append(_cut(whole))
            for piece in pieces:
                _split(piece, finer, terms)
            return
    _name(segment, terms)


def _versioned(segment: str, version: re.Match[str], terms: list[str]) -> None:
    """5.2.19 and the series 5.2 it belongs to, with what stands around: v5.2.19, python3.11, 5.2.19-rc1."""
    number = version[0]
    if number != segment:
        terms.append(segment.casefold())
    terms.append(number)
    if number.count(".") > 1:
        terms.append(".".join(number.split(".", 2)[:2]))
    for rest in (segment[: version.start()], segment[version.end() :]):
        rest = rest.strip(_TRIMMED)
        if rest and rest not in ("v", "V"):
            _split(rest, _LEVELS.index(_DOT), terms)


def _name(name: str, terms: list[str]) -> None:
    """A word without joiners, and the words inside camelCase."""
    if len(name) > MAX_TERM:  # a blob: its parts would be noise
        terms.append(_cut(name.casefold()))
        return
    _word(name, terms)
    # The two common shapes of a word first; istitle() would call Foo2Bar one.
    if name.islower() or name.isupper() or (name.istitle() and name.isalpha()) or not name.isascii():
        return
    parts = _CAMEL.findall(name)
    # Parts of one letter, or more than eight, are a key and no name; URLs is a plural.
    if 1 < len(parts) <= min(len(name) // 2, 8) and not _ACRONYMS.fullmatch(name):
        for part in parts:
            _word(part, terms)


def _word(word: str, terms: list[str]) -> None:
    """The stem of a word: of English in Latin letters, and of the language that its script suggests."""
    word = word.casefold()
    if word in _STOP:
        return
    if word.isascii():
        if word.isalpha():
            word = _stem(word)
        elif ordinal := _ORDINAL.fullmatch(word):
            word = ordinal[1]
    elif script := _SCRIPTS.get(ord(word[0]) >> 7):
        word = _stem(word, script)
    terms.append(_cut(word))


# By blocks of 128 code points. A stemmer of a neighbour (Ukrainian by the Russian one, Persian by the Arabic one) finds
# fewer endings, and the same ones in query and text.
_SCRIPTS = {
    **dict.fromkeys((6, 7), "greek"),
    **dict.fromkeys((8, 9), "russian"),
    10: "armenian",
    **dict.fromkeys((12, 13), "arabic"),
    18: "hindi",
    23: "tamil",
}


class _Stemmers(threading.local):
    """Each thread has its own: the buffer inside must not be shared. Their own cache is off, chunks have one."""

    def __init__(self) -> None:
        self.english = Stemmer.Stemmer("english", 0)
        self._others: dict[str, Stemmer.Stemmer] = {}

    def of(self, language: str) -> Stemmer.Stemmer:
        if language not in self._others:
            self._others[language] = Stemmer.Stemmer(language, 0)
        return self._others[language]


_stemmers = _Stemmers()


def _stem(word: str, language: str = "english") -> str:
    stem: str = (_stemmers.english if language == "english" else _stemmers.of(language)).stemWord(word)
    return stem or word


def _cut(term: str) -> str:
    """The term, or past 64 characters its beginning and a hash of all of it, the same in every process."""
    if len(term) <= MAX_TERM:
        return term
    digest = blake2b(term.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).hexdigest()
    return f"{term[: MAX_TERM - 2 * _DIGEST - 1]}~{digest}"
