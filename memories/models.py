"""What a memory is, and what may never be untrue of it.

Every table but those under "Of the instance" holds users' data: it has an immutable `owner`, every unique constraint
begins with it, and every reference between two of them carries it too (composite foreign keys, in the migrations;
Django's own constraint is off). So PostgreSQL itself refuses a row that points into somebody else's space, and the
tables can be distributed by owner.
"""

from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from pgvector.django import HalfVectorField
from uuid_utils.compat import uuid7

from memories.querysets import MemoryQuerySet, OperationQuerySet, RelationQuerySet, ShareQuerySet

DIMENSIONS = 256
# An index holds rows of up to 2,704 bytes, two of them for each dimension.
COVERED_DIMENSIONS = 1_300
LABEL_LENGTH = 128
NAME_LENGTH = 200
REASON_LENGTH = 500
PERSONAL = "personal"


class Kind(models.TextChoices):
    MESSAGE = "message"
    FACT = "fact"
    PREFERENCE = "preference"
    DECISION = "decision"
    PROCEDURE = "procedure"
    ERROR = "error"
    REFERENCE = "reference"


class State(models.TextChoices):
    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"
    DELETED = "deleted"


class Standing(models.TextChoices):
    CURRENT = "current"
    SUPERSEDED = "superseded"  # was true once
    REJECTED = "rejected"  # was never true


class Event(models.TextChoices):
    ADD = "ADD"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    RESTORE = "RESTORE"
    STATE = "STATE"
    CONFIRM = "CONFIRM"
    SUPERSEDE = "SUPERSEDE"
    REJECT = "REJECT"
    MERGE = "MERGE"
    SHARE = "SHARE"


class RelationKind(models.TextChoices):
    DERIVED_FROM = "derived_from"  # the source says so


class OperationKind(models.TextChoices):
    EXTRACT = "extract"  # facts from a source that is stored already


class OperationState(models.TextChoices):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # there was nothing to do it with


class AccessAction(models.TextChoices):
    SEARCH = "search"  # a hit, or shown beside one
    READ = "read"  # by its id
    LIST = "list"  # in a list of somebody else's than the owner's
    STAFF_VIEW = "staff_view"


class SpaceState(models.TextChoices):
    BUILDING = "building"  # memories are being embedded
    ACTIVE = "active"  # searches ask it
    RETIRED = "retired"  # was active once, or will not be


class Purpose(models.TextChoices):
    EMBEDDER = "embedder"  # texts to vectors
    MODEL = "model"  # chat: a prompt to a reply


class ProviderKind(models.TextChoices):
    OPENAI = "openai", "OpenAI"
    AZURE = "azure", "Azure OpenAI"
    COMPATIBLE = "compatible", "Compatible with OpenAI (Ollama, vLLM, LiteLLM, ...)"


class Verdict(models.TextChoices):
    USEFUL = "useful"
    WRONG = "wrong"  # was never true
    OUTDATED = "outdated"  # was true until now


def owner_key() -> Any:
    """The tenant. No index of its own: every index of the table begins with it."""
    return models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING, related_name="+", db_index=False)


def user_key(**options: Any) -> Any:
    return models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING, related_name="+", db_index=False, **options
    )


def inner_key(to: str, **options: Any) -> Any:
    """A reference inside one owner's space; the migrations make it a foreign key of (owner_id, this) columns, which
    also says what becomes of the row when the other one goes."""
    options = {"related_name": "+"} | options
    return models.ForeignKey(to, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, **options)


