"""What memories name. Rules write it; staff only look."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from memories.admin.base import OwnedAdmin, chosen_owner
from memories.models import Entity, Memory, Mention

_COUNTED_TO = 100
_MEMORIES_SHOWN = 20
_EXCERPT = 160


@admin.register(Entity)
class EntityAdmin(OwnedAdmin):
    """Names are pieces of texts, so a list shows them only of one chosen owner."""

    list_select_related = ("owner",)
    fields = ("name", "kind", "key", "also_called", "owner", "id", "memories")
    readonly_fields = ("also_called", "memories")
    filters_within_owner = (("kind", ChoicesDropdownFilter),)
    text_field = "name"

    def get_list_display(self, request: HttpRequest) -> Sequence[str]:
        if chosen_owner(request):
            return ("name", "kind", "key", "mentioned")
        return ("id", "kind", "owner_link")

    def get_ordering(self, request: HttpRequest) -> Sequence[str]:
        # Each has an index: an owner's are kept by their keys.
        return ("key", "kind") if chosen_owner(request) else ("-id",)

    def listed(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        if not chosen_owner(request):
            return rows
        mentions = Mention.objects.filter(owner_id=OuterRef("owner_id"), entity_id=OuterRef("id"))
        found: QuerySet[Any] = rows.annotate(
            mentioned_by=ArraySubquery(mentions.values("memory_id")[: _COUNTED_TO + 1])
        )
        return found

    def shown_memories(self, obj: Any) -> Sequence[UUID]:
        return [memory.id for memory in self._memories(obj)]

    @display(description="Memories")  # type: ignore[untyped-decorator]
    def mentioned(self, entity: Any) -> str:
        number = len(entity.mentioned_by)
        return f"over {_COUNTED_TO}" if number > _COUNTED_TO else str(number)

    @display(description="Also called")  # type: ignore[untyped-decorator]
    def also_called(self, entity: Entity) -> str:
        return ", ".join(entity.aliases or ()) or "-"

    @display(description="Memories")  # type: ignore[untyped-decorator]
    def memories(self, entity: Entity) -> SafeString:
        """The latest that name it."""
        return render_to_string("memories/admin/mentions.html", {"memories": self._memories(entity)})

    def _memories(self, entity: Any) -> list[Any]:
        # Once a page: what is shown is what is recorded.
        found: list[Any] | None = getattr(entity, "_shown", None)
        if found is None:
            mentions = Mention.objects.filter(owner_id=entity.owner_id, entity_id=entity.id)
            memories = Memory.objects.filter(owner_id=entity.owner_id, id__in=mentions.values("memory_id"))
            latest = memories.annotate(beginning=Left("content", _EXCERPT)).order_by("-created_at", "-id")
            found = entity._shown = list(latest.only("id", "owner_id", "short_id", "state")[:_MEMORIES_SHOWN])
        return found
