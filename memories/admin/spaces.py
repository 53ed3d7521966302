"""What an owner's memories are arranged in: namespaces, apps, categories, shares."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from mem0stack.lib.errors import Mem0Error
from memories import services
from memories.admin.base import OwnedAdmin, in_space_of
from memories.models import App, Category, Namespace, Share


@admin.register(Namespace)
class NamespaceAdmin(OwnedAdmin):
    list_display = ("name", "owner_link", "created_at")
    fields = ("name", "owner", "created_at", "id")
    text_field = "name"


@admin.register(App)
class AppAdmin(OwnedAdmin):
    """A paused app may not write."""

    list_display = ("name", "owner_link", "is_active", "created_at")
    fields = ("name", "owner", "is_active", "created_at", "id")
    text_field = "name"
    actions = ("pause", "let_write")

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "change")

    @admin.action(description="Pause: keep them from writing", permissions=["pause"])
    def pause(self, request: HttpRequest, apps: QuerySet[App]) -> None:
        self._set_active(request, apps, is_active=False)

    @admin.action(description="Let them write again", permissions=["pause"])
    def let_write(self, request: HttpRequest, apps: QuerySet[App]) -> None:
        self._set_active(request, apps, is_active=True)

    def _set_active(self, request: HttpRequest, apps: QuerySet[App], *, is_active: bool) -> None:
        found = list(apps.select_related("owner").order_by("id"))
        for app in found:
            services.set_app_active(in_space_of(app.owner, request), app.id, is_active=is_active)
        self.report(request, len(found), "may write" if is_active else "paused", ())


@admin.register(Category)
class CategoryAdmin(OwnedAdmin):
    list_display = ("name", "description", "owner_link", "created_at")
    fields = ("name", "description", "owner", "created_at", "id")
    text_field = "name"
    actions = ("remove",)

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "delete")

    @admin.action(description="Take them away; their memories stay", permissions=["remove"])
    def remove(self, request: HttpRequest, categories: QuerySet[Category]) -> None:
        found = list(categories.select_related("owner").order_by("id"))
        for category in found:
            services.delete_category(in_space_of(category.owner, request), category.id)
        self.report(request, len(found), "taken away", ())


@admin.register(Share)
class ShareAdmin(OwnedAdmin):
    """Who was given what. Ended shares stay, for the record."""

    list_display = ("owner_link", "target", "grantee", "can_add", "created_at", "expires_at", "revoked_at")
    list_display_links = ("target",)
    list_select_related = ("owner", "grantee", "namespace", "memory")
    fields = ("owner", "memory", "namespace", "grantee", "can_add", "created_at", "expires_at", "revoked_at", "id")
    about_memory = True
    actions = ("revoke",)

    def listed(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.defer("memory__embedding", "memory__content", "memory__content_hash", "memory__metadata")

    @display(description="Shared")  # type: ignore[untyped-decorator]
    def target(self, share: Share) -> str:
        return f"memory {share.memory}" if share.memory_id else f"namespace {share.namespace}"

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "change")

    @admin.action(description="End the chosen shares, at once", permissions=["revoke"])
    def revoke(self, request: HttpRequest, shares: QuerySet[Share]) -> None:
        done, refusals = 0, []
        for share in shares.select_related("owner").order_by("id"):
            try:
                services.unshare(in_space_of(share.owner, request), share.id)
                done += 1
            except Mem0Error as error:
                refusals.append(error.detail)
        self.report(request, done, "ended", refusals)
