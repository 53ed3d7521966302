"""How users and keys come to be and end."""

import hashlib
import secrets
import string
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import structlog
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import ApiKey, Scope, User
from mem0stack.lib.errors import Conflict, InvalidArgument, NotFound
from mem0stack.lib.remotes import project_key

log = structlog.get_logger(__name__)

_ALPHABET = string.ascii_letters + string.digits
_LOOKUP_LENGTH = 8
_SECRET_LENGTH = 32
KEY_LENGTH = len("m0_") + _LOOKUP_LENGTH + _SECRET_LENGTH
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
) -> tuple[ApiKey, str]:
    """Make a key for `user`; the second value is the key in plain text, which exists nowhere else.

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
    )
    log.info("api_key_created", user_id=user.pk, key_id=str(key.pk), scopes=key.scopes)
    return key, prefix + secret


def find_api_key(plain: str) -> ApiKey | None:
    """The usable key that `plain` is, with its user, or None. One indexed query; the comparison takes constant time."""
    if len(plain) != KEY_LENGTH or not plain.startswith("m0_") or not plain.isascii():
        return None
    key = ApiKey.objects.usable().select_related("user").filter(prefix=plain[: len("m0_") + _LOOKUP_LENGTH]).first()
    if key is None or not secrets.compare_digest(bytes(key.digest), _digest(plain)):
        return None
    return key


def note_use(key: ApiKey) -> None:
    """Remember that the key was used, at most once a minute, so that reading does not become writing."""
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > LAST_USED_EVERY:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


def revoke_api_key(key_id: str, *, user: User | None = None, within: Collection[str] | None = None) -> ApiKey:
    """End a key at once. Revoking twice changes nothing.

    With `user` given, only that user's keys are found, and with `within` only those limited to these namespaces.
    """
    keys = ApiKey.objects.within(within)
    keys = keys.select_related("user") if user is None else keys.filter(user=user)
    try:
        key = keys.get(pk=key_id)
    except (ApiKey.DoesNotExist, ValidationError, ValueError) as error:
        raise NotFound(f"There is no key {key_id}.") from error
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        log.info("api_key_revoked", user_id=key.user_id, key_id=str(key.pk))
    return key


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _digest(plain: str) -> bytes:
    return hashlib.sha256(plain.encode()).digest()
