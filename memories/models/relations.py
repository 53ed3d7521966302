"""What memories are about, and how they hang together."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from memories.entities import MAX_KEY, MAX_NAME, EntityKind
from memories.models.choices import RelationKind
from memories.models.fields import inner_key, owner_key
from memories.querysets import EntityQuerySet, RelationQuerySet


class Entity(models.Model):
    """A thing that memories of one owner name: a path, a package, a person. `memories.entities` finds them.

    Equal keys are the same thing, or look so, whatever its kind. The id follows from owner, kind and key, so that a
    writer need not look one up, and a thing that was forgotten and is named again is the same one.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    owner = owner_key()
    kind = models.CharField(max_length=16, choices=EntityKind.choices)
    key = models.CharField(max_length=MAX_KEY, help_text="The canonical form, by which it is found.")
    name = models.CharField(max_length=MAX_NAME, help_text="As it was written first.")
    aliases = ArrayField(
        models.CharField(max_length=MAX_KEY),
        null=True,
        help_text="Keys of what else it is called; each is an entity too.",
    )

    objects = EntityQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "entities"
        constraints = (
            models.UniqueConstraint(fields=["owner", "id"], name="entity_key"),
            # The key first: who searches knows it, and not the kind.
            models.UniqueConstraint(fields=["owner", "key", "kind"], name="entity_once"),
            models.CheckConstraint(condition=Q(kind__in=EntityKind.values), name="entity_kind"),
        )

    def __str__(self) -> str:
        return self.name


class Mention(models.Model):
    """A memory names an entity. Written with the memory's text, and gone with it."""

    pk = models.CompositePrimaryKey("owner_id", "entity_id", "memory_id")
    owner = owner_key()
    entity = inner_key("Entity")
    memory = inner_key("Memory")

    class Meta:
        # Equal keys share one entry of a btree, so this costs a few bytes a mention.
        indexes = (models.Index(fields=["owner", "memory"], name="mention_by_memory"),)

    def __str__(self) -> str:
        return f"{self.memory_id}: {self.entity_id}"


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
