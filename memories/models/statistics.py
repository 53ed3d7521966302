"""Figures of an owner's memories that ranking needs."""

from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

from memories.models.fields import owner_key


class OwnerStatistics(models.Model):
    """How many memories an owner has and how long they are, for BM25; folded from the outbox by the worker."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    memories = models.BigIntegerField(default=0)
    terms = models.BigIntegerField(default=0)
    counted_memories = models.BigIntegerField(default=0, db_default=0, help_text="When its terms were counted last.")
    changes = models.BigIntegerField(default=0, db_default=0, help_text="Writes since its terms were counted.")
    vector_index_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when searches may rely on a vector index of the owner's own."
    )
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "owner statistics"
        constraints = (models.UniqueConstraint(fields=["owner"], name="statistics_once"),)

    def __str__(self) -> str:
        return f"{self.memories} memories"


class OwnerTerm(models.Model):
    """In how many of an owner's memories a term stands, counted from the postings by the worker now and then."""

    pk = models.CompositePrimaryKey("owner_id", "term")
    owner = owner_key()
    term = models.CharField(max_length=80)
    df = models.PositiveIntegerField(help_text="Document frequency: the number of memories with this term.")

    def __str__(self) -> str:
        return f"{self.term}: {self.df}"
