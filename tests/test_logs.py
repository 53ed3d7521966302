"""No log of a service holds a word of what somebody wrote, asked or proved to be, whatever goes wrong meanwhile."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from mem0stack.lib.home import Home
from mem0stack.logs import without_messages
from tests.running import Launcher, RunningService, running_service

# What may be in no log: `planted` makes one for each place.
_MARK = "zqxcanary"
_PASSWORD = "Zqxcanary-Pa55word!"
LOGS = {"web.log", "worker.log", "postgres.log", "valkey.log", "supervisor.log"}


def planted(place: str) -> str:
    return f"{_MARK}{place}"


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    """With the most that is logged, and statements that end after 0.7 s."""
    environ = {"LOG_LEVEL": "DEBUG", "DATABASE_STATEMENT_TIMEOUT_MS": "700"}
    with running_service(replace(Launcher(), environ=environ)) as running:
        yield running


@contextmanager
def as_owner(service: RunningService) -> Iterator[psycopg.Connection[Any]]:
    address = {"host": str(Home(service.home).postgres_socket_dir), "dbname": "mem0", "user": "mem0_owner"}
    with psycopg.connect(**address, autocommit=True) as owner:  # type: ignore[arg-type]
        yield owner


def leaks(home: Path, secrets: set[str]) -> list[str]:
    found = []
    for path in sorted((home / "logs").iterdir()):
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            found += [
                f"{path.name}:{number} holds {secret}: {line[:300]}" for secret in secrets if secret in line.lower()
            ]
    return found


def say(client: httpx.Client, expected: int, method: str, path: str, **request: Any) -> httpx.Response:
    reply = client.request(method, path, **request)
    assert reply.status_code == expected, (method, path, reply.status_code, reply.text[:300])
    return reply


def test_logs_hold_no_text_no_query_and_no_key(service: RunningService) -> None:
    made = {
        "content": f"The {planted('content')} is {_PASSWORD}",
        "metadata": {planted("metakey"): planted("metavalue"), "password": _PASSWORD},
        "tags": [planted("tag")],
        "categories": [planted("category")],
        "namespace": planted("namespace"),
        "app": planted("app"),
        "user_id": planted("user"),
        "agent_id": planted("agent"),
        "run_id": planted("run"),
        "speaker": planted("speaker"),
        "allow_secret": True,
    }
    vendor_key = "sk-proj-" + "Zqx9canary" * 5
    stranger = "m0_zqxcanar" + "Q" * 32
    with service.client() as client:
        memory = say(client, 201, "POST", "/api/v2/memories/", json=made).json()
        place = f"/api/v2/memories/{memory['id']}/"
        other = say(client, 201, "POST", "/api/v2/memories/", json={"content": f"Other {planted('other')}"}).json()
        key = say(client, 201, "POST", "/api/v2/keys/", json={"name": planted("keyname")}).json()["key"]

        # What is asked for.
        asked = {"query": f"what is {planted('query')}", "filters": {"metadata": {"x": planted("filter")}}}
        say(client, 200, "POST", "/api/v2/search/", json=asked)
        params = {"q": planted("q"), "tags": planted("listed"), "metadata.x": planted("listedmeta")}
        say(client, 200, "GET", "/api/v2/memories/", params=params)
        say(
            client,
            200,
            "GET",
            "/api/v2/me/",
            headers={
                "X-Mem0-App": planted("appheader"),
                "Cookie": planted("cookie"),
                "X-Correlation-ID": planted("correlation"),
                "X-Request-ID": f"no {planted('requestid')}",
            },
        )

        # What is refused.
        say(client, 422, "POST", "/api/v2/memories/", json={"content": f"My key: {vendor_key}"})
        for raw in (
            f'{{"content": "{planted("broken")}',
            f'{{"content": "{planted("control")}\x00"}}',
            planted("bare"),
        ):
            say(client, 400, "POST", "/api/v2/memories/", content=raw, headers={"Content-Type": "application/json"})
        say(client, 415, "POST", "/api/v2/memories/", content=planted("form"), headers={"Content-Type": "text/plain"})
        say(client, 400, "POST", "/api/v2/memories/", json={"content": 7, planted("field"): planted("fieldvalue")})
        say(client, 400, "POST", "/api/v2/search/", json={"query": "x", "filters": {planted("badfilter"): 1}})
        say(client, 400, "GET", "/api/v2/memories/", params={planted("parameter"): planted("parametervalue")})
        say(client, 404, "GET", f"/api/v2/memories/{other['id'][:-4]}0000/", params={})
        say(client, 409, "PATCH", place, json={"content": planted("conflict"), "expected_version": 99})
        third = say(client, 201, "POST", "/api/v2/memories/", json={"content": planted("third")}).json()
        same = {"content": f"Other {planted('other')}"}
        say(client, 409, "PATCH", f"/api/v2/memories/{third['id']}/", json=same)
        # The name is in the log: whoever runs the service needs it for ALLOWED_HOSTS.
        say(client, 400, "GET", "/api/v2/me/", headers={"Host": "elsewhere.example.com"})
        for headers in (
            {"Authorization": f"Bearer {stranger}"},
            {"Authorization": f"Basic {planted('basic')}"},
            {"Authorization": "", "X-API-Key": stranger},
        ):
            say(client, 401, "GET", "/api/v2/me/", headers=headers)
        page = say(client, 200, "GET", "/api/login/")
        form = {"username": "admin", "password": _PASSWORD, "csrfmiddlewaretoken": page.cookies["csrftoken"]}
        say(client, 200, "POST", "/api/login/", data=form)

        # What fails: a statement that takes too long, and ones that PostgreSQL cannot follow.
        alter = "ALTER TABLE memories_memory"
        with as_owner(service) as owner:
            with owner.transaction():
                owner.execute("LOCK TABLE memories_memory IN ACCESS EXCLUSIVE MODE")
                say(client, 503, "POST", "/api/v2/memories/", json={"content": planted("timeout")})
                say(client, 503, "POST", "/api/v2/search/", json={"query": planted("timeoutquery")})
            broken = (
                (f"{alter} RENAME content TO away", f"{alter} RENAME away TO content"),
                (
                    f"{alter} ADD CONSTRAINT refused CHECK (content !~ 'failing') NOT VALID",
                    f"{alter} DROP CONSTRAINT refused",
                ),
                # PostgreSQL's answer holds the row that fails.
                (f"{alter} ADD away integer NOT NULL DEFAULT 1; {alter} ALTER away DROP DEFAULT", f"{alter} DROP away"),
                # And here the line of JSON that it cannot read, with a type of error that no service expects.
                (
                    f"{alter} ADD CONSTRAINT refused CHECK (content !~ 'failing' OR content::json IS NOT NULL)"
                    " NOT VALID",
                    f"{alter} DROP CONSTRAINT refused",
                ),
            )
            for breaking, mending in broken:
                owner.execute(breaking)  # type: ignore[call-overload]
                try:
                    reply = client.post("/api/v2/memories/", json={"content": f'"{planted("failing")}" failing'})
                    assert reply.status_code in (409, 500), reply.text
                    assert planted("failing") not in reply.text
                    client.get("/api/v2/memories/", params={"q": planted("failingq")})
                    client.patch(place, json={"content": f"failing {planted('failingchange')}"})
                finally:
                    owner.execute(mending)  # type: ignore[call-overload]

            # A consumer's work fails in the worker.
            owner.execute("ALTER TABLE memories_ownerstatistics RENAME memories TO away")
            try:
                say(client, 201, "POST", "/api/v2/memories/", json={"content": planted("delivered")})
                deadline = time.monotonic() + 30
                while "outbox_delivery_failed" not in (service.home / "logs" / "worker.log").read_text():
                    assert time.monotonic() < deadline, "the worker has not failed"
                    time.sleep(0.2)
            finally:
                owner.execute("ALTER TABLE memories_ownerstatistics RENAME away TO memories")
        say(client, 200, "GET", place)

    present = {path.name for path in (service.home / "logs").iterdir()}
    assert present >= LOGS
    web = (service.home / "logs" / "web.log").read_text()
    assert "request_finished" in web
    assert "database_failed" in web
    assert "psycopg.errors.UndefinedColumn" in web
    secrets = {_MARK, _PASSWORD.lower(), "zqx9canary", service.api_key.lower(), key.lower()}
    secret_key = (service.home / "secret_key").read_text().strip().lower()
    assert leaks(service.home, secrets | {secret_key}) == []


def test_one_request_id_is_in_the_reply_and_in_every_line_of_the_request(service: RunningService) -> None:
    with service.client() as client:
        reply = client.get("/api/v2/me/", headers={"X-Request-ID": "one-for-all.7"})
    assert reply.headers["X-Request-ID"] == "one-for-all.7"
    lines = [line for line in (service.home / "logs" / "web.log").read_text().splitlines() if "one-for-all.7" in line]
    events = [json.loads(line) for line in lines]
    assert "request_finished" in {event["event"] for event in events}
    assert {event["request_id"] for event in events} == {"one-for-all.7"}


def test_an_exception_in_a_log_has_its_place_and_no_message() -> None:
    try:
        try:
            int(planted("number"))
        except ValueError as error:
            raise RuntimeError(planted("message")) from error
    except RuntimeError as error:
        told = without_messages(None, "error", {"event": "failed", "exc_info": (type(error), error, None)})
        same = without_messages(None, "error", {"event": "failed", "exc_info": True})
    assert told == same
    assert planted("number") not in told["exception"]
    assert planted("message") not in told["exception"]
    assert "builtins.ValueError" in told["exception"]
    assert told["exception"].endswith("builtins.RuntimeError")
    assert "test_logs.py" in told["exception"]
    assert without_messages(None, "info", {"event": "fine"}) == {"event": "fine"}


def test_what_is_wrong_with_the_machine_is_said() -> None:
    error = FileNotFoundError(2, "No such file", "/etc/absent")
    assert "/etc/absent" in without_messages(None, "error", {"event": "failed", "exc_info": error})["exception"]
