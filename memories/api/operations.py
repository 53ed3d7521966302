"""REST v2: what goes on after a reply."""

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
from mem0stack.lib.rest import refuse_unknown
from mem0stack.lib.schema import PAGE_PARAMETERS, page_of, page_parameters
from memories.api import shapes
from memories.models import Operation, OperationState

_BY_TIME = ("-created_at", "created_at")


class Operations(APIView):
    @extend_schema(
        operation_id="operations_list",
        parameters=[
            *page_parameters(_BY_TIME),
            OpenApiParameter("state", str, enum=OperationState.values, many=True, description="Any of these."),
        ],
        responses=page_of(shapes.OperationReply),
    )
    def get(self, request: Request) -> Response:
        """What went on, or still goes on, after replies to the caller."""
        refuse_unknown(request.query_params, PAGE_PARAMETERS | {"state"})
        states = request.query_params.getlist("state")
        if not set(states) <= set(OperationState.values):
            raise InvalidArgument(f"state is one of {', '.join(OperationState.values)}.", errors={"state": ["unknown"]})
        actor = actor_of(request)
        with acting_as(actor):
            found = Operation.objects.asked_by(actor)
            page = paginate(request, [found.filter(state__in=states) if states else found], orders=_BY_TIME)
            return Response(page.reply([_represent(operation) for operation in page.rows]))


class OneOperation(APIView):
    @extend_schema(operation_id="operations_get", responses=shapes.OperationReply)
    def get(self, request: Request, operation_id: UUID) -> Response:
        """One operation."""
        actor = actor_of(request)
        with acting_as(actor):
            operation = Operation.objects.asked_by(actor).filter(id=operation_id).first()
        if operation is None:
            raise NotFound("There is no such operation of yours.")
        return Response(_represent(operation))


def _represent(operation: Operation) -> dict[str, Any]:
    return {
        "id": operation.id,
        "kind": operation.kind,
        "state": operation.state,
        "error": operation.error or None,
        "result": operation.result,
        "created_at": operation.created_at,
        "updated_at": operation.updated_at,
    }
