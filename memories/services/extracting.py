"""Facts from sources that are stored already: claims the Operation, has the model read, and writes what it found."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.actors import Actor, acting_as
from accounts.models import User
from mem0stack.lib.errors import NothingValid
from memories import providers
from memories.extraction import BadAnswer, Fact, Source, facts_in
from memories.models import Memory, Operation, OperationState
from memories.services import writing
from memories.services.locking import again_after_deadlock
from memories.services.outcomes import NewMemory, Outcome, Refused, Step

log = structlog.get_logger(__name__)

# Seconds until the next try, after the first failure, the second, ...; then the operation has failed.
BACK_OFF_S = (5, 30, 120, 600, 1800)
MAX_ATTEMPTS = len(BACK_OFF_S) + 1
# A worker that was killed while the model read has not said so. A living one says so before each call of the model.
_ABANDONED_AFTER = timedelta(minutes=15)


class _TakenOver(Exception):
    """Another worker has taken the operation up meanwhile; what this one found is dropped."""


@dataclass(frozen=True)
class _Group:
    """Sources of one place: what is drawn from them belongs there too."""

    namespace: str
    user_id: str | None
    agent_id: str | None
    memories: Sequence[Any]

    @property
    def sources(self) -> list[Source]:
        return [Source(memory.content, memory.speaker, memory.event_at) for memory in self.memories]


def unfinished() -> list[tuple[int, UUID]]:
    """Owner and id of every operation that may be taken up now: never begun, put off until now, or abandoned."""
    with acting_as(Actor.system("operations: what is not finished")):
        return list(Operation.objects.filter(_due()).order_by("id").values_list("owner_id", "id")[:1000])


def extract(owner_id: int, operation_id: UUID) -> str:
    """Do one operation, in the name of who asked for it; its state afterwards. Safe to call twice, or at once.

    The model is called outside of every transaction. Facts, their sources and the operation's end are one transaction,
    so a worker that dies on the way leaves nothing half done.
    """
    asker = Actor.of(User.objects.get(pk=owner_id), door="task")
    attempts = _claim(asker, operation_id)
    if attempts is None:
        return "not due"
    try:
        return _attempt(asker, operation_id, attempts)
    except _TakenOver:
        log.warning("extraction_taken_over", owner_id=owner_id, operation_id=str(operation_id))
        return "taken over"


def _due() -> Q:
    waiting = Q(state=OperationState.WAITING) & (Q(not_before=None) | Q(not_before__lte=Now()))
    return waiting | Q(state=OperationState.RUNNING, updated_at__lt=Now() - _ABANDONED_AFTER)


def _attempt(asker: Actor, operation_id: UUID, attempts: int) -> str:
    if attempts > MAX_ATTEMPTS:
        # Each worker that took it up died of it.
        return _leave(asker, operation_id, attempts, OperationState.FAILED, error="abandoned")
    model = providers.configured("model")
    if model is None:
        return _leave(asker, operation_id, attempts, OperationState.SKIPPED, error="no_model")

    def still_here() -> None:
        _leave(asker, operation_id, attempts, OperationState.RUNNING)

    groups = _groups(asker, operation_id)
    try:
        read = [(group, facts_in(model, group.sources, before_call=still_here)) for group in groups]
    except providers.ProviderAway as error:
        return _put_off(asker, operation_id, attempts, error.reason, error.retry_after_s)
    except BadAnswer:
        return _put_off(asker, operation_id, attempts, "bad_answer", None)
    return _store(asker, operation_id, attempts, read)


def _claim(asker: Actor, operation_id: UUID) -> int | None:
    """Which attempt this is, or None when the operation is done, not due, or in another worker's hands."""
    with acting_as(asker):
        mine = Operation.objects.filter(owner_id=asker.owner_id, id=operation_id)
        claimed = mine.filter(_due()).update(
            state=OperationState.RUNNING, attempts=F("attempts") + 1, not_before=None, updated_at=Now()
        )
        return mine.values_list("attempts", flat=True).get() if claimed else None


