"""What others do with a memory: read it by a share, and say what they think of it."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from memories.models.choices import AccessAction, Verdict
from memories.models.fields import LABEL_LENGTH, REASON_LENGTH, inner_key, owner_key, user_key
from memories.querysets import ShareQuerySet


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
