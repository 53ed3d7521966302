"""REST v2: what an agent should know before anybody asks."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import actor_of
from mem0stack.lib.errors import InvalidArgument
from mem0stack.lib.rest import refuse_unknown
from memories import digest
from memories.api import shapes
from memories.api.native import represent

_SIZE = {"type": "integer", "minimum": digest.MIN_CHARS, "maximum": digest.MAX_CHARS}


class OneDigest(APIView):
    @extend_schema(
        operation_id="digest_get",
        parameters=[
            OpenApiParameter("namespace", str, description="A project; without one, what holds wherever you work."),
            OpenApiParameter("max_chars", _SIZE, description="How long all texts together may be."),
        ],
        responses=shapes.DigestReply,
    )
    def get(self, request: Request) -> Response:
        """The most useful memories within a size: pins first, then by kind, quality, use and recency."""
        refuse_unknown(request.query_params, {"namespace", "max_chars"})
        actor = actor_of(request)
        name = request.query_params.get("namespace")
        if name is None:
            found = digest.profile(actor, max_chars=_max_chars(request, digest.PROFILE_CHARS))
        else:
            found = digest.project(actor, name, max_chars=_max_chars(request, digest.PROJECT_CHARS))
        return Response({"results": [represent(one, actor) for one in found.memories], "left_out": found.left_out})


def _max_chars(request: Request, otherwise: int) -> int:
    given = request.query_params.get("max_chars")
    if given is None:
        return otherwise
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise InvalidArgument("max_chars is a whole number.", errors={"max_chars": ["a whole number is expected"]})
    return int(given)
