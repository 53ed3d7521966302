"""The memory, where it belongs, and its rows for search and history."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from pgvector.django import HalfVectorField
from uuid_utils.compat import uuid7

from memories.models.choices import Event, Kind, Standing, State
from memories.models.fields import DIMENSIONS, LABEL_LENGTH, NAME_LENGTH, inner_key, owner_key, user_key
from memories.models.worth import WORTH_SHOWING, worth
from memories.querysets import MemoryQuerySet, NamespaceQuerySet


class Namespace(models.Model):
    """A project's memories. MCP calls it `project`; `personal` is the owner's own."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    name = models.CharField(max_length=NAME_LENGTH)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = NamespaceQuerySet.as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["owner", "name"], name="namespace_name"),
            models.UniqueConstraint(fields=["owner", "id"], name="namespace_key"),
        )

    def __str__(self) -> str:
        return self.name


class App(models.Model):
    """The client program that wrote a memory: mem0's `app_id`, MCP's client name. A paused one may not write."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    name = models.CharField(max_length=LABEL_LENGTH)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["owner", "name"], name="app_name"),
            models.UniqueConstraint(fields=["owner", "id"], name="app_key"),
        )

    def __str__(self) -> str:
        return self.name


class Category(models.Model):
    """A curated class of memories, one row per owner and lower-case name."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    name = models.CharField(max_length=LABEL_LENGTH)
    description = models.CharField(max_length=500, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "categories"
        constraints = (
            models.UniqueConstraint(fields=["owner", "name"], name="category_name"),
            models.UniqueConstraint(fields=["owner", "id"], name="category_key"),
        )

    def __str__(self) -> str:
        return self.name


class Memory(models.Model):
    """One remembered statement. Text and local vector are one row, so they cannot part."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    # The last 8 hex digits: a UUIDv7 begins with a clock, which is the same for minutes.
    short_id = models.CharField(max_length=8, editable=False)
    written_by = user_key(editable=False)
    namespace = inner_key("Namespace")
    app = inner_key("App", null=True, blank=True)

    content = models.TextField()
    content_hash = models.BinaryField(max_length=32, editable=False)
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.FACT)
    state = models.CharField(max_length=16, choices=State.choices, default=State.ACTIVE)
    standing = models.CharField(max_length=16, choices=Standing.choices, default=Standing.CURRENT)
    superseded_by = inner_key("self", null=True, blank=True)

    user_id = models.CharField(max_length=LABEL_LENGTH, null=True, blank=True)
    agent_id = models.CharField(max_length=LABEL_LENGTH, null=True, blank=True)
    run_id = models.CharField(max_length=LABEL_LENGTH, null=True, blank=True)
    seq = models.PositiveIntegerField(null=True, blank=True)
    speaker = models.CharField(max_length=LABEL_LENGTH, null=True, blank=True)

    event_at = models.DateTimeField(help_text="When it happened or was said; the time of writing where nobody says.")
    valid_from = models.DateTimeField(null=True, blank=True)
    valid_to = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    pinned_at = models.DateTimeField(null=True, blank=True)

    metadata = models.JSONField(default=dict, blank=True)
    tags = ArrayField(models.CharField(max_length=50), default=list, blank=True)

    importance = models.FloatField(default=0.5)
    confidence = models.FloatField(default=0.5)
    quality = models.FloatField(default=0.5)
    version = models.PositiveIntegerField(default=1)

    term_count = models.PositiveIntegerField(editable=False, help_text="BM25's length of the text, in terms.")
    asks = models.BooleanField(default=False, editable=False, help_text="The text ends in a question mark.")
    says_when = models.BooleanField(default=False, db_default=False, editable=False, help_text="It names a time.")
    embedding = HalfVectorField(dimensions=DIMENSIONS, editable=False)

    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = MemoryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "memories"
        indexes = (
            # The exact vector arm reads only this: everything its conditions and RLS look at is in it.
            models.Index(
                fields=["owner", "state"],
                include=[
                    "id",
                    "embedding",
                    "namespace",
                    "standing",
                    "expires_at",
                    "valid_from",
                    "valid_to",
                    "created_at",
                    "term_count",
                ],
                name="memory_scan",
            ),
            models.Index(fields=["owner", "-created_at", "-id"], name="memory_by_creation"),
            models.Index(fields=["owner", "-updated_at", "-id"], name="memory_by_update"),
            models.Index(fields=["owner", "-event_at", "-id"], name="memory_by_event"),
            models.Index(fields=["owner", "short_id"], name="memory_by_short_id"),
            models.Index(
                "owner",
                "namespace",
                worth().desc(),
                F("created_at").desc(),
                F("id").desc(),
                name="memory_by_worth",
                condition=WORTH_SHOWING,
            ),
            models.Index(fields=["owner", "-pinned_at"], name="memory_pinned", condition=Q(pinned_at__isnull=False)),
            models.Index(fields=["owner", "namespace", "created_at"], name="memory_by_namespace"),
            models.Index(
                fields=["owner", "namespace", "run_id", "seq"], name="memory_by_run", condition=Q(run_id__isnull=False)
            ),
            models.Index(fields=["owner", "user_id"], name="memory_by_user_id", condition=Q(user_id__isnull=False)),
            models.Index(fields=["owner", "agent_id"], name="memory_by_agent_id", condition=Q(agent_id__isnull=False)),
            models.Index(fields=["owner", "deleted_at"], name="memory_deleted", condition=Q(state="deleted")),
            models.Index(
                fields=["owner", "superseded_by"],
                name="memory_by_successor",
                condition=Q(superseded_by__isnull=False),
            ),
        )
        constraints = (
            models.UniqueConstraint(fields=["owner", "id"], name="memory_key"),
            models.UniqueConstraint(
                fields=["owner", "namespace", "run_id", "seq"],
                name="memory_message_once",
                condition=Q(kind="message") & ~Q(state="deleted"),
            ),
            models.UniqueConstraint(
                fields=["owner", "namespace", "user_id", "agent_id", "content_hash"],
                name="memory_content_once",
                condition=~Q(kind="message") & ~Q(state="deleted"),
                nulls_distinct=False,
            ),
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="memory_kind"),
            models.CheckConstraint(condition=Q(state__in=State.values), name="memory_state"),
            models.CheckConstraint(condition=Q(standing__in=Standing.values), name="memory_standing"),
            models.CheckConstraint(condition=~Q(content=""), name="memory_has_content"),
            models.CheckConstraint(
                condition=Q(state="deleted", deleted_at__isnull=False) | (~Q(state="deleted") & Q(deleted_at=None)),
                name="memory_deleted_has_time",
            ),
            models.CheckConstraint(
                condition=Q(superseded_by=None) | Q(standing="superseded"), name="memory_successor_means_superseded"
            ),
            models.CheckConstraint(condition=~Q(superseded_by=F("id")), name="memory_not_its_own_successor"),
            models.CheckConstraint(
                condition=Q(kind="message", run_id__isnull=False, seq__isnull=False) | ~Q(kind="message"),
                name="memory_message_has_a_place",
            ),
            models.CheckConstraint(condition=Q(seq=None) | Q(run_id__isnull=False), name="memory_seq_needs_a_run"),
            models.CheckConstraint(
                condition=Q(valid_to=None) | Q(valid_from=None) | Q(valid_to__gte=F("valid_from")),
                name="memory_valid_forwards",
            ),
            models.CheckConstraint(
                condition=Q(importance__range=(0, 1), confidence__range=(0, 1), quality__range=(0, 1)),
                name="memory_weights_in_0_1",
            ),
            models.CheckConstraint(condition=Q(version__gte=1), name="memory_version_counts_from_1"),
        )

    def __str__(self) -> str:
        return self.short_id


class MemoryCategory(models.Model):
    """A memory is of a category. Both sides belong to the row's owner."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    memory = inner_key("Memory", related_name="category_links")
    category = inner_key("Category", related_name="memory_links")

    class Meta:
        constraints = (models.UniqueConstraint(fields=["owner", "memory", "category"], name="memory_category_once"),)
        indexes = (models.Index(fields=["owner", "category", "memory"], name="memory_by_category"),)

    def __str__(self) -> str:
        return f"{self.memory_id}: {self.category_id}"


class MemoryTerm(models.Model):
    """One posting: this term stands `tf` times in this memory of `length` terms; `tag:NAME` for its tags.

    Lexical search rests on btree equality here, since under row-level security PostgreSQL uses no GIN index.
    """

    pk = models.CompositePrimaryKey("owner_id", "term", "memory_id")
    owner = owner_key()
    term = models.CharField(max_length=80)
    memory = inner_key("Memory")
    tf = models.PositiveSmallIntegerField()
    length = models.PositiveSmallIntegerField(help_text="Of the memory, in terms: BM25 needs nothing but postings.")

    class Meta:
        # Equal keys share one entry of a btree, so this costs about 7 bytes a posting.
        indexes = (models.Index(fields=["owner", "memory"], name="memory_term_by_memory"),)

    def __str__(self) -> str:
        return f"{self.term} x {self.tf}"


class MemoryHistory(models.Model):
    """One change of a memory: who, through which door, and the changed fields before and after."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    memory = inner_key("Memory", related_name="history")
    event = models.CharField(max_length=16, choices=Event.choices)
    by = user_key(null=True)
    door = models.CharField(max_length=16)
    app = models.CharField(max_length=LABEL_LENGTH, null=True)
    version = models.PositiveIntegerField()
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "memory history"
        indexes = (models.Index(fields=["owner", "memory", "id"], name="history_by_memory"),)
        constraints = (models.CheckConstraint(condition=Q(event__in=Event.values), name="history_event"),)

    def __str__(self) -> str:
        return f"{self.event} v{self.version}"
