"""The calls that are timed, each with what makes its reply a right one."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from mem0stack.bench import client
from mem0stack.bench.client import Reply
from mem0stack.bench.corpus import Owner, new_texts

BATCH = 100
_PAGE = 50

# What is wrong with a reply, or None.
Check = Callable[[Reply], str | None]


@dataclass
class User:
    """One owner, who calls with a key. Reads and updates take `kept` ids and deletes `doomed` ones, so that no call
    can spoil another's reply, and none touches what searches look for."""

    owner: Owner
    key: str
    kept: deque[str] = field(default_factory=deque)
    doomed: deque[str] = field(default_factory=deque)


@dataclass(frozen=True)
class Call:
    request: bytes
    check: Check


class Calls:
    """Makes calls of any kind for any user; deterministic by the seed."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)  # noqa: S311  no secret
        self._texts = new_texts(f"{seed}")
        self._kinds: dict[str, Callable[[User], Call]] = {
            "me": self._me,
            "search": self._search,
            "get": self._get,
            "list": self._list,
            "create": self._create,
            "update": self._update,
            "delete": self._delete,
            "batch": self.batch,
        }

    def make(self, kind: str, user: User) -> Call:
        """Raises IndexError when the user has nothing left to delete."""
        return self._kinds[kind](user)

    def batch(self, user: User, size: int = BATCH, *, keep: deque[str] | None = None) -> Call:
        """So many new memories in one request; their ids are added to `keep`."""
        operations = [{"op": "add", "content": next(self._texts), "tags": ["bench"]} for _ in range(size)]

        def check(status: int, body: Any) -> str | None:
            if status != 200 or body.get("written") != size:
                return f"{body.get('written')} of {size} were written, status {status}"
            if keep is not None:
                keep.extend(one["id"] for one in body["results"])
            return None

        return _call(user, "POST", "/api/v2/memories/batch/", check, {"operations": operations})

    def _me(self, user: User) -> Call:
        def check(status: int, body: Any) -> str | None:
            return None if status == 200 and body["username"] == user.owner.name else f"another, status {status}"

        return _call(user, "GET", "/api/v2/me/", check)

    def _search(self, user: User) -> Call:
        place = self._draw.randrange(user.owner.size)
        text, least = user.owner.text(place), min(10, user.owner.size)

        def check(status: int, body: Any) -> str | None:
            if status != 200:
                return f"status {status}"
            found = [result["content"] for result in body["results"]]
            if not least <= len(found) <= 10:
                return f"{len(found)} results instead of {least}"
            return None if text in found else "the text that was asked for is not among the results"

        return _call(user, "POST", "/api/v2/search/", check, {"query": user.owner.query(place, self._draw)})

    def _get(self, user: User) -> Call:
        wanted = user.kept[self._draw.randrange(len(user.kept))]

        def check(status: int, body: Any) -> str | None:
            return None if status == 200 and body["id"] == wanted else f"another memory, status {status}"

        return _call(user, "GET", f"/api/v2/memories/{wanted}/", check)

    def _list(self, user: User) -> Call:
        least = min(_PAGE, user.owner.size)

        def check(status: int, body: Any) -> str | None:
            if status != 200:
                return f"status {status}"
            rows = len(body["results"])
            return None if least <= rows <= _PAGE else f"{rows} rows instead of {least}"

        return _call(user, "GET", f"/api/v2/memories/?page_size={_PAGE}", check)

    def _create(self, user: User) -> Call:
        content = next(self._texts)

        def check(status: int, body: Any) -> str | None:
            return None if status == 201 and body["content"] == content else f"not stored, status {status}"

        return _call(user, "POST", "/api/v2/memories/", check, {"content": content, "tags": ["bench"]})

    def _update(self, user: User) -> Call:
        # Nobody else changes it meanwhile: two that do would each be told the later one's text.
        chosen, content = user.kept.popleft(), next(self._texts)

        def check(status: int, body: Any) -> str | None:
            user.kept.append(chosen)
            return None if status == 200 and body["content"] == content else f"not changed, status {status}"

        return _call(user, "PATCH", f"/api/v2/memories/{chosen}/", check, {"content": content})

    def _delete(self, user: User) -> Call:
        def check(status: int, body: Any) -> str | None:
            return None if status == 200 and body["event"] == "DELETE" else f"not deleted, status {status}"

        return _call(user, "DELETE", f"/api/v2/memories/{user.doomed.popleft()}/", check)


def _call(user: User, method: str, path: str, check: Callable[[int, Any], str | None], body: Any = None) -> Call:
    payload = b"" if body is None else orjson.dumps(body)

    def whole(reply: Reply) -> str | None:
        try:
            return check(reply.status, orjson.loads(reply.body))
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"unreadable, status {reply.status}"

    return Call(client.request(method, path, user.key, payload), whole)
