"""Every kind of bad input gets a 4xx with a sentence that helps, in one shape: never a 5xx, never HTML."""

import contextlib
import gzip
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from tests.rest import ROOT, Caller, refusal
from tests.running import RunningService

UNKNOWN = "01890000-0000-7000-8000-000000000000"
WRONG = {
    "null": None,
    "true": True,
    "number": 5,
    "fraction": 1.5,
    "text": "rubbish",
    "empty": "",
    "blank": " ",
    "list": [1],
    "nested list": [[["a"]]],
    "object": {"a": {"b": 1}},
    "huge": 10**18,
    "long": "x" * 25_000,
    "NUL": "a\x00b",
}
# What each field of these bodies takes of WRONG; everything else must be refused.
_LABEL = {"null", "text"}
_NULLABLE_TIME = {"null"}
_METADATA = {"object"}
TAKEN: dict[str, dict[str, set[str]]] = {
    "add": {
        "content": {"text"},
        "messages": set(),
        "kind": set(),
        "metadata": _METADATA,
        "tags": set(),
        "categories": set(),
        "namespace": {"text"},
        "app": {"text"},
        "user_id": _LABEL,
        "agent_id": _LABEL,
        "run_id": _LABEL,
        "seq": {"null"},
        "speaker": _LABEL,
        "event_at": _NULLABLE_TIME,
        "valid_from": _NULLABLE_TIME,
        "valid_to": _NULLABLE_TIME,
        "expires_at": _NULLABLE_TIME,
        "pinned": {"true"},
        "infer": {"true"},
        "idempotency_key": {"text"},
        "allow_secret": {"true"},
    },
    "update": {
        "content": {"text"},
        "kind": set(),
        "metadata": _METADATA,
        "tags": set(),
        "categories": set(),
        "namespace": {"text"},
        "speaker": _LABEL,
        "event_at": set(),
        "valid_from": _NULLABLE_TIME,
        "valid_to": _NULLABLE_TIME,
        "expires_at": _NULLABLE_TIME,
        "pinned": {"true"},
        "state": set(),
        "standing": set(),
        "superseded_by": {"null"},
        "expected_version": set(),
        "allow_secret": {"true"},
        "idempotency_key": {"text"},
    },
    "search": {
        "query": {"text"},
        "top_k": {"number"},
        "filters": set(),
        "threshold": set(),
        "namespace": {"text"},
        "as_of": set(),
        "expand": {"number"},
        "explain": {"true"},
        "token_budget": {"number"},
    },
    "batch": {"operations": set(), "atomic": {"true"}, "idempotency_key": {"text"}},
}
BASE = {
    "add": {"content": "Something."},
    "update": {"tags": ["a"]},
    "search": {"query": "something"},
    "batch": {"operations": [{"op": "add", "content": "Something."}]},
}


@pytest.fixture
def alice(db: None) -> Caller:
    return Caller("alice", scopes=["read", "write", "admin"])


def send(caller: Caller, form: str, body: Any) -> Any:
    if form == "update":
        memory = caller.remember(f"Before {uuid.uuid4()}.")
        return caller.patch(f"memories/{memory['id']}/", body)
    return caller.post({"add": "memories/", "search": "search/", "batch": "memories/batch/"}[form], body)


@pytest.mark.parametrize(("form", "field"), [(form, field) for form, fields in TAKEN.items() for field in fields])
def test_a_field_takes_what_it_is_for_and_refuses_the_rest_by_name(alice: Caller, form: str, field: str) -> None:
    for kind, value in WRONG.items():
        reply = send(alice, form, BASE[form] | {field: value})
        if (field, kind) == ("expected_version", "number"):
            refusal(reply, 409, "conflict")
        elif kind in TAKEN[form][field]:
            assert reply.status_code in (200, 201), (kind, reply.content[:300])
        else:
            body = refusal(reply, 400, "invalid_argument")
            assert field in body["detail"] or any(field in name for name in body.get("errors", {})), (kind, body)


@pytest.mark.parametrize(("form", "field"), [("add", "tags"), ("add", "categories"), ("update", "tags")])
@pytest.mark.parametrize("entry", [5, None, "", " ", "x" * 200, [], {}, "a\x00"], ids=lambda value: ascii(value)[:10])
def test_a_bad_entry_of_a_list_is_refused(alice: Caller, form: str, field: str, entry: Any) -> None:
    assert field in refusal(send(alice, form, BASE[form] | {field: ["good", entry]}), 400, "invalid_argument")["errors"]


