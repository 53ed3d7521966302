"""What an agent should know before anybody asks: the most useful memories that fit a size, without a model.

Pins come first, then what is worth most by kind, quality, importance, confidence, use and recency (the weights are in
`memories.models.worth`). Nothing but a write or a use changes a digest within a day.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Func, IntegerField, OuterRef
from django.db.models.functions import Left
from django.utils import timezone

from accounts.actors import Actor, acting_as
from accounts.models import Scope
from mem0stack.lib.errors import InvalidArgument
from memories import access, near_duplicates, projects, texts
from memories.models import PERSONAL, AccessAction, AccessLog, Kind, Memory, Namespace
from memories.models import worth as weights
from memories.querysets import MemoryQuerySet, name_in_anothers_space
from memories.wording import Text

MIN_CHARS, MAX_CHARS = 1, 100_000
PROFILE_CHARS, PROJECT_CHARS = 4_000, 8_000
# As a memory counts towards the size: where doors cut its text, and what stands beside it (id, day, kind).
MAX_EACH, BESIDE = 500, 40
# Further ones are not counted: that reads more rows than it tells.
COUNTED_TO = 500
# So many of a namespace are weighed, those that are worth most by themselves; a digest shows about 60.
_WEIGHED = 140
_PINNED_WEIGHED = _MESSAGES_WEIGHED = 50
# Texts that have fewer of their words in common say two things.
_ALIKE = 0.5
# Of those that have more, so many are compared in all: each takes 0.1 ms.
_COMPARED = 60
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Digest:
    """Memories as `with_names` gives them, in their order, and how many more there would be (at most 500 count)."""

    memories: Sequence[Memory]
    left_out: int


def profile(actor: Actor, *, max_chars: int = PROFILE_CHARS) -> Digest:
    """What holds wherever the actor works: what is in `personal`, and preferences that they pinned in any project.

    Raises InvalidArgument, Forbidden.
    """
    actor.require(Scope.READ)
    _check(max_chars)
    with acting_as(actor):
        return _digest(_of_profile(actor), max_chars)


def project(actor: Actor, name: str, *, max_chars: int = PROJECT_CHARS) -> Digest:
    """What is known of a project, also under its other name, without what `profile` shows (unless it is `personal`
    itself); messages come last.

    Of the actor's own alone: what others share under the same name is for a search to find. It would otherwise be in
    anybody's power to put a text before this actor's agents unasked. `alice/name` asks for Alice's.
    Raises InvalidArgument, Forbidden.
    """
    actor.require(Scope.READ)
    _check(max_chars)
    name = texts.clean_namespace(name)
    actor.require_namespace(name)
    with acting_as(actor):
        spaces = _spaces(actor, name)
        found = _Found.among(spaces)
        if name != PERSONAL and any(one.is_pinned and one.kind == Kind.PREFERENCE for one in found.candidates):
            shown = {one.id for one in _chosen(_of_profile(actor).candidates, PROFILE_CHARS)[0]}
            found = found.without(shown)
        digest = _digest(found, max_chars, messages=spaces)
    # As with lists: to be shown one's own says nothing of use; that another has seen them is for their owner to know.
    access.note(actor, AccessAction.LIST, (one for one in digest.memories if one.owner_id != actor.owner_id))
    return digest


def _check(max_chars: int) -> None:
    if not MIN_CHARS <= max_chars <= MAX_CHARS:
        raise InvalidArgument(
            f"max_chars is {MIN_CHARS} to {MAX_CHARS}.", errors={"max_chars": [f"{MIN_CHARS} to {MAX_CHARS}"]}
        )


@dataclass(frozen=True)
class _Candidate:
    id: UUID
    owner_id: int
    kind: str
    content: str
    updated_at: datetime
    worth: float
    uses: int

    @property
    def is_pinned(self) -> bool:
        return self.worth >= weights.PINNED

    @property
    def size(self) -> int:
        return min(len(self.content), MAX_EACH) + BESIDE

    @cached_property
    def score(self) -> float:
        # In whole days, or the order would change by the minute.
        days = max(0, (timezone.now().date() - self.updated_at.date()).days)
        recency = weights.RECENCY * 0.5 ** (days / weights.HALF_LIFE_DAYS)
        return round(float(self.worth + weights.USE * self.uses / weights.USED_OFTEN + recency), 6)

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(_WORD.findall(self.content.lower()))

    @cached_property
    def text(self) -> Text:
        return Text(self.content)

    @cached_property
    def numbers(self) -> frozenset[str]:
        return frozenset(word for word in self.words if not word.isalpha())

    def looks_like(self, other: "_Candidate") -> bool:
        """Whether it is worth while to compare the two."""
        if self.numbers != other.numbers:
            return False
        return len(self.words & other.words) >= _ALIKE * max(len(self.words), len(other.words))

    def says_the_same_as(self, other: "_Candidate") -> bool:
        return self.content == other.content or near_duplicates.compare(self.text, other.text).is_duplicate


@dataclass(frozen=True)
class _Found:
    """The best of what there is, and how much there is."""

    candidates: Sequence[_Candidate]
    total: int

    @property
    def is_all(self) -> bool:
        return self.total == len(self.candidates)

    @classmethod
    def among(cls, spaces: Sequence[MemoryQuerySet]) -> "_Found":
        candidates: list[_Candidate] = []
        total = 0
        for rows in spaces:
            showing = rows.filter(weights.WORTH_SHOWING)
            some = _read(showing, _WEIGHED, order=("-worth", "-created_at", "-id"))
            # Only who weighed as many as may be has to count.
            total += len(some) if len(some) < _WEIGHED else showing.values("state")[:COUNTED_TO].count()
            candidates += some
        return cls(candidates, total)

    def without(self, ids: Collection[UUID]) -> "_Found":
        kept = [one for one in self.candidates if one.id not in ids]
        return _Found(kept, self.total - len(self.candidates) + len(kept))


def _of_profile(actor: Actor) -> _Found:
    own = Memory.objects.owned_by(actor).searchable()
    found = _Found.among([own.filter(namespace_id=pk) for pk in _ids(actor, [PERSONAL])])
    pinned = _read(
        own.filter(pinned_at__isnull=False, kind=Kind.PREFERENCE), _PINNED_WEIGHED, order=("-pinned_at", "-id")
    )
    known = {one.id for one in found.candidates}
    more = [one for one in pinned if one.id not in known]
    return _Found([*found.candidates, *more], found.total + len(more))


def _spaces(actor: Actor, name: str) -> list[MemoryQuerySet]:
    """The searchable memories of each namespace that is the project."""
    own = Memory.objects.owned_by(actor).searchable()
    names = [name, projects.other_name(actor, name)]
    spaces = [own.filter(namespace_id=pk) for pk in _ids(actor, names)]
    if anothers := name_in_anothers_space(name):
        theirs = Namespace.objects.exclude(owner_id=actor.owner_id).filter(
            owner__username=anothers[0], name=anothers[1]
        )
        _, *shared = Memory.objects.arms(actor)
        spaces += [
            arm.searchable().filter(owner_id=one.owner_id, namespace_id=one.id) for one in theirs for arm in shared
        ]
    return spaces


def _ids(actor: Actor, names: Sequence[str]) -> list[UUID]:
    mine = Namespace.objects.filter(owner_id=actor.owner_id, name__in=names)
    return list(mine.order_by("name").values_list("id", flat=True))


def _read(rows: MemoryQuerySet, number: int, *, order: Sequence[str]) -> list[_Candidate]:
    since = timezone.now() - timedelta(days=weights.USED_WITHIN_DAYS)
    log = AccessLog.objects.filter(
        owner_id=OuterRef("owner_id"),
        memory_id=OuterRef("id"),
        accessed_at__gt=since,
        action__in=[AccessAction.SEARCH, AccessAction.READ],
    )
    shown = ArraySubquery(log.order_by("-accessed_at", "-id").values("id")[: weights.USED_OFTEN])
    counted = Func(shown, function="CARDINALITY", output_field=IntegerField())
    # What is cut off is not shown, so what says the same up to there is the same line.
    beginning = Left("content", MAX_EACH)
    read: Any = rows.annotate(beginning=beginning, worth=weights.worth(), uses=counted).values_list(
        "id", "owner_id", "kind", "beginning", "updated_at", "worth", "uses"
    )
    return [_Candidate(*row) for row in read.order_by(*order)[:number]]


def _digest(found: _Found, max_chars: int, *, messages: Sequence[MemoryQuerySet] = ()) -> Digest:
    chosen, room = _chosen(found.candidates, max_chars)
    left_out = max(0, min(found.total, COUNTED_TO) - len(chosen))
    if messages and room >= MAX_EACH + BESIDE and found.is_all:
        # Everything better is there and was few rows: what is left is a conversation, or little.
        said = [
            one
            for rows in messages
            for one in _read(rows.filter(kind=Kind.MESSAGE), _MESSAGES_WEIGHED, order=("-created_at", "-id"))
        ]
        latest, _ = _chosen(said, room, beside=chosen)
        chosen += latest
        left_out += len(said) - len(latest)
    rows = Memory.objects.all().named_by_id({one.owner_id for one in chosen}, [one.id for one in chosen])
    by_id = {memory.id: memory for memory in rows}
    return Digest([by_id[one.id] for one in chosen if one.id in by_id], left_out)


def _chosen(
    candidates: Sequence[_Candidate], room: int, *, beside: Sequence[_Candidate] = ()
) -> tuple[list[_Candidate], int]:
    """As many of the best as fit, without those that say what a better one says, and the room that is left."""
    chosen: list[_Candidate] = []
    compared = 0
    for one in sorted(candidates, key=lambda one: (-one.score, -one.id.int)):
        if one.size > room:
            continue
        alike = [other for other in (*chosen, *beside) if one.looks_like(other)][: _COMPARED - compared]
        compared += len(alike)
        if any(one.says_the_same_as(other) for other in alike):
            continue
        chosen.append(one)
        room -= one.size
    return chosen, room
