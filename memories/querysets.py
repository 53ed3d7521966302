"""Which rows a caller may see. Row-level security in PostgreSQL says the same beneath; each alone would be enough."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.apps import apps
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.actors import Actor

if TYPE_CHECKING:
    pass


class ShareQuerySet(models.QuerySet["Share"]):
    def in_force(self) -> "ShareQuerySet":
        """Neither revoked nor expired, by the database's clock."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None)

    def received_by(self, actor: Actor) -> "ShareQuerySet":
        """What others let this actor see. A key that is limited to namespaces sees none of it."""
        if actor.is_system or actor.namespaces is not None:
            return self.none()
        return self.in_force().filter(grantee_id=actor.owner_id)


class MemoryQuerySet(models.QuerySet["Memory"]):
    def visible_to(self, actor: Actor) -> "MemoryQuerySet":
        """Everything this actor may see: their own rows in any state, and what others share with them now."""
        own, *shared = self.arms(actor)
        return own | shared[0] if shared else own

    def arms(self, actor: Actor) -> "list[MemoryQuerySet]":
        """`visible_to`, as disjoint parts that each have an index of their own: first the actor's, then the shared.

        Reads the shares the actor received (one indexed query), and gives one part where there are none.
        """
        if actor.is_system:
            return [self.all()]
        shared = self._shared_condition(actor)
        own = self.owned_by(actor)
        return [own] if shared is None else [own, self.filter(shared)]

    def owned_by(self, actor: Actor) -> "MemoryQuerySet":
        """The actor's own rows, within the namespaces that their key is limited to."""
        rows = self.filter(owner_id=actor.owner_id)
        if actor.namespaces is not None:
            names = apps.get_model("memories", "Namespace").objects.filter(
                owner_id=actor.owner_id, name__in=sorted(actor.namespaces)
            )
            rows = rows.filter(namespace_id__in=names.values("id"))
        return rows

    def alive(self) -> "MemoryQuerySet":
        return self.exclude(state="deleted")

    def searchable(self, *, as_of: datetime | None = None, standing: Iterable[str] = ("current",)) -> "MemoryQuerySet":
        """Active, unexpired, of the given standing, and true now, or at `as_of` if given."""
        moment: Any = as_of if as_of is not None else Now()
        rows = self.filter(
            Q(expires_at=None) | Q(expires_at__gt=Now()),
            Q(valid_from=None) | Q(valid_from__lte=moment),
            Q(valid_to=None) | Q(valid_to__gt=moment),
            state="active",
        )
        if as_of is None:
            return rows.filter(standing__in=list(standing))
        # What is superseded today was current once; its validity says when.
        return rows.exclude(standing="rejected").filter(Q(valid_from__isnull=False) | Q(created_at__lte=as_of))

    def _shared_condition(self, actor: Actor) -> Q | None:
        grants = apps.get_model("memories", "Share").objects.received_by(actor)
        memories: dict[int, list[UUID]] = defaultdict(list)
        namespaces: dict[int, list[UUID]] = defaultdict(list)
        for owner_id, memory_id, namespace_id in grants.values_list("owner_id", "memory_id", "namespace_id"):
            if memory_id is not None:
                memories[owner_id].append(memory_id)
            else:
                namespaces[owner_id].append(namespace_id)
        condition = Q()
        for owner_id, ids in memories.items():
            condition |= Q(owner_id=owner_id, id__in=ids)
        for owner_id, ids in namespaces.items():
            condition |= Q(owner_id=owner_id, namespace_id__in=ids)
        if not condition:
            return None
        return Q(state="active") & (Q(expires_at=None) | Q(expires_at__gt=Now())) & condition
