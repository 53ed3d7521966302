"""A user with a key who calls REST v2 through Django's test client: what the tests of that door share."""

from collections.abc import Mapping
from typing import Any

import orjson
from django.test import Client

from accounts.models import User
from accounts.services import create_api_key, create_user

ROOT = "/api/v2/"


class Caller:
    """`get("memories/", q="tea")`, `post("search/", {...})` and so on; replies are Django's, with `.json()`."""

    def __init__(self, user: User | str, **key: Any) -> None:
        self.user = create_user(user) if isinstance(user, str) else user
        self.key, self.plain = create_api_key(self.user, **{"name": "tests", **key})
        self.http = Client()

    def request(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **headers: str) -> Any:
        sent = raw if raw is not None else b"" if body is None else orjson.dumps(body)
        return self.http.generic(
            method,
            path if path.startswith(("/", "http")) else ROOT + path,
            sent,
            content_type=headers.pop("content_type", "application/json"),
            headers={
                "Authorization": f"Bearer {self.plain}",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )

    def get(self, path: str, params: Mapping[str, Any] | None = None, **headers: str) -> Any:
        return self.http.get(
            path if path.startswith(("/", "http")) else ROOT + path,
            params,
            headers={"Authorization": f"Bearer {self.plain}", **headers},
        )

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.request("POST", path, body, **headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.request("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.request("DELETE", path, **headers)

    def remember(self, content: str, **fields: Any) -> dict[str, Any]:
        """A memory that is new, as the door shows it."""
        reply = self.post("memories/", {"content": content, **fields})
        assert reply.status_code == 201, reply.content
        memory: dict[str, Any] = reply.json()
        return memory

    def listed(self, **params: Any) -> list[str]:
        """The contents of a list of memories."""
        reply = self.get("memories/", params)
        assert reply.status_code == 200, reply.content
        return [row["content"] for row in reply.json()["results"]]


def refusal(reply: Any, status: int, code: str) -> dict[str, Any]:
    """The body of a reply that must be this error, in the one shape that errors have."""
    assert reply.status_code == status, (reply.status_code, reply.content[:500])
    assert reply.headers["Content-Type"] == "application/json", reply.headers
    body: dict[str, Any] = reply.json()
    assert set(body) - {"errors"} == {"detail", "code", "request_id"}, body
    assert body["code"] == code, body
    assert body["detail"], body
    assert body["request_id"] == reply.headers["X-Request-ID"], body
    return body
