"""Fifty owners, some with a vector index: no way to ask gives a short answer once its statements are warm, and what the
index leaves out is little."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from accounts.actors import Actor, acting_as
from accounts.services import create_user
from mem0stack.bench.corpus import Owner, owners_of
from mem0stack.lib import prepared
from memories import outbox, services, vector_indexes
from memories.filters import EVERYTHING, NATIVE, Filter, parse
from memories.models import Memory
from memories.search import search
from memories.services import NewMemory, Step, Written
from tests.conftest import as_owner

pytestmark = pytest.mark.django_db(transaction=True)

FROM = 1_000
SIZES = [40] * 47 + [1_000, 1_200, 1_600]
# By then psycopg has prepared a statement, and PostgreSQL may have a plan for any values.
WARM = 20


@dataclass
class Space:
    """One owner of the bench's corpus, and whoever searches in it."""

    owner: Owner
    actor: Actor
    queries: list[str] = field(default_factory=list)

    @property
    def is_large(self) -> bool:
        return self.owner.size >= FROM


@dataclass(frozen=True)
class Path:
    """A way to ask, and the rows that can be an answer to it."""

    filters: Filter = EVERYTHING
    namespace: str | None = None
    rows: Callable[[Any], Any] = lambda rows: rows


PATHS = {
    "plain": Path(),
    "a project": Path(namespace="project1", rows=lambda rows: rows.filter(namespace__name="project1")),
    "a project of few": Path(namespace="rare", rows=lambda rows: rows.filter(namespace__name="rare")),
    "a filter that half of them pass": Path(
        filters=parse({"kind": "message"}, NATIVE), rows=lambda rows: rows.filter(kind="message")
    ),
    "a filter that few pass": Path(
        filters=parse({"tags": "topic7"}, NATIVE), rows=lambda rows: rows.filter(tags__contains=["topic7"])
    ),
}


@pytest.fixture
def spaces(settings: Any) -> Iterator[list[Space]]:
    settings.VECTOR_INDEX_FROM = FROM
    made = []
    for owner in owners_of(SIZES, seed=5):
        actor = Actor.of(create_user(owner.name), door="rest")
        steps = [Step("add", new=NewMemory(**owner.memory(place))) for place in range(owner.size)]
        steps += [
            Step("add", new=NewMemory(content=f"{owner.text(place)} {place}", namespace="rare")) for place in range(12)
        ]
        for start in range(0, len(steps), 500):
            written = services.batch(actor, steps[start : start + 500])
            assert all(isinstance(one, Written) for one in written)
        outbox.drain(actor.owner_id)
        made.append(Space(owner, actor, queries=_queries(owner)))
    assert vector_indexes.maintain() == sum(size >= FROM for size in SIZES)
    with as_owner(), connection.cursor() as cursor:
        cursor.execute("ANALYZE memories_memory; ANALYZE memories_memoryterm; ANALYZE memories_namespace")
    yield made
    settings.VECTOR_INDEX_FROM = 0
    vector_indexes.maintain()


def _queries(owner: Owner) -> list[str]:
    draw = random.Random(owner.number)  # noqa: S311  no secret
    return [owner.query(draw.randrange(owner.size), draw) for _ in range(WARM + 5)]


def test_answers_are_never_short_and_hold_what_a_scan_finds(spaces: list[Space]) -> None:
    large = [space for space in spaces if space.is_large]
    assert _short_answers(spaces) == []
    for top_k in (10, 100):
        by_index, statements = _answers(large, top_k)
        assert sum("<=>" in sql for sql in statements) == len(by_index)
        for space in large:
            vector_indexes._mark(space.actor.owner_id, False)
        by_scan, statements = _answers(large, top_k)
        assert not any("<=>" in sql for sql in statements)
        for space in large:
            vector_indexes._mark(space.actor.owner_id, True)
        same = sum(len(one & other) for one, other in zip(by_index, by_scan, strict=True))
        assert same >= 0.97 * sum(map(len, by_scan))


def _short_answers(spaces: list[Space]) -> list[tuple[str, int, int]]:
    """Way, size of owner and number of results, of each answer that has fewer than ten though there are more."""
    short = []
    for name, path in PATHS.items():
        for space in spaces:
            with acting_as(space.actor):
                there = path.rows(Memory.objects.filter(owner_id=space.actor.owner_id)).count()
            # Small owners share their statements, so they are warm after the first few.
            for query in space.queries if space.is_large else space.queries[:3]:
                hits = search(space.actor, query, filters=path.filters, namespace=path.namespace).hits
                if len(hits) != min(10, there):
                    short.append((name, space.owner.size, len(hits)))
    return short


def _answers(spaces: list[Space], top_k: int) -> tuple[list[set[UUID]], list[str]]:
    """What is found for each query, and the statements that were sent."""
    sent: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        sent.append(prepared.spelt(sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        found = [
            {hit.memory.id for hit in search(space.actor, query, top_k=top_k).hits}
            for space in spaces
            for query in space.queries
        ]
    return found, sent
