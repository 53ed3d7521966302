"""Who uses the service: people, and the keys their programs call with."""

import uuid
import zoneinfo
from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from accounts import known_keys


class Scope(models.TextChoices):
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


def validate_timezone(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"{name!r} is not a time zone; write one like Europe/Berlin or UTC.")


class Credential(models.Model):
    """What says who is calling. Processes remember it for a moment, and hear of a change to it."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **options: Any) -> None:
        super().save(*args, **options)
        known_keys.forget()

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **options)
        known_keys.forget()
        return deleted


class User(Credential, AbstractUser):  # noqa: DJ008  AbstractUser has it
    """The tenant: every row of a user's data has one as its `owner`."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    timezone = models.CharField(max_length=64, default="UTC", validators=[validate_timezone])

    class Meta(AbstractUser.Meta):
        pass


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self) -> "ApiKeyQuerySet":
        """Keys that open the door now: neither revoked nor expired, by the database's clock."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None)

    def within(self, namespaces: Collection[str] | None) -> "ApiKeyQuerySet":
        """Keys that open nothing beyond these namespaces; None is every key."""
        return self if namespaces is None else self.filter(namespaces__contained_by=sorted(namespaces))


class ApiKey(Credential):
    """A program's credential. The key itself is shown once and never stored; its SHA-256 is."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=128)
    prefix = models.CharField(max_length=11, unique=True, editable=False)
    digest = models.BinaryField(max_length=32, editable=False)
    scopes = ArrayField(models.CharField(max_length=16, choices=Scope.choices))
    namespaces = ArrayField(
        models.CharField(max_length=200),
        null=True,
        blank=True,
        help_text="Names the key is limited to; empty means all.",
    )
    rate_limit = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Calls a minute; 0 is no limit; empty is what API_RATE_LIMIT says.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ("-created_at", "-id")
        indexes = (models.Index(fields=["user", "-created_at", "-id"], name="api_key_by_user"),)
        constraints = (
            models.CheckConstraint(condition=~Q(scopes=[]), name="api_key_has_a_scope"),
            models.CheckConstraint(condition=~Q(namespaces=[]), name="api_key_namespaces_null_or_some"),
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
