"""How users and keys come to be and end."""

import hashlib
import math
import secrets
import string
import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import structlog
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from accounts import known_keys
from accounts.models import ApiKey, Scope, User
from mem0stack.lib.errors import Conflict, InvalidArgument, NotFound
from mem0stack.lib.remotes import project_key

log = structlog.get_logger(__name__)

_ALPHABET = string.ascii_letters + string.digits
_LOOKUP_LENGTH = 8
_SECRET_LENGTH = 32
KEY_LENGTH = len("m0_") + _LOOKUP_LENGTH + _SECRET_LENGTH
MAX_RATE_LIMIT = 1_000_000
LAST_USED_EVERY = timedelta(minutes=1)


def create_user(name: str, *, is_staff: bool = False, is_superuser: bool = False, password: str | None = None) -> User:
    """Make an account, with no usable password unless one is given. Raises Conflict when the name is taken."""
    user = User(username=name, is_staff=is_staff, is_superuser=is_superuser)
    user.set_password(password)
    try:
        user.full_clean(exclude=["password"], validate_unique=False)
    except ValidationError as error:
        sentences = "; ".join(error.messages)
        raise InvalidArgument(f"{name!r} cannot be a user's name: {sentences}") from error
    try:
        with transaction.atomic():
            user.save()
    except IntegrityError as error:
        raise Conflict(f"A user named {name!r} already exists.") from error
    log.info("user_created", user_id=user.pk, is_staff=is_staff)
    return user


def create_api_key(
    user: User,
    *,
    name: str,
    scopes: Sequence[str] = (Scope.READ, Scope.WRITE),
    namespaces: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    rate_limit: int | None = None,
) -> tuple[ApiKey, str]:
    """Make a key for `user`; the second value is the key in plain text, which exists nowhere else.

    `rate_limit` is calls a minute: 0 is no limit, None what API_RATE_LIMIT says.
    The key has 32 random characters of 62 (190 bits), so a fast hash is enough: nobody can try that many.
    """
    unknown = sorted(set(scopes) - set(Scope.values))
    if unknown or not scopes:
        raise InvalidArgument(
            f"Scopes are {', '.join(Scope.values)}; got {', '.join(unknown) or 'none'}.", errors={"scopes": ["invalid"]}
        )
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidArgument("expires_at lies in the past.", errors={"expires_at": ["must be in the future"]})
    prefix, secret = f"m0_{_random(_LOOKUP_LENGTH)}", _random(_SECRET_LENGTH)
    key = ApiKey.objects.create(
        user=user,
        name=name,
        prefix=prefix,
        digest=_digest(prefix + secret),
        scopes=[scope for scope in Scope.values if scope in scopes],
        namespaces=sorted({project_key(namespace) for namespace in namespaces}) if namespaces else None,
        expires_at=expires_at,
        rate_limit=check_rate_limit(rate_limit),
    )
    log.info("api_key_created", user_id=user.pk, key_id=str(key.pk), scopes=key.scopes)
    return key, prefix + secret


def find_api_key(plain: str) -> ApiKey | None:
    """The usable key that `plain` is, with its user, or None. Both are everybody's: do not change them.

    A key that was used a moment ago is known without a query (see `known_keys`); one that is refused never is.
    """
    if len(plain) != KEY_LENGTH or not plain.startswith("m0_") or not plain.isascii():
        return None
    digest = _digest(plain)
    return known_keys.get(digest) or _read_api_key(plain, digest)


def _read_api_key(plain: str, digest: bytes) -> ApiKey | None:
    """By one indexed query; the comparison takes constant time."""
    version, now = known_keys.version(), time.monotonic()
    rows = ApiKey.objects.usable().filter(prefix=plain[: len("m0_") + _LOOKUP_LENGTH]).select_related("user")
    # How long is left goes by the database's clock, as everything that expires.
    found: Any = rows.annotate(left=F("expires_at") - Now()).first()
    if found is None or not secrets.compare_digest(bytes(found.digest), digest):
        return None
    until = math.inf if found.left is None else now + found.left.total_seconds()
    known_keys.remember(digest, found, version=version, until=until)
    return cast(ApiKey, found)


def is_use_unnoted(key: ApiKey) -> bool:
    """Whether it is time to note that the key is in use: once a minute, so that reading does not become writing."""
    return key.last_used_at is None or timezone.now() - key.last_used_at > LAST_USED_EVERY


def note_use(key: ApiKey) -> None:
    """Note that the key is in use now, unless another process has just done so."""
    now = timezone.now()
    unnoted = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USED_EVERY)
    ApiKey.objects.filter(unnoted, pk=key.pk).update(last_used_at=now)
    # The one thing that changes in a key that is everybody's.
    key.last_used_at = now


def set_timezone(user: User, name: str) -> User:
    """The user with another time zone."""
    changed = User.objects.get(pk=user.pk)
    changed.timezone = name
    changed.save(update_fields=["timezone"])
    return changed


def set_rate_limit(
    key_id: str, rate_limit: int | None, *, user: User | None = None, within: Collection[str] | None = None
) -> ApiKey:
    """Give a key other calls a minute (0: no limit, None: what API_RATE_LIMIT says). It finds keys as revoking does."""
    key = _find_by_id(key_id, user, within)
    key.rate_limit = check_rate_limit(rate_limit)
    key.save(update_fields=["rate_limit"])
    log.info("api_key_limited", user_id=key.user_id, key_id=str(key.pk), rate_limit=rate_limit)
    return key


def check_rate_limit(rate_limit: int | None) -> int | None:
    if rate_limit is not None and not 0 <= rate_limit <= MAX_RATE_LIMIT:
        raise InvalidArgument(
            f"rate_limit is calls a minute, up to {MAX_RATE_LIMIT}; 0 is no limit.",
            errors={"rate_limit": [f"0 to {MAX_RATE_LIMIT}"]},
        )
    return rate_limit


def revoke_api_key(key_id: str, *, user: User | None = None, within: Collection[str] | None = None) -> ApiKey:
    """End a key at once. Revoking twice changes nothing.

    With `user` given, only that user's keys are found, and with `within` only those limited to these namespaces.
    """
    key = _find_by_id(key_id, user, within)
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        log.info("api_key_revoked", user_id=key.user_id, key_id=str(key.pk))
    return key


def _find_by_id(key_id: str, user: User | None, within: Collection[str] | None) -> ApiKey:
    keys = ApiKey.objects.within(within)
    keys = keys.select_related("user") if user is None else keys.filter(user=user)
    try:
        return keys.get(pk=key_id)
    except (ApiKey.DoesNotExist, ValidationError, ValueError) as error:
        raise NotFound(f"There is no key {key_id}.") from error


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _digest(plain: str) -> bytes:
    return hashlib.sha256(plain.encode()).digest()
