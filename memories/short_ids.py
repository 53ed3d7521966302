"""Memories by the ids that agents write: the last 8 characters of a UUID, or all of it."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from django.db.models import Q

from accounts.actors import Actor, acting_as
from accounts.models import Scope
from mem0stack.lib.errors import AmbiguousId, Forbidden, InvalidArgument, Mem0Error, NotFound
from memories.models import Memory
from memories.querysets import MemoryQuerySet

MAX_REFERENCES = 100
_NAMED_WHEN_AMBIGUOUS = 5
_SHORT = re.compile(r"[0-9a-f]{8}")
_WHOLE = re.compile(r"[0-9a-f]{32}")
_SHOWN = 40


def resolve(
    actor: Actor, references: Sequence[str], *, own: bool = False, deleted: bool = False
) -> list[UUID | Mem0Error]:
    """The memory that each reference means, among all that the actor may see; one entry each, in their order.

    Where it is none, NotFound; where several fit, AmbiguousId. With `own` the actor's own alone are meant, and what is
    only shared is Forbidden. With `deleted` the actor's deleted ones too. Two queries, however many references.
    Raises InvalidArgument for more than 100.
    """
    actor.require(Scope.READ)
    if len(references) > MAX_REFERENCES:
        raise InvalidArgument(f"{len(references)} ids were given; at most {MAX_REFERENCES} are read at once.")
    plain = [_plain(reference) for reference in references]
    shorts = {one for one in plain if isinstance(one, str)}
    found = _look_up(actor, shorts, {one for one in plain if isinstance(one, UUID)}, deleted=deleted)
    return [_meant(actor, given, found.get(one, ()), own=own) for given, one in zip(references, plain, strict=True)]


def _plain(reference: str) -> str | UUID | None:
    """A short id in lower case, a whole one, or neither."""
    text = reference.strip().lower()
    if _SHORT.fullmatch(text):
        return text
    digits = text.replace("-", "")
    return UUID(digits) if _WHOLE.fullmatch(digits) else None


def _look_up(
    actor: Actor, shorts: Collection[str], wholes: Collection[UUID], *, deleted: bool
) -> dict[str | UUID | None, list[tuple[UUID, int, str]]]:
    """What fits each reference: id, owner, and the owner's name."""
    found: dict[str | UUID | None, list[tuple[UUID, int, str]]] = defaultdict(list)
    if not shorts and not wholes:
        return found
    # One condition for each index. Where there is but one, that keeps an OR out of the statement.
    named = Q(short_id__in=sorted(shorts)) if shorts else Q()
    if wholes:
        named |= Q(id__in=sorted(wholes))

    def among(arm: MemoryQuerySet) -> Any:
        rows = (arm if deleted else arm.alive()).filter(named)
        return rows.order_by().values_list("id", "short_id", "owner_id", "owner__username")

    with acting_as(actor):
        first, *others = (among(arm) for arm in Memory.objects.arms(actor))
        rows = list(first.union(*others, all=True) if others else first)
    for memory_id, short_id, owner_id, owner_name in sorted(rows):
        found[short_id].append((memory_id, owner_id, owner_name))
        found[memory_id].append((memory_id, owner_id, owner_name))
    return found


def _meant(actor: Actor, given: str, fitting: Sequence[tuple[UUID, int, str]], *, own: bool) -> UUID | Mem0Error:
    if own:
        mine = [one for one in fitting if one[1] == actor.owner_id]
        if fitting and not mine:
            return Forbidden(
                f"This memory is {fitting[0][2]}'s and shared with you for reading. Only {fitting[0][2]} can change it."
            )
        fitting = mine
    if not fitting:
        return NotFound(f"There is no memory {_shown(given)}, or none that you may see.")
    if len(fitting) > 1:
        ids = [str(memory_id) for memory_id, *_ in fitting[:_NAMED_WHEN_AMBIGUOUS]]
        return AmbiguousId(
            f"{_shown(given)} fits {len(fitting)} memories. Name one by its whole id: {', '.join(ids)}.",
            errors={"ids": ids},
        )
    return fitting[0][0]


def _shown(given: str) -> str:
    """What was given, in one short line."""
    return ascii(given.strip()[:_SHOWN])
