"""Writes that must not happen twice, what they tell the worker, and work that goes on after the reply."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from memories.models.choices import OperationKind, OperationState
from memories.models.fields import inner_key, owner_key
from memories.querysets import OperationQuerySet


class IdempotencyKey(models.Model):
    """A write that was done under this key; the same key again gives the same answer and writes nothing."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    key = models.CharField(max_length=255)
    request_hash = models.BinaryField(max_length=32)
    response = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["owner", "key"], name="idempotency_key_once"),)

    def __str__(self) -> str:
        return self.key


class OutboxEvent(models.Model):
    """Something that happened to an owner's memories, written in the same transaction, for consumers to act on."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    kind = models.CharField(max_length=32)
    payload = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["owner", "id"], name="outbox_event_key"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class OutboxDelivery(models.Model):
    """How far one consumer is with one event."""

    class DeliveryState(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        DEAD = "dead"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    event = inner_key("OutboxEvent")
    consumer = models.CharField(max_length=32)
    state = models.CharField(max_length=8, choices=DeliveryState.choices, default=DeliveryState.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField(null=True, blank=True, help_text="When it is tried again after a failure.")
    reason = models.CharField(max_length=500, blank=True, default="")
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "outbox deliveries"
        constraints = (models.UniqueConstraint(fields=["owner", "event", "consumer"], name="outbox_delivery_once"),)
        indexes = (
            models.Index(fields=["owner", "consumer", "event"], name="outbox_waiting", condition=Q(state="waiting")),
            models.Index(fields=["owner", "consumer", "event"], name="outbox_dead", condition=Q(state="dead")),
        )

    def __str__(self) -> str:
        return f"{self.consumer}: {self.state}"


class Operation(models.Model):
    """Work that goes on after the reply, and how it ended. It belongs to who asked for it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    # Of the sources, where they lie in one namespace of the owner's: which limited keys may see the row.
    namespace = inner_key("Namespace", null=True, blank=True)
    kind = models.CharField(max_length=16, choices=OperationKind.choices)
    state = models.CharField(max_length=16, choices=OperationState.choices, default=OperationState.WAITING)
    # The memories it works on; some may lie in another's space, or be gone by now.
    sources = ArrayField(models.UUIDField(), null=True)
    error = models.CharField(max_length=200, blank=True, default="", help_text="A word for programs: no_model.")
    result = models.JSONField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    not_before = models.DateTimeField(null=True, blank=True, help_text="When it is tried again after a failure.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = OperationQuerySet.as_manager()

    class Meta:
        indexes = (
            models.Index(fields=["owner", "-created_at", "-id"], name="operation_by_creation"),
            models.Index(fields=["owner", "state", "-created_at", "-id"], name="operation_by_state"),
            models.Index(
                fields=["owner", "not_before"],
                name="operation_unfinished",
                condition=Q(state__in=["waiting", "running"]),
            ),
        )
        constraints = (
            models.CheckConstraint(condition=Q(kind__in=OperationKind.values), name="operation_kind"),
            models.CheckConstraint(condition=Q(state__in=OperationState.values), name="operation_state"),
        )

    def __str__(self) -> str:
        return f"{self.kind}: {self.state}"
