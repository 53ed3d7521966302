"""What happened to memories: history, accesses, feedback. Nobody changes it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from memories.admin.base import OwnedAdmin, chosen_owner, pretty
from memories.models import AccessLog, Feedback, MemoryHistory


class _AboutMemory(OwnedAdmin):
    about_memory = True

    @display(description="Memory")  # type: ignore[untyped-decorator]
    def memory_link(self, row: Any) -> SafeString:
        """By its short id, which is the end of the id: no need to read the memory."""
        return format_html(
            '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>',
            reverse("admin:memories_memory_change", args=[row.memory_id]),
            row.memory_id.hex[-8:],
        )


@admin.register(MemoryHistory)
class HistoryAdmin(_AboutMemory):
    list_display = ("created_at", "event", "memory_link", "version", "owner_link", "by", "door", "app")
    list_select_related = ("owner", "by")
    fields = ("created_at", "event", "memory_link", "version", "owner", "by", "door", "app", "was", "became", "id")
    readonly_fields = ("memory_link", "was", "became")
    filters_within_owner = (("event", ChoicesDropdownFilter),)

    def listed(self, request: HttpRequest, rows: Any) -> Any:
        return rows.defer("before", "after")

    def shown_memory(self, obj: Any) -> UUID | None:
        found: UUID = obj.memory_id
        return found

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

    def shown_memory(self, obj: Any) -> UUID | None:
        found: UUID = obj.memory_id
        return found