@pytest.mark.parametrize(
    "message",
    [
        5,
        None,
        [],
        {},
        {"role": "user"},
        {"content": "x"},
        {"role": "robot", "content": "x"},
        {"role": "user", "content": 5},
        {"role": "user", "content": ""},
        {"role": "user", "content": "x", "time": 1},
        {"role": None, "content": "x"},
        {"role": ["user"], "content": "x"},
        {"role": "user", "content": "x", "name": 5},
    ],
    ids=str,
)
def test_a_bad_message_is_refused(alice: Caller, message: Any) -> None:
    body = {"messages": [{"role": "user", "content": "Good."}, message]}

    refusal(alice.post("memories/", body), 400, "invalid_argument")
    assert alice.listed() == []


def test_too_many_of_anything_is_refused(alice: Caller) -> None:
    for body in (
        {"content": "x", "tags": [f"t{n}" for n in range(51)]},
        {"content": "x", "categories": [f"c{n}" for n in range(21)]},
        {"messages": [{"role": "user", "content": "x"}] * 1001},
        {"content": "x", "metadata": {"a": "x" * 17_000}},
        {"content": "x", "metadata": {str(n): n for n in range(5000)}},
    ):
        refusal(alice.post("memories/", body), 400, "invalid_argument")


@pytest.mark.parametrize("depth", [17, 200, 900])
def test_metadata_nested_too_deep_is_refused(alice: Caller, depth: int) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    reply = alice.request("POST", "memories/", raw=b'{"content":"x","metadata":' + deep + b"}")

    assert "metadata" in refusal(reply, 400, "invalid_argument")["errors"]


