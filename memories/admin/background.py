"""What goes on behind the replies: operations, the outbox, idempotency keys."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from memories import outbox
from memories.admin.base import OwnedAdmin, pretty
from memories.models import IdempotencyKey, Operation, OutboxDelivery, OutboxEvent


@admin.register(Operation)
class OperationAdmin(OwnedAdmin):
    list_display = ("created_at", "kind", "state_label", "error", "owner_link", "namespace", "updated_at")
    list_select_related = ("owner", "namespace")
    fields = ("created_at", "kind", "state", "error", "shown_result", "owner", "namespace", "updated_at", "id")
    readonly_fields = ("shown_result",)
    filters_within_owner = (("state", ChoicesDropdownFilter),)

    @display(
        description="State",
        label={"waiting": "info", "running": "info", "done": "success", "failed": "danger", "skipped": "warning"},
    )  # type: ignore[untyped-decorator]
    def state_label(self, operation: Operation) -> str:
        return operation.state

    @display(description="Result")  # type: ignore[untyped-decorator]
    def shown_result(self, operation: Operation) -> Any:
        return pretty(operation.result)


@admin.register(OutboxEvent)
class OutboxEventAdmin(OwnedAdmin):
    list_display = ("created_at", "kind", "owner_link", "payload")
    fields = ("created_at", "kind", "owner", "payload", "id")


@admin.register(OutboxDelivery)
class OutboxDeliveryAdmin(OwnedAdmin):
    """How far each consumer is. Dead ones were given up after half an hour of trying."""

    list_display = ("id", "consumer", "state_label", "attempts", "reason", "owner_link", "not_before", "updated_at")
    list_per_page = 100
    fields = ("consumer", "state", "attempts", "reason", "owner", "event", "not_before", "updated_at", "id")
    # Without an owner too: waiting and dead ones have indexes of their own, and done ones are nearly all the others.
    filters = (("state", ChoicesDropdownFilter),)
    actions = ("replay",)

    @display(description="State", label={"waiting": "info", "done": "success", "dead": "danger"})  # type: ignore[untyped-decorator]
    def state_label(self, delivery: OutboxDelivery) -> str:
        return delivery.state

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "change")

    @admin.action(description="Try the dead ones among them again", permissions=["replay"])
    def replay(self, request: HttpRequest, deliveries: QuerySet[OutboxDelivery]) -> None:
        revived = outbox.replay(ids=[delivery.pk for delivery in deliveries])
        self.report(request, revived, "tried again", () if revived else ("None of them is dead.",))


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(OwnedAdmin):
    list_display = ("created_at", "key", "owner_link")
    fields = ("created_at", "key", "shown_response", "owner", "id")
    readonly_fields = ("shown_response",)

    @display(description="Answer")  # type: ignore[untyped-decorator]
    def shown_response(self, key: IdempotencyKey) -> Any:
        return pretty(key.response)
