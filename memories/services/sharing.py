"""Giving others a look, and taking it back."""

from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from accounts.actors import Actor, acting_as
from accounts.models import Scope, User
from mem0stack.lib.errors import InvalidArgument, NotFound
from memories import texts
from memories.models import Event, Memory, Share
from memories.services import rows


def share(
    actor: Actor,
    *,
    grantee: str,
    memory_id: UUID | None = None,
    namespace: str | None = None,
    can_add: bool = False,
    expires_at: datetime | None = None,
) -> tuple[Share, bool]:
    """Let another user read one memory or one namespace of the actor's own; True when the share is new.

    The same share again changes `can_add` and `expires_at`. Raises NotFound, InvalidArgument.
    """
    actor.require(Scope.WRITE)
    if (memory_id is None) == (namespace is None):
        raise InvalidArgument("Name one thing to share: a memory or a namespace.")
    if can_add and memory_id is not None:
        raise InvalidArgument("can_add goes with a namespace; one memory can only be read.")
    texts.check_time("expires_at", expires_at)
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidArgument("expires_at lies in the past.", errors={"expires_at": ["must be in the future"]})
    other = _user(grantee)
    if other is None:
        raise NotFound(f"There is no user named {grantee!r}.")
    if other.pk == actor.owner_id:
        raise InvalidArgument("This is yours already; name another user to share it with.")
    with acting_as(actor):
        target: dict[str, Any] = {"memory_id": None, "namespace_id": None}
        if memory_id is not None:
            memory = rows.lock_own(actor, memory_id)
            target["memory_id"] = memory.id
            rows.record(actor, memory, Event.SHARE, after={"grantee": other.username})
        else:
            target["namespace_id"] = rows.existing_namespace(actor, str(namespace)).id
        values = {"can_add": can_add, "expires_at": expires_at}
        found, created = Share.objects.update_or_create(
            owner_id=actor.owner_id, grantee_id=other.pk, revoked_at=None, **target, defaults=values
        )
        return found, created


def unshare(actor: Actor, share_id: UUID) -> Share:
    """End a share that the actor gave, at once. Raises NotFound."""
    actor.require(Scope.WRITE)
    with acting_as(actor):
        found: Share | None = (
            Share.objects.given_by(actor).select_for_update().filter(id=share_id, revoked_at=None).first()
        )
        if found is None:
            raise NotFound("There is no such share of yours, or it has ended already.")
        found.revoked_at = timezone.now()
        found.save(update_fields=["revoked_at"])
        memory = Memory.objects.owned_by(actor).filter(id=found.memory_id).defer("embedding").first()
        if memory is not None:
            rows.record(actor, memory, Event.SHARE, before={"grantee_id": found.grantee_id}, after={"revoked": True})
        return found


def _user(named: str) -> User | None:
    """By name, or by the id that `me/` shows."""
    active = User.objects.filter(is_active=True)
    found = active.filter(username=named).first()
    if found is None:
        with suppress(ValueError):
            found = active.filter(uuid=UUID(named)).first()
    return found