@pytest.mark.parametrize(
    "moment",
    [
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "0001-01-01T00:00:00+01:00",
        "2026-01-01T00:00:00+99:00",
        "2026-01-01T00:00:00Z; DROP TABLE",
        "yesterday",
        "1700000000",
        "２０２６-01-01T00:00:00Z",
    ],
)
def test_a_time_that_does_not_exist_is_refused(alice: Caller, moment: str) -> None:
    for form, field in (("add", "event_at"), ("add", "expires_at"), ("update", "valid_from"), ("search", "as_of")):
        assert field in refusal(send(alice, form, BASE[form] | {field: moment}), 400, "invalid_argument")["errors"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2024-02-29T23:59:59+14:00"])
def test_the_ends_of_time_are_taken(alice: Caller, moment: str) -> None:
    memory = alice.remember("Edge.", event_at=moment, valid_from="0001-01-01T00:00:00Z", valid_to=moment)

    assert alice.get(f"memories/{memory['id']}/").status_code == 200
    assert alice.get("memories/", {"order": "event_at", "page_size": 1}).status_code == 200
    assert alice.post("search/", {"query": "edge", "as_of": moment}).status_code == 200


# Bodies --------------------------------------------------------------------------------------------------------------

BODIES: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  ",
    "not JSON": b"content=Something",
    "half": b'{"content": "x"',
    "trailing": b'{"content": "x"} {"content": "y"}',
    "null": b"null",
    "list": b'[{"content": "x"}]',
    "text": b'"content"',
    "number": b"5",
    "true": b"true",
    "NaN": b'{"content": "x", "metadata": {"a": NaN}}',
    "Infinity": b'{"content": "x", "metadata": {"a": -Infinity}}',
    "overflowing number": b'{"content": "x", "metadata": {"a": 1e999}}',
    "lone surrogate": b'{"content": "a\\ud800b"}',
    "lone low surrogate": b'{"content": "x", "metadata": {"\\udc00": 1}}',
    "raw surrogate": b'{"content": "a\xed\xa0\x80b"}',
    "not UTF-8": b'{"content": "\xff\xfe"}',
    "UTF-16": '{"content": "x"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"content": "x"}',
    "NUL": b'{"content": "a\\u0000b"}',
    "raw NUL": b'{"content": "a\x00b"}',
    "raw newline": b'{"content": "a\nb"}',
    "single quotes": b"{'content': 'x'}",
    "comment": b'{"content": "x"} // why',
    "deep list": b'{"content": "x", "metadata": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "unclosed depth": b"[" * 100_000,
    "huge number": b'{"content": "x", "seq": ' + b"9" * 100_000 + b', "run_id": "r"}',
    "unknown field": b'{"content": "x", "colour": "red"}',
    "field in other case": b'{"Content": "x"}',
    "empty key": b'{"content": "x", "": 1}',
    "gzip": gzip.compress(b'{"content": "x"}'),
    "many unknown fields": orjson.dumps({f"f{n}": n for n in range(50_000)}),
    "many bad tags": orjson.dumps({"content": "x", "tags": [5] * 1_000_000}),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_cannot_be_read_is_refused(alice: Caller, name: str) -> None:
    reply = alice.request("POST", "memories/", raw=BODIES[name])

    refusal(reply, 400, "invalid_argument")
    assert len(reply.content) < 200_000
    assert alice.listed() == []


@pytest.mark.parametrize("path", ["search/", "memories/batch/", "keys/", "shares/", "categories/"])
@pytest.mark.parametrize("name", ["empty", "not JSON", "list", "deep object", "lone surrogate", "unknown field"])
def test_every_route_refuses_such_bodies(alice: Caller, path: str, name: str) -> None:
    refusal(alice.request("POST", path, raw=BODIES[name]), 400, "invalid_argument")


def test_the_last_of_two_equal_keys_counts(alice: Caller) -> None:
    # RFC 8259 leaves it open, every JSON reader does it so, and finding doubles would read each body twice.
    reply = alice.request("POST", "memories/", raw=b'{"content": "one", "content": "two"}')

    assert (reply.status_code, reply.json()["content"]) == (201, "two")


def test_a_body_over_the_limit_is_413(alice: Caller) -> None:
    for path in ("memories/", "search/", "memories/batch/"):
        reply = alice.request("POST", path, raw=orjson.dumps({"content": "x" * 10_000_000}))
        refusal(reply, 413, "too_large")


def test_a_text_over_its_own_limit_is_400(alice: Caller) -> None:
    body = refusal(alice.post("memories/", {"content": "x" * 3_000_000}), 400, "invalid_argument")

    assert "20000" in body["detail"]
    assert alice.post("memories/", {"content": "é" * 20_000}).status_code == 201


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [
        ("application/x-www-form-urlencoded", b"content=x"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="content"\r\n\r\nx\r\n--b--'),
        ("multipart/form-data", b"rubbish"),
        ("application/xml", b"<content>x</content>"),
        ("text/plain", b'{"content": "x"}'),
        ("text/html", b"<p>"),
        ("application/octet-stream", b"\x00"),
        ("application/merge-patch+json", b'{"content": "x"}'),
        ("rubbish", b'{"content": "x"}'),
        ("/", b'{"content": "x"}'),
        ("application/jsonx", b'{"content": "x"}'),
        ("", b'{"content": "x"}'),
    ],
)
def test_another_content_type_is_415_and_says_which_to_send(alice: Caller, content_type: str, raw: bytes) -> None:
    for method, path in (("POST", "memories/"), ("POST", "search/"), ("PATCH", f"memories/{UNKNOWN}/")):
        body = refusal(alice.request(method, path, raw=raw, content_type=content_type), 415, "unsupported_media_type")
        assert "application/json" in body["detail"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json;"])
def test_json_by_any_spelling_is_taken(alice: Caller, content_type: str) -> None:
    assert alice.request("POST", "memories/", raw=b'{"content": "x"}', content_type=content_type).status_code == 201


@pytest.mark.parametrize("accept", ["application/xml", "image/png", "text/csv, application/pdf", "rubbish", "*"])
def test_an_accept_that_cannot_be_served_is_406_in_json(alice: Caller, accept: str) -> None:
    refusal(alice.get("memories/", Accept=accept), 406, "invalid_argument")


@pytest.mark.parametrize("accept", ["*/*", "application/*", "application/json, */*;q=0.1", "application/json;q=x"])
def test_an_accept_that_allows_json_gets_json(alice: Caller, accept: str) -> None:
    reply = alice.get("memories/", Accept=accept)

    assert (reply.status_code, reply["Content-Type"]) == (200, "application/json")


# Addresses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "memories/"),
        ("PATCH", "memories/"),
        ("GET", "memories/batch/"),
        ("DELETE", "memories/batch/"),
        ("PUT", f"memories/{UNKNOWN}/"),
        ("POST", f"memories/{UNKNOWN}/"),
        ("GET", f"memories/{UNKNOWN}/restore/"),
        ("POST", f"memories/{UNKNOWN}/history/"),
        ("GET", "search/"),
        ("DELETE", "me/"),
        ("POST", "stats/"),
        ("GET", f"keys/{UNKNOWN}/"),
        ("TRACE", "memories/"),
        ("BREW", "memories/"),
    ],
)
def test_a_wrong_method_is_405_with_those_allowed(alice: Caller, method: str, path: str) -> None:
    reply = alice.request(method, path)

    refusal(reply, 405, "method_not_allowed")
    assert method not in reply["Allow"].split(", ")


