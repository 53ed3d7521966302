"""What all lists and pages about owners' rows have in common: whose rows, in which order, and no counting."""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import TextFilter
from unfold.decorators import display
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList

from accounts.actors import Actor
from accounts.models import User
from memories import access
from memories.models import Memory


class OwnerFilter(TextFilter):  # type: ignore[misc]  # unfold has no types
    title = "owner"
    parameter_name = "owner"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        owner = chosen_owner(request)
        if owner is None:
            return queryset.none() if self.value() else queryset
        return queryset.filter(owner_id=owner.pk)


def chosen_owner(request: HttpRequest) -> User | None:
    """The user whose rows a list is narrowed to, by name. Only in lists: what they show is recorded."""
    if request.resolver_match is None or not str(request.resolver_match.url_name).endswith("_changelist"):
        return None
    name = request.GET.get(OwnerFilter.parameter_name, "").strip()
    # Asked for by the filters, the columns and the page of one request.
    known: tuple[str, User | None] | None = getattr(request, "_chosen_owner", None)
    if known is None or known[0] != name:
        known = name, User.objects.filter(username=name).first() if name else None
        request._chosen_owner = known  # type: ignore[attr-defined]
    return known[1]


class _Newest(ChangeList):  # type: ignore[misc]  # unfold has no types
    """A list in its model's one order: any other would sort every owner's rows."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> Sequence[str]:
        ordering: Sequence[str] = self.model_admin.get_ordering(request)
        return ordering

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        """Without those that need an owner where none is chosen: the box may have been emptied with others set."""
        found: dict[str, Any] = super().get_filters_params(params)
        if not "".join(found.get(OwnerFilter.parameter_name, "")).strip():
            for field, _ in self.model_admin.filters_within_owner:
                found.pop(f"{field}__exact", None)
        return found

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.model_admin.listed(request, super().get_queryset(request, *args, **kwargs))
        return rows


class OwnedAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Rows of owners, newest first. Nobody adds, changes or removes any here, unless a subclass lets them.

    What stands in `filters_within_owner` and `text_field` needs an owner to be chosen: without one it would read a
    table of millions. Lists are not counted, for the same reason.
    """

    ordering: Sequence[str] = ("-id",)
    sortable_by = ()
    paginator = InfinitePaginator
    list_per_page = 50
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_select_related: Sequence[str] = ("owner",)
    list_filter_submit = True
    list_disable_select_all = True
    list_fullwidth = True
    filters: Sequence[Any] = ()
    filters_within_owner: Sequence[Any] = ()
    text_field: str | None = None
    about_memory = False

    # Lists ---------------------------------------------------------------------------------------------------------

    search_fields = ("id",)  # only so that there is a box; `condition` says what it finds

    @property
    def search_help_text(self) -> str:
        what = "Id, memory's id or user" if self.about_memory else "Id or user"
        return f"{what}; with an owner chosen, {self.text_field}" if self.text_field else what

    @display(description="Owner")  # type: ignore[untyped-decorator]
    def owner_link(self, row: Any) -> SafeString:
        """Narrows the list to this owner."""
        query = urlencode({OwnerFilter.parameter_name: row.owner.username})
        return format_html('<a class="text-primary-600 dark:text-primary-500" href="?{}">{}</a>', query, row.owner)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return _Newest

    def get_list_filter(self, request: HttpRequest) -> Sequence[Any]:
        within = self.filters_within_owner if chosen_owner(request) else ()
        return (OwnerFilter, *self.filters, *within)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Nothing but our filters. Any other condition in an address would tell of texts that nobody was shown."""
        filters = (*self.filters, *self.filters_within_owner)
        return lookup in {OwnerFilter.parameter_name, *(f"{field}__exact" for field, _ in filters)}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        return (queryset.filter(self.condition(request, term)) if term else queryset), False

    def condition(self, request: HttpRequest, term: str) -> Q:
        """What the search box means by a word; always something that has an index."""
        if one := as_uuid(term):
            found = Q(id=one)
            if self.about_memory:
                found |= Q(owner_id__in=Memory.objects.filter(id=one).values("owner_id"), memory_id=one)
            return found
        if chosen_owner(request) and self.text_field:
            return Q(**{f"{self.text_field}__icontains": term})
        return Q(owner_id__in=User.objects.filter(username=term).values("id"))

    def listed(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of a list, as its columns need them."""
        return rows

    # Rights --------------------------------------------------------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def may(self, request: HttpRequest, what: str) -> bool:
        """Whether staff were given this right on the model: change or delete."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.{what}_{self.opts.model_name}"))

    # What was looked at and done -----------------------------------------------------------------------------------

    def record_view(self, request: HttpRequest, memories: Iterable[tuple[int, UUID]]) -> None:
        access.record_staff_view(staff_of(request), memories, request_id=request.META.get("HTTP_X_REQUEST_ID"))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None and (shown := self.shown_memories(obj)):
            self.record_view(request, [(obj.owner_id, memory_id) for memory_id in shown])
        page: HttpResponse = super().render_change_form(request, context, *args, obj=obj, **kwargs)
        return page

    def shown_memories(self, obj: Any) -> Sequence[UUID]:
        """The memories whose text, or what was said of it, a row's page shows."""
        return ()

    def report(self, request: HttpRequest, done: int, what: str, refusals: Iterable[str]) -> None:
        """Tell staff what became of the rows that they chose."""
        if done:
            self.message_user(request, f"{done} {what}.", messages.SUCCESS)
        for refusal in sorted(set(refusals)):
            self.message_user(request, refusal, messages.ERROR)


def staff_of(request: HttpRequest) -> User:
    # The site has let nobody else through.
    assert isinstance(request.user, User)  # noqa: S101
    return request.user


def in_space_of(owner: User, request: HttpRequest) -> Actor:
    """This member of staff, curating in an owner's space."""
    return Actor.for_staff(staff_of(request), owner, request_id=request.META.get("HTTP_X_REQUEST_ID"))


def as_uuid(term: str) -> UUID | None:
    try:
        return UUID(term)
    except ValueError:
        return None


def pretty(value: Any) -> SafeString | str:
    """JSON as a person reads it."""
    if value is None:
        return "-"
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return format_html('<pre class="whitespace-pre-wrap break-words font-mono text-xs">{}</pre>', text)
