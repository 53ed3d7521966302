from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, path


def live(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


urlpatterns: list[URLPattern] = [path("health/live", live)]
