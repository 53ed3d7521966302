"""What goes into a write and what comes out of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from mem0stack.lib.errors import Conflict, Mem0Error, NothingValid
from memories.models import Event, Kind


@dataclass(frozen=True)
class NewMemory:
    """What a caller wants remembered. Only `content` is needed."""

    content: str
    kind: str = Kind.FACT
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    categories: Sequence[str] = ()
    namespace: str | None = None
    app: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    seq: int | None = None
    speaker: str | None = None
    event_at: datetime | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    expires_at: datetime | None = None
    pinned: bool = False
    allow_secret: bool = False
    # The memories that say so, of what was inferred and not stated; those that are gone by then are left out.
    derived_from: Sequence[UUID] = ()


@dataclass(frozen=True)
class Written:
    """A write that is done and durable. `event` is CONFIRM where the same thing was known already; `made_id` is what
    else came of it: the Operation that goes on, or the Feedback."""

    memory_id: UUID
    event: str
    made_id: UUID | None = None

    @property
    def is_duplicate(self) -> bool:
        return self.event == Event.CONFIRM


@dataclass(frozen=True)
class Refused:
    """An operation of a batch that was not done, and why."""

    error: Mem0Error


@dataclass(frozen=True)
class Step:
    """One of a batch: `add` needs `new`, `update` needs `memory_id` and `changes`, `delete` needs `memory_id`."""

    op: Literal["add", "update", "delete"]
    new: NewMemory | None = None
    memory_id: UUID | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    expected_version: int | None = None
    allow_secret: bool = False


Outcome = Written | Refused


def raise_first(outcomes: Sequence[object], *, of: int) -> None:
    """Raise the first refusal, if there is one; `of` is how many operations the caller sent."""
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, Refused):
            if of > 1:
                outcome.error.detail = f"Operation {place}: {outcome.error.detail} Nothing was written."
            raise outcome.error


def raise_refusals(outcomes: Sequence[Outcome]) -> None:
    reasons = {
        str(place): {"code": outcome.error.code, "detail": outcome.error.detail}
        for place, outcome in enumerate(outcomes)
        if isinstance(outcome, Refused)
    }
    raise NothingValid("None of the operations can be applied; `errors` says why for each.", errors=reasons)


def raise_refused(outcome: Outcome) -> Written:
    if isinstance(outcome, Refused):
        raise outcome.error
    return outcome


def collision() -> Conflict:
    return Conflict("Another memory in the same place says exactly this. Update or delete that one instead.")
