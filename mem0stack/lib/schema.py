"""What every REST door says of itself in OpenAPI: the errors anything can meet, and the shape of a page."""

from collections.abc import Sequence
from typing import Any, Literal

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from mem0stack.lib.pagination import DEFAULT_SIZE, MAX_SIZE


class ErrorShape(serializers.Serializer[Any]):
    """The body of every reply that is not a success."""

    detail = serializers.CharField(help_text="A sentence that says what to do.")
    code = serializers.CharField(help_text="A stable word for programs.")
    request_id = serializers.CharField(help_text="Find it in the logs; also the header X-Request-ID.")
    errors = serializers.JSONField(  # type: ignore[assignment]  # a serializer has an attribute of this name
        required=False, help_text="Per field or per operation, where there are several."
    )


class Schema(AutoSchema):
    """drf-spectacular's schema, where every operation also names the errors that any operation can meet."""

    ANYWHERE = ("400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "429", "500", "503")

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        for status in self.ANYWHERE:
            if status not in bodies:
                bodies[status] = self._get_response_for_code(ErrorShape, status)  # type: ignore[no-untyped-call]
        return bodies


def page_of(item: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """The shape of a list of `item`: whole addresses of the neighbours, null at the ends."""
    name = item.__name__.removesuffix("Reply") + "Page"
    fields: dict[str, Any] = {
        "next": serializers.URLField(allow_null=True),
        "previous": serializers.URLField(allow_null=True),
        "results": item(many=True),
        "__doc__": f"A page of {item.__name__.removesuffix('Reply').lower()} rows.",
    }
    page: serializers.Serializer[Any] = type(name, (serializers.Serializer,), fields)()
    return page


def page_parameters(orders: Sequence[str]) -> list[OpenApiParameter]:
    """The parameters of a route that answers with `mem0stack.lib.pagination.paginate`, in these orders."""
    size = {"type": "integer", "minimum": 1, "maximum": MAX_SIZE}
    return [
        OpenApiParameter("page_size", size, description=f"1 to {MAX_SIZE}; {DEFAULT_SIZE} when left out."),
        OpenApiParameter("cursor", str, description="From a page's `next` or `previous`."),
        OpenApiParameter("order", str, enum=orders, description=f"{orders[0]} when left out."),
    ]


PAGE_PARAMETERS = frozenset({"page_size", "cursor", "order"})
