"""REST v2: the things that the caller's memories name."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.actors import acting_as
from accounts.authentication import actor_of
from mem0stack.lib.errors import InvalidArgument, NotFound
from mem0stack.lib.pagination import paginate
from mem0stack.lib.rest import Uuid, refuse_unknown
from mem0stack.lib.schema import PAGE_PARAMETERS, page_of, page_parameters
from memories.api import listing, shapes
from memories.api.native import represent
from memories.entities import key_of
from memories.models import Entity, EntityKind, Memory, Mention

_BY_KEY = ("key", "-key")


class Entities(APIView):
    @extend_schema(
        operation_id="entities_list",
        parameters=[
            *page_parameters(_BY_KEY),
            OpenApiParameter("q", str, description="Text that the key holds; case, `_`, `-` and spaces are one."),
            OpenApiParameter("kind", str, enum=EntityKind.values, many=True, description="Any of these."),
            OpenApiParameter("memory", {"type": "string", "format": "uuid"}, description="What this memory names."),
        ],
        responses=page_of(shapes.EntityReply),
    )
    def get(self, request: Request) -> Response:
        """What the caller's own memories name: files, packages, errors, people and so on."""
        refuse_unknown(request.query_params, PAGE_PARAMETERS | {"q", "kind", "memory"})
        kinds = request.query_params.getlist("kind")
        if not set(kinds) <= set(EntityKind.values):
            raise InvalidArgument(f"kind is one of {', '.join(EntityKind.values)}.", errors={"kind": ["unknown"]})
        asked = request.query_params.get("q", "")
        if "\x00" in asked:
            raise InvalidArgument("q may not hold NUL.", errors={"q": ["holds NUL"]})
        wanted: dict[str, Any] = {"key__contains": key_of(asked)} if asked else {}
        if kinds:
            wanted["kind__in"] = kinds
        actor = actor_of(request)
        if "memory" in request.query_params:
            memory_id = Uuid().run_validation(request.query_params["memory"])
            reachable = Memory.objects.owned_by(actor).alive().filter(id=memory_id)
            mentions = Mention.objects.filter(owner_id=actor.owner_id, memory_id__in=reachable.values("id"))
            wanted["id__in"] = mentions.values("entity_id")
        with acting_as(actor):
            page = paginate(request, [Entity.objects.known_to(actor).filter(**wanted)], orders=_BY_KEY)
            return Response(page.reply([_represent(entity) for entity in page.rows]))


class OneEntity(APIView):
    @extend_schema(
        operation_id="entities_get",
        parameters=page_parameters(listing.ORDERS),
        responses=shapes.EntityMemoriesReply,
    )
    def get(self, request: Request, entity_id: UUID) -> Response:
        """An entity, and a page of the caller's own memories that name it."""
        refuse_unknown(request.query_params, PAGE_PARAMETERS)
        actor = actor_of(request)
        with acting_as(actor):
            entity = Entity.objects.known_to(actor).filter(id=entity_id).first()
            if entity is None:
                raise NotFound("There is no such entity, or none that your memories name.")
            mentions = Mention.objects.filter(owner_id=actor.owner_id, entity_id=entity_id)
            memories = Memory.objects.owned_by(actor).alive().filter(id__in=mentions.values("memory_id"))
            page = paginate(request, [memories.with_names()], orders=listing.ORDERS)
            found = page.reply([represent(memory, actor) for memory in page.rows])
            return Response({"entity": _represent(entity)} | found)


def _represent(entity: Entity) -> dict[str, Any]:
    return {
        "id": entity.id,
        "kind": entity.kind,
        "key": entity.key,
        "name": entity.name,
        "aliases": entity.aliases or [],
    }