def _groups(asker: Actor, operation_id: UUID) -> list[_Group]:
    """The sources that the asker still sees, by the place that they lie in, in the order they were said."""
    with acting_as(asker):
        ids = Operation.objects.values_list("sources", flat=True).get(owner_id=asker.owner_id, id=operation_id) or []
        found = list(Memory.objects.visible_to(asker).alive().filter(id__in=ids).with_names())
    places: dict[tuple[str, str | None, str | None], list[Any]] = defaultdict(list)
    for memory in sorted(found, key=lambda one: (one.event_at, one.seq or 0, one.id)):
        name = _place(memory, asker)
        if name is not None:
            places[name, memory.user_id, memory.agent_id].append(memory)
    return [_Group(*place, memories=memories) for place, memories in places.items()]


def _place(memory: Any, asker: Actor) -> str | None:
    """The namespace as the asker names it; None for a memory of another's that was shared alone."""
    if memory.owner_id == asker.owner_id or memory.namespace_name is None:
        name: str | None = memory.namespace_name
        return name
    return f"{memory.owner_name}/{memory.namespace_name}"


def _store(asker: Actor, operation_id: UUID, attempts: int, read: Sequence[tuple[_Group, Sequence[Fact]]]) -> str:
    def write() -> str:
        with acting_as(asker):
            drawn = [fact for group, facts in read for fact in _write(asker, group, facts)]
            result = {"facts": [fact for fact in drawn if "id" in fact], "refused": [f for f in drawn if "id" not in f]}
            return _leave(asker, operation_id, attempts, OperationState.DONE, result=result)

    return again_after_deadlock(write)


def _write(asker: Actor, group: _Group, facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """Add what was found; what cannot be stored (a secret, a namespace that may only be read) says why by a code."""
    steps = [Step("add", new=_new(group, fact)) for fact in facts]
    outcomes: Sequence[Outcome] = []
    try:
        outcomes = writing.batch(asker, steps) if steps else []
    except NothingValid as error:
        return [{"code": reason["code"]} for reason in (error.errors or {}).values()]
    return [_told(outcome, step) for outcome, step in zip(outcomes, steps, strict=True)]


def _new(group: _Group, fact: Fact) -> NewMemory:
    sources = [group.memories[place] for place in fact.sources]
    return NewMemory(
        content=fact.text,
        kind=fact.kind,
        namespace=group.namespace,
        user_id=group.user_id,
        agent_id=group.agent_id,
        event_at=max(memory.event_at for memory in sources),
        derived_from=tuple(memory.id for memory in sources),
    )


def _told(outcome: Outcome, step: Step) -> dict[str, Any]:
    if isinstance(outcome, Refused):
        return {"code": outcome.error.code}
    sources = [str(one) for one in step.new.derived_from] if step.new else []
    return {"id": str(outcome.memory_id), "event": outcome.event, "sources": sources}


def _put_off(asker: Actor, operation_id: UUID, attempts: int, reason: str, retry_after_s: float | None) -> str:
    log.warning(
        "extraction_failed", owner_id=asker.owner_id, operation_id=str(operation_id), reason=reason, attempts=attempts
    )
    if attempts >= MAX_ATTEMPTS:
        return _leave(asker, operation_id, attempts, OperationState.FAILED, error=reason)
    wait_s = max(BACK_OFF_S[attempts - 1], retry_after_s or 0)
    later = Now() + timedelta(seconds=min(wait_s, BACK_OFF_S[-1]))
    return _leave(asker, operation_id, attempts, OperationState.WAITING, error=reason, not_before=later)


def _leave(asker: Actor, operation_id: UUID, attempts: int, state: OperationState, **more: Any) -> str:
    """Leave the operation in this state, perhaps the one it is in. Raises _TakenOver when another worker has it."""
    with acting_as(asker):
        mine = Operation.objects.filter(
            owner_id=asker.owner_id, id=operation_id, state=OperationState.RUNNING, attempts=attempts
        )
        if not mine.update(**{"state": state, "error": "", "updated_at": Now()} | more):
            raise _TakenOver
    return state.value
