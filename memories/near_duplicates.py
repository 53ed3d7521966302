"""Whether two memories say the same in other words.

A near duplicate needs three things: vectors that are close, words that are shared, and nothing that differs in meaning.
The first two only say that a look is worth while; the last decides. It is strict on purpose: a word, number, path or
negation that only one of the two has makes them different, unless `memories.wording` knows that it says the same or
nothing. So what is missed stays in twice, and nothing is lost. Near duplicates are proposed to people, never merged
here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

from pgvector.django import MaxInnerProduct

from accounts.actors import Actor, acting_as
from accounts.models import Scope
from mem0stack.lib.errors import NotFound
from memories.embeddings import is_known
from memories.models import Kind, Memory
from memories.wording import PAST_FORMS, Text, Word

# Of the labelled pairs that say the same and are not held out, the least alike have 0.49 and 0.67.
_MIN_COSINE, _MIN_OVERLAP = 0.45, 0.3
# So many of the nearest by vector are compared.
_CANDIDATES = 100
# Past so many words that differ nobody has only mistyped.
_MANY = 6
# So many words in another order are not looked at for who does what to whom: they count as exchanged.
_LONG = 80
_OPPOSITES = (("from", "to"), ("before", "after"))


@dataclass(frozen=True)
class Change:
    """What differs, by `kind`: word, negation, condition, question, person, time, order; or length, where a text is too
    long to be compared. `a` and `b` are what stands there, "" for nothing."""

    kind: str
    a: str
    b: str


@dataclass(frozen=True)
class Comparison:
    """`cosine` of the two vectors and `overlap` of the two texts' words (Dice's, 0..1), and what differs."""

    is_duplicate: bool
    cosine: float
    overlap: float
    changed: Sequence[Change]


def compare(a: Text, b: Text) -> Comparison:
    """Whether `a` and `b` say the same. The order of the two does not matter.

    About 20 us for two texts that were read before, 100 us for reading one. Where vectors or words are far from each
    other it is not looked for what differs: `changed` is empty then.
    """
    cosine, overlap = float(a.vector @ b.vector), _dice(a.distinct, b.distinct)
    if cosine < _MIN_COSINE or overlap < _MIN_OVERLAP:
        return Comparison(is_duplicate=False, cosine=cosine, overlap=overlap, changed=())
    changed = _changes(a, b)
    return Comparison(is_duplicate=not changed, cosine=cosine, overlap=overlap, changed=changed)


@dataclass(frozen=True)
class NearDuplicate:
    """A memory that says the same as another, and how alike they are written (0..1)."""

    memory: Memory
    score: float


def find(actor: Actor, memory_id: UUID) -> list[NearDuplicate]:
    """Which of the actor's own current memories say the same as this one of theirs; the most alike first.

    Looked for where an exact duplicate would not have been stored: in its namespace, with its `user_id` and `agent_id`,
    and among what is no message, for those may well say the same again. The nearest 100 of the namespace are compared;
    `score` is the mean of cosine and overlap. Three queries. Raises NotFound, Forbidden.
    """
    actor.require(Scope.READ)
    with acting_as(actor):
        mine = Memory.objects.owned_by(actor)
        memory = mine.alive().filter(id=memory_id).first()
        if memory is None:
            raise NotFound("There is no such memory of yours.")
        if memory.kind == Kind.MESSAGE:
            return []
        candidates = _candidates(actor, memory)
    text = Text(memory.content)
    compared = [(candidate, compare(text, Text(candidate.content))) for candidate in candidates]
    found = [NearDuplicate(one, round((it.cosine + it.overlap) / 2, 4)) for one, it in compared if it.is_duplicate]
    return sorted(found, key=lambda one: (-one.score, one.memory.id))


def _candidates(actor: Actor, memory: Memory) -> list[Memory]:
    """The nearest by vector, as search looks for them: ids first, then rows; of these what has the same labels."""
    rows = Memory.objects.owned_by(actor).searchable().filter(namespace_id=memory.namespace_id)
    nearest = rows.order_by(MaxInnerProduct("embedding", memory.embedding)).values_list("id", flat=True)[:_CANDIDATES]
    return [
        one
        for one in Memory.objects.all().named_by_id([actor.owner_id], nearest)
        if one.id != memory.id and one.kind != Kind.MESSAGE and _labels(one) == _labels(memory)
    ]


def _labels(memory: Memory) -> tuple[str | None, str | None]:
    return memory.user_id, memory.agent_id


def _dice(a: frozenset[str], b: frozenset[str]) -> float:
    total = len(a) + len(b)
    return 2 * len(a & b) / total if total else 0.0


def _changes(a: Text, b: Text) -> list[Change]:
    if a.is_cut or b.is_cut:
        return [Change("length", str(len(a.content)), str(len(b.content)))]
    changed = _changed_words(a.words, b.words)
    if a.negations != b.negations:
        changed.append(Change("negation", str(a.negations), str(b.negations)))
    if a.is_conditional != b.is_conditional:
        changed.append(Change("condition", str(a.is_conditional), str(b.is_conditional)))
    if a.asks != b.asks:
        changed.append(Change("question", str(a.asks), str(b.asks)))
    if a.persons and b.persons and a.persons != b.persons:
        changed.append(Change("person", " ".join(sorted(a.persons)), " ".join(sorted(b.persons))))
    if _times_differ(a, b):
        changed.append(Change("time", " ".join(sorted(a.tenses)), " ".join(sorted(b.tenses))))
    if not changed and _roles_differ(a, b):
        changed.append(Change("order", "", ""))
    return changed


# --- which words differ


def _changed_words(a: Sequence[Word], b: Sequence[Word]) -> list[Change]:
    """What one has and the other has not, after typos and compounds."""
    only_a, only_b = _without(a, b), _without(b, a)
    if max(len(only_a), len(only_b)) <= _MANY:
        _strike_compounds(only_a, only_b)
        _strike_compounds(only_b, only_a)
        _strike_typos(only_a, only_b)
    width = max(len(only_a), len(only_b))
    left = [word.surface for word in only_a] + [""] * (width - len(only_a))
    right = [word.surface for word in only_b] + [""] * (width - len(only_b))
    return [Change("word", *pair) for pair in zip(left, right, strict=True)]


def _without(words: Sequence[Word], others: Sequence[Word]) -> list[Word]:
    """The words that the others have not, or for numbers and quantities not as often: who says a thing twice says
    nothing else, but a second 5 is another 5."""
    left = Counter(word.term for word in others)
    known = set(left)
    rest = []
    for word in words:
        if word.term not in known or (word.is_quantity and left[word.term] <= 0):
            rest.append(word)
            known.add(word.term)
        left[word.term] -= 1
    return rest


def _strike_typos(some: list[Word], others: list[Word]) -> None:
    for word in list(some):
        twin = next((other for other in others if _is_typo(word.surface, other.surface)), None)
        if twin is not None:
            some.remove(word)
            others.remove(twin)


def _strike_compounds(whole: list[Word], pieces: list[Word]) -> None:
    """Take out "importfehler" against "fehler im import", "timeout" against "time out"."""
    for word in list(whole):
        for first in pieces:
            second = next(
                (
                    other
                    for other in pieces
                    if other is not first and _is_compound(word.surface, first.surface, other.surface)
                ),
                None,
            )
            if second is not None:
                whole.remove(word)
                pieces.remove(first)
                pieces.remove(second)
                break


def _is_compound(whole: str, first: str, second: str) -> bool:
    return whole in (first + second, f"{first}s{second}", f"{first}n{second}")


def _is_typo(a: str, b: str) -> bool:
    """One letter added, lost, exchanged or swapped with its neighbour in a word that the embedder does not know whole.

    Two words that it knows are two words ("stage", "state"), and so are two names. Short words are too near to each
    other.
    """
    if max(len(a), len(b)) < 5 or a[0] != b[0] or not (a.isalpha() and b.isalpha()):
        return False
    return _is_one_edit(a, b) and _is_known(a) != _is_known(b)


def _is_known(word: str) -> bool:
    return is_known(word) or is_known(word.removesuffix("s"))


def _is_one_edit(a: str, b: str) -> bool:
    start = next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[start:], b[start:]
    if len(a) == len(b):
        return a[1:] == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    return longer[1:] == shorter


# --- whether the same words say another thing


def _times_differ(a: Text, b: Text) -> bool:
    """What was, what is and what shall be."""
    if ("future" in a.tenses) != ("future" in b.tenses) or ("once" in a.tenses) != ("once" in b.tenses):
        return True
    for one, other in ((a.tenses, b.tenses), (b.tenses, a.tenses)):
        if "past" in one and "past" not in other and other & {"present", "must"}:
            return True
        if "must" in one and "must" not in other and "state" in other - one:
            return True
    done_a, done_b = ({word.term: word for word in text.words} for text in (a, b))
    return any(
        _is_done_and_to_do(word, done_b[term]) or _is_done_and_to_do(done_b[term], word)
        for term, word in done_a.items()
        if term in done_b
    )


def _is_done_and_to_do(one: Word, other: Word) -> bool:
    """We removed it and remove it; it works and it should work."""
    if one.is_past and not other.is_past and _is_base(other):
        return True
    return other.after == "must" and one.surface.endswith("s") and not other.surface.endswith("s")


def _is_base(word: Word) -> bool:
    return not word.surface.endswith("ed") and word.surface not in PAST_FORMS


def _roles_differ(a: Text, b: Text) -> bool:
    return (
        ((a.is_sequence or b.is_sequence) and [word.term for word in a.words] != [word.term for word in b.words])
        or _is_redirected(a.words, b.words)
        or _is_crossed(a.words, b.words)
        or _is_reversed(a.words, b.words)
        or (a.is_passive == b.is_passive and _is_swapped(a.words, b.words))
    )


def _is_redirected(a: Sequence[Word], b: Sequence[Word]) -> bool:
    """From A to B is not from B to A, and "X, not Y" is not "Y, not X"."""
    governed_a, governed_b = _governed(a), _governed(b)
    if _denied_quantities(a) != _denied_quantities(b):
        return True
    nothing: set[str] = set()
    for direction in governed_a.keys() & governed_b.keys():
        one, other = governed_a[direction], governed_b[direction]
        if one - other and other - one:
            return True
    return any(
        (one.get(direction, nothing) - one.get(opposite, nothing))
        & (other.get(opposite, nothing) - other.get(direction, nothing))
        for one, other in ((governed_a, governed_b), (governed_b, governed_a))
        for direction, opposite in _OPPOSITES
    )


def _denied_quantities(words: Sequence[Word]) -> set[str]:
    """Not all, not only, ... ."""
    return {word.term for word in words if word.after == "not" and word.is_quantity}


def _governed(words: Sequence[Word]) -> dict[str, set[str]]:
    """What stands right after each direction word, and all that stands after a "not"."""
    governed: dict[str, set[str]] = {}
    for word in words:
        if word.after and word.after != "not":
            governed.setdefault(word.after, set()).add(word.term)
        if word.is_negated:
            governed.setdefault("not", set()).add(word.term)
    return governed


def _is_crossed(a: Sequence[Word], b: Sequence[Word]) -> bool:
    """Two parts of one that are both spread over the same two parts of the other: X has 1 and Y has 2, X has 2 and Y
    has 1."""
    part_a, part_b = _once(a), _once(b)
    cells = {(part_a[term], part_b[term]) for term in part_a.keys() & part_b.keys()}
    rows: dict[int, set[int]] = {}
    for row, column in cells:
        rows.setdefault(row, set()).add(column)
    spread = [columns for columns in rows.values() if len(columns) > 1]
    return any(len(x & y) > 1 for place, x in enumerate(spread) for y in spread[:place])


def _once(words: Sequence[Word]) -> dict[str, int]:
    """The part that each word stands in, of words that stand there once."""
    count = Counter(word.term for word in words)
    return {word.term: word.part for word in words if count[word.term] == 1}


def _is_swapped(a: Sequence[Word], b: Sequence[Word]) -> bool:
    """X does Y, Y does X: two ends exchanged around a middle that stays. Whole clauses may move, and lists too."""
    left, right = [word.term for word in a], [word.term for word in b]
    if sorted(left) != sorted(right):
        return False
    start = next((place for place, (x, y) in enumerate(zip(left, right, strict=True)) if x != y), len(left))
    while left and len(left) > start and left[-1] == right[-1]:
        left.pop(), right.pop()
    words, left, right = a[start : len(left)], left[start:], right[start:]
    if all(word.is_listed for word in words[1:]):
        return False
    end = len(left)
    return end > _LONG or any(
        right == left[last:] + left[first:last] + left[:first]
        for last in range(2, end)
        if left[last:] == right[: end - last]
        for first in range(1, last)
        if left[0] == right[end - first]
    )


def _is_reversed(a: Sequence[Word], b: Sequence[Word]) -> bool:
    """Two neighbouring Chinese characters the other way round are another word."""
    one, other = ({(x.term, y.term) for x, y in pairwise(words) if _are_han(x, y)} for words in (a, b))
    return any((y, x) in other and (x, y) not in other for x, y in one)


def _are_han(x: Word, y: Word) -> bool:
    return min(x.term, y.term) >= "\u3400" and x.part == y.part
