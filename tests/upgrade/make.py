"""Writes a small dump of the schema as it is, with data of every table that services fill.

Run `python -m tests.upgrade.make` on the commit whose schema is to be kept. README.md here says when.
"""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import httpx

from mem0stack.embedded import postgres
from mem0stack.lib.home import Home
from tests.load import as_superuser, wait_for_drained_outbox
from tests.running import CHECKOUT, RunningService, running_service
from tests.soak import hanging

# Nothing fills them but a person's session in a browser, or a job that this version does not have.
EMPTY = {"accounts_user_groups", "accounts_user_user_permissions", "auth_group", "auth_group_permissions"}
EMPTY |= {"django_admin_log", "django_session"}


def fill(service: RunningService) -> None:
    """Two people and a little of everything, through the doors."""
    service.manage("create_user", "bob").check_returncode()
    bob_key = service.manage("create_api_key", "bob").stdout.split()[-1]
    with service.client() as admin, httpx.Client(base_url=service.url, headers={"X-API-Key": bob_key}) as bob:
        team = {"namespace": "github.com/acme/shop"}
        noon = _post(
            admin, "memories/", {"content": "Deploys run at noon.", "tags": ["deploy"], "app": "cursor", **team}
        )
        evening = _post(admin, "memories/", {"content": "Deploys run at six in the evening.", **team})
        _patch(admin, f"memories/{noon['id']}/", {"superseded_by": evening["id"]})
        wrong = _post(admin, "memories/", {"content": "The database is MySQL 5.", "kind": "fact"})
        _post(admin, f"memories/{wrong['id']}/feedback/", {"verdict": "wrong", "reason": "It is PostgreSQL."})
        _post(admin, "memories/", {"content": "Deploys run at noon.", "tags": ["confirmed"], **team})
        _post(admin, "categories/", {"name": "Infrastructure", "description": "Servers and networks"})
        _post(
            admin,
            "memories/",
            {"content": "Valkey listens on a unix socket.", "categories": ["Infrastructure"], "metadata": {"port": 0}},
            {"Idempotency-Key": "once"},
        )
        turns = [("user", "Where do the backups go?"), ("assistant", "Into the directory backups, three of them.")]
        messages = [{"role": role, "content": content} for role, content in turns]
        _post(admin, "memories/", {"messages": messages, "run_id": "chat-1", "user_id": "ann", "infer": True})
        gone = _post(admin, "memories/", {"content": "This is deleted and may be restored."})
        admin.delete(f"/api/v2/memories/{gone['id']}/").raise_for_status()
        _post(admin, "shares/", {"grantee": "bob", "namespace": "github.com/acme/shop", "can_add": True})
        _post(bob, "memories/", {"content": "Bob likes tea.", "kind": "preference", "user_id": "bob"})
        _post(
            bob, "memories/", {"content": "Staging is rebuilt on Mondays.", "namespace": "admin/github.com/acme/shop"}
        )
        wait_for_drained_outbox(service)
        with hanging(service, "worker"):
            _post(bob, "memories/", {"content": "Written while the worker was away."})
            _dump(service)


def _dump(service: RunningService) -> None:
    with as_superuser(service) as database:
        [(newest,)] = database.execute("SELECT max(name) FROM django_migrations WHERE app = 'memories'").fetchall()
        names = database.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        empty = {n for (n,) in names.fetchall() if not database.execute(f"SELECT 1 FROM {n} LIMIT 1").fetchall()}  # type: ignore[call-overload]  # noqa: S608
    assert empty <= EMPTY, f"nothing is in {empty - EMPTY}: add it to `fill`"
    target = Path(__file__).parent / f"{newest}.sql.gz"
    tool = postgres.installed_tools() / "pg_dump"
    socket_dir = Home(service.home).postgres_socket_dir
    words = [tool, "-h", socket_dir, "-U", postgres.OWNER, "-d", "mem0", "-Fp", "-Z", "9", f"--file={target}"]
    subprocess.run(words, check=True)
    print(f"{target.relative_to(CHECKOUT)}: {target.stat().st_size} bytes")  # noqa: T201


def _post(client: httpx.Client, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    return _said(client.post(f"/api/v2/{path}", json=body, headers=headers))


def _patch(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    return _said(client.patch(f"/api/v2/{path}", json=body))


def _said(reply: httpx.Response) -> Any:
    assert reply.is_success, reply.text
    return reply.json()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as kept:
        os.environ["MEM0_HOME"] = kept
        with running_service() as made:
            fill(made)
