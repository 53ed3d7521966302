"""OpenAPI: made without a warning, equal to the committed file, whole, and shown without another host's help."""

import re

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer

from tests.rest import ROOT
from tests.running import CHECKOUT, RunningService

COMMITTED = CHECKOUT / "docs" / "openapi.yaml"
RENEW = ".venv/bin/python manage.py spectacular --fail-on-warn --file docs/openapi.yaml"


@pytest.fixture(scope="module")
def schema() -> dict[str, object]:
    GENERATOR_STATS.reset()
    made: dict[str, object] = SchemaGenerator().get_schema(request=None, public=True)
    return made


def test_it_is_made_without_a_warning(schema: dict[str, object]) -> None:
    GENERATOR_STATS.emit_summary()

    assert not GENERATOR_STATS._warn_cache
    assert not GENERATOR_STATS._error_cache


def test_it_equals_the_committed_file(schema: dict[str, object]) -> None:
    made = OpenApiYamlRenderer().render(schema, renderer_context={}).decode()

    assert made == COMMITTED.read_text(), f"docs/openapi.yaml is out of date. Renew it: {RENEW}"


def test_every_route_of_rest_is_documented(schema: dict[str, object]) -> None:
    paths = schema["paths"]
    assert isinstance(paths, dict)
    documented = {re.sub(r"{[^}]*}", "*", path) for path in paths}

    assert {re.sub(r"<[^>]*>", "*", path) for path in routes() if path.startswith(ROOT)} == documented


def routes(resolver: URLResolver | None = None, prefix: str = "/") -> list[str]:
    found = []
    for entry in (resolver or get_resolver()).url_patterns:
        here = prefix + str(entry.pattern)
        found += [here] if isinstance(entry, URLPattern) else routes(entry, here)
    return found


def test_every_operation_says_what_it_does_and_names_the_errors(schema: dict[str, object]) -> None:
    paths = schema["paths"]
    assert isinstance(paths, dict)
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert {"400", "401", "403", "404", "503"} <= set(operation["responses"]), (method, path)
            assert {"ApiKey": []} in operation["security"], (method, path)


def test_the_schema_is_served_as_yaml_and_json_without_a_key(schema: dict[str, object]) -> None:
    assert Client().get("/api/schema/").content.decode() == COMMITTED.read_text()
    as_json = Client().get("/api/schema/", headers={"Accept": "application/json"})
    assert as_json.json()["paths"].keys() == schema["paths"].keys()  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/api/docs/", "/api/redoc/", "/api/login/", "/admin/login/"])
def test_pages_need_no_other_host_and_their_files_are_served(service: RunningService, path: str) -> None:
    with service.client() as client:
        page = client.get(path, headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=[\"']([^\"']+)", page.text)
        assert loaded
        for address in loaded:
            assert not re.match(r"(https?:)?//", address), f"{path} loads {address}"
            if not address.startswith("data:"):
                assert client.get(address).status_code == 200, address
        assert not re.search(r"""(?:src|url|import)\s*[=(:]\s*["']?https?://""", page.text), path
