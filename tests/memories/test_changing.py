from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from django.utils import timezone

from accounts.actors import Actor, acting_as
from mem0stack.lib.errors import Conflict, Forbidden, InvalidArgument, NotFound
from memories import services
from memories.embeddings import embed_documents
from memories.models import Memory, MemoryHistory, OutboxEvent
from memories.search import search
from memories.services import NewMemory
from tests.memories.reading import (
    categories,
    count,
    events,
    expected_mentions,
    expected_postings,
    history,
    mentions,
    outbox_events,
    postings,
    stored,
)

pytestmark = pytest.mark.django_db

MOMENT = datetime(2024, 3, 9, tzinfo=UTC)

FIELDS: dict[str, tuple[str, Any, Any]] = {
    "content": ("content", "Another text.", "Another text."),
    "kind": ("kind", "decision", "decision"),
    "metadata": ("metadata", {"a": [1, True]}, {"a": [1, True]}),
    "tags": ("tags", ["B ", "a"], ["b", "a"]),
    "speaker": ("speaker", "Dan", "Dan"),
    "no speaker": ("speaker", None, None),
    "event_at": ("event_at", MOMENT, MOMENT),
    "valid_from": ("valid_from", MOMENT, MOMENT),
    "valid_to": ("valid_to", MOMENT, MOMENT),
    "expires_at": ("expires_at", MOMENT, MOMENT),
    "state": ("state", "paused", "paused"),
    "standing": ("standing", "rejected", "rejected"),
}


@pytest.fixture
def tea(alice: Actor) -> Memory:
    new = NewMemory("I like tea.", speaker="Ann", tags=["drinks"], categories=["food"], metadata={"n": 1})
    return stored(alice, services.add(alice, new).memory_id)


@pytest.mark.parametrize(("name", "asked", "kept"), FIELDS.values(), ids=FIELDS)
def test_a_field_is_changed_alone(alice: Actor, tea: Memory, name: str, asked: Any, kept: Any) -> None:
    services.update(alice, tea.id, {name: asked})
    after = stored(alice, tea.id)
    assert getattr(after, name) == kept
    assert (after.version, after.updated_at > tea.updated_at) == (2, True)
    others = {field for field, _, _ in FIELDS.values()} - {name}
    assert {field: getattr(after, field) for field in others} == {field: getattr(tea, field) for field in others}
    entry = history(alice, tea.id)[-1]
    assert entry.version == 2
    assert set(entry.before) == set(entry.after) >= {name}
    assert postings(alice, tea.id) == expected_postings(after)
    assert mentions(alice, tea.id) == expected_mentions(after)


def test_the_kind_of_history_names_what_was_done(alice: Actor, tea: Memory) -> None:
    for changes in (
        {"content": "I like coffee."},
        {"state": "archived"},
        {"state": "active"},
        {"standing": "rejected"},
        {"standing": "current"},
        {"standing": "superseded"},
    ):
        services.update(alice, tea.id, changes)
    assert [event for event, _ in events(alice, tea.id)] == [
        *("ADD", "UPDATE", "STATE", "STATE", "REJECT", "UPDATE", "SUPERSEDE")
    ]
    assert [version for _, version in events(alice, tea.id)] == [1, 2, 3, 4, 5, 6, 7]


def test_vector_terms_and_hash_follow_the_text_and_the_speaker(alice: Actor, tea: Memory) -> None:
    services.update(alice, tea.id, {"content": "Is the coffee hot?"})
    services.update(alice, tea.id, {"speaker": "Bea"})
    after = stored(alice, tea.id)
    assert np.allclose(np.array(after.embedding), embed_documents(["Bea: Is the coffee hot?"])[0], atol=1e-3)
    assert postings(alice, tea.id) == expected_postings(after)
    assert mentions(alice, tea.id) == expected_mentions(after)
    assert {"bea", "coffe", "tag:drinks"} <= set(postings(alice, tea.id))
    assert after.asks
    assert services.add(alice, NewMemory("Is the coffee hot?")).memory_id == tea.id


