"""REST v2: how memories hang together."""

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
from mem0stack.lib.rest import Uuid, idempotency_key, refuse_unknown, validated
from mem0stack.lib.schema import PAGE_PARAMETERS, page_of, page_parameters
from memories import services
from memories.api import shapes
from memories.models import Event, Relation, RelationKind

_BY_TIME = ("-created_at", "created_at")
_ENDS = ("source", "target")


class Relations(APIView):
    @extend_schema(
        operation_id="relations_list",
        parameters=[
            *page_parameters(_BY_TIME),
            *(
                OpenApiParameter(end, {"type": "string", "format": "uuid"}, description="A memory's id.")
                for end in _ENDS
            ),
            OpenApiParameter("relation", str, enum=RelationKind.values, many=True, description="Any of these."),
        ],
        responses=page_of(shapes.RelationReply),
    )
    def get(self, request: Request) -> Response:
        """How memories of the caller's own hang together: `source` is `relation` `target`."""
        refuse_unknown(request.query_params, PAGE_PARAMETERS | {*_ENDS, "relation"})
        kinds = request.query_params.getlist("relation")
        if not set(kinds) <= set(RelationKind.values):
            raise InvalidArgument(
                f"relation is one of {', '.join(RelationKind.values)}.", errors={"relation": ["unknown"]}
            )
        wanted: dict[str, Any] = {
            f"{end}_id": Uuid().run_validation(request.query_params[end])
            for end in _ENDS
            if end in request.query_params
        }
        if kinds:
            wanted["relation__in"] = kinds
        actor = actor_of(request)
        with acting_as(actor):
            page = paginate(request, [Relation.objects.known_to(actor).filter(**wanted)], orders=_BY_TIME)
            return Response(page.reply([_represent(relation) for relation in page.rows]))

    @extend_schema(
        operation_id="relations_add",
        request=shapes.LinkShape,
        responses={200: shapes.RelationReply, 201: shapes.RelationReply},
    )
    def post(self, request: Request) -> Response:
        """Say how two memories of the caller's own hang together; 200 when that was known."""
        actor = actor_of(request)
        given = validated(shapes.LinkShape, request.data)
        key = idempotency_key(request, given)
        written = services.link(actor, given["source"], given["target"], given["relation"], idempotency_key=key)
        with acting_as(actor):
            relation = Relation.objects.known_to(actor).filter(id=written.made_id).first()
        if relation is None:
            raise NotFound("This relation was made, and has been taken back since.")
        return Response(_represent(relation), status=201 if written.event == Event.LINK else 200)


class OneRelation(APIView):
    @extend_schema(operation_id="relations_delete", responses={200: shapes.WrittenReply})
    def delete(self, request: Request, relation_id: UUID) -> Response:
        """Take a relation back; the memories stay."""
        key = idempotency_key(request, {})
        written = services.unlink(actor_of(request), relation_id, idempotency_key=key)
        return Response({"id": relation_id, "event": written.event})


def _represent(relation: Relation) -> dict[str, Any]:
    return {
        "id": relation.id,
        "source": relation.source_id,
        "relation": relation.relation,
        "target": relation.target_id,
        "created_at": relation.created_at,
    }
