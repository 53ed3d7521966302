"""One request id from the first line of a request to the last, in the logs and in the reply; and its time."""

import re
import uuid
from collections.abc import Callable
from time import perf_counter
from typing import Any

import structlog
from django.conf import settings
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.middleware.common import CommonMiddleware
from django_structlog import signals
from django_structlog.middlewares import RequestMiddleware as StructlogRequestMiddleware

from mem0stack.lib.metrics import REQUEST_SECONDS, REQUESTS_IN_PROGRESS

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def measure(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Times each request by its route's pattern, so that no caller can make a label. Costs 5 microseconds."""

    def measured(request: HttpRequest) -> HttpResponse:
        began = perf_counter()
        REQUESTS_IN_PROGRESS.inc()
        try:
            response = get_response(request)
        finally:
            REQUESTS_IN_PROGRESS.dec()
        route = request.resolver_match.route if request.resolver_match else "none"
        method = request.method if request.method in _METHODS else "other"
        REQUEST_SECONDS.labels(method, route, f"{response.status_code // 100}xx").observe(perf_counter() - began)
        return response

    return measured


class RequestMiddleware(StructlogRequestMiddleware):
    """Takes a caller's `X-Request-ID` when it is a plain word, makes one otherwise, and logs without query strings."""

    def prepare(self, request: HttpRequest) -> None:
        # Not by request.headers, which would keep what it saw before the id was there.
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = given if _ACCEPTED_ID.fullmatch(given) else str(uuid.uuid4())
        request.META["HTTP_X_REQUEST_ID"] = request_id
        super().prepare(request)

    @staticmethod
    def format_request(request: HttpRequest) -> str:
        # A query string may hold what somebody searched for, and logs never hold memory text.
        return f"{request.method} {request.path}"

    @classmethod
    def bind_ip(cls, request: HttpRequest) -> None:
        # What a header says of the caller's address counts only where a proxy has written it.
        if settings.BEHIND_PROXY:
            super().bind_ip(request)
        else:
            structlog.contextvars.bind_contextvars(ip=request.META.get("REMOTE_ADDR"))


class SlashMiddleware(CommonMiddleware):
    """Adds a missing slash for readers alone: a client that is redirected sends its POST again as a GET."""

    def should_redirect_with_slash(self, request: HttpRequest) -> bool:
        return request.method in ("GET", "HEAD") and super().should_redirect_with_slash(request)


@receiver(signals.update_failure_response)
@receiver(signals.bind_extra_request_finished_metadata)
def add_headers(request: HttpRequest, response: HttpResponse, **_: Any) -> None:
    response["X-Request-ID"] = request.META["HTTP_X_REQUEST_ID"]
    if allowance := getattr(request, "allowance", None):
        response["RateLimit-Limit"] = allowance.limit
        response["RateLimit-Remaining"] = allowance.remaining
        response["RateLimit-Reset"] = allowance.reset_s
