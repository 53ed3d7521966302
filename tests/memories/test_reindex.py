"""`manage.py reindex`: what an older release read otherwise, or not at all, becomes as if it were written today."""

import io
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from accounts.actors import Actor, acting_as
from accounts.services import create_user
from memories import outbox, services
from memories.models import Entity, Memory, MemoryHistory, MemoryTerm, Mention
from memories.services import NewMemory, reindexing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def alice() -> Actor:
    return Actor.of(create_user("alice"), door="command")


@pytest.fixture
def bob() -> Actor:
    return Actor.of(create_user("bob"), door="command")


COLUMNS = ("id", "term_count", "asks", "says_when", "embedding", "version", "updated_at")


def reindex(**options: Any) -> str:
    told = io.StringIO()
    call_command("reindex", stdout=told, **options)
    return told.getvalue()


def _rows(actor: Actor) -> dict[str, Any]:
    """Everything that follows from texts, and what must not change."""
    with acting_as(actor):
        mine = {"owner_id": actor.owner_id}
        memories = Memory.objects.filter(**mine)
        return {
            "columns": {row.pop("id"): row for row in memories.values(*COLUMNS)},
            "terms": set(MemoryTerm.objects.filter(**mine).values_list("memory_id", "term", "tf", "length")),
            "mentions": set(Mention.objects.filter(**mine).values_list("memory_id", "entity_id")),
            "entities": set(Entity.objects.filter(**mine).values_list("id", "kind", "key", "name")),
            "history": MemoryHistory.objects.filter(**mine).count(),
        }


def _as_of_an_older_release(actor: Actor) -> None:
    with acting_as(actor):
        mine = {"owner_id": actor.owner_id}
        Mention.objects.filter(**mine).delete()
        Entity.objects.filter(**mine).delete()
        MemoryTerm.objects.filter(**mine, term__startswith="s").delete()
        Memory.objects.filter(**mine).update(term_count=1, asks=True, embedding=[0.0] * 255 + [1.0])


def _remember(actor: Actor) -> None:
    for text in ("See src/app/views.py.", "Priya said so on 2026-03-05.", "Nothing in it?", "src/app/views.py is long"):
        services.add(actor, NewMemory(text, tags=["kept"]))
    gone = services.add(actor, NewMemory("Deleted, see docs/old.md"))
    services.delete(actor, gone.memory_id)
    outbox.drain(actor.owner_id)


def test_it_becomes_as_if_it_were_written_today(alice: Actor) -> None:
    _remember(alice)
    fresh = _rows(alice)
    assert fresh["mentions"]
    _as_of_an_older_release(alice)
    assert _rows(alice) != fresh

    assert "5 memories read, 5 of them written anew." in reindex()

    assert _rows(alice) == fresh


def test_the_second_time_there_is_nothing_to_write(alice: Actor) -> None:
    _remember(alice)
    assert "5 memories read, 0 of them written anew." in reindex()


def test_only_one_user_if_asked(alice: Actor, bob: Actor) -> None:
    for actor in (alice, bob):
        _remember(actor)
        _as_of_an_older_release(actor)
    assert "5 memories read, 5 of them written anew." in reindex(user="bob")
    assert _rows(bob)["mentions"]
    assert not _rows(alice)["mentions"]
    with pytest.raises(CommandError, match="no user named 'nobody'"):
        reindex(user="nobody")


def test_it_goes_on_past_one_batch(alice: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reindexing, "_BATCH", 2)
    _remember(alice)
    _as_of_an_older_release(alice)
    assert "5 memories read, 5 of them written anew." in reindex()


def test_before_it_an_older_memory_is_found_and_changed_as_ever(alice: Actor) -> None:
    written = services.add(alice, NewMemory("See src/app/views.py."))
    with acting_as(alice):
        Mention.objects.filter(owner_id=alice.owner_id).delete()
        Entity.objects.filter(owner_id=alice.owner_id).delete()
    services.update(alice, written.memory_id, {"content": "See src/app/models.py."})
    assert {key for _, _, key, _ in _rows(alice)["entities"]} == {"src/app/models.py", "models.py"}
