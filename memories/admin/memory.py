"""Memories in the admin: looked at one owner at a time, changed by the services alone."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.db import OperationalError
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from accounts.models import User
from mem0stack.lib.errors import Conflict, Mem0Error, NothingValid, SecretDetected
from memories import near_duplicates, services
from memories.admin.base import OwnedAdmin, chosen_owner, in_space_of
from memories.models import NAME_LENGTH, Entity, Memory, MemoryHistory, Mention, Standing, State
from memories.services import Refused, Step

STATE_COLOURS = {"active": "success", "paused": "warning", "archived": "info", "deleted": "danger"}
STANDING_COLOURS = {"current": "success", "superseded": "warning", "rejected": "danger"}
_EXCERPT = 160
_CHANGES_SHOWN = 20
_NEAR = "near_duplicates"  # in the address of a memory's page: look for them
_BUSY = "Somebody else is changing this at this moment. Nothing was written; try again."


class _Words(forms.CharField):
    """Several words in one box, with commas between them."""

    def to_python(self, value: Any) -> Any:
        return [word for one in (value or "").split(",") if (word := one.strip())]

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list | tuple) else value

    def validate(self, value: Any) -> None:
        return

    def run_validators(self, value: Any) -> None:
        return

    def has_changed(self, initial: Any, data: Any) -> bool:
        # As texts: a word that holds a comma itself must not fall apart because something else was changed.
        return bool((self.prepare_value(initial) or "") != (data or "").strip())


class _Text(forms.CharField):
    """As it is: blanks at the ends are kept, and a browser's line ends are those of everybody else."""

    def __init__(self, **options: Any) -> None:
        super().__init__(strip=False, **options)

    def to_python(self, value: Any) -> Any:
        return _with_plain_line_ends(super().to_python(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(super().has_changed(_with_plain_line_ends(initial), data))


class _Metadata(forms.JSONField):
    """A JSON object; nothing is none."""

    def to_python(self, value: Any) -> Any:
        try:
            found = super().to_python(value)
        except RecursionError as error:
            raise forms.ValidationError("This is nested too deeply.") from error
        if found is not None and not isinstance(found, dict):
            raise forms.ValidationError('Metadata is a JSON object: {"key": "value"}.')
        return found or {}

    def validate(self, value: Any) -> None:
        return

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return super().bound_data(data, initial)
        except RecursionError:
            return forms.fields.InvalidJSONInput(data)


class MemoryForm(forms.ModelForm):  # type: ignore[type-arg]
    """What of a memory can be changed. Checked and written by `services.update`, which the form only asks."""

    # Set by MemoryAdmin for each request.
    request: HttpRequest

    content = _Text(widget=UnfoldAdminTextareaWidget)
    allow_secret = forms.BooleanField(
        required=False, widget=UnfoldBooleanWidget, label="Store it even if it looks like a secret"
    )
    namespace = forms.CharField(
        max_length=NAME_LENGTH, widget=UnfoldAdminTextInputWidget, help_text="One that is new is made."
    )
    state = forms.ChoiceField(
        choices=[choice for choice in State.choices if choice[0] != State.DELETED], widget=UnfoldAdminSelectWidget
    )
    superseded_by = forms.UUIDField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Id of the owner's memory that replaces this one; it makes the standing superseded.",
    )
    pinned = forms.BooleanField(required=False, widget=UnfoldBooleanWidget)
    tags = _Words(required=False, widget=UnfoldAdminTextInputWidget, help_text="With commas between them.")
    categories = _Words(required=False, widget=UnfoldAdminTextInputWidget, help_text="With commas between them.")
    metadata = _Metadata(required=False, widget=UnfoldAdminTextareaWidget)
    expected_version = forms.IntegerField(widget=forms.HiddenInput, label="")

    class Meta:
        model = Memory
        fields = ("content", "kind", "standing", "speaker", "event_at", "valid_from", "valid_to", "expires_at")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        memory = self.instance
        self.initial = {
            **self.initial,
            "namespace": memory.namespace.name,
            "state": memory.state,
            "superseded_by": memory.superseded_by_id,
            "pinned": memory.pinned_at is not None,
            "tags": memory.tags,
            "categories": categories_of(memory),
            "metadata": memory.metadata,
            "expected_version": memory.version,
        }

    def _post_clean(self) -> None:
        """Write, in the place where a model's own checks would run.

        The service checks and writes in one step; so what it refuses is said beside what was typed, and nothing that
        was typed is lost.
        """
        if self.errors:
            return
        changed = [name for name in self.changed_data if name not in ("allow_secret", "expected_version")]
        changes = {name: self.cleaned_data[name] for name in changed}
        if not changes:
            return
        try:
            services.update(
                in_space_of(self.instance.owner, self.request),
                self.instance.id,
                changes,
                expected_version=self.cleaned_data["expected_version"],
                allow_secret=self.cleaned_data["allow_secret"],
            )
        except SecretDetected as error:
            self._tell(error, f"{error.detail.partition(';')[0]}, or tick the box that stores it even so.")
        except Conflict as error:
            self.add_error(None, f"{error.detail} Open the page anew to see it.")
        except Mem0Error as error:
            self._tell(error, error.detail)
        except OperationalError:
            self.add_error(None, _BUSY)

    def _tell(self, error: Mem0Error, detail: str) -> None:
        fields: list[str | None] = [name for name in error.errors or () if name in self.fields]
        for name in fields or [None]:
            self.add_error(name, detail)


@admin.register(Memory)
class MemoryAdmin(OwnedAdmin):
    form = MemoryForm
    list_before_template = "memories/admin/texts_of_one_owner.html"
    filters_within_owner = (
        ("state", ChoicesDropdownFilter),
        ("standing", ChoicesDropdownFilter),
        ("kind", ChoicesDropdownFilter),
    )
    text_field = "content"
    actions = ("make_active", "pause", "archive", "reject", "make_current", "restore", "delete_chosen")
    readonly_fields = (
        ("id", "owner", "written_by", "app", "user_id", "agent_id", "run_id", "seq", "version")
        + ("importance", "confidence", "quality", "created_at", "updated_at", "archived_at", "deleted_at")
        + ("entities", "changes", "near_duplicates", "uses")
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": ("content", "allow_secret", "expected_version")}),
        (
            "What it is",
            {
                "fields": (
                    ("kind", "namespace"),
                    ("state", "pinned"),
                    ("standing", "superseded_by"),
                    "tags",
                    "categories",
                )
            },
        ),
        ("Times", {"fields": ("event_at", "valid_from", "valid_to", "expires_at")}),
        ("More", {"fields": ("speaker", "metadata")}),
        (
            "Where it comes from",
            {
                "fields": (
                    ("owner", "written_by", "app"),
                    ("user_id", "agent_id", "run_id", "seq"),
                    ("importance", "confidence", "quality"),
                    ("id", "version"),
                    ("created_at", "updated_at"),
                    ("archived_at", "deleted_at"),
                )
            },
        ),
        ("What it names", {"fields": ("entities",)}),
        ("What became of it", {"fields": ("changes", "near_duplicates", "uses")}),
    )

    # The list ------------------------------------------------------------------------------------------------------

    search_help_text = "Id, short id or user; with an owner chosen, text"

    def get_list_display(self, request: HttpRequest) -> Sequence[str]:
        return (
            "short_id",
            "excerpt" if chosen_owner(request) else "owner_link",
            "namespace",
            "kind",
            "state_label",
            "standing_label",
            "app",
            "updated_at",
        )

    def condition(self, request: HttpRequest, term: str) -> Q:
        if len(term) == 8 and all(digit in "0123456789abcdef" for digit in term.lower()):
            # By every owner's name, since the index begins with it.
            return Q(owner_id__in=User.objects.values("id"), short_id=term.lower())
        return super().condition(request, term)

    def listed(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        beginning: QuerySet[Any] = rows.annotate(beginning=Left("content", _EXCERPT))
        return beginning.defer("embedding", "content_hash", "content", "metadata")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        owner = chosen_owner(request)
        page: Any = super().changelist_view(request, (extra_context or {}) | {"chosen_owner": owner})
        listed = getattr(page, "context_data", {}).get("cl")
        if owner is not None and listed is not None:
            self.record_view(request, [(row.owner_id, row.id) for row in listed.result_list])
        found: HttpResponse = page
        return found

    @display(description="Text")  # type: ignore[untyped-decorator]
    def excerpt(self, memory: Any) -> str:
        cut = len(memory.beginning) == _EXCERPT
        return f"{memory.beginning}{'…' if cut else ''}"

    @display(description="State", label=STATE_COLOURS)  # type: ignore[untyped-decorator]
    def state_label(self, memory: Memory) -> str:
        return memory.state

    @display(description="Standing", label=STANDING_COLOURS)  # type: ignore[untyped-decorator]
    def standing_label(self, memory: Memory) -> str:
        return memory.standing

    # The page ------------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request).select_related("owner", "namespace", "app")
        return rows.defer("embedding", "content_hash")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if self.has_change_permission(request, obj):
            return self.fieldsets
        return ((None, {"fields": ("content",)}), *self.fieldsets[1:])

    def get_form(self, request: HttpRequest, obj: Any = None, **options: Any) -> Any:
        form = super().get_form(request, obj, **options)
        form.request = request
        return form

    def shown_memories(self, obj: Any) -> Sequence[UUID]:
        return (obj.id,)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """The form has written it."""

    def pinned(self, memory: Memory) -> str:
        return "yes" if memory.pinned_at else "no"

    def categories(self, memory: Memory) -> str:
        return ", ".join(categories_of(memory)) or "-"

    def entities(self, memory: Memory) -> SafeString | str:
        mentions = Mention.objects.filter(owner_id=memory.owner_id, memory_id=memory.id)
        named = Entity.objects.filter(owner_id=memory.owner_id, id__in=mentions.values("entity_id")).order_by(
            "key", "kind"
        )
        link = '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a> ({})'
        shown = ((reverse("admin:memories_entity_change", args=[one.id]), one.name, one.kind) for one in named)
        return format_html_join(", ", link, shown) or "-"

    def changes(self, memory: Memory) -> SafeString:
        """The latest of its history."""
        latest = (
            MemoryHistory.objects.filter(owner_id=memory.owner_id, memory_id=memory.id)
            .select_related("by")
            .order_by("-id")[:_CHANGES_SHOWN]
        )
        return render_to_string("memories/admin/changes.html", {"changes": latest})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        # Only where they are asked for: it looks at all vectors of the owner.
        if obj is not None and _NEAR in request.GET and obj.state != State.DELETED:
            obj.near = near_duplicates.find(in_space_of(obj.owner, request), obj.id)
            self.record_view(request, [(obj.owner_id, one.memory.id) for one in obj.near])
        page: HttpResponse = super().render_change_form(request, context, *args, obj=obj, **kwargs)
        return page

    def near_duplicates(self, memory: Any) -> SafeString:
        """What says the same in other words, or where to ask for it."""
        asked = {"asked": hasattr(memory, "near"), "found": getattr(memory, "near", ()), "parameter": _NEAR}
        return render_to_string("memories/admin/near_duplicates.html", asked)

    @display(description="Access log")  # type: ignore[untyped-decorator]
    def uses(self, memory: Memory) -> SafeString:
        address = reverse("admin:memories_accesslog_changelist")
        return format_html(
            '<a class="text-primary-600 dark:text-primary-500" href="{}?owner={}&q={}">Who was shown it</a>',
            address,
            memory.owner.username,
            memory.id,
        )

    # Rights --------------------------------------------------------------------------------------------------------

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may(request, "change") and (obj is None or obj.state != State.DELETED)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may(request, "delete") and (obj is None or obj.state != State.DELETED)

    # What is done to several, or to one from its page --------------------------------------------------------------

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_actions(request)
        # Django's asks about rows that go along, and counts them; ours deletes what can be restored.
        found.pop("delete_selected", None)
        return found

    @admin.action(description="Make active", permissions=["change"])
    def make_active(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        self._change(request, rows, {"state": State.ACTIVE}, "made active")

    @admin.action(description="Pause", permissions=["change"])
    def pause(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        self._change(request, rows, {"state": State.PAUSED}, "paused")

    @admin.action(description="Archive", permissions=["change"])
    def archive(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        self._change(request, rows, {"state": State.ARCHIVED}, "archived")

    @admin.action(description="Reject: was never true", permissions=["change"])
    def reject(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        self._change(request, rows, {"standing": Standing.REJECTED}, "rejected")

    @admin.action(description="Make current again", permissions=["change"])
    def make_current(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        self._change(request, rows, {"standing": Standing.CURRENT}, "made current")

    @admin.action(description="Delete, restorable for 30 days", permissions=["delete"])
    def delete_chosen(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        self._apply(request, rows, lambda memory_id: Step("delete", memory_id=memory_id), "deleted")

    @admin.action(description="Restore deleted ones", permissions=["change"])
    def restore(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        done, refusals = 0, []
        for memory in rows.order_by("owner_id", "id"):
            try:
                services.restore(in_space_of(memory.owner, request), memory.id)
                done += 1
            except Mem0Error as error:
                refusals.append(f"{memory.short_id}: {error.detail}")
        self.report(request, done, "restored", refusals)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        try:
            services.delete(in_space_of(obj.owner, request), obj.id)
        except Mem0Error as error:
            self.message_user(request, error.detail, messages.ERROR)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        shown = [f"Memory {memory.short_id}; it can be restored for 30 days" for memory in objs]
        return shown, {"memories": len(shown)}, set(), []

    def _change(self, request: HttpRequest, rows: QuerySet[Any], changes: Mapping[str, Any], what: str) -> None:
        self._apply(request, rows, lambda memory_id: Step("update", memory_id=memory_id, changes=changes), what)

    def _apply(self, request: HttpRequest, rows: QuerySet[Any], operation: Any, what: str) -> None:
        """One batch for each owner."""
        chosen: dict[int, list[Any]] = defaultdict(list)
        for memory in rows.order_by("owner_id", "id"):
            chosen[memory.owner_id].append(memory)
        done, refusals = 0, []
        for memories in chosen.values():
            operations = [operation(memory.id) for memory in memories]
            try:
                outcomes = services.batch(in_space_of(memories[0].owner, request), operations)
            except NothingValid as error:
                refusals += [
                    f"{memories[int(place)].short_id}: {why['detail']}" for place, why in (error.errors or {}).items()
                ]
                continue
            except Mem0Error as error:
                refusals.append(error.detail)
                continue
            except OperationalError:
                refusals.append(_BUSY)
                continue
            for memory, outcome in zip(memories, outcomes, strict=True):
                if isinstance(outcome, Refused):
                    refusals.append(f"{memory.short_id}: {outcome.error.detail}")
                else:
                    done += 1
        self.report(request, done, what, refusals)


def categories_of(memory: Memory) -> list[str]:
    links = memory.category_links.filter(owner_id=memory.owner_id)
    return sorted(links.values_list(F("category__name"), flat=True))


def _with_plain_line_ends(text: Any) -> Any:
    return text.replace("\r\n", "\n") if isinstance(text, str) else text
