"""schemathesis reads our OpenAPI and sends a running service what it allows, and what it does not allow."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Unsatisfiable
from schemathesis import checks as general
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from tests.running import CHECKOUT, RunningService

EXAMPLES = int(os.environ.get("MEM0_TEST_SCHEMATHESIS_EXAMPLES", "15"))
CHECKS = [
    general.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
    checks.ignored_auth,
]
# The committed schema, which another test holds to the served one: pytest wants to know the operations beforehand.
SCHEMA = schemathesis.openapi.from_path(CHECKOUT / "docs" / "openapi.yaml")
OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}
_MAKE_USER = """
import json
from accounts.services import create_api_key, create_user
key, plain = create_api_key(create_user('schemathesis'), name='all', scopes=['read', 'write', 'admin'])
create_user('grantee')
print(json.dumps(plain))
"""


@dataclass
class Target:
    """The service as a user who is nobody else: one of the operations deletes everything there is."""

    url: str
    key: str
    session: requests.Session

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.session.request(method, f"{self.url}/api/v2/{path}", json=body, headers=self.headers)
        assert reply.ok, reply.text
        return reply.json()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def ids(self) -> dict[str, str]:
        """Things that exist, for the places in paths."""
        # A new app each time: one that an example has paused may not write.
        memory = self.ask("POST", "memories/", {"content": os.urandom(8).hex(), "app": os.urandom(8).hex()})
        return {
            "memory_id": memory["id"],
            "share_id": self.ask("POST", "shares/", {"grantee": "grantee", "memory": memory["id"]})["id"],
            "category_id": self.ask("POST", "categories/", {"name": "some"})["id"],
            "app_id": self.ask("GET", "apps/?order=-created_at")["results"][0]["id"],
            "key_id": self.ask("POST", "keys/", {"name": "other"})["id"],
        }


@pytest.fixture(scope="module")
def target(service: RunningService) -> Iterator[Target]:
    made = service.manage("shell", "--no-imports", "-c", _MAKE_USER)
    assert made.returncode == 0, made.stderr
    with requests.Session() as session:
        yield Target(service.url, json.loads(made.stdout.splitlines()[-1]), session)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("label", OPERATIONS)
def test_the_service_keeps_to_its_schema(label: str, mode: GenerationMode, target: Target, seed: int) -> None:
    operation = OPERATIONS[label]
    anything = operation.as_strategy(generation_mode=mode)
    ids = {name: value for name, value in target.ids().items() if f"{{{name}}}" in operation.path}
    if ids and mode.is_positive:
        anything = anything | operation.as_strategy(generation_mode=mode, path_parameters=ids)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    @seeded(seed)
    @given(case=anything)
    def keeps_to_it(case: schemathesis.Case) -> None:
        reply = case.call(base_url=target.url, session=target.session, headers=target.headers)
        case.validate_response(reply, checks=CHECKS)

    try:
        keeps_to_it()
    except Unsatisfiable:
        assert mode.is_negative, "there is always something that the schema allows"
