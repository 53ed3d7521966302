"""Vectors of a provider. Settings and spaces are the instance's, so they have no owner; the vectors are users' data."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from pgvector.django import HalfVectorField
from uuid_utils.compat import uuid7

from memories.models.choices import ProviderKind, Purpose, SpaceState
from memories.models.fields import inner_key, owner_key


class MemoryEmbedding(models.Model):
    """A memory's vector in a provider's space; without `embedding` while the worker has yet to make it.

    A write that changes the text takes the vector away in the same transaction, so whatever is here is of the text as
    it is, and a change of tags costs no call.
    """

    pk = models.CompositePrimaryKey("owner_id", "memory_id", "space_id")
    owner = owner_key()
    memory = inner_key("Memory")
    space = models.ForeignKey("EmbeddingSpace", on_delete=models.DO_NOTHING, related_name="+", db_index=False)
    memory_version = models.PositiveIntegerField(default=0, help_text="Whose text was embedded; 0 before that.")
    embedding = HalfVectorField(null=True, editable=False)
    is_wide = models.BooleanField(default=False, help_text="More dimensions than an index can hold.")
    problem = models.CharField(max_length=16, blank=True, default="", help_text="Why the provider will not embed it.")

    class Meta:
        indexes = (
            # The far vectors of an owner are read from here alone, as the local ones from `memory_scan`.
            models.Index(
                fields=["owner", "space"],
                include=["memory", "embedding"],
                name="embedding_scan",
                condition=Q(embedding__isnull=False, is_wide=False),
            ),
            models.Index(
                fields=["owner", "space", "memory"], name="embedding_waiting", condition=Q(embedding=None, problem="")
            ),
        )

    def __str__(self) -> str:
        return f"{self.memory_id} v{self.memory_version}"


# Of the instance ----------------------------------------------------------------------------------------------------


class ProviderSettings(models.Model):
    """Which provider embeds texts or answers prompts, for everybody. It replaces what the environment says; an
    inactive row switches the provider off. `memories.providers` reads it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    purpose = models.CharField(max_length=16, choices=Purpose.choices, unique=True)
    is_active = models.BooleanField(default=True)
    kind = models.CharField(max_length=16, choices=ProviderKind.choices, default=ProviderKind.OPENAI)
    base_url = models.CharField(
        "address",
        max_length=500,
        blank=True,
        default="",
        help_text="Such as http://localhost:11434/v1. For OpenAI itself leave it empty.",
    )
    api_version = models.CharField(max_length=32, blank=True, default="", help_text="Azure only: 2024-10-21.")
    model = models.CharField(
        max_length=200, help_text="Such as text-embedding-3-small. For Azure the name of the deployment."
    )
    dimensions = models.PositiveIntegerField(default=512, help_text="Embedder only: how many numbers a vector has.")
    batch_size = models.PositiveIntegerField(default=64, help_text="Embedder only: how many texts a request carries.")
    timeout_ms = models.PositiveIntegerField(default=30_000, help_text="Longest time of a request of the worker.")
    query_budget_ms = models.PositiveIntegerField(
        default=150, help_text="Embedder only: what a search waits before it answers without the provider."
    )
    requests_a_minute = models.PositiveIntegerField(default=0, help_text="At most so many; 0 is no limit.")
    # `env:NAME`, or encrypted by SECRET_KEY. Never shown.
    key = models.CharField(max_length=1000, blank=True, default="", editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "provider settings"
        constraints = (
            models.CheckConstraint(condition=Q(purpose__in=Purpose.values), name="provider_purpose"),
            models.CheckConstraint(condition=Q(kind__in=ProviderKind.values), name="provider_kind"),
        )

    def __str__(self) -> str:
        return f"{self.purpose}: {self.model}"


class EmbeddingSpace(models.Model):
    """What vectors of one model have in common; those of two are not to be compared."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=16, choices=ProviderKind.choices)
    model = models.CharField(max_length=200)
    dimensions = models.PositiveIntegerField()
    state = models.CharField(max_length=16, choices=SpaceState.choices, default=SpaceState.BUILDING)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    activated_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["kind", "model", "dimensions"], name="space_once"),
            models.UniqueConstraint(fields=["state"], name="space_active_once", condition=Q(state="active")),
            models.UniqueConstraint(fields=["state"], name="space_building_once", condition=Q(state="building")),
            models.CheckConstraint(condition=Q(state__in=SpaceState.values), name="space_state"),
        )

    def __str__(self) -> str:
        return f"{self.model}, {self.dimensions} dimensions"
