"""The way in over HTTP: hosts and origins, which address is what, and who is calling. Only then does the SDK see it."""

import json
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime
from typing import Any

import structlog
from anyio.to_thread import run_sync
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.inbound import decode_header_value
from rest_framework.exceptions import AuthenticationFailed
from starlette.datastructures import Headers

from accounts import services as accounts
from accounts.actors import Actor
from accounts.authentication import note_use, plain_key
from accounts.models import ApiKey
from mcp_bridge.connections import Connection, client_name
from mcp_bridge.threads import in_thread
from mem0stack.lib.errors import Mem0Error
from mem0stack.lib.remotes import project_key
from memories.models import LABEL_LENGTH
from memories.parts import overall, recent_parts

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Where the scope of a request holds its Connection, for the tools.
CONNECTION = "mem0.connection"
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_MAX_PROJECT = 200
_HINT = "Send one as 'Authorization: Bearer m0_...'; `manage.py create_api_key USER` makes one."
_NO_KEY = f"A key is needed. {_HINT}"
_UNKNOWN = f"This key is unknown, expired or revoked. {_HINT}"


class Gate:
    """An ASGI application around the session manager. Knows no state of its own, so any process may answer."""

    def __init__(self, sessions: StreamableHTTPSessionManager) -> None:
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        path = scope["path"].removesuffix("/") or "/"
        if path == "/mcp/live":
            return await _reply(send, 200, {"status": "ok"})
        if not _allowed(headers.get("host", ""), settings.MCP_ALLOWED_HOSTS):
            hint = "This host name is not served here. Add it to MCP_ALLOWED_HOSTS."
            return await _reply(send, 421, {"error": "misdirected_request", "hint": hint})
        origin = headers.get("origin")
        if origin and not _allowed(origin.partition("://")[2], settings.MCP_ALLOWED_ORIGINS):
            hint = "Pages of this origin may not call. Add it to MCP_ALLOWED_ORIGINS."
            return await _reply(send, 403, {"error": "forbidden", "hint": hint})
        if path == "/mcp/health" and scope["method"] in ("GET", "HEAD"):
            return await self._health(send)
        if path != "/mcp":
            return await _reply(send, 404, {"error": "not_found", "hint": "MCP is served at /mcp, by POST."})
        if scope["method"] != "POST":
            # At once: a client that opens a stream waits for it, and one that finds none goes on without.
            return await _empty(send, 405, [(b"allow", b"POST")])
        return await self._call(scope, receive, send, headers)

    async def _call(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        request_id = headers.get("x-request-id", "")
        if not _ACCEPTED_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex[:12]
        try:
            plain = plain_key(headers)
            # In a thread: nearly always the process knows the key, and else it asks PostgreSQL.
            key = await in_thread(lambda: accounts.find_api_key(plain)) if plain else None
            if key is None:
                raise AuthenticationFailed(_UNKNOWN if plain else _NO_KEY)
        except AuthenticationFailed as refused:
            body = {"error": "unauthorized", "hint": str(refused.detail), "request_id": request_id}
            return await _reply(send, 401, body, [(b"www-authenticate", b"Bearer")])
        except Mem0Error as error:
            body = {"error": error.code, "hint": error.detail, "request_id": request_id}
            return await _reply(send, error.status, body, [(b"retry-after", b"1")] if error.status == 503 else [])
        if not key.user.is_active:
            hint = "This account is disabled. Ask whoever runs the service."
            return await _reply(send, 403, {"error": "forbidden", "hint": hint, "request_id": request_id})
        note_use(key)
        scope[CONNECTION] = _connection(headers, key, request_id)
        # What the SDK knows a caller by; the key itself stays here.
        known: dict[str, Any] = {
            "token": "",
            "client_id": str(key.pk),
            "scopes": list(key.scopes),
            "subject": str(key.user.uuid),
        }
        scope["user"] = AuthenticatedUser(AccessToken(**known))
        return await self._sessions.handle_request(scope, receive, send)

    async def _health(self, send: Send) -> None:
        found = await run_sync(recent_parts)
        status = overall(found)
        names = {"database": "db", "worker": "queue"}
        shown = {names.get(name, name): part.status for name, part in found.items()}
        body = {"status": status, "version": settings.VERSION, "graph": "absent"} | shown
        await _reply(send, 503 if status == "down" else 200, body)


def connection_of(context: Any) -> Connection:
    """The caller of a request, as the gate has found."""
    found: Connection = context.request.scope[CONNECTION]
    return found


def _connection(headers: Headers, key: ApiKey, request_id: str) -> Connection:
    # As MCP encodes what a header cannot carry: a folder's name may be in any script.
    client = client_name(decode_header_value(headers.get("x-mem0-client", "")) or "")
    project = decode_header_value(headers.get("x-mem0-project", "")) or ""
    run = headers.get("x-mem0-run", "").strip()
    return Connection(
        actor=Actor.from_key(key, door="mcp", app=client or None, request_id=request_id),
        request_id=request_id,
        project=project_key(project[:_MAX_PROJECT]),
        run=run if run and run.isprintable() and len(run) <= LABEL_LENGTH else None,
        said_at=_moment(headers.get("x-mem0-said-at", "")),
    )


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _allowed(host: str, allowed: list[str]) -> bool:
    """As Django compares hosts: without the port, `.example.com` for all below it, `*` for any."""
    return validate_host(split_domain_port(host)[0], allowed)


async def _reply(send: Send, status: int, body: dict[str, Any], more: list[tuple[bytes, bytes]] | None = None) -> None:
    raw = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode()), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": raw})


async def _empty(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
