"""The doors of writing: one or many additions, changes and deletions, each call one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from typing import Any
from uuid import UUID

import structlog
from django.db import IntegrityError
from django.utils import timezone

from accounts.actors import Actor, acting_as
from accounts.models import Scope
from mem0stack.lib.errors import Conflict, InvalidArgument
from memories import texts
from memories.models import Event, Memory, Namespace
from memories.querysets import MemoryQuerySet
from memories.services import adding, changing, rows
from memories.services.adding import new_run_id
from memories.services.locking import again_after_deadlock
from memories.services.once import once
from memories.services.operations import begin_extraction
from memories.services.outcomes import (
    NewMemory,
    Outcome,
    Refused,
    Step,
    Written,
    collision,
    raise_first,
    raise_refusals,
    raise_refused,
)
from memories.services.purging import RESTORABLE_FOR

__all__ = ["add", "add_many", "batch", "delete", "delete_all", "new_run_id", "restore", "update"]

log = structlog.get_logger(__name__)

MAX_BATCH = 1_000
Prepared = adding.Draft | Step | Refused
_CHUNK = 500


def add(actor: Actor, new: NewMemory, *, infer: bool = False, idempotency_key: str | None = None) -> Written:
    """Remember one thing; it is durable and searchable when this returns.

    The same content in the same namespace and labels is not stored twice: the existing memory is confirmed, its tags
    merged. With `infer` an Operation draws facts from it afterwards. Raises InvalidArgument, SecretDetected, Forbidden,
    Conflict (a message's place is taken, or the idempotency key was used for something else).
    """
    return add_many(actor, [new], infer=infer, idempotency_key=idempotency_key)[0]


def add_many(
    actor: Actor, items: Sequence[NewMemory], *, infer: bool = False, idempotency_key: str | None = None
) -> list[Written]:
    """Remember up to 1,000 things in one transaction, all or nothing; one result for each, in their order.

    With `infer` one Operation draws facts from all of them afterwards; each result names it.
    """
    additions = [Step("add", new=item) for item in items]
    outcomes = batch(actor, additions, atomic=True, infer=infer, idempotency_key=idempotency_key)
    return [raise_refused(one) for one in outcomes]


def update(
    actor: Actor,
    memory_id: UUID,
    changes: Mapping[str, Any],
    *,
    expected_version: int | None = None,
    allow_secret: bool = False,
    idempotency_key: str | None = None,
) -> Written:
    """Change the given fields of a memory of the actor's own, and only those.

    Raises NotFound, Forbidden (a shared one), Conflict (another version than expected, or another memory says exactly
    this), InvalidArgument, SecretDetected.
    """
    step = Step(
        "update", memory_id=memory_id, changes=changes, expected_version=expected_version, allow_secret=allow_secret
    )
    return raise_refused(batch(actor, [step], atomic=True, idempotency_key=idempotency_key)[0])


def delete(
    actor: Actor, memory_id: UUID, *, expected_version: int | None = None, idempotency_key: str | None = None
) -> Written:
    """Take a memory out of everything; `restore` brings it back for 30 days. Raises NotFound, Forbidden, Conflict."""
    step = Step("delete", memory_id=memory_id, expected_version=expected_version)
    return raise_refused(batch(actor, [step], atomic=True, idempotency_key=idempotency_key)[0])


def batch(
    actor: Actor,
    steps: Sequence[Step],
    *,
    atomic: bool = False,
    infer: bool = False,
    idempotency_key: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> list[Outcome]:
    """Apply up to 1,000 steps in one transaction; one outcome for each, in their order.

    Without `atomic` the valid ones commit together and the others are reported; NothingValid is raised when none is
    valid. With `atomic` the first refusal is raised and nothing is written. `given` is what the caller sent, where the
    door added to it what another try would add differently: by it an idempotency key knows the request again.
    """
    actor.require(Scope.WRITE)
    if not 1 <= len(steps) <= MAX_BATCH:
        raise InvalidArgument(f"A batch has 1 to {MAX_BATCH} operations; this one has {len(steps)}.")
    return again_after_deadlock(
        lambda: _batch(actor, steps, atomic=atomic, infer=infer, idempotency_key=idempotency_key, given=given)
    )


def restore(actor: Actor, memory_id: UUID, *, idempotency_key: str | None = None) -> Written:
    """Bring a deleted memory back. Raises NotFound, and Conflict when it is not deleted or its place is taken."""
    actor.require(Scope.WRITE)

    def write() -> list[Outcome]:
        memory = rows.lock_own(actor, memory_id, deleted=True)
        if memory.deleted_at is None:
            raise Conflict("This memory is not deleted, so there is nothing to restore.")
        if memory.deleted_at < timezone.now() - RESTORABLE_FOR:
            raise Conflict(f"This memory was deleted over {RESTORABLE_FOR.days} days ago and is about to be purged.")
        changing.restore(actor, memory)
        return [Written(memory.id, Event.RESTORE)]

    try:
        with acting_as(actor):
            return raise_refused(once(actor, idempotency_key, lambda: {"restore": memory_id}, write)[0])
    except IntegrityError as error:
        raise collision() from error


def delete_all(
    actor: Actor,
    *,
    namespace: str | None = None,
    user_id: str | None = None,
    agent_id: str | None = None,
    run_id: str | None = None,
    everything: bool = False,
    dry_run: bool = False,
) -> int:
    """Delete every memory of the actor's own in this scope, and say how many that was. `dry_run` only counts.

    Works through them in transactions of 500, so that a large space locks nothing for long, and goes on until none is
    left. Raises InvalidArgument without a scope: nobody wipes a space by forgetting a parameter.
    """
    actor.require(Scope.WRITE)
    labels = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
    scope = {name: value for name, value in labels.items() if value is not None}
    if not scope and namespace is None and not everything:
        raise InvalidArgument(
            "Name what to delete: namespace, user_id, agent_id or run_id; or all=true for everything of yours."
        )

    if namespace is not None:
        namespace = texts.clean_namespace(namespace)
        actor.require_namespace(namespace)

    def in_scope() -> MemoryQuerySet:
        found = Memory.objects.owned_by(actor).alive().filter(**scope)
        if namespace is not None:
            names = Namespace.objects.filter(owner_id=actor.owner_id, name=namespace)
            found = found.filter(namespace_id__in=names.values("id"))
        return found

    if dry_run:
        with acting_as(actor):
            return in_scope().count()
    deleted = 0
    while True:
        with acting_as(actor):
            page = list(
                in_scope().order_by("id").select_for_update(of=("self",), no_key=True).defer("embedding")[:_CHUNK]
            )
            if not page:
                break
            changing.delete_many(actor, page)
        deleted += len(page)
    log.info("memories_deleted", owner_id=actor.owner_id, count=deleted)
    return deleted


def _batch(
    actor: Actor,
    steps: Sequence[Step],
    *,
    atomic: bool,
    infer: bool,
    idempotency_key: str | None,
    given: Mapping[str, Any] | None,
) -> list[Outcome]:
    prepared = _prepare(actor, steps)
    if atomic:
        raise_first(prepared, of=len(steps))

    def write() -> list[Outcome]:
        outcomes = _apply(actor, prepared)
        if atomic:
            raise_first(outcomes, of=len(steps))
        if all(isinstance(outcome, Refused) for outcome in outcomes):
            raise_refusals(outcomes)
        return _infer(actor, outcomes) if infer else outcomes

    def request() -> Mapping[str, Any]:
        if given is not None:
            return given
        # What is refused may not even be JSON; its refusal stands for it.
        asked = [
            one.error.detail if isinstance(one, Refused) else _given(step)
            for one, step in zip(prepared, steps, strict=True)
        ]
        return {"batch": asked, "atomic": atomic} | ({"infer": True} if infer else {})

    with acting_as(actor):
        return once(actor, idempotency_key, request, write)


def _given(step: Any) -> dict[str, Any]:
    """What a caller gave, without what was left at its default: a field that a later version adds must not make
    another request of one that is sent again."""
    values = ((field, getattr(step, field.name)) for field in fields(step))
    given = {
        field.name: value
        for field, value in values
        if value != (field.default if field.default_factory is MISSING else field.default_factory())
    }
    return given | ({"new": _given(given["new"])} if "new" in given else {})


def _infer(actor: Actor, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes with the Operation that goes on from what was written."""
    sources = [outcome.memory_id for outcome in outcomes if isinstance(outcome, Written)]
    made_id = begin_extraction(actor, sources)
    return [replace(one, made_id=made_id) if isinstance(one, Written) else one for one in outcomes]


def _prepare(actor: Actor, steps: Sequence[Step]) -> list[Prepared]:
    """Everything that needs no database, one for each step."""
    drafts = iter(adding.prepare(actor, [step.new for step in steps if step.new is not None]))
    return [changing.prepare(step) if step.new is None else next(drafts) for step in steps]


def _apply(actor: Actor, prepared: Sequence[Prepared]) -> list[Outcome]:
    """Do them in order, neighbouring additions at once. Runs in the caller's transaction."""
    changing.take_locks(actor, [one for one in prepared if isinstance(one, Step)])
    outcomes: list[Outcome] = []
    additions: list[adding.Draft | Refused] = []
    for one in prepared:
        if not isinstance(one, Step):
            additions.append(one)
            continue
        outcomes += adding.apply(actor, additions)
        outcomes.append(changing.apply(actor, one))
        additions = []
    return outcomes + adding.apply(actor, additions)
