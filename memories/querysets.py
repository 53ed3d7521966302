"""Which rows a caller may see. Row-level security in PostgreSQL says the same beneath; each alone would be enough."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.apps import apps
from django.contrib.postgres.expressions import ArraySubquery
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.actors import Actor
from mem0stack.lib import prepared


def _rows(model: str) -> Any:
    """Rows of another table: `memories.models` builds on this module, so it is looked up by name."""
    rows: Any = apps.get_model("memories", model)._default_manager.all()
    return rows


def name_in_anothers_space(namespace: str) -> tuple[str, str] | None:
    """For `alice/name`: Alice, and her namespace's name. `host.tld/owner/repo` is a git remote and nobody's, or a user
    named like the host could draw into his space what others write to that project."""
    owner_name, slash, name = namespace.partition("/")
    if not slash or _is_remote(namespace):
        return None
    return owner_name, name


def folder_of(namespace: str) -> str:
    """The bare name that a project goes by where nobody knows its remote: `shop` for `github.com/acme/shop` and for
    `shop`. "" for what has none: `personal`, and what is somebody else's."""
    folder = namespace.rpartition("/")[2] if _is_remote(namespace) else namespace
    return "" if "/" in folder or folder == "personal" else folder


def _is_remote(namespace: str) -> bool:
    host, _, path = namespace.partition("/")
    return "." in host and "/" in path


# Two filters, for the order of their values: within one Django sorts them by name.
_named_by_id = prepared.Rows(
    lambda owner_id, pk: _rows("Memory").filter(owner_id__in=[owner_id]).filter(id__in=[pk]).with_names(),
    0,
    UUID(int=0),
)
_named_alike = prepared.Rows(
    lambda owner_id, folder, ending: (
        _rows("Namespace").filter(owner_id=owner_id).filter(Q(name=folder) | Q(name__endswith=ending.removeprefix("%")))
    ).values_list("name"),
    0,
    "folder",
    "%ending",
)
_received = prepared.Rows(
    lambda user_id: _rows("Share").received_by_user(user_id).values_list("owner_id", "memory_id", "namespace_id"), 0
)


class ReceivedShare(NamedTuple):
    """What another user lets somebody see: one memory, or a namespace."""

    owner_id: int
    memory_id: UUID | None
    namespace_id: UUID | None


class NamespaceQuerySet(models.QuerySet[Any]):
    def other_name(self, owner_id: int, project: str) -> str:
        """The owner's other namespace that is the same project, or "": of the bare name of a folder the one remote that
        ends in it, of that remote the bare name.

        Where a second remote of the owner's ends so too, nobody can say which one the bare name means, and it stands
        alone. One query.
        """
        folder = folder_of(project)
        if not folder:
            return ""
        ending = "%/" + re.sub(r"([\\%_])", r"\\\1", folder)
        alike = {name for (name,) in _named_alike.fetch(owner_id, folder, ending) if folder_of(name) == folder}
        remotes = alike - {folder, project}
        if project != folder:
            return folder if folder in alike and not remotes else ""
        return remotes.pop() if len(remotes) == 1 else ""


class ShareQuerySet(models.QuerySet[Any]):
    def in_force(self) -> "ShareQuerySet":
        """Neither revoked nor expired, by the database's clock."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None)

    def given_by(self, actor: Actor) -> "ShareQuerySet":
        """What this actor lets others see, ended shares too; for a limited key, of its namespaces alone."""
        mine = self.filter(owner_id=actor.owner_id)
        if actor.namespaces is None:
            return mine
        memories = _rows("Memory")
        names = _rows("Namespace").filter(owner_id=actor.owner_id, name__in=sorted(actor.namespaces))
        return mine.filter(
            Q(memory_id__in=memories.owned_by(actor).values("id")) | Q(namespace_id__in=names.values("id"))
        )

    def received_by(self, actor: Actor) -> "ShareQuerySet":
        """What others let this actor see. A key that is limited to namespaces sees none of it."""
        if actor.is_system or actor.namespaces is not None:
            return self.none()
        return self.received_by_user(actor.owner_id)

    def received(self, actor: Actor) -> list[ReceivedShare]:
        """`received_by`, as values."""
        if actor.is_system or actor.namespaces is not None:
            return []
        return [ReceivedShare(*row) for row in _received.fetch(actor.owner_id)]

    def received_by_user(self, user_id: int) -> "ShareQuerySet":
        return self.in_force().filter(grantee_id=user_id)


class OperationQuerySet(models.QuerySet[Any]):
    def asked_by(self, actor: Actor) -> "OperationQuerySet":
        """The actor's own; for a limited key, those about its namespaces alone."""
        mine = self.filter(owner_id=actor.owner_id)
        if actor.namespaces is None:
            return mine
        names = _rows("Namespace").filter(owner_id=actor.owner_id, name__in=sorted(actor.namespaces))
        return mine.filter(namespace_id__in=names.values("id"))


class RelationQuerySet(models.QuerySet[Any]):
    def known_to(self, actor: Actor) -> "RelationQuerySet":
        """Between memories of the actor's own that are not deleted, both in reach of their key. Never shared."""
        memories: Any = _rows("Memory")
        own = memories.owned_by(actor).alive().values("id")
        return self.filter(owner_id=actor.owner_id, source_id__in=own, target_id__in=own)


class EntityQuerySet(models.QuerySet[Any]):
    def known_to(self, actor: Actor) -> "EntityQuerySet":
        """What the actor's own memories name, those alone that are in reach of their key. Never shared."""
        memories: Any = _rows("Memory")
        own = (
            memories.owned_by(actor)
            .alive()
            .filter(owner_id=models.OuterRef("owner_id"), id=models.OuterRef("memory_id"))
        )
        mentions = _rows("Mention").filter(
            models.Exists(own), owner_id=models.OuterRef("owner_id"), entity_id=models.OuterRef("id")
        )
        return self.filter(models.Exists(mentions), owner_id=actor.owner_id)


