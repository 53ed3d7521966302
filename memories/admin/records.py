"""What happened to memories, and how they hang together: history, accesses, feedback, relations. Nobody changes it,
but a relation that somebody said can be taken back."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from mem0stack.lib.errors import Mem0Error
from memories import services
from memories.admin.base import OwnedAdmin, as_uuid, chosen_owner, in_space_of, pretty
from memories.models import AccessLog, Feedback, Memory, MemoryHistory, Relation


class _AboutMemory(OwnedAdmin):
    about_memory = True

    @display(description="Memory")  # type: ignore[untyped-decorator]
    def memory_link(self, row: Any) -> SafeString:
        return _memory_link(row.memory_id)


@admin.register(MemoryHistory)
class HistoryAdmin(_AboutMemory):
    list_display = ("created_at", "event", "memory_link", "version", "owner_link", "by", "door", "app")
    list_select_related = ("owner", "by")
    fields = ("created_at", "event", "memory_link", "version", "owner", "by", "door", "app", "was", "became", "id")
    readonly_fields = ("memory_link", "was", "became")
    filters_within_owner = (("event", ChoicesDropdownFilter),)

    def listed(self, request: HttpRequest, rows: Any) -> Any:
        return rows.defer("before", "after")

    def shown_memories(self, obj: Any) -> Sequence[UUID]:
        return (obj.memory_id,)

    @display(description="Before")  # type: ignore[untyped-decorator]
    def was(self, change: MemoryHistory) -> SafeString | str:
        return pretty(change.before)

    @display(description="After")  # type: ignore[untyped-decorator]
    def became(self, change: MemoryHistory) -> SafeString | str:
        return pretty(change.after)


@admin.register(AccessLog)
class AccessLogAdmin(_AboutMemory):
    list_display = ("accessed_at", "action", "memory_link", "owner_link", "accessed_by", "door", "app", "request_id")
    list_select_related = ("owner", "accessed_by")
    fields = ("accessed_at", "action", "memory_link", "owner", "accessed_by", "door", "app", "request_id", "id")
    readonly_fields = ("memory_link",)
    filters_within_owner = (("action", ChoicesDropdownFilter),)

    def get_ordering(self, request: HttpRequest) -> Sequence[str]:
        # Each has an index: the primary key begins with the time of writing, and an owner's rows are kept by theirs.
        return ("-accessed_at", "-id") if chosen_owner(request) else ("-id",)


@admin.register(Feedback)
class FeedbackAdmin(_AboutMemory):
    list_display = ("created_at", "verdict", "memory_link", "owner_link", "by")
    list_select_related = ("owner", "by")
    fields = ("created_at", "verdict", "reason", "memory_link", "owner", "by", "id")
    readonly_fields = ("memory_link",)
    filters_within_owner = (("verdict", ChoicesDropdownFilter),)

    def shown_memories(self, obj: Any) -> Sequence[UUID]:
        return (obj.memory_id,)


@admin.register(Relation)
class RelationAdmin(OwnedAdmin):
    list_display = ("created_at", "source_link", "relation", "target_link", "owner_link")
    list_select_related = ("owner",)
    fields = ("created_at", "source_link", "relation", "target_link", "owner", "id")
    readonly_fields = ("source_link", "target_link")
    filters_within_owner = (("relation", ChoicesDropdownFilter),)
    actions = ("take_back",)

    def has_take_back_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "delete")

    @admin.action(description="Take them back; their memories stay", permissions=["take_back"])
    def take_back(self, request: HttpRequest, relations: QuerySet[Relation]) -> None:
        done, refusals = 0, []
        for relation in relations.select_related("owner").order_by("id"):
            try:
                services.unlink(in_space_of(relation.owner, request), relation.id)
                done += 1
            except Mem0Error as error:
                refusals.append(error.detail)
        self.report(request, done, "taken back", refusals)

    def condition(self, request: HttpRequest, term: str) -> Q:
        one = as_uuid(term)
        if one is None:
            return super().condition(request, term)
        of_owner = Q(owner_id__in=Memory.objects.filter(id=one).values("owner_id"))
        return Q(id=one) | of_owner & Q(source_id=one) | of_owner & Q(target_id=one)

    @display(description="Memory")  # type: ignore[untyped-decorator]
    def source_link(self, row: Any) -> SafeString:
        return _memory_link(row.source_id)

    @display(description="Memory it is about")  # type: ignore[untyped-decorator]
    def target_link(self, row: Any) -> SafeString:
        return _memory_link(row.target_id)


def _memory_link(memory_id: UUID) -> SafeString:
    """By its short id, which is the end of the id: no need to read the memory."""
    return format_html(
        '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>',
        reverse("admin:memories_memory_change", args=[memory_id]),
        memory_id.hex[-8:],
    )
