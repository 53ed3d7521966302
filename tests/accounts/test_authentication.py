"""How a caller is known, at every kind of header, and what a stranger is told."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from django.utils import timezone

from accounts.models import ApiKey
from tests.rest import Caller, refusal

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> Caller:
    return Caller("alice")


def me(**headers: str) -> Any:
    return Client().get("/api/v2/me/", headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("Authorization", "Bearer {}"),
        ("Authorization", "bearer {}"),
        ("Authorization", "Token {}"),
        ("Authorization", "TOKEN   {}  "),
        ("X-API-Key", "{}"),
        ("X-API-Key", " {} "),
    ],
)
def test_a_key_is_taken_from_each_header(alice: Caller, header: str, form: str) -> None:
    assert me(**{header: form.format(alice.plain)}).json()["username"] == "alice"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Authorization", "Bearer"),
        ("Authorization", "Bearer "),
        ("Authorization", "Bearer nonsense"),
        ("Authorization", "Bearer m0_" + "x" * 40),
        ("Authorization", "Bearer m0_" + "é" * 40),
        ("Authorization", "Bearer " + "x" * 9000),
        ("Authorization", "Basic YWxpY2U6YWxpY2U="),
        ("Authorization", "{}"),
        ("Authorization", "Bearer {} and more"),
        ("Authorization", "Digest {}"),
        ("X-API-Key", ""),
        ("X-API-Key", "{}x"),
        ("X-API-Key", "Bearer {}"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_header_that_holds_no_key_is_401_and_says_how_to_ask(alice: Caller, header: str, value: str) -> None:
    reply = me(**{header: value.format(alice.plain)})

    body = refusal(reply, 401, "unauthenticated")
    assert reply["WWW-Authenticate"] == "Bearer"
    assert "Bearer m0_" in body["detail"]
    assert alice.plain not in str(body)


def test_without_a_header_it_is_401_with_the_way_to_ask() -> None:
    reply = me()

    assert refusal(reply, 401, "unauthenticated")["detail"].startswith("This needs a key.")
    assert reply["WWW-Authenticate"] == "Bearer"


def test_a_key_with_the_right_first_part_and_a_wrong_rest_is_refused(alice: Caller) -> None:
    wrong = alice.plain[:-1] + ("a" if alice.plain[-1] != "a" else "b")

    refusal(me(Authorization=f"Bearer {wrong}"), 401, "unauthenticated")


@pytest.mark.parametrize("change", [{"expires_at": -1}, {"revoked_at": -1}])
def test_a_key_that_has_ended_opens_nothing(alice: Caller, change: dict[str, int]) -> None:
    assert alice.get("me/").status_code == 200

    key = ApiKey.objects.get(pk=alice.key.pk)
    for name, seconds in change.items():
        setattr(key, name, timezone.now() + timedelta(seconds=seconds))
    key.save()

    refusal(alice.get("me/"), 401, "unauthenticated")
    refusal(alice.post("search/", {"query": "x"}), 401, "unauthenticated")


def test_a_disabled_account_is_403(alice: Caller) -> None:
    alice.user.is_active = False
    alice.user.save()

    assert "disabled" in refusal(alice.get("me/"), 403, "forbidden")["detail"]


@pytest.mark.parametrize(
    ("scopes", "may"),
    [(["read"], {"GET"}), (["write"], {"POST"}), (["admin"], set()), (["read", "write"], {"GET", "POST"})],
)
def test_reading_needs_read_and_writing_needs_write(scopes: list[str], may: set[str]) -> None:
    caller = Caller("scoped", scopes=scopes)

    for method, reply in (("GET", caller.get("memories/")), ("POST", caller.post("memories/", {"content": "x"}))):
        if method in may:
            assert reply.status_code < 300
        else:
            refusal(reply, 403, "forbidden")


# The browsable API ---------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(alice: Caller) -> Client:
    alice.user.set_password("a long password")
    alice.user.save()
    client = Client(enforce_csrf_checks=True, headers={"Accept": "text/html"})
    page = client.get("/api/login/?next=/api/v2/")
    token = client.cookies["csrftoken"].value
    assert page.status_code == 200
    signed_in = client.post(
        "/api/login/",
        {"username": "alice", "password": "a long password", "csrfmiddlewaretoken": token, "next": "/api/v2/"},
    )
    assert (signed_in.status_code, signed_in["Location"]) == (302, "/api/v2/")
    return client


@pytest.mark.usefixtures("static_files")
def test_a_person_signs_in_and_browses(browser: Client) -> None:
    page = browser.get("/api/v2/memories/")

    assert page.status_code == 200
    assert page["Content-Type"].startswith("text/html")
    assert b"alice" in page.content
    assert browser.get("/api/v2/me/", headers={"Accept": "application/json"}).json()["key"] is None


@pytest.mark.usefixtures("static_files")
def test_a_signed_in_person_writes_only_with_the_csrf_token(browser: Client) -> None:
    def add(**headers: str) -> Any:
        return browser.post(
            "/api/v2/memories/",
            {"content": "From the browser."},
            content_type="application/json",
            headers={"Accept": "application/json", **headers},
        )

    assert "CSRF" in refusal(add(), 403, "forbidden")["detail"]
    assert add(**{"X-CSRFToken": browser.cookies["csrftoken"].value}).status_code == 201


@pytest.mark.usefixtures("static_files")
def test_a_page_has_a_box_for_json_where_something_can_be_sent(browser: Client) -> None:
    for path, has_box in (("memories/", True), ("search/", True), ("stats/", False)):
        page = browser.get(f"/api/v2/{path}").content.decode()
        assert ('name="_content"' in page) == has_box, path
        assert "mem0-stack" in page
    assert "\n  &quot;results&quot;" in browser.get("/api/v2/memories/").content.decode(), "replies are indented"


@pytest.mark.usefixtures("static_files")
def test_a_wrong_password_signs_nobody_in(alice: Caller) -> None:
    client = Client()

    assert client.post("/api/login/", {"username": "alice", "password": "wrong"}).status_code == 200
    refusal(client.get("/api/v2/me/"), 401, "unauthenticated")


@pytest.mark.usefixtures("static_files")
def test_the_admin_asks_for_a_password_and_shows_its_pages_to_staff_alone(alice: Caller) -> None:
    client = Client()
    assert client.get("/admin/").status_code == 302
    assert client.get("/admin/login/").status_code == 200
    client.force_login(alice.user)
    assert client.get("/admin/").status_code == 302

    alice.user.is_staff = alice.user.is_superuser = True
    alice.user.save()

    assert client.get("/admin/").status_code == 200


@pytest.mark.usefixtures("static_files")
def test_a_stranger_in_a_browser_gets_a_page_that_is_401() -> None:
    page = Client().get("/api/v2/memories/", headers={"Accept": "text/html"})

    assert (page.status_code, page["WWW-Authenticate"]) == (401, "Bearer")


def test_the_libraries_static_files_are_found() -> None:
    assert finders.find("drf_spectacular_sidecar/swagger-ui-dist/swagger-ui.css")


# Request ids ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["abc", "a-b_c.d:e", "x" * 128, str(uuid.uuid4())])
def test_a_sane_request_id_is_echoed(alice: Caller, given: str) -> None:
    assert alice.get("me/", **{"X-Request-ID": given})["X-Request-ID"] == given
    assert refusal(me(X_Request_ID=given), 401, "unauthenticated")["request_id"] == given
    assert refusal(Client().get("/nowhere", headers={"X-Request-ID": given}), 404, "not_found")["request_id"] == given


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 129, "é", "a\tb", "<script>", "a;b", "a\nb"])
def test_any_other_request_id_is_replaced(alice: Caller, given: str) -> None:
    echoed = alice.get("me/", **{"X-Request-ID": given})["X-Request-ID"]

    assert echoed != given
    assert uuid.UUID(echoed)