class MemoryQuerySet(models.QuerySet[Any]):
    def visible_to(self, actor: Actor) -> "MemoryQuerySet":
        """Everything this actor may see: their own rows in any state, and what others share with them now."""
        own, *shared = self.arms(actor)
        return own | shared[0] if shared else own

    def arms(self, actor: Actor, shares: Sequence[ReceivedShare] | None = None) -> "list[MemoryQuerySet]":
        """`visible_to`, as disjoint parts that each have an index of their own: first the actor's, then the shared.

        Reads the shares the actor received (one indexed query) unless they are given, and gives one part where there
        are none.
        """
        if actor.is_system:
            return [self.all()]
        if shares is None:
            shares = _rows("Share").received(actor)
        own = self.owned_by(actor)
        return [own, self.filter(_shared_condition(shares))] if shares else [own]

    def owned_by(self, actor: Actor) -> "MemoryQuerySet":
        """The actor's own rows, within the namespaces that their key is limited to."""
        rows = self.filter(owner_id=actor.owner_id)
        if actor.namespaces is not None:
            names = _rows("Namespace").filter(owner_id=actor.owner_id, name__in=sorted(actor.namespaces))
            rows = rows.filter(namespace_id__in=names.values("id"))
        return rows

    def alive(self) -> "MemoryQuerySet":
        return self.exclude(state="deleted")

    def searchable(
        self, *, as_of: datetime | None = None, any_state: bool = False, any_standing: bool = False
    ) -> "MemoryQuerySet":
        """What can be an answer: active, current, unexpired, and true now, or what was so at `as_of`.

        `any_state` and `any_standing` leave those two to the caller's own filter; deleted ones never come back.
        """
        moment: Any = Now() if as_of is None else as_of
        still_valid = Q(valid_to=None) | Q(valid_to__gt=moment)
        if any_standing and as_of is None:
            # Who asks for superseded ones means those that were true once.
            still_valid |= Q(standing="superseded")
        rows = self.filter(
            Q(expires_at=None) | Q(expires_at__gt=Now()), Q(valid_from=None) | Q(valid_from__lte=moment), still_valid
        )
        rows = rows.alive() if any_state else rows.filter(state="active")
        if any_standing:
            return rows
        if as_of is None:
            return rows.filter(standing="current")
        # What is superseded today was current then, if its validity says so; what was not known yet was not known.
        return rows.exclude(standing="rejected").filter(Q(valid_from__isnull=False) | Q(created_at__lte=as_of))

    def in_project(self, actor: Actor, name: str, other_name: str = "") -> "MemoryQuerySet":
        """A project's memories, also those under its `other_name`, and the actor's `personal` ones.

        Two people's namespaces of one name are one project (its name is the git remote), so what others share under
        the same name is in it. `alice/name` means Alice's alone.
        """
        namespaces = _rows("Namespace")
        mine = namespaces.filter(owner_id=actor.owner_id, name__in=[name, other_name, "personal"])
        condition = Q(owner_id=actor.owner_id, namespace_id__in=mine.values("id"))
        theirs = namespaces.exclude(owner_id=actor.owner_id)
        named = Q(name=name)
        if anothers := name_in_anothers_space(name):
            named |= Q(owner__username=anothers[0], name=anothers[1])
        condition |= Q(namespace_id__in=theirs.filter(named).values("id"))
        return self.filter(condition)

    def with_names(self) -> "MemoryQuerySet":
        """With `owner_name`, `writer_name`, `namespace_name`, `app_name`, `category_names`, without the vector.

        By subquery, not by join: row-level security hides a shared memory's namespace, and an inner join would then
        hide the memory too.
        """
        here = {"owner_id": models.OuterRef("owner_id")}

        def name_of(model: str, column: str) -> models.Subquery:
            rows = _rows(model).filter(**here, id=models.OuterRef(column))
            return models.Subquery(rows.values("name"))

        categories = _rows("MemoryCategory").filter(**here, memory_id=models.OuterRef("id"))
        named: MemoryQuerySet = self.annotate(
            owner_name=models.F("owner__username"),
            writer_name=models.F("written_by__username"),
            namespace_name=name_of("Namespace", "namespace_id"),
            app_name=name_of("App", "app_id"),
            category_names=ArraySubquery(categories.order_by("category__name").values("category__name")),
        )
        return named.defer("embedding", "content_hash")

    def named_by_id(self, owner_ids: Iterable[int], ids: Iterable[UUID]) -> list[Any]:
        """These rows of these owners, as `with_names` gives them; row-level security alone bounds what is found."""
        return _named_by_id.fetch(list(owner_ids), list(ids))


def _shared_condition(shares: Sequence[ReceivedShare]) -> Q:
    memories: dict[int, list[UUID]] = defaultdict(list)
    namespaces: dict[int, list[UUID]] = defaultdict(list)
    for owner_id, memory_id, namespace_id in shares:
        if memory_id is not None:
            memories[owner_id].append(memory_id)
        elif namespace_id is not None:
            namespaces[owner_id].append(namespace_id)
    condition = Q()
    for owner_id, ids in memories.items():
        condition |= Q(owner_id=owner_id, id__in=ids)
    for owner_id, ids in namespaces.items():
        condition |= Q(owner_id=owner_id, namespace_id__in=ids)
    return Q(state="active") & (Q(expires_at=None) | Q(expires_at__gt=Now())) & condition
