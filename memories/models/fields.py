"""What several tables' fields have in common: the sizes, the tenant's key, and references inside one owner's space."""

from typing import Any

from django.conf import settings
from django.db import models

DIMENSIONS = 256
# An index holds rows of up to 2,704 bytes, two of them for each dimension.
COVERED_DIMENSIONS = 1_300
LABEL_LENGTH = 128
NAME_LENGTH = 200
REASON_LENGTH = 500
PERSONAL = "personal"


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