def test_the_outbox_learns_by_how_much_the_text_grew(alice: Actor, tea: Memory) -> None:
    services.update(alice, tea.id, {"content": "I like tea, and coffee in the morning."})
    grown = stored(alice, tea.id).term_count - tea.term_count
    assert grown > 0
    assert outbox_events(alice)[-1].payload == {
        "memory_id": str(tea.id),
        "event": "UPDATE",
        "memories": 0,
        "terms": grown,
    }


SAME: dict[str, dict[str, Any]] = {
    "nothing": {},
    "the same": {"content": "I like tea.", "speaker": "Ann", "tags": ["drinks"], "kind": "fact", "state": "active"},
    "the same metadata": {"metadata": {"n": 1}},
    "the same category": {"categories": [" Food"]},
    "not pinned": {"pinned": False},
    "no successor": {"superseded_by": None},
    "current": {"standing": "current"},
}


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME)
def test_a_change_that_changes_nothing_writes_nothing(alice: Actor, tea: Memory, changes: dict[str, Any]) -> None:
    services.update(alice, tea.id, changes)
    assert stored(alice, tea.id).version == 1
    assert (count(alice, MemoryHistory), count(alice, OutboxEvent)) == (1, 1)


def test_pinning_twice_keeps_the_first_time(alice: Actor, tea: Memory) -> None:
    services.update(alice, tea.id, {"pinned": True})
    first = stored(alice, tea.id)
    services.update(alice, tea.id, {"pinned": True})
    again = stored(alice, tea.id)
    assert first.pinned_at is not None
    assert (again.pinned_at, again.version) == (first.pinned_at, 2)
    services.update(alice, tea.id, {"pinned": False})
    assert stored(alice, tea.id).pinned_at is None


def test_one_and_true_are_two_values_of_metadata(alice: Actor, tea: Memory) -> None:
    services.update(alice, tea.id, {"metadata": {"n": True}})
    assert stored(alice, tea.id).metadata["n"] is True


def test_categories_are_replaced_and_noted(alice: Actor, tea: Memory) -> None:
    services.update(alice, tea.id, {"categories": ["Drinks", "food"]})
    assert categories(alice, tea.id) == ["drinks", "food"]
    entry = history(alice, tea.id)[-1]
    assert (entry.before, entry.after) == ({"categories": ["food"]}, {"categories": ["drinks", "food"]})
    services.update(alice, tea.id, {"categories": []})
    assert categories(alice, tea.id) == []


def test_a_memory_moves_to_another_namespace(alice: Actor, tea: Memory) -> None:
    services.update(alice, tea.id, {"namespace": "git@github.com:o/r.git"})
    assert stored(alice, tea.id).namespace.name == "github.com/o/r"


def test_a_key_moves_no_memory_out_of_its_namespaces(alice: Actor, tea: Memory) -> None:
    limited = replace(alice, namespaces=frozenset({"personal"}))
    with pytest.raises(Forbidden):
        services.update(limited, tea.id, {"namespace": "shop"})
    with pytest.raises(NotFound):
        services.update(replace(alice, namespaces=frozenset({"shop"})), tea.id, {"state": "paused"})


def test_archiving_notes_the_time_and_ends_with_it(alice: Actor, tea: Memory) -> None:
    services.update(alice, tea.id, {"state": "archived"})
    assert stored(alice, tea.id).archived_at is not None
    services.update(alice, tea.id, {"state": "active"})
    assert stored(alice, tea.id).archived_at is None


def test_the_expected_version_is_held_to(alice: Actor, tea: Memory) -> None:
    services.update(alice, tea.id, {"tags": ["a"]}, expected_version=1)
    with pytest.raises(Conflict, match="at version 2, not 1") as refused:
        services.update(alice, tea.id, {"tags": ["b"]}, expected_version=1)
    assert refused.value.errors == {"version": 2, "content": "I like tea."}
    with pytest.raises(Conflict):
        services.delete(alice, tea.id, expected_version=1)
    assert stored(alice, tea.id).tags == ["a"]
    services.delete(alice, tea.id, expected_version=2)


COLLIDING: list[dict[str, Any]] = [{"content": "Taken."}, {"namespace": "shop"}]


