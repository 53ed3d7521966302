"""From a request's credential to its Actor. Nothing else in a request says who is calling."""

from typing import Any

from rest_framework import authentication, exceptions, permissions
from rest_framework.request import Request

from accounts import services
from accounts.actors import Actor
from accounts.models import Scope, User

_APP_HEADER = "X-Mem0-App"
_HINT = "Send a key as 'Authorization: Bearer m0_...'; `manage.py create_api_key USER` makes one."


class Inactive(exceptions.AuthenticationFailed):
    status_code = 403
    default_detail = "This account is disabled. Ask whoever runs the service."
    default_code = "forbidden"


class ApiKeyAuthentication(authentication.BaseAuthentication):
    """Takes a key from `Authorization: Bearer`, `Authorization: Token` or `X-API-Key`."""

    def authenticate(self, request: Request) -> tuple[User, Actor] | None:
        plain = _plain_key(request)
        if plain is None:
            return None
        key = services.find_api_key(plain)
        if key is None:
            raise exceptions.AuthenticationFailed(f"This key is unknown, expired or revoked. {_HINT}")
        if not key.user.is_active:
            raise Inactive
        services.note_use(key)
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


def actor_of(request: Request) -> Actor:
    """The caller of a request that the authentication has let through."""
    actor: Any = request.auth
    if not isinstance(actor, Actor):
        raise exceptions.NotAuthenticated(f"This needs a key. {_HINT}")
    return actor


def _plain_key(request: Request) -> str | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() in {"bearer", "token"}:
        return value.strip()
    if scheme:
        raise exceptions.AuthenticationFailed(f"'Authorization: {scheme[:20]}' is not understood. {_HINT}")
    plain: str | None = request.headers.get("X-API-Key")
    return None if plain is None else plain.strip()


def _app(request: Request) -> str | None:
    name = request.headers.get(_APP_HEADER, "").strip()
    return name[:128] or None


def _request_id(request: Request) -> str | None:
    return request.META.get("HTTP_X_REQUEST_ID")
