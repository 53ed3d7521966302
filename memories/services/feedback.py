"""What those who use a memory say of it, and what follows from that."""

from typing import Any
from uuid import UUID

from django.utils import timezone

from accounts.actors import Actor, acting_as
from accounts.models import Scope
from mem0stack.lib.errors import InvalidArgument
from memories import texts
from memories.models import Event, Feedback, Memory, Standing, Verdict
from memories.services import rows
from memories.services.changing import save_change
from memories.services.once import once
from memories.services.outcomes import Outcome, Written, raise_refused

__all__ = ["give_feedback"]


def give_feedback(
    actor: Actor, memory_id: UUID, verdict: str, *, reason: str = "", idempotency_key: str | None = None
) -> UUID:
    """Say that a memory of the actor's own is useful, wrong or outdated; the id of what was said.

    `useful` raises its quality, `wrong` rejects it, `outdated` ends its validity now; what is so already stays.
    Raises NotFound, Forbidden (a shared one), InvalidArgument, SecretDetected, Conflict (a used idempotency key).
    """
    actor.require(Scope.WRITE)
    if verdict not in Verdict.values:
        raise InvalidArgument(f"verdict is one of {', '.join(Verdict.values)}.", errors={"verdict": ["unknown"]})
    texts.check_reason(reason)
    texts.refuse_secrets(reason=reason)

    def write() -> list[Outcome]:
        memory = rows.lock_own(actor, memory_id)
        said = Feedback.objects.create(
            owner_id=memory.owner_id, memory_id=memory.id, by=actor.person, verdict=verdict, reason=reason
        )
        changes = _effect(memory, verdict)
        event = Event.REJECT if "standing" in changes else Event.UPDATE
        if changes:
            save_change(actor, memory, event, changes)
        return [Written(memory.id, event, made_id=said.id)]

    def request() -> dict[str, Any]:
        return {"feedback": memory_id, "verdict": verdict, "reason": reason}

    with acting_as(actor):
        written = raise_refused(once(actor, idempotency_key, request, write)[0])
    assert written.made_id is not None  # noqa: S101  `write` above says so
    return written.made_id


def _effect(memory: Memory, verdict: str) -> dict[str, Any]:
    """The columns that a verdict changes; none where it says what is known."""
    if verdict == Verdict.USEFUL:
        return {"quality": round(memory.quality + (1 - memory.quality) * 0.2, 4)}
    if verdict == Verdict.WRONG:
        rejected = {"standing": Standing.REJECTED, "superseded_by_id": None}
        return {} if memory.standing == Standing.REJECTED else rejected
    now = timezone.now()
    if memory.valid_to is not None and memory.valid_to <= now:
        return {}
    # What would only have become true later never does.
    return {"valid_to": now if memory.valid_from is None else max(now, memory.valid_from)}
