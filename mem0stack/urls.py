"""Every route of the web process."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from accounts import api as accounts_api
from mem0stack import health, metrics
from mem0stack.lib.rest import refuse_unknown
from memories.api import urls as memories_urls

handler400 = "mem0stack.api.bad_request"
handler403 = "mem0stack.api.forbidden"
handler404 = "mem0stack.api.not_found"
handler500 = "mem0stack.api.server_error"


class Root(APIView):
    """Where everything is."""

    @extend_schema(operation_id="root", responses={200: {"type": "object", "additionalProperties": {"type": "string"}}})
    def get(self, request: Request) -> Response:
        """The addresses of REST v2."""
        refuse_unknown(request.query_params, ())
        names = ["memories", "batch", "search", "shares", "categories", "apps", "namespaces", "stats", "me", "keys"]
        return Response({name: reverse(name, request=request) for name in names})


urlpatterns = [
    path("", RedirectView.as_view(pattern_name="docs"), name="home"),
    path("health/", health.overview, name="health"),
    path("health/live", health.live, name="live"),
    path("health/ready", health.ready, name="ready"),
    path("metrics", metrics.Metrics.as_view(), name="metrics"),
    path("api/v2/", Root.as_view(), name="root"),
    path("api/v2/", include(accounts_api)),
    path("api/v2/", include(memories_urls)),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(), name="docs"),
    path("api/redoc/", SpectacularRedocView.as_view(template_name="mem0stack/redoc.html"), name="redoc"),
    path("api/", include("rest_framework.urls")),
    path("admin/", admin.site.urls),
]