@pytest.mark.parametrize(
    "path",
    [
        "memories/5/",
        "memories/rubbish/",
        f"memories/{UNKNOWN.upper()}/",
        f"memories/{UNKNOWN}/rubbish/",
        f"memories/{UNKNOWN}{UNKNOWN}/",
        "memories/%00/",
        "memories/%ff%fe/",
        "memories/%ED%A0%80/",
        "memories/../../etc/passwd",
        "memories/" + "x" * 3000 + "/",
        "unknown/",
        "shares/5/",
        "keys/me/",
        "/nowhere/",
        "/api/v3/memories/",
        "/api/v2/memories/;a=b/",
    ],
    ids=lambda path: path[:40],
)
def test_an_address_of_nothing_is_404_in_json(alice: Caller, path: str) -> None:
    refusal(alice.get(path), 404, "not_found")


def test_without_its_slash_a_reader_is_redirected_and_a_writer_is_told(alice: Caller) -> None:
    moved = alice.get("memories?q=a")

    assert (moved.status_code, moved["Location"]) == (301, "/api/v2/memories/?q=a")
    for method, path in (("POST", "search"), ("POST", "memories"), ("PATCH", f"memories/{UNKNOWN}")):
        body = refusal(alice.request(method, path, {"query": "x"}), 404, "not_found")
        assert f"{ROOT}{path}/" in body["detail"]


@pytest.mark.parametrize(
    "query",
    [
        "%00=1",
        "user_id=%00",
        "user_id=%ff%fe",
        "user_id=%ED%A0%80",
        "q=%00",
        "=x",
        "&".join(f"a{n}=1" for n in range(1500)),
        "&".join("user_id=a" for _ in range(1001)),
        "a" * 5000 + "=1",
        "cursor=" + "x" * 5000,
        "cursor=%00",
        "order[]=created_at",
    ],
    ids=lambda query: query[:20],
)
def test_a_query_string_of_rubbish_is_never_a_server_error(alice: Caller, query: str) -> None:
    reply = alice.request("GET", f"memories/?{query}")

    if reply.status_code != 200:  # U+FFFD is a name like any other
        refusal(reply, 400, "invalid_argument")


def test_others_ids_and_unknown_ids_are_told_apart_nowhere(alice: Caller) -> None:
    theirs = Caller("bob").remember("Bob's.")["id"]

    def told(memory_id: str) -> list[Any]:
        path = f"memories/{memory_id}/"
        replies = [
            alice.get(path),
            alice.patch(path, {"content": "x"}),
            alice.delete(path),
            alice.post(path + "restore/"),
            alice.post(path + "feedback/", {"verdict": "wrong"}),
            alice.get(path + "history/"),
            alice.post("shares/", {"grantee": "bob", "memory": memory_id}),
            alice.patch(f"memories/{alice.remember(uuid.uuid4().hex)['id']}/", {"superseded_by": memory_id}),
            alice.post("memories/batch/", {"operations": [{"op": "delete", "id": memory_id}]}),
        ]
        return [(reply.status_code, {**reply.json(), "request_id": ""}) for reply in replies]

    assert told(theirs) == told(UNKNOWN)


def test_a_foreign_host_header_is_400_in_json(alice: Caller) -> None:
    reply = alice.http.get(ROOT + "me/", headers={"Host": "evil.example", "Authorization": f"Bearer {alice.plain}"})

    assert "ALLOWED_HOSTS" in refusal(reply, 400, "invalid_argument")["detail"]


# Over the wire: the server in front of Django has its own opinions ----------------------------------------------------


