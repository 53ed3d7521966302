"""From a request's credential to its Actor. Nothing else in a request says who is calling."""

import threading
from collections.abc import Mapping
from typing import Any

import structlog
from django.db import connection
from rest_framework import authentication, exceptions, permissions, throttling
from rest_framework.request import Request

from accounts import limits, services
from accounts.actors import Actor
from accounts.models import ApiKey, Scope, User

log = structlog.get_logger(__name__)

_APP_HEADER = "X-Mem0-App"
_HINT = "Send a key as 'Authorization: Bearer m0_...'; `manage.py create_api_key USER` makes one."


class Inactive(exceptions.AuthenticationFailed):
    status_code = 403
    default_detail = "This account is disabled. Ask whoever runs the service."
    default_code = "forbidden"


class ApiKeyAuthentication(authentication.BaseAuthentication):
    """Takes a key from `Authorization: Bearer`, `Authorization: Token` or `X-API-Key`."""

    def authenticate(self, request: Request) -> tuple[User, Actor] | None:
        plain = plain_key(request.headers)
        if plain is None:
            return None
        key = services.find_api_key(plain)
        if key is None:
            raise exceptions.AuthenticationFailed(f"This key is unknown, expired or revoked. {_HINT}")
        if not key.user.is_active:
            raise Inactive
        note_use(key)
        return key.user, Actor.from_key(key, door="rest", app=_app(request), request_id=_request_id(request))

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SessionAuthentication(authentication.SessionAuthentication):
    """A person signed in with a password, in the browsable API."""

    def authenticate(self, request: Request) -> tuple[User, Actor] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        user: Any = found[0]
        return user, Actor(user=user, door="rest", app=_app(request), request_id=_request_id(request))


class HasScope(permissions.BasePermission):
    """Reading needs the scope `read`, anything else `write`; a view may name its own in `required_scopes`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        actor = actor_of(request)
        scope: str = getattr(view, "required_scopes", {}).get(
            request.method, Scope.READ if request.method in permissions.SAFE_METHODS else Scope.WRITE
        )
        actor.require(scope)
        return True


class KeyThrottle(throttling.BaseThrottle):
    """Keeps each key to its calls a minute; a person who is signed in has no limit."""

    def allow_request(self, request: Request, view: Any) -> bool:
        key = request.auth.key if isinstance(request.auth, Actor) else None
        self._allowance = limits.count_call(key) if key is not None else None
        # The reply says it in its headers, whatever it is.
        request._request.allowance = self._allowance  # type: ignore[attr-defined]
        return self._allowance is None or not self._allowance.is_exceeded

    def wait(self) -> float | None:
        return None if self._allowance is None else self._allowance.reset_s


def actor_of(request: Request) -> Actor:
    """The caller of a request that the authentication has let through."""
    actor: Any = request.auth
    if not isinstance(actor, Actor):
        raise exceptions.NotAuthenticated(f"This needs a key. {_HINT}")
    return actor


# One at a time, and whoever comes meanwhile leaves it to a later request: a database that hangs holds one thread.
_noting = threading.Lock()


def note_use(key: ApiKey) -> None:
    """Note that the key was used beside the request, which does not wait for it."""
    if services.is_use_unnoted(key) and _noting.acquire(blocking=False):
        threading.Thread(target=_note_use_now, args=(key,), name="note-use", daemon=True).start()


def _note_use_now(key: ApiKey) -> None:
    try:
        services.note_use(key)
    except Exception as error:  # noqa: BLE001  the outermost call of its thread
        log.warning("use_not_noted", key_id=str(key.pk), error=type(error.__cause__ or error).__name__)
    finally:
        connection.close()
        _noting.release()


def plain_key(headers: Mapping[str, str]) -> str | None:
    """The key that a request's headers hold. Raises AuthenticationFailed for an Authorization that is no key."""
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    if scheme.lower() in {"bearer", "token"}:
        return value.strip()
    if scheme:
        raise exceptions.AuthenticationFailed(f"'Authorization: {scheme[:20]}' is not understood. {_HINT}")
    plain = headers.get("X-API-Key")
    return None if plain is None else plain.strip()


def _app(request: Request) -> str | None:
    name = request.headers.get(_APP_HEADER, "").strip()
    return name[:128] or None


def _request_id(request: Request) -> str | None:
    return request.META.get("HTTP_X_REQUEST_ID")