@pytest.mark.parametrize("changes", COLLIDING)
def test_a_change_that_collides_is_a_conflict_and_changes_nothing(
    alice: Actor, tea: Memory, changes: dict[str, Any]
) -> None:
    services.add(alice, NewMemory("Taken."))
    services.add(alice, NewMemory("I like tea.", namespace="shop"))
    with pytest.raises(Conflict, match="says exactly this"):
        services.update(alice, tea.id, changes)
    after = stored(alice, tea.id)
    assert (after.content, after.version, after.namespace.name) == ("I like tea.", 1, "personal")
    assert postings(alice, tea.id) == expected_postings(after)
    assert mentions(alice, tea.id) == expected_mentions(after)


def test_a_memory_without_a_place_becomes_no_message(alice: Actor, tea: Memory) -> None:
    with pytest.raises(InvalidArgument, match="place in a run"):
        services.update(alice, tea.id, {"kind": "message"})
    placed = services.add(alice, NewMemory("In a run.", run_id="r"))
    services.update(alice, placed.memory_id, {"kind": "message"})
    assert stored(alice, placed.memory_id).kind == "message"


def test_validity_is_checked_against_what_is_stored(alice: Actor, tea: Memory) -> None:
    services.update(alice, tea.id, {"valid_from": MOMENT})
    with pytest.raises(InvalidArgument, match="before valid_from"):
        services.update(alice, tea.id, {"valid_to": MOMENT - timedelta(days=1)})


REFUSED: list[dict[str, Any]] = [
    {"owner": 2},
    {"user_id": "u"},
    {"state": "deleted"},
    {"state": "asleep"},
    {"standing": "believed"},
    {"kind": "rumour"},
    {"event_at": None},
]