@pytest.fixture(scope="module")
def client(service: RunningService) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def chunked(raw: bytes) -> Iterator[bytes]:
    for start in range(0, len(raw), 65_536):
        yield raw[start : start + 65_536]


JSON = {"Content-Type": "application/json"}


class _Wire:
    """An httpx reply, as `refusal` reads it."""

    def __init__(self, reply: httpx.Response) -> None:
        self.status_code, self.headers, self.content, self.json = (
            reply.status_code,
            reply.headers,
            reply.content,
            reply.json,
        )


def test_over_the_wire_a_chunked_body_is_read(client: httpx.Client) -> None:
    text = f"Chunked {uuid.uuid4()}."

    reply = client.post(ROOT + "memories/", content=chunked(orjson.dumps({"content": text})), headers=JSON)

    assert (reply.status_code, reply.json().get("content")) == (201, text), reply.text


def test_over_the_wire_a_body_over_the_limit_is_413_with_and_without_a_length(client: httpx.Client) -> None:
    raw = orjson.dumps({"content": "x" * 10_000_000})

    for content in [body for _ in range(10) for body in (raw, chunked(raw))]:
        refusal(_Wire(client.post(ROOT + "memories/", content=content, headers=JSON)), 413, "too_large")
    assert client.get(ROOT + "me/").status_code == 200


@pytest.mark.parametrize("name", ["empty", "not JSON", "lone surrogate", "not UTF-8", "deep object", "NaN", "raw NUL"])
def test_over_the_wire_bad_bodies_are_refused(client: httpx.Client, name: str) -> None:
    for content in (BODIES[name], chunked(BODIES[name])):
        reply = client.post(ROOT + "memories/", content=content, headers=JSON)
        refusal(_Wire(reply), 400, "invalid_argument")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("memories/%00/", 404),
        ("memories/%ff/", 404),
        ("memories/?q=%00", 400),
        ("memories/?cursor=%ff", 400),
        ("memories/?colour=red", 400),
        ("memories/x/", 404),
    ],
)
def test_over_the_wire_bad_addresses_are_refused(client: httpx.Client, path: str, status: int) -> None:
    code = "not_found" if status == 404 else "invalid_argument"

    refusal(_Wire(client.get(ROOT + path)), status, code)


def test_over_the_wire_a_form_and_a_wrong_method_are_refused(client: httpx.Client) -> None:
    refusal(_Wire(client.post(ROOT + "memories/", data={"content": "x"})), 415, "unsupported_media_type")
    refusal(_Wire(client.post(ROOT + "memories/", files={"content": b"x"})), 415, "unsupported_media_type")
    refusal(_Wire(client.put(ROOT + "memories/", json={})), 405, "method_not_allowed")


def test_over_the_wire_a_long_header_is_refused_and_the_service_goes_on(client: httpx.Client) -> None:
    for size in (9_000, 60_000, 1_000_000):
        with contextlib.suppress(httpx.TransportError):  # the server may hang up on it
            assert 400 <= client.get(ROOT + "me/", headers={"Authorization": "Bearer " + "x" * size}).status_code < 500
    assert client.get(ROOT + "me/").status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: abc\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: rubbish\r\n",
        b"X-Request-ID: \xff\xfe\r\nContent-Length: 2\r\n",
        b"Authorization: Bearer \xc3\xa9\r\nContent-Length: 2\r\n",
        b"Bad Header\r\n",
    ],
    ids=lambda head: repr(head)[2:40],
)
def test_over_the_wire_a_broken_head_is_refused_and_the_service_goes_on(
    service: RunningService, client: httpx.Client, head: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as wire:
        wire.sendall(
            b"POST /api/v2/memories/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\n" + head + b"\r\n{}"
        )
        wire.shutdown(socket.SHUT_WR)
        answer = b""
        while part := wire.recv(65_536):
            answer += part

    assert not answer or 400 <= int(answer.split(b" ")[1]) < 500, answer[:300]
    assert b"<html" not in answer.lower()
    assert client.get(ROOT + "me/").status_code == 200


def test_over_the_wire_a_body_shorter_than_its_length_harms_nobody(
    service: RunningService, client: httpx.Client
) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as wire:
        wire.sendall(
            b"POST /api/v2/memories/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer " + service.api_key.encode() + b'\r\nContent-Length: 500\r\n\r\n{"content": '
        )

    assert client.get(ROOT + "me/").status_code == 200
