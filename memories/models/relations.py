"""How memories hang together."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from memories.models.choices import RelationKind
from memories.models.fields import inner_key, owner_key
from memories.querysets import RelationQuerySet


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