@pytest.mark.parametrize("changes", REFUSED, ids=str)
def test_what_cannot_be_changed_is_refused(alice: Actor, tea: Memory, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        services.update(alice, tea.id, changes)
    assert set(refused.value.errors or {}) == set(changes)


# --- deleting and bringing back


def test_a_deleted_memory_is_gone_until_it_is_restored(alice: Actor, tea: Memory) -> None:
    assert services.delete(alice, tea.id).event == "DELETE"
    gone = stored(alice, tea.id)
    assert (gone.state, gone.version) == ("deleted", 2)
    assert gone.deleted_at is not None
    for call in (services.delete, lambda a, i: services.update(a, i, {"tags": ["x"]})):
        with pytest.raises(NotFound):
            call(alice, tea.id)
    assert services.restore(alice, tea.id).event == "RESTORE"
    back = stored(alice, tea.id)
    assert (back.state, back.deleted_at, back.version) == ("active", None, 3)
    assert events(alice, tea.id) == [("ADD", 1), ("DELETE", 2), ("RESTORE", 3)]
    assert postings(alice, tea.id) == expected_postings(back)
    assert mentions(alice, tea.id) == expected_mentions(back)
    assert [event.payload["memories"] for event in outbox_events(alice)] == [1, -1, 1]
    assert sum(event.payload["terms"] for event in outbox_events(alice)) == back.term_count


def test_a_restored_memory_is_in_use_even_if_it_was_archived(alice: Actor, tea: Memory) -> None:
    services.update(alice, tea.id, {"state": "archived"})
    services.delete(alice, tea.id)
    services.restore(alice, tea.id)
    back = stored(alice, tea.id)
    assert (back.state, back.archived_at) == ("active", None)


def test_a_restore_that_collides_is_a_conflict(alice: Actor, tea: Memory) -> None:
    services.delete(alice, tea.id)
    services.add(alice, NewMemory("I like tea."))
    with pytest.raises(Conflict, match="says exactly this"):
        services.restore(alice, tea.id)
    assert stored(alice, tea.id).state == "deleted"


def test_only_what_is_deleted_can_be_restored(alice: Actor, tea: Memory) -> None:
    with pytest.raises(Conflict, match="not deleted"):
        services.restore(alice, tea.id)
    with pytest.raises(NotFound):
        services.restore(alice, uuid4())


@pytest.mark.parametrize(("days", "is_restorable"), [(29.9, True), (30.1, False)])
def test_a_restore_is_possible_for_30_days(alice: Actor, tea: Memory, days: float, is_restorable: bool) -> None:
    services.delete(alice, tea.id)
    with acting_as(alice):
        Memory.objects.filter(id=tea.id).update(deleted_at=timezone.now() - timedelta(days=days))
    if is_restorable:
        services.restore(alice, tea.id)
    else:
        with pytest.raises(Conflict, match="over 30 days ago"):
            services.restore(alice, tea.id)


# --- deleting many


SCOPES: dict[str, tuple[dict[str, Any], int]] = {
    "namespace": ({"namespace": "shop"}, 2),
    "user": ({"user_id": "u"}, 2),
    "agent": ({"agent_id": "a"}, 1),
    "run": ({"run_id": "r"}, 1),
    "user in a namespace": ({"namespace": "shop", "user_id": "u"}, 1),
    "a namespace that is not there": ({"namespace": "nowhere"}, 0),
    "everything": ({"everything": True}, 5),
}


@pytest.mark.parametrize(("scope", "expected"), SCOPES.values(), ids=SCOPES)
def test_delete_all_deletes_its_scope_and_no_more(
    alice: Actor, bob: Actor, scope: dict[str, Any], expected: int
) -> None:
    services.add_many(
        alice,
        [
            NewMemory("1", namespace="shop", user_id="u"),
            NewMemory("2", namespace="shop"),
            NewMemory("3", user_id="u"),
            NewMemory("4", agent_id="a"),
            NewMemory("5", run_id="r"),
        ],
    )
    gone = services.add(alice, NewMemory("6", namespace="shop", user_id="u", agent_id="a", run_id="r"))
    services.delete(alice, gone.memory_id)
    services.add(bob, NewMemory("1", namespace="shop", user_id="u", agent_id="a", run_id="r"))
    assert services.delete_all(alice, dry_run=True, **scope) == expected
    assert services.delete_all(alice, dry_run=True, everything=True) == 5
    assert services.delete_all(alice, **scope) == expected
    assert services.delete_all(alice, dry_run=True, **scope) == 0
    assert services.delete_all(alice, dry_run=True, everything=True) == 5 - expected
    assert services.delete_all(bob, dry_run=True, everything=True) == 1


def test_delete_all_goes_on_past_one_chunk(alice: Actor) -> None:
    for start in (0, 1000):
        services.add_many(alice, [NewMemory(f"Memory {n}") for n in range(start, start + 510)])
    assert services.delete_all(alice, everything=True) == 1020
    with acting_as(alice):
        assert not Memory.objects.owned_by(alice).alive().exists()
        deleted = MemoryHistory.objects.filter(owner_id=alice.owner_id, event="DELETE")
        assert set(deleted.values_list("version", flat=True)) == {2}
        assert deleted.count() == 1020
    assert sum(event.payload["memories"] for event in outbox_events(alice)) == 0
    assert sum(event.payload["terms"] for event in outbox_events(alice)) == 0


def test_delete_all_without_a_scope_is_refused(alice: Actor, tea: Memory) -> None:
    for dry_run in (True, False):
        with pytest.raises(InvalidArgument, match="Name what to delete"):
            services.delete_all(alice, dry_run=dry_run)
    assert stored(alice, tea.id).state == "active"


def test_a_key_deletes_all_only_in_its_namespaces(alice: Actor, tea: Memory) -> None:
    services.add(alice, NewMemory("X.", namespace="shop"))
    limited = replace(alice, namespaces=frozenset({"shop"}))
    with pytest.raises(Forbidden):
        services.delete_all(limited, namespace="personal")
    assert services.delete_all(limited, everything=True) == 1
    assert stored(alice, tea.id).state == "active"


# --- superseding


def test_a_successor_makes_a_memory_superseded(alice: Actor, tea: Memory) -> None:
    newer = services.add(alice, NewMemory("I like coffee now."))
    assert services.update(alice, tea.id, {"superseded_by": newer.memory_id}).event == "SUPERSEDE"
    after = stored(alice, tea.id)
    assert (after.standing, after.superseded_by_id) == ("superseded", newer.memory_id)
    services.update(alice, tea.id, {"standing": "current"})
    after = stored(alice, tea.id)
    assert (after.standing, after.superseded_by_id) == ("current", None)


def test_what_is_superseded_was_true_until_then(alice: Actor, tea: Memory) -> None:
    before = timezone.now()
    newer = services.add(alice, NewMemory("I like tea in the evening."))
    services.update(alice, tea.id, {"superseded_by": newer.memory_id})
    ended = stored(alice, tea.id).valid_to
    assert ended is not None
    assert before <= ended <= timezone.now()
    assert "valid_to" in (history(alice, tea.id)[-1].after or {})

    def found(as_of: datetime | None) -> set[UUID]:
        return {hit.memory.id for hit in search(alice, "tea", as_of=as_of).hits}

    assert found(None) == {newer.memory_id}
    assert found(before) == {tea.id}
    assert found(timezone.now()) == {newer.memory_id}
    services.update(alice, tea.id, {"standing": "current"})
    assert stored(alice, tea.id).valid_to is None
    assert found(None) == {tea.id, newer.memory_id}


def test_superseding_leaves_a_known_end_alone(alice: Actor, tea: Memory) -> None:
    end, begin = timezone.now() - timedelta(days=3), timezone.now() + timedelta(days=3)
    newer = services.add(alice, NewMemory("I like coffee now."))
    services.update(alice, tea.id, {"valid_to": end})
    services.update(alice, tea.id, {"superseded_by": newer.memory_id})
    assert stored(alice, tea.id).valid_to == end
    services.update(alice, tea.id, {"standing": "current"})
    assert stored(alice, tea.id).valid_to == end
    services.update(alice, tea.id, {"superseded_by": newer.memory_id, "valid_to": None})
    assert stored(alice, tea.id).valid_to is None
    later = services.add(alice, NewMemory("I shall like milk.", valid_from=begin)).memory_id
    services.update(alice, later, {"standing": "superseded"})
    assert stored(alice, later).valid_to == begin


@pytest.mark.parametrize("length", [2, 3, 5])
def test_memories_do_not_supersede_each_other_in_a_circle(alice: Actor, length: int) -> None:
    chain = [services.add(alice, NewMemory(f"Version {n}.")).memory_id for n in range(length)]
    for older, newer in pairwise(chain):
        services.update(alice, older, {"superseded_by": newer})
    with pytest.raises(Conflict, match="already"):
        services.update(alice, chain[-1], {"superseded_by": chain[0]})
    assert stored(alice, chain[-1]).standing == "current"
    services.update(alice, chain[0], {"superseded_by": chain[-1]})


def test_a_memory_does_not_supersede_itself(alice: Actor, tea: Memory) -> None:
    with pytest.raises(InvalidArgument, match="itself"):
        services.update(alice, tea.id, {"superseded_by": tea.id})


def test_a_successor_is_ones_own_and_alive(alice: Actor, bob: Actor, tea: Memory) -> None:
    foreign = services.add(bob, NewMemory("Bob's."))
    deleted = services.add(alice, NewMemory("Deleted."))
    services.delete(alice, deleted.memory_id)
    for successor in (foreign.memory_id, deleted.memory_id, uuid4()):
        with pytest.raises(NotFound):
            services.update(alice, tea.id, {"superseded_by": successor})
    assert stored(alice, tea.id).version == 1


# --- apps and categories


def test_a_category_is_made_once_and_deleted_with_its_links(alice: Actor, bob: Actor, tea: Memory) -> None:
    category, is_new = services.add_category(alice, " FOOD ", description="What we eat.")
    assert (category.name, is_new) == ("food", False)
    with pytest.raises(NotFound):
        services.delete_category(bob, category.id)
    services.delete_category(alice, category.id)
    assert categories(alice, tea.id) == []
    assert stored(alice, tea.id).state == "active"
    with pytest.raises(NotFound):
        services.delete_category(alice, category.id)


@pytest.mark.parametrize("name", ["", " ", "c" * 129, "a\x00"])
def test_a_category_needs_a_name(alice: Actor, name: str) -> None:
    with pytest.raises(InvalidArgument):
        services.add_category(alice, name)


def test_the_app_of_a_stranger_is_not_found(alice: Actor, charlie: Actor) -> None:
    app = stored(alice, services.add(alice, NewMemory("X.", app="cursor")).memory_id).app
    assert app is not None
    with pytest.raises(NotFound):
        services.set_app_active(charlie, app.id, is_active=False)
    assert stored(alice, services.add(alice, NewMemory("Y.", app="cursor")).memory_id)
