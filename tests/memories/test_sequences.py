"""Whatever is done to an owner's memories in whatever order, what hangs on them stays true."""

import itertools
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.actors import Actor, acting_as
from accounts.services import create_user
from mem0stack.lib.errors import Conflict, NotFound
from memories import outbox, services
from memories.models import Memory
from memories.services import NewMemory
from tests.memories.reading import (
    expected_mentions,
    expected_postings,
    history,
    mentions,
    postings,
    statistics,
    true_statistics,
)

pytestmark = pytest.mark.django_db

_names = itertools.count()
_texts = st.sampled_from(["I like tea.", "I  like tea. ", "Port 5433", "psycopg_pool 5.2.19 !", "the of", "¿Qué?"])
_tags = st.lists(st.sampled_from(["a", "b", "two words"]), max_size=2)
_which = st.integers(0, 5)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), _texts, _tags),
        st.tuples(st.just("change"), _which, st.fixed_dictionaries({}, optional={"content": _texts, "tags": _tags})),
        st.tuples(st.just("change"), _which, st.fixed_dictionaries({"state": st.sampled_from(["archived", "active"])})),
        st.tuples(st.just("delete"), _which, st.none()),
        st.tuples(st.just("restore"), _which, st.none()),
    ),
    min_size=1,
    max_size=12,
)


class Space:
    """What an owner should have: the texts of the living and of the dead, by id in the order of their making."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.contents: dict[UUID, str] = {}
        self.alive: set[UUID] = set()

    def same_as(self, content: str) -> UUID | None:
        plain = " ".join(content.split())
        return next((one for one in self.alive if " ".join(self.contents[one].split()) == plain), None)

    def pick(self, number: int) -> UUID | None:
        return list(self.contents)[number % len(self.contents)] if self.contents else None

    def add(self, content: str, tags: list[str]) -> None:
        known = self.same_as(content)
        written = services.add(self.actor, NewMemory(content, tags=tags))
        assert written.is_duplicate is (known is not None)
        if known is not None:
            assert written.memory_id == known
        else:
            self.contents[written.memory_id] = content
            self.alive.add(written.memory_id)

    def change(self, one: UUID, changes: dict[str, Any]) -> None:
        other = self.same_as(changes["content"]) if "content" in changes else None
        if one not in self.alive:
            with pytest.raises(NotFound):
                services.update(self.actor, one, changes)
        elif other not in (None, one):
            with pytest.raises(Conflict):
                services.update(self.actor, one, changes)
        else:
            services.update(self.actor, one, changes)
            self.contents[one] = changes.get("content", self.contents[one])

    def delete(self, one: UUID, _: None) -> None:
        if one not in self.alive:
            with pytest.raises(NotFound):
                services.delete(self.actor, one)
        else:
            services.delete(self.actor, one)
            self.alive.remove(one)

    def restore(self, one: UUID, _: None) -> None:
        if one in self.alive or self.same_as(self.contents[one]) is not None:
            with pytest.raises(Conflict):
                services.restore(self.actor, one)
        else:
            services.restore(self.actor, one)
            self.alive.add(one)

    def check(self) -> None:
        with acting_as(self.actor):
            memories = {memory.id: memory for memory in Memory.objects.owned_by(self.actor)}
        assert {one: memory.content for one, memory in memories.items()} == self.contents
        assert {one for one, memory in memories.items() if memory.state != "deleted"} == self.alive
        for memory in memories.values():
            assert postings(self.actor, memory.id) == expected_postings(memory)
            assert mentions(self.actor, memory.id) == expected_mentions(memory)
            self.check_history(memory)
        outbox.drain(self.actor.owner_id)
        assert statistics(self.actor) == true_statistics(self.actor)

    def check_history(self, memory: Memory) -> None:
        entries = history(self.actor, memory.id)
        assert (entries[0].event, entries[0].version) == ("ADD", 1)
        assert entries[-1].version == memory.version
        for then, now in itertools.pairwise(entries):
            raised = now.version - then.version
            assert raised == (0 if now.event == "CONFIRM" and set(now.after) == {"confidence"} else 1)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_steps)
def test_any_sequence_of_writes_keeps_rows_history_postings_and_statistics(db: None, steps: list[Any]) -> None:
    space = Space(Actor.of(create_user(f"owner-{next(_names)}"), door="rest"))
    for name, first, second in steps:
        if name == "add":
            space.add(first, second)
        elif (one := space.pick(first)) is not None:
            getattr(space, name)(one, second)
    space.check()
