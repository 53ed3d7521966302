"""Where errors become replies: one shape for every door that speaks HTTP."""

import math
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import DisallowedHost, PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import is_valid_path
from rest_framework import exceptions
from rest_framework.response import Response

from mem0stack.lib.errors import Mem0Error
from mem0stack.lib.failures import DATABASE_ERRORS, database_failure
from mem0stack.lib.metrics import DATABASE_FAILURES
from mem0stack.lib.rest import dumps, first_sentence, plain_errors

log = structlog.get_logger(__name__)

_CODES = {
    400: "invalid_argument",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "invalid_argument",
    413: "too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
}
# A disk is not emptied in a second.
_RETRY_AFTER_S = {503: "1", 507: "30"}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook. None means a bug of ours: Django logs the traceback and `server_error` answers."""
    request_id = context["request"].META.get("HTTP_X_REQUEST_ID", "")
    headers: dict[str, str] = {}
    errors: Any = None
    if isinstance(error, Mem0Error):
        status, code, detail, errors = error.status, error.code, error.detail, error.errors
        if status in _RETRY_AFTER_S:
            headers["Retry-After"] = _RETRY_AFTER_S[status]
        if status == 507:
            DATABASE_FAILURES.labels(code).inc()
    elif isinstance(error, exceptions.ValidationError):
        status, code, errors = 400, "invalid_argument", error.detail
        detail = first_sentence(error.detail)
    elif isinstance(error, exceptions.APIException):
        status, code = error.status_code, _CODES.get(error.status_code, "internal")
        detail = str(error.detail)
        headers = _headers(error)
        if isinstance(error, exceptions.UnsupportedMediaType):
            detail += " Send JSON with 'Content-Type: application/json'."
    elif isinstance(error, Http404):
        status, code, detail = 404, "not_found", "There is no such thing here, or none that you may see."
    elif isinstance(error, PermissionDenied):
        status, code, detail = 403, "forbidden", "This is not allowed for you."
    elif isinstance(error, RequestDataTooBig):
        status, code, detail = 413, "too_large", "The body is too long. Split it."
    elif isinstance(error, DATABASE_ERRORS):
        failure = database_failure(error)
        status, code, detail = failure.status, failure.code, failure.detail
        headers["Retry-After"] = _RETRY_AFTER_S[status]
    else:
        return None
    body = {"detail": detail, "code": code, "request_id": request_id}
    if errors:
        body["errors"] = plain_errors(errors)
    return Response(body, status=status, headers=headers)


def _headers(error: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = str(error.auth_header)  # type: ignore[attr-defined]
    if getattr(error, "wait", None):
        headers["Retry-After"] = str(math.ceil(error.wait))  # type: ignore[attr-defined]
    return headers


def _error_page(request: HttpRequest, status: int, code: str, detail: str) -> HttpResponse:
    body = {"detail": detail, "code": code, "request_id": request.META.get("HTTP_X_REQUEST_ID", "")}
    return HttpResponse(dumps(body), status=status, content_type="application/json")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: what it refuses before a view is found, such as a foreign Host header."""
    if isinstance(exception, RequestDataTooBig):
        return _error_page(request, 413, "too_large", "The body is too long. Split it.")
    detail = "This request cannot be understood."
    if isinstance(exception, DisallowedHost):
        detail = "This host name is not served here. Add it to ALLOWED_HOSTS."
    return _error_page(request, 400, "invalid_argument", detail)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    detail = f"There is nothing at {request.path[:200]}. See /api/docs/ for what there is."
    if request.path == "/mcp" or request.path.startswith("/mcp/"):
        detail = f"MCP is served by a process of its own, at {settings.MCP_URL or 'the port after this one'}."
    if not request.path.endswith("/") and is_valid_path(f"{request.path_info}/"):
        detail = f"Addresses end in a slash: {request.path}/."
    return _error_page(request, 404, "not_found", detail)


def forbidden(request: HttpRequest, exception: Exception | None = None, reason: str = "") -> HttpResponse:
    """Django's handler403, and its view for a failed CSRF check."""
    return _error_page(request, 403, "forbidden", reason or "This is not allowed for you.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500: the traceback is in the log under the request's id."""
    return _error_page(request, 500, "internal", "Something broke on our side. The log has it under this request_id.")