class Namespace(models.Model):
    """A project's memories. MCP calls it `project`; `personal` is the owner's own."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    name = models.CharField(max_length=NAME_LENGTH)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

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


class Relation(models.Model):
    """How one memory hangs together with another of the same owner: `source` is `relation` `target`."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    source = inner_key("Memory")
    target = inner_key("Memory")
    relation = models.CharField(max_length=16, choices=RelationKind.choices)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = RelationQuerySet.as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["owner", "source", "relation", "target"], name="relation_once"),
            models.CheckConstraint(condition=~Q(source=F("target")), name="relation_of_two"),
            models.CheckConstraint(condition=Q(relation__in=RelationKind.values), name="relation_kind"),
        )
        indexes = (
            models.Index(fields=["owner", "target", "relation"], name="relation_by_target"),
            models.Index(fields=["owner", "-created_at", "-id"], name="relation_by_creation"),
        )

    def __str__(self) -> str:
        return f"{self.source_id} {self.relation} {self.target_id}"


class Share(models.Model):
    """The owner's grant to another user to read one memory or one namespace, or to add to a namespace.

    A revoked share stays as a row: who could read what, and when, is a question people ask later.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    memory = inner_key("Memory", null=True, blank=True)
    namespace = inner_key("Namespace", null=True, blank=True)
    grantee = user_key()
    can_add = models.BooleanField(default=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ShareQuerySet.as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["owner", "grantee", "memory", "namespace"],
                name="share_once",
                condition=Q(revoked_at=None),
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=Q(memory=None, namespace__isnull=False) | Q(memory__isnull=False, namespace=None),
                name="share_of_one_thing",
            ),
            models.CheckConstraint(condition=~Q(grantee=F("owner")), name="share_with_another"),
            models.CheckConstraint(condition=Q(can_add=False) | Q(memory=None), name="share_adds_to_namespaces"),
        )
        indexes = (
            models.Index(fields=["grantee"], name="share_received", condition=Q(revoked_at=None)),
            models.Index(fields=["owner", "memory"], name="share_by_memory", condition=Q(memory__isnull=False)),
            models.Index(
                fields=["owner", "namespace"], name="share_by_namespace", condition=Q(namespace__isnull=False)
            ),
            models.Index(fields=["owner", "-created_at", "-id"], name="share_given"),
        )

    def __str__(self) -> str:
        return f"{self.memory_id or self.namespace_id} to {self.grantee_id}"


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


class Feedback(models.Model):
    """What somebody who used a memory says of it. What follows from it is in the memory's history."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    memory = inner_key("Memory")
    by = user_key()
    verdict = models.CharField(max_length=16, choices=Verdict.choices)
    reason = models.CharField(max_length=REASON_LENGTH, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "feedback"
        indexes = (models.Index(fields=["owner", "memory", "id"], name="feedback_by_memory"),)
        constraints = (models.CheckConstraint(condition=Q(verdict__in=Verdict.values), name="feedback_verdict"),)

    def __str__(self) -> str:
        return f"{self.memory_id}: {self.verdict}"


class AccessLog(models.Model):
    """Somebody was shown a memory. Only its owner reads this; `memories/access.py` writes it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    memory = inner_key("Memory")
    accessed_by = user_key()
    door = models.CharField(max_length=16)
    app = models.CharField(max_length=LABEL_LENGTH, null=True, blank=True)
    action = models.CharField(max_length=16, choices=AccessAction.choices)
    request_id = models.CharField(max_length=128, null=True, blank=True)
    accessed_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "access"
        verbose_name_plural = "access log"
        indexes = (
            models.Index(fields=["owner", "memory", "-accessed_at", "-id"], name="access_by_memory"),
            models.Index(fields=["owner", "-accessed_at", "-id"], name="access_by_owner"),
        )
        constraints = (models.CheckConstraint(condition=Q(action__in=AccessAction.values), name="access_action"),)

    def __str__(self) -> str:
        return f"{self.action} by {self.accessed_by_id}"


class OwnerStatistics(models.Model):
    """How many memories an owner has and how long they are, for BM25; folded from the outbox by the worker."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = owner_key()
    memories = models.BigIntegerField(default=0)
    terms = models.BigIntegerField(default=0)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "owner statistics"
        constraints = (models.UniqueConstraint(fields=["owner"], name="statistics_once"),)

    def __str__(self) -> str:
        return f"{self.memories} memories"


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
