"""What makes a memory worth showing to somebody who has not asked yet: all weights of a digest, in one place.

The first part stands in the row, and an index keeps each namespace's memories in its order (`memory_by_worth`); a
weight that changes here therefore needs a migration. The rest comes from the day and from use, and `memories.digest`
adds it to the best by the first.
"""

from typing import Any

from django.db.models import Case, F, Q, Value, When

from memories.models.choices import Kind

# Above everything else together: somebody said so.
PINNED = 10.0
# What tells an agent how to behave comes before what it could find out.
BY_KIND = {
    Kind.PREFERENCE: 1.0,
    Kind.DECISION: 0.9,
    Kind.PROCEDURE: 0.8,
    Kind.ERROR: 0.7,
    Kind.REFERENCE: 0.6,
    Kind.FACT: 0.5,
}
QUALITY, IMPORTANCE, CONFIDENCE = 0.5, 0.2, 0.2
# For one that was shown USED_OFTEN times in the last days, by searches and by its id; fewer count in proportion.
USE, USED_OFTEN, USED_WITHIN_DAYS = 0.3, 10, 30
# For one of today; half of it after so many days.
RECENCY, HALF_LIFE_DAYS = 0.3, 60


def worth() -> Any:
    """Of a row, without use and recency."""
    pinned = Case(When(pinned_at__isnull=False, then=Value(PINNED)), default=Value(0.0))
    by_kind = Case(*(When(kind=kind.value, then=Value(weight)) for kind, weight in BY_KIND.items()), default=Value(0.0))
    return pinned + by_kind + F("quality") * QUALITY + F("importance") * IMPORTANCE + F("confidence") * CONFIDENCE


# Of which rows the index is: a message is shown only where nothing better is left.
WORTH_SHOWING = Q(state="active", standing="current") & ~Q(kind=Kind.MESSAGE.value)
