"""What the bench stores and asks for: owners of very uneven size, texts whose words are as uneven as people's.

Everything follows from the seed: any process knows any owner's any text without having been told.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate, count
from typing import Any

OWNERS = 20
_LARGEST_SHARE = 0.4
_SMALLEST_SHARE = 0.0003
_VOCABULARY = 20_000

# The commonest words of any conversation, then those of people who build software; the rest is made of syllables.
_FUNCTION_WORDS = """
the i to and a you it that of in for is was my have so with on we be your me this but are not just like do at what
they about can all been if from how as good will there had out them when up really some get more would or great know
time by too he she has one now think which very her his then did make their much also see here us were who could
because
"""
_CRAFT_WORDS = """
agent alert api archive backup batch bench branch broker browser bucket budget build cache cargo celery certificate
cluster column commit config container cookie cron curl customer dashboard database decision deploy design discount
docker domain driver editor embed endpoint error export failure feature filter flag folder function gateway graph
header hook host hour image import index ingest invoice issue journal kubernetes label latency ledger library limit
lint listener lock log machine mail memory merge message metric migration model module monday network node notebook
number order package page parser patch payment pipeline plan pod policy pool postgres prefix price profile project
prompt proxy python query queue quota rate record redis region release replica report request retry review role
rollback route rule sample schema scope script search server session setting shard share shell signal socket source
sprint staging status storage stream table tag task team template tenant terminal test thread ticket timeout trace
transaction trigger tunnel type update upload user vector version view volume webhook window worker workflow yaml
"""
_SYLLABLES = """
ba be bo ca ce co da de di do fa fi fo ga go ha hi ho ja ka ke ko la le li lo lu ma me mi mo mu na ne ni no nu pa pe
pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa wi za zo bra cla dro fre gli pla pre qui sta stro
tri
"""
_ENDINGS = ["", "", "", "n", "r", "l", "m", "st", "nd", "rt", "x", "ck"]
# Zipf's law with Mandelbrot's shift, fitted by eye to how many texts of recorded conversations hold the nth word.
_SHIFT, _EXPONENT = 10, 1.3
_KINDS = ("message",) * 12 + ("fact",) * 4 + ("decision", "preference", "procedure", "error")
_SPEAKERS = ("Ada", "Ben", "Chloe", "agent")
_RUN_LENGTH = 25
_NAMESPACE_EVERY = 2_000
_BEGINNING = datetime(2026, 1, 5, 8, tzinfo=UTC)


@dataclass(frozen=True)
class Owner:
    """One of the bench's users: as many texts as `size` says, in up to eight namespaces."""

    number: int
    size: int
    seed: int

    @property
    def name(self) -> str:
        return f"bench{self.number:02}"

    @property
    def namespaces(self) -> int:
        return min(8, 2 + self.size // _NAMESPACE_EVERY)

    def text(self, place: int) -> str:
        """The text that is stored at this place: 8 to 40 words."""
        return " ".join(self._words(place))

    def query(self, place: int, draw: random.Random) -> str:
        """5 to 8 different words of that text, as somebody recalls it: its rarest two, and some of the others."""
        words = list(dict.fromkeys(self._words(place)))
        rank = _ranks()
        rare = sorted(words, key=lambda word: -rank[word])[:2]
        others = [word for word in words if word not in rare]
        chosen = {*rare, *draw.sample(others, min(len(others), draw.randint(3, 6)))}
        return " ".join(word for word in words if word in chosen)

    def memory(self, place: int) -> dict[str, Any]:
        """The members of the memory at this place, as `NewMemory` and the REST API name them."""
        run, seq = divmod(place, _RUN_LENGTH)
        kind = _KINDS[place % len(_KINDS)]
        given: dict[str, Any] = {
            "content": self.text(place),
            "kind": kind,
            "namespace": f"project{run % self.namespaces}",
            "run_id": f"run{run}",
            "seq": seq,
            "event_at": _BEGINNING + timedelta(minutes=place),
        }
        if kind == "message":
            return given | {"speaker": _SPEAKERS[place % len(_SPEAKERS)]}
        return given | {"tags": [f"topic{place % 37}"]}

    def _words(self, place: int) -> list[str]:
        draw = random.Random(f"{self.seed}:{self.number}:{place}")  # noqa: S311  no secret
        # Log-normal, as the lengths of what people say: half of it is below 19 words.
        length = min(40, max(8, round(draw.lognormvariate(2.95, 0.5))))
        words, weights = _vocabulary()
        return draw.choices(words, cum_weights=weights, k=length)


def owners(memories: int, seed: int) -> list[Owner]:
    """Twenty owners that share so many memories, from 0.03 % of them to 40 %, the smallest first."""
    rest = 1 - _LARGEST_SHARE
    ratio = _ratio(rest / _SMALLEST_SHARE, OWNERS - 1)
    shares = [_SMALLEST_SHARE * ratio**place for place in range(OWNERS - 1)]
    sizes = [max(1, round(memories * share)) for share in shares]
    sizes.append(max(1, memories - sum(sizes)))
    return owners_of(sizes, seed)


def owners_of(sizes: Sequence[int], seed: int) -> list[Owner]:
    """Owners of these sizes."""
    return [Owner(number=number, size=size, seed=seed) for number, size in enumerate(sizes)]


def new_texts(seed: str) -> Iterator[str]:
    """Endless texts that are none of the stored ones: each begins with a number of its own."""
    nobody = Owner(number=-1, size=0, seed=0)
    for place in count():
        yield f"note{seed}x{place} {nobody.text(place)}"


def size_class(owner: Owner, largest: int) -> str:
    """How the figures of owners are put together: those below 1 % of all, below 10 %, and the largest by itself."""
    total = largest / _LARGEST_SHARE
    if owner.size == largest:
        return "largest"
    return "small" if owner.size < total / 100 else "medium" if owner.size < total / 10 else "large"


def _ratio(total: float, members: int) -> float:
    """The r for which 1 + r + r^2 + ... (so many members) is `total`."""
    low, high = 1.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        if sum(middle**place for place in range(members)) < total:
            low = middle
        else:
            high = middle
    return low


@cache
def _vocabulary() -> tuple[list[str], list[float]]:
    """Every word, the commonest first, and the sums of their weights."""
    draw = random.Random("words")  # noqa: S311  no secret
    words = dict.fromkeys(_FUNCTION_WORDS.split())
    # Every third of the next words is a craft's word, so that they are common but not the commonest.
    craft, syllables = _CRAFT_WORDS.split(), _SYLLABLES.split()
    draw.shuffle(craft)
    while len(words) < _VOCABULARY:
        if craft and len(words) % 3 == 0:
            words[craft.pop()] = None
        else:
            stem = "".join(draw.choices(syllables, k=draw.choice((2, 2, 3, 3, 4))))
            words[stem + draw.choice(_ENDINGS)] = None
    weights = accumulate(1 / (place + _SHIFT) ** _EXPONENT for place in range(len(words)))
    return list(words), list(weights)


@cache
def _ranks() -> dict[str, int]:
    return {word: place for place, word in enumerate(_vocabulary()[0])}
