"""How PostgreSQL goes about the hot queries, as the service's role, under row-level security, among uneven owners.

The queries are those that the real functions send; the plans say which indexes they use.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection

from accounts.actors import Actor, acting_as
from mem0stack.lib import prepared
from memories import digest, near_duplicates, outbox, services, short_ids
from memories.filters import parse
from memories.models import Memory
from memories.search import search
from memories.services import NewMemory
from tests.conftest import as_owner
from tests.people import People, Person

pytestmark = pytest.mark.django_db(transaction=True)

# Too large to be read from end to end.
LARGE = {
    "memories_memory",
    "memories_memoryterm",
    "memories_entity",
    "memories_mention",
    "memories_memoryhistory",
    "memories_outboxevent",
    "memories_outboxdelivery",
    "memories_idempotencykey",
}
SIZES = {"alice": 20_000, "bob": 3_000, "charlie": 300}


@dataclass
class Plan:
    """One statement, and the nodes of the way that PostgreSQL means to go."""

    sql: str
    nodes: list[dict[str, Any]] = field(default_factory=list)

    def scans(self, table: str) -> set[tuple[str, str]]:
        """(kind of scan, index) of every look at this table; a bitmap's index lies one node below.

        Without those that a policy of another table takes, which runs for rows of others alone.
        """
        indexes = {node.get("Index Name", "") for node in self.nodes if node["Node Type"] == "Bitmap Index Scan"}
        return {
            (node["Node Type"], node.get("Index Name") or ", ".join(sorted(indexes)))
            for node in self.nodes
            if node.get("Relation Name") == table and node.get("Alias") != "m" and node["Node Type"] != "ModifyTable"
        }

    @property
    def sorts_memories(self) -> bool:
        """Whether the order comes from sorting memories, not from an index."""
        return any("memories_memory." in key for node in self.nodes for key in node.get("Sort Key", ()))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def plans_of(actor: Actor, call: Callable[[], Any], *, about: str, run: bool = False) -> list[Plan]:
    """The plans of the statements that `call` sends and that hold `about`. None reads a large table from end to end.

    `run` has them run once more, so that their nodes hold what really happened."""
    sent: list[str] = []

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        sent.append(prepared.spelt(sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        call()
    explained = []
    for sql in sent:
        if not re.match(r"\s*(SELECT|WITH|UPDATE|DELETE)\b", sql) or f"{about}" not in sql:
            continue
        with acting_as(actor), connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN ({'ANALYZE, ' if run else ''}FORMAT JSON) {sql}")
            [(found,)] = cursor.fetchall()
        [tree] = json.loads(found) if isinstance(found, str) else found
        explained.append(Plan(sql, list(_nodes(tree["Plan"]))))
    assert explained, f"nothing was asked of {about}"
    for plan in explained:
        for node in plan.nodes:
            from_end_to_end = node["Node Type"] == "Seq Scan" and node.get("Relation Name") in LARGE
            assert not from_end_to_end, f"reads all of {node['Relation Name']}: {plan.sql}\n{json.dumps(plan.nodes)}"
    return explained


@contextmanager
def many_rows(people: People) -> Iterator[None]:
    """Owners of uneven size, with terms, history and an outbox, made by the owner role: it may INSERT ... SELECT."""
    persons = {person.name: person for person in (people.alice, people.bob, people.charlie)}
    with as_owner(), connection.cursor() as cursor:
        for name, size in SIZES.items():
            _fill_owner(cursor, persons[name], size)
        cursor.execute("ANALYZE")
        for table in sorted(LARGE):
            _vacuum(cursor, table)
    yield


def _vacuum(cursor: Any, table: str) -> None:
    """Until the pages are known to be visible: PostgreSQL's own analyze at the same moment may hold some back, and a
    table that grows by several pages at once may end in one that nothing was written to yet, which never counts."""
    for _ in range(200):
        cursor.execute(f"VACUUM {table}")
        cursor.execute("SELECT relallvisible >= 0.98 * relpages FROM pg_class WHERE oid = %s::regclass", [table])
        if cursor.fetchone() == (True,):
            return
        time.sleep(0.1)
    cursor.execute(
        "SELECT relpages, relallvisible, (SELECT array_agg((pid, state, backend_xmin, left(query, 80))::text)"
        " FROM pg_stat_activity WHERE backend_xmin IS NOT NULL) FROM pg_class WHERE oid = %s::regclass",
        [table],
    )
    pytest.fail(f"{table} does not become visible as a whole: {cursor.fetchone()}")


def _fill_owner(cursor: Any, person: Person, size: int) -> None:
    cursor.execute(
        """
        INSERT INTO memories_namespace (id, owner_id, name, created_at)
            SELECT gen_random_uuid(), %(owner)s, 'project ' || n, now() FROM generate_series(1, 5) n;
        INSERT INTO memories_memory (id, owner_id, short_id, written_by_id, namespace_id, content, content_hash, kind,
                state, standing, run_id, seq, user_id, speaker, event_at, metadata, tags, importance, confidence,
                quality, version, term_count, asks, embedding, created_at, updated_at, deleted_at)
            SELECT gen_random_uuid(), %(owner)s, lpad(to_hex(n), 8, '0'), %(owner)s, s.id, 'memory ' || n,
                sha256(('memory ' || n)::bytea), CASE n %% 2 WHEN 0 THEN 'message' ELSE 'fact' END,
                CASE n %% 20 WHEN 0 THEN 'deleted' WHEN 1 THEN 'archived' ELSE 'active' END, 'current',
                CASE n %% 2 WHEN 0 THEN 'run ' || n / 100 END, CASE n %% 2 WHEN 0 THEN n END,
                CASE n %% 3 WHEN 0 THEN 'user ' || n %% 50 END, 'speaker', t.at, '{}', ARRAY['tag'], 0.5, 0.5,
                0.5, 1, 8, false, array_fill(0.0625 + 0.0000001 * n, ARRAY[256])::vector::halfvec, t.at, t.at,
                CASE n %% 20 WHEN 0 THEN now() END
            FROM generate_series(1, %(size)s) n
            CROSS JOIN LATERAL (SELECT now() - n * interval '1 minute' AS at) t
            JOIN memories_namespace s ON s.owner_id = %(owner)s AND s.name = 'project ' || (n %% 5 + 1);
        INSERT INTO memories_memoryterm (owner_id, term, memory_id, tf, length)
            SELECT owner_id, 'term' || (k * k * 17 + ('x' || short_id)::bit(32)::int) %% (200 * k * k), id, 1, 8
            FROM memories_memory CROSS JOIN generate_series(1, 8) k WHERE owner_id = %(owner)s
            ON CONFLICT DO NOTHING;
        INSERT INTO memories_entity (id, owner_id, kind, key, name)
            SELECT gen_random_uuid(), %(owner)s, 'path', 'file-' || n, 'file ' || n
            FROM generate_series(0, %(size)s / 10) n;
        INSERT INTO memories_mention (owner_id, entity_id, memory_id)
            SELECT e.owner_id, e.id, m.id FROM memories_memory m JOIN memories_entity e ON e.owner_id = m.owner_id
            AND e.key = 'file-' || ('x' || m.short_id)::bit(32)::int %% (%(size)s / 10)
            WHERE m.owner_id = %(owner)s;
        INSERT INTO memories_memoryhistory (id, owner_id, memory_id, event, door, version, created_at)
            SELECT gen_random_uuid(), owner_id, id, 'ADD', 'rest', 1, created_at
            FROM memories_memory WHERE owner_id = %(owner)s;
        INSERT INTO memories_idempotencykey (id, owner_id, key, request_hash, created_at)
            SELECT gen_random_uuid(), owner_id, id::text, content_hash, created_at
            FROM memories_memory WHERE owner_id = %(owner)s;
        INSERT INTO memories_outboxevent (id, owner_id, kind, payload, created_at)
            SELECT gen_random_uuid(), owner_id, 'memory', '{}', now() FROM memories_memory WHERE owner_id = %(owner)s;
        INSERT INTO memories_outboxdelivery (id, owner_id, event_id, consumer, state, attempts, reason, updated_at)
            SELECT gen_random_uuid(), owner_id, id, 'statistics',
                CASE WHEN row_number() OVER () <= 20 THEN 'waiting' ELSE 'done' END, 0, '', now()
            FROM memories_outboxevent WHERE owner_id = %(owner)s;
        """,
        {"owner": person.id, "size": size},
    )


EXACT = {("Index Only Scan", "memory_scan")}
# The candidates' rows by their keys, and what is beside them in their runs.
SEARCHED = EXACT | {("Index Scan", "memory_key"), ("Index Scan", "memory_by_run")}
POSTINGS = {("Index Only Scan", "memories_memoryterm_pkey")}
BY_ID = {("Index Scan", name) for name in ("memories_memory_pkey", "memory_key")}


def test_hot_queries_use_their_indexes(people: People, subtests: pytest.Subtests) -> None:
    alice, bob, charlie = people.alice, people.bob, people.charlie
    with many_rows(people):
        for person in (alice, bob, charlie):
            with subtests.test(f"search of {SIZES[person.name]} memories of one's own"):
                call = lambda p=person: search(p.actor, "term17 term40")  # noqa: E731
                [plan] = plans_of(person.actor, call, about="WITH posting", run=True)
                assert plan.scans("memories_memory") == SEARCHED
                assert plan.scans("memories_memoryterm") == POSTINGS
                assert plan.scans("memories_entity") == {("Index Scan", "entity_once")}
                assert plan.scans("memories_mention") == {("Index Only Scan", "memories_mention_pkey")}
                # Index-only in deed: everything that conditions and policies look at is in the index.
                # (A page that another process had in its hands while it was vacuumed may be left over.)
                assert sum(node.get("Heap Fetches", 0) for node in plan.nodes) < 10
        _look_at_reading(alice, subtests)
        _look_at_writing(alice, subtests)
        _look_at_shares(alice, bob, charlie, subtests)


def _look_at_reading(alice: Person, subtests: pytest.Subtests) -> None:
    actor = alice.actor
    with acting_as(actor):
        memory_id = Memory.objects.filter(owner_id=alice.id, kind="fact").alive().values_list("id", flat=True)[7]

    def plan_of(path: str, about: str = 'FROM "memories_memory"') -> Plan:
        def call() -> None:
            response = alice.call("GET", f"/api/v2/{path}")
            assert response.status_code == 200, response.content

        return plans_of(actor, call, about=about)[0]

    for order, index in (
        ("-created_at", "memory_by_creation"),
        ("created_at", "memory_by_creation"),
        ("-updated_at", "memory_by_update"),
        ("-event_at", "memory_by_event"),
    ):
        with subtests.test(f"a list in the order {order}"):
            plan = plan_of(f"memories/?order={order}")
            assert plan.scans("memories_memory") == {("Index Scan", index)}
            assert not plan.sorts_memories
    with subtests.test("the second page"):
        following = json.loads(alice.call("GET", "/api/v2/memories/").content)["next"].partition("/api/v2/")[2]
        plan = plan_of(following)
        assert plan.scans("memories_memory") == {("Index Scan", "memory_by_creation")}
        assert not plan.sorts_memories
    with subtests.test("one memory"):
        assert plan_of(f"memories/{memory_id}/").scans("memories_memory") < BY_ID
    for what, call in (  # type: ignore[assignment]
        ("the digest of a project", lambda: digest.project(actor, "project 2")),
        ("a profile", lambda: digest.profile(actor)),
    ):
        with subtests.test(what):
            plans = plans_of(actor, call, about='AS "worth"')
            found = {index for plan in plans for _, index in plan.scans("memories_memory")}
            assert found == ({"memory_by_worth"} if "project" in what else {"memory_pinned"})
            assert not any(plan.sorts_memories for plan in plans if "project" in what)
    with subtests.test("ids, short and whole"):
        call = lambda: short_ids.resolve(actor, ["0000000a", "0000000b", str(memory_id)])  # noqa: E731
        [plan] = plans_of(actor, call, about='"short_id" IN')
        [(_, indexes)] = plan.scans("memories_memory")
        assert set(indexes.split(", ")) < {"memory_by_short_id", "memory_key", "memories_memory_pkey"}
    with subtests.test("its history"):
        plan = plan_of(f"memories/{memory_id}/history/", "memories_memoryhistory")
        assert plan.scans("memories_memoryhistory") == {("Index Scan", "history_by_memory")}
    with subtests.test("entities"):
        plan = plan_of("entities/", 'FROM "memories_entity"')
        assert plan.scans("memories_entity") == {("Index Scan", "entity_once")}
        assert {index for _, index in plan.scans("memories_mention")} == {"memories_mention_pkey"}
    with subtests.test("an entity"):
        first = json.loads(alice.call("GET", "/api/v2/entities/?q=file-7").content)["results"][0]["id"]
        plan = plan_of(f"entities/{first}/", '"memories_memory"."content"')
        assert {index for _, index in plan.scans("memories_mention")} == {"memories_mention_pkey"}
    with subtests.test("search with a tag and a label"):
        filters = parse({"tags": "tag", "user_id": "user 7"})
        [plan] = plans_of(actor, lambda: search(actor, "term17", filters=filters), about="WITH posting")
        assert "Seq Scan" not in {kind for kind, _ in plan.scans("memories_memoryterm")}
    with subtests.test("search in a project"):
        [plan] = plans_of(actor, lambda: search(actor, "term17", namespace="project 2"), about="WITH posting")
        assert plan.scans("memories_memory") == SEARCHED
    with subtests.test("the rows of the best"):
        plan = plans_of(actor, lambda: search(actor, "term17"), about='"memories_memory"."content"')[0]
        assert plan.scans("memories_memory") < BY_ID
    with subtests.test("near duplicates"):
        [plan] = plans_of(actor, lambda: near_duplicates.find(actor, memory_id), about="<#>")
        assert plan.scans("memories_memory") <= {*EXACT, ("Index Scan", "memory_by_namespace")}
    with subtests.test("neighbours"):
        messages = parse({"kind": "message"})
        call = lambda: search(actor, "term17", filters=messages, expand=2)  # noqa: E731
        plan = plans_of(actor, call, about='ORDER BY "memories_memory"."seq"')[0]
        assert {index for _, index in plan.scans("memories_memory")} < {"memory_by_run", "memory_message_once"}
        assert plan.sorts_memories, "a few rows; and this is how a sort would show above"


def _look_at_writing(alice: Person, subtests: pytest.Subtests) -> None:
    actor = alice.actor
    fact = NewMemory(content="a fact to find again", namespace="project 2", tags=["new"], user_id="user 7")
    message = NewMemory(content="hello", kind="message", namespace="project 2", run_id="run 7")
    written = services.add(actor, fact)
    uses: dict[str, tuple[Callable[[], Any], str, set[str]]] = {
        "the same content again": (
            lambda: services.add(actor, fact),
            "content_hash",
            {"memory_content_once"},
        ),
        "the next place in a run": (lambda: services.add(actor, message), "MAX(", {"memory_by_run"}),
        "the same place in a run": (
            lambda: services.add_many(actor, [NewMemory(content="hello", kind="message", namespace="project 2",
                run_id="run 8", seq=5)] * 2),
            "FOR NO KEY UPDATE",
            {"memory_by_run", "memory_message_once"},
        ),
        "an update": (
            lambda: services.update(actor, written.memory_id, {"content": "another fact"}),
            'UPDATE "memories_memory"',
            {"memories_memory_pkey", "memory_key"},
        ),
        "everything with a label": (
            lambda: services.delete_all(actor, user_id="user 9", dry_run=True),
            "COUNT(",
            {"memory_by_user_id"},
        ),
    }  # fmt: skip
    for what, (call, about, indexes) in uses.items():
        with subtests.test(what):
            plan = plans_of(actor, call, about=about)[0]
            found = {index for _, index in plan.scans("memories_memory")}
            assert found, plan.sql
            assert found <= indexes, plan.sql
    with subtests.test("old postings"):
        call = lambda: services.update(actor, written.memory_id, {"content": "a third fact"})  # noqa: E731
        plan = plans_of(actor, call, about='DELETE FROM "memories_memoryterm"')[0]
        assert {index for _, index in plan.scans("memories_memoryterm")} == {"memory_term_by_memory"}
        assert {index for _, index in plan.scans("memories_mention")} == {"mention_by_memory"}
    with subtests.test("an idempotency key"):
        call = lambda: services.add(actor, NewMemory(content="once"), idempotency_key="k")  # noqa: E731
        plan = plans_of(actor, call, about='FROM "memories_idempotencykey"')[0]
        assert plan.scans("memories_idempotencykey") == {("Index Scan", "idempotency_key_once")}
    system = Actor.system("test: plans")
    with subtests.test("owners whose outbox has work"):
        plan = plans_of(system, outbox.owners_with_work, about="memories_outboxdelivery")[0]
        assert {index for _, index in plan.scans("memories_outboxdelivery")} == {"outbox_waiting"}
    with subtests.test("what waits in an outbox"):
        plan = plans_of(system, lambda: outbox.drain(alice.id), about="FOR UPDATE")[0]
        assert {index for _, index in plan.scans("memories_outboxdelivery")} == {"outbox_waiting"}


def _look_at_shares(alice: Person, bob: Person, charlie: Person, subtests: pytest.Subtests) -> None:
    with acting_as(alice.actor):
        some = Memory.objects.filter(owner_id=alice.id, state="active").values_list("id", flat=True)[:20]
        ids = list(some)
    for memory_id in ids:
        services.share(alice.actor, grantee=charlie.name, memory_id=memory_id)
    services.share(alice.actor, grantee=bob.name, namespace="project 2")
    for person in (bob, charlie):
        with subtests.test(f"search of what {person.name} owns and received"):
            [plan] = plans_of(person.actor, lambda p=person: search(p.actor, "term17 term40"), about="WITH posting")
            assert plan.scans("memories_memory") > EXACT
            assert plan.scans("memories_memoryterm") == POSTINGS
            # Whether a posting of another may be seen is looked up for it alone, never by a hash of all memories.
            assert {node["Index Name"] for node in plan.nodes if node.get("Alias") == "m"} <= {
                name for _, name in BY_ID
            }
            postings = [node for node in plan.nodes if node.get("Relation Name") == "memories_memoryterm"]
            assert not any("hashed" in node["Filter"] for node in postings)
        with subtests.test(f"a list of what {person.name} owns and received"):
            call = lambda p=person: p.call("GET", "/api/v2/memories/")  # noqa: E731
            own, shared = plans_of(person.actor, call, about='"memories_memory"."content"')
            assert own.scans("memories_memory") == {("Index Scan", "memory_by_creation")}
            assert all(index for _, index in shared.scans("memories_memory"))
