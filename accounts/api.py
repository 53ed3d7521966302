"""REST v2 about the caller: who they are, and their keys."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import schema as schema  # registers how OpenAPI describes the credentials
from accounts import services
from accounts.actors import Actor
from accounts.authentication import actor_of
from accounts.limits import limit_of
from accounts.models import ApiKey, Scope, User, validate_timezone
from mem0stack.lib.errors import Forbidden, InvalidArgument
from mem0stack.lib.pagination import paginate
from mem0stack.lib.remotes import project_key
from mem0stack.lib.rest import AwareDateTime, Integer, Listed, StrictSerializer, Text, refuse_unknown, validated
from mem0stack.lib.schema import PAGE_PARAMETERS, page_of, page_parameters

_ORDERS = ("-created_at", "created_at")


class MeShape(StrictSerializer):
    timezone = Text(max_length=64, validators=[validate_timezone])


def _rate_limit() -> Integer:
    return Integer(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=services.MAX_RATE_LIMIT,
        help_text="Calls a minute; 0 is no limit, null the service's own.",
    )


class KeyShape(StrictSerializer):
    name = Text(max_length=128, trim_whitespace=True)
    scopes = Listed(
        child=serializers.ChoiceField(choices=Scope.choices),
        min_length=1,
        max_length=len(Scope),
        required=False,
        help_text="read and write.",
    )
    namespaces = Listed(child=Text(max_length=200, trim_whitespace=True), min_length=1, max_length=100, required=False)
    expires_at = AwareDateTime(required=False, allow_null=True)
    rate_limit = _rate_limit()


class KeyChanges(StrictSerializer):
    rate_limit = _rate_limit()


class KeyReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="The key's first characters, to tell it from others.")
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))
    namespaces = serializers.ListField(child=serializers.CharField(), allow_null=True)
    rate_limit = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class NewKeyReply(KeyReply):
    key = serializers.CharField(help_text="Shown this once, and never again.")


class MeReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    username = serializers.CharField()
    timezone = serializers.CharField()
    is_staff = serializers.BooleanField()
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))
    namespaces = serializers.ListField(child=serializers.CharField(), allow_null=True)
    key = KeyReply(allow_null=True)


class Me(APIView):
    @extend_schema(operation_id="me_get", responses=MeReply)
    def get(self, request: Request) -> Response:
        """Who the credential makes you, and what it allows."""
        refuse_unknown(request.query_params, ())
        return Response(_represent_me(actor_of(request), actor_of(request).person))

    @extend_schema(operation_id="me_update", request=MeShape, responses=MeReply)
    def patch(self, request: Request) -> Response:
        """Change your time zone."""
        given = validated(MeShape, request.data)
        user = services.set_timezone(actor_of(request).person, given["timezone"])
        return Response(_represent_me(actor_of(request), user))


class Keys(APIView):
    required_scopes = {"POST": Scope.ADMIN}

    @extend_schema(
        operation_id="keys_list",
        parameters=page_parameters(_ORDERS),
        responses=page_of(KeyReply),
    )
    def get(self, request: Request) -> Response:
        """Your keys, ended ones too, without the keys themselves."""
        refuse_unknown(request.query_params, PAGE_PARAMETERS)
        actor = actor_of(request)
        keys = ApiKey.objects.filter(user=actor.person).within(actor.namespaces)
        page = paginate(request, [keys], orders=_ORDERS)
        return Response(page.reply([_represent_key(key) for key in page.rows]))

    @extend_schema(operation_id="keys_add", request=KeyShape, responses={201: NewKeyReply})
    def post(self, request: Request) -> Response:
        """Make a key. It allows no more than the one that makes it; it is shown once."""
        given = validated(KeyShape, request.data)
        given.setdefault("scopes", [Scope.READ, Scope.WRITE])
        _check_within(actor_of(request), given)
        key, plain = services.create_api_key(actor_of(request).person, **given)
        return Response(_represent_key(key) | {"key": plain}, status=201)


class OneKey(APIView):
    required_scopes = {"DELETE": Scope.ADMIN, "PATCH": Scope.ADMIN}

    @extend_schema(operation_id="keys_update", request=KeyChanges, responses=KeyReply)
    def patch(self, request: Request, key_id: UUID) -> Response:
        """Change how many calls a minute a key of yours may make; no more than the one that asks."""
        actor = actor_of(request)
        given = validated(KeyChanges, request.data)
        if "rate_limit" not in given:
            raise InvalidArgument("Name what to change: rate_limit.")
        _check_rate_limit(actor, given["rate_limit"])
        key = services.set_rate_limit(str(key_id), given["rate_limit"], user=actor.person, within=actor.namespaces)
        return Response(_represent_key(key))

    @extend_schema(operation_id="keys_revoke", responses={200: KeyReply})
    def delete(self, request: Request, key_id: UUID) -> Response:
        """End a key of yours, at once."""
        actor = actor_of(request)
        return Response(
            _represent_key(services.revoke_api_key(str(key_id), user=actor.person, within=actor.namespaces))
        )


def _check_within(actor: Actor, given: dict[str, Any]) -> None:
    """A key never makes one that may do more than itself."""
    beyond = sorted(set(given["scopes"]) - actor.scopes)
    if beyond:
        raise Forbidden(f"This key lacks the scopes {', '.join(beyond)}, so it cannot give them to another.")
    if actor.namespaces is not None:
        if not given.get("namespaces"):
            raise InvalidArgument("This key is limited to namespaces; name which of them the new key may use.")
        for name in given["namespaces"]:
            actor.require_namespace(project_key(name))
    if actor.key is not None and actor.key.rate_limit:
        given.setdefault("rate_limit", actor.key.rate_limit)
    _check_rate_limit(actor, given.get("rate_limit"))
    ends = None if actor.key is None else actor.key.expires_at
    if ends is not None:
        asked = given.setdefault("expires_at", ends)
        if asked is None or asked > ends:
            raise Forbidden(f"This key ends at {ends.isoformat()}, so it cannot make one that ends later.")


def _check_rate_limit(actor: Actor, asked: int | None) -> None:
    own = 0 if actor.key is None else limit_of(actor.key)
    meant = settings.API_RATE_LIMIT if asked is None else asked
    if own and not 1 <= meant <= own:
        raise Forbidden(f"This key may make {own} calls a minute, so it cannot give more to another, or to itself.")


def _represent_key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "namespaces": key.namespaces,
        "rate_limit": key.rate_limit,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }


def _represent_me(actor: Actor, user: User) -> dict[str, Any]:
    return {
        "id": user.uuid,
        "username": user.username,
        "timezone": user.timezone,
        "is_staff": user.is_staff,
        "scopes": sorted(actor.scopes),
        "namespaces": None if actor.namespaces is None else sorted(actor.namespaces),
        "key": None if actor.key is None else _represent_key(actor.key),
    }


urlpatterns = [
    path("me/", Me.as_view(), name="me"),
    path("keys/", Keys.as_view(), name="keys"),
    path("keys/<uuid:key_id>/", OneKey.as_view(), name="key"),
]
