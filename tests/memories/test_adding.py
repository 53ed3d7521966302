import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import structlog
from django.utils import timezone

from accounts.actors import Actor, acting_as
from mem0stack.lib.errors import Conflict, Forbidden, InvalidArgument, SecretDetected
from memories import outbox, services, texts
from memories.embeddings import embed_documents
from memories.models import (
    App,
    Category,
    IdempotencyKey,
    Memory,
    MemoryHistory,
    MemoryTerm,
    Namespace,
    OutboxDelivery,
    OutboxEvent,
)
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

SECRET = "ghp_" + "k3Jq9XwZ7bN2mR5tY8uP1vC4dF6gH0sLaEoQ"


def test_only_content_is_needed(alice: Actor) -> None:
    before = timezone.now()
    written = services.add(alice, NewMemory("We deploy on Fridays."))
    memory = stored(alice, written.memory_id)
    assert written.event == "ADD"
    assert not written.is_duplicate
    assert memory.id.version == 7
    assert memory.short_id == memory.id.hex[-8:]
    assert (memory.content, memory.kind, memory.state, memory.standing) == (
        "We deploy on Fridays.",
        "fact",
        "active",
        "current",
    )
    assert memory.namespace.name == "personal"
    assert memory.written_by_id == alice.owner_id
    assert before <= memory.event_at == memory.created_at == memory.updated_at <= timezone.now()
    nothing = ("app_id", "user_id", "agent_id", "run_id", "seq", "speaker", "valid_from", "valid_to", "expires_at")
    assert {name: getattr(memory, name) for name in nothing} == dict.fromkeys(nothing)
    assert (memory.metadata, memory.tags, memory.version, memory.pinned_at) == ({}, [], 1, None)


def test_every_field_is_kept_as_given(alice: Actor) -> None:
    moment = datetime(2024, 3, 9, 10, 30, tzinfo=UTC)
    given: dict[str, Any] = {
        "kind": "decision",
        "metadata": {"ticket": 7, "nested": {"list": [1, None, "x"]}},
        "user_id": "u",
        "agent_id": "a",
        "run_id": "r",
        "seq": 5,
        "speaker": "Carol",
        "event_at": moment,
        "valid_from": moment,
        "valid_to": moment + timedelta(days=1),
        "expires_at": moment + timedelta(days=90_000),
    }
    new = NewMemory(
        "  Ümlaute stay, so does  white space\n",
        tags=[" Two  Words ", "ci", "CI"],
        categories=["Work", "work "],
        namespace="shop",
        app="cursor",
        pinned=True,
        **given,
    )
    memory = stored(alice, services.add(alice, new).memory_id)
    assert {name: getattr(memory, name) for name in given} == given
    assert memory.content == "  Ümlaute stay, so does  white space\n"
    assert memory.tags == ["two words", "ci"]
    assert categories(alice, memory.id) == ["work"]
    assert (memory.namespace.name, memory.app and memory.app.name) == ("shop", "cursor")
    assert memory.pinned_at is not None
    assert memory.importance == pytest.approx(0.9)


def test_the_app_of_the_caller_is_the_app_where_none_is_given(alice: Actor) -> None:
    memory = stored(alice, services.add(replace(alice, app="cursor"), NewMemory("Port 5432 is taken.")).memory_id)
    assert memory.app is not None
    assert memory.app.name == "cursor"


@pytest.mark.parametrize(("speaker", "text"), [(None, "I like tea."), ("Ann", "Ann: I like tea.")])
def test_vector_and_terms_are_of_the_speaker_and_the_content(alice: Actor, speaker: str | None, text: str) -> None:
    written = services.add(alice, NewMemory("I like tea.", speaker=speaker, tags=["drinks"]))
    memory = stored(alice, written.memory_id)
    vector = np.array(memory.embedding)
    assert np.allclose(vector, embed_documents([text])[0], atol=1e-3)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)
    assert postings(alice, memory.id) == expected_postings(memory)
    assert mentions(alice, memory.id) == expected_mentions(memory)
    assert ("ann" in postings(alice, memory.id)) is (speaker is not None)
    assert "tag:drinks" in postings(alice, memory.id)
    assert memory.term_count == len(postings(alice, memory.id)) - 1


def test_history_and_outbox_are_written_with_the_memory(alice: Actor) -> None:
    written = services.add(replace(alice, app="cursor", door="mcp"), NewMemory("Tests run on port 5433."))
    (entry,) = history(alice, written.memory_id)
    assert (entry.event, entry.version, entry.by_id, entry.door, entry.app) == (
        "ADD",
        1,
        alice.owner_id,
        "mcp",
        "cursor",
    )
    assert (entry.before, entry.after) == (None, {"content": "Tests run on port 5433."})
    (event,) = outbox_events(alice)
    memory = stored(alice, written.memory_id)
    assert event.payload == {
        "memory_id": str(memory.id),
        "event": "ADD",
        "memories": 1,
        "terms": memory.term_count,
    }
    assert count(alice, OutboxDelivery) == 1


def test_a_write_that_fails_at_its_end_leaves_nothing(alice: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("gone")

    monkeypatch.setattr(outbox, "write", fail)
    new = NewMemory("Half a write.", namespace="shop", app="cursor", tags=["t"], categories=["c"])
    with pytest.raises(RuntimeError, match="gone"):
        services.add(alice, new, idempotency_key="k")
    left = (Memory, MemoryTerm, MemoryHistory, Namespace, App, Category, OutboxEvent, OutboxDelivery, IdempotencyKey)
    assert {model.__name__: count(alice, model) for model in left} == {model.__name__: 0 for model in left}


# --- the same thing again


SAME = {
    "as it was": "Café au lait",
    "decomposed": unicodedata.normalize("NFD", "Café au lait"),
    "white space around": "\t Café au lait \n",
    "white space within": "Café \u00a0 au\n\nlait",
}
OTHER = {"case": "café au lait", "a full stop": "Café au lait.", "no accent": "Cafe au lait", "no space": "Caféau lait"}


@pytest.mark.parametrize("content", SAME.values(), ids=SAME)
def test_unicode_form_and_white_space_make_no_other_memory(alice: Actor, content: str) -> None:
    first = services.add(alice, NewMemory("Café au lait"))
    again = services.add(alice, NewMemory(content))
    assert (again.memory_id, again.event, again.is_duplicate) == (first.memory_id, "CONFIRM", True)
    assert stored(alice, first.memory_id).content == "Café au lait"


@pytest.mark.parametrize("content", OTHER.values(), ids=OTHER)
def test_another_text_is_another_memory(alice: Actor, content: str) -> None:
    services.add(alice, NewMemory("Café au lait"))
    assert services.add(alice, NewMemory(content)).event == "ADD"


def test_a_duplicate_merges_tags_and_categories_and_raises_confidence(alice: Actor) -> None:
    first = services.add(alice, NewMemory("We use uv.", tags=["tools"], categories=["work"]))
    before = stored(alice, first.memory_id)
    services.add(alice, NewMemory("We use uv.", tags=["python", "tools"], categories=["setup"], metadata={"a": 1}))
    after = stored(alice, first.memory_id)
    assert after.tags == ["tools", "python"]
    assert categories(alice, first.memory_id) == ["setup", "work"]
    assert before.confidence < after.confidence <= 1
    assert after.metadata == {}
    assert events(alice, first.memory_id) == [("ADD", 1), ("CONFIRM", 2)]
    assert postings(alice, after.id) == expected_postings(after)
    assert mentions(alice, after.id) == expected_mentions(after)
    assert count(alice, Memory) == 1


def test_a_confirmation_that_changes_no_field_leaves_the_version(alice: Actor) -> None:
    first = services.add(alice, NewMemory("We use uv."))
    for _ in range(30):
        services.add(alice, NewMemory("We use uv."))
    memory = stored(alice, first.memory_id)
    assert memory.version == 1
    assert 0.99 < memory.confidence <= 1


def test_the_tags_of_many_duplicates_stay_within_the_limit(alice: Actor) -> None:
    for start in (0, 30, 60):
        written = services.add(alice, NewMemory("Tagged.", tags=[f"t{n}" for n in range(start, start + 30)]))
    assert stored(alice, written.memory_id).tags == [f"t{n}" for n in range(50)]


def test_new_categories_of_a_duplicate_are_in_its_history(alice: Actor) -> None:
    first = services.add(alice, NewMemory("Sorted.", categories=["b"]))
    services.add(alice, NewMemory("Sorted.", categories=["c", "a", "b"]))
    services.add(alice, NewMemory("Sorted.", categories=["a"]))
    assert categories(alice, first.memory_id) == ["a", "b", "c"]
    _, confirmed, again = history(alice, first.memory_id)
    assert (confirmed.before or {})["categories"] == ["b"]
    assert (confirmed.after or {})["categories"] == ["a", "b", "c"]
    assert "categories" not in (again.after or {})
    assert (confirmed.version, again.version) == (2, 2)


def test_the_categories_of_many_duplicates_stay_within_the_limit(alice: Actor) -> None:
    for start in (10, 25, 40):
        names = [f"c{n}" for n in range(start, start + 15)]
        written = services.add(alice, NewMemory("Sorted.", categories=names))
    assert categories(alice, written.memory_id) == [f"c{n}" for n in range(10, 30)]


@pytest.mark.parametrize("standing", ["rejected", "superseded"])
def test_what_is_no_longer_held_true_stays_so_when_said_again(alice: Actor, standing: str) -> None:
    first = services.add(alice, NewMemory("The office is in Bonn."))
    services.update(alice, first.memory_id, {"standing": standing})
    again = services.add(alice, NewMemory("The office is in Bonn.", tags=["x"]))
    memory = stored(alice, first.memory_id)
    assert again.memory_id == first.memory_id
    assert again.is_duplicate
    assert (memory.standing, memory.tags, memory.version) == (standing, [], 2)


def test_an_archived_duplicate_comes_back(alice: Actor) -> None:
    first = services.add(alice, NewMemory("Old but good."))
    services.update(alice, first.memory_id, {"state": "archived"})
    assert services.add(alice, NewMemory("Old but good.")).memory_id == first.memory_id
    memory = stored(alice, first.memory_id)
    assert (memory.state, memory.archived_at) == ("active", None)


def test_an_expired_duplicate_comes_back_with_the_new_expiry(alice: Actor) -> None:
    later = timezone.now() + timedelta(days=3)
    first = services.add(alice, NewMemory("Short-lived.", expires_at=timezone.now() - timedelta(seconds=5)))
    assert services.add(alice, NewMemory("Short-lived.", expires_at=later)).memory_id == first.memory_id
    assert stored(alice, first.memory_id).expires_at == later


def test_a_duplicate_does_not_take_the_expiry_of_a_memory_in_use(alice: Actor) -> None:
    later = timezone.now() + timedelta(days=3)
    first = services.add(alice, NewMemory("In use.", expires_at=later))
    services.add(alice, NewMemory("In use."))
    assert stored(alice, first.memory_id).expires_at == later


def test_a_paused_duplicate_stays_paused(alice: Actor) -> None:
    first = services.add(alice, NewMemory("Not now."))
    services.update(alice, first.memory_id, {"state": "paused"})
    services.add(alice, NewMemory("Not now."))
    assert stored(alice, first.memory_id).state == "paused"


def test_what_was_deleted_is_added_anew(alice: Actor) -> None:
    first = services.add(alice, NewMemory("Gone."))
    services.delete(alice, first.memory_id)
    again = services.add(alice, NewMemory("Gone."))
    assert again.event == "ADD"
    assert again.memory_id != first.memory_id


APART: dict[str, dict[str, Any]] = {
    "user": {"user_id": "u2", "agent_id": "a"},
    "agent": {"user_id": "u", "agent_id": "a2"},
    "no user": {"agent_id": "a"},
    "no agent": {"user_id": "u"},
    "neither": {},
    "namespace": {"user_id": "u", "agent_id": "a", "namespace": "shop"},
    "message": {"user_id": "u", "agent_id": "a", "kind": "message"},
}


@pytest.mark.parametrize("labels", APART.values(), ids=APART)
def test_other_labels_make_another_memory_and_the_same_ones_a_duplicate(alice: Actor, labels: dict[str, Any]) -> None:
    services.add(alice, NewMemory("Likes tea.", user_id="u", agent_id="a"))
    second = services.add(alice, NewMemory("Likes tea.", **labels))
    assert second.event == "ADD"
    if labels.get("kind") != "message":
        assert services.add(alice, NewMemory("Likes tea.", **labels)).memory_id == second.memory_id


def test_run_kind_and_app_make_no_other_memory(alice: Actor) -> None:
    first = services.add(alice, NewMemory("Likes tea.", run_id="r1", app="cursor"))
    again = services.add(alice, NewMemory("Likes tea.", run_id="r2", app="cli", kind="preference"))
    assert again.memory_id == first.memory_id


def test_owners_do_not_share_their_duplicates(alice: Actor, bob: Actor) -> None:
    assert services.add(alice, NewMemory("Likes tea.")).event == "ADD"
    assert services.add(bob, NewMemory("Likes tea.")).event == "ADD"


def test_duplicates_within_one_call_are_one_memory(alice: Actor) -> None:
    first, second, third = services.add_many(alice, [NewMemory("Twice."), NewMemory("Other."), NewMemory(" Twice. ")])
    assert (first.event, second.event, third.event) == ("ADD", "ADD", "CONFIRM")
    assert third.memory_id == first.memory_id
    assert count(alice, Memory) == 2


# --- messages and their places


def message(content: str, **options: Any) -> NewMemory:
    return NewMemory(content, kind="message", **options)


def places(alice: Actor, *ids: UUID) -> list[int | None]:
    return [stored(alice, memory_id).seq for memory_id in ids]


def test_yes_said_twice_is_two_memories(alice: Actor) -> None:
    first, second = (services.add(alice, message("yes", run_id="r")) for _ in range(2))
    assert first.memory_id != second.memory_id
    assert places(alice, first.memory_id, second.memory_id) == [0, 1]


def test_the_same_message_at_its_place_is_confirmed(alice: Actor) -> None:
    first = services.add(alice, message("yes", run_id="r", seq=4))
    again = services.add(alice, message("yes ", run_id="r", seq=4))
    assert (again.memory_id, again.event) == (first.memory_id, "CONFIRM")


def test_another_message_at_a_taken_place_is_a_conflict(alice: Actor) -> None:
    services.add(alice, message("yes", run_id="r", seq=4))
    with pytest.raises(Conflict, match="Place 4 of the run 'r'"):
        services.add(alice, message("no", run_id="r", seq=4))
    assert count(alice, Memory) == 1


def test_a_run_belongs_to_its_namespace(alice: Actor) -> None:
    services.add(alice, message("yes", run_id="session_1", seq=0, namespace="conv-1"))
    assert services.add(alice, message("no", run_id="session_1", seq=0, namespace="conv-2")).event == "ADD"


def test_missing_places_follow_the_given_ones(alice: Actor) -> None:
    given = [
        message("a", run_id="r", seq=7),
        message("b", run_id="r"),
        message("c", run_id="r"),
        message("d", run_id="q"),
    ]
    written = services.add_many(alice, given)
    last = services.add(alice, message("e", run_id="r"))
    assert places(alice, *(one.memory_id for one in written), last.memory_id) == [7, 8, 9, 0, 10]


def test_the_place_of_a_deleted_message_is_not_given_away(alice: Actor) -> None:
    first = services.add(alice, message("a", run_id="r"))
    services.delete(alice, first.memory_id)
    second = services.add(alice, message("b", run_id="r"))
    assert places(alice, second.memory_id) == [1]
    assert services.restore(alice, first.memory_id).event == "RESTORE"


def test_a_message_without_a_run_gets_one(alice: Actor) -> None:
    first, second = (stored(alice, services.add(alice, message("hello")).memory_id) for _ in range(2))
    assert first.run_id
    assert second.run_id
    assert first.run_id != second.run_id
    assert (first.seq, second.seq) == (0, 0)


def test_a_fact_of_a_run_gets_a_place_and_one_without_a_run_none(alice: Actor) -> None:
    in_run = services.add(alice, NewMemory("A fact.", run_id="r"))
    alone = services.add(alice, NewMemory("Another fact."))
    assert places(alice, in_run.memory_id, alone.memory_id) == [0, None]


@pytest.mark.parametrize(
    "options",
    [{"seq": 1}, {"seq": -1, "run_id": "r"}, {"seq": 2**31, "run_id": "r"}],
    ids=["without a run", "negative", "past the column"],
)
def test_a_place_that_cannot_be_is_refused(alice: Actor, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        services.add(alice, message("x", **options))


def test_a_run_whose_last_place_is_the_highest_takes_no_further_message(alice: Actor) -> None:
    services.add(alice, message("x", run_id="r", seq=2**31 - 1))
    with pytest.raises(Conflict, match="full"):
        services.add(alice, message("y", run_id="r"))


# --- apps, namespaces, scopes


def test_a_paused_app_may_not_write(alice: Actor) -> None:
    first = services.add(alice, NewMemory("One.", app="cursor"))
    app = stored(alice, first.memory_id).app
    assert app is not None
    services.set_app_active(alice, app.id, is_active=False)
    with pytest.raises(Forbidden, match="paused"):
        services.add(alice, NewMemory("Two.", app="cursor"))
    assert services.add(alice, NewMemory("Two.", app="cli")).event == "ADD"
    services.set_app_active(alice, app.id, is_active=True)
    assert services.add(alice, NewMemory("Three.", app="cursor")).event == "ADD"


REMOTES = [
    "https://github.com/Owner/repo.git",
    "https://github.com/Owner/repo",
    "https://github.com/Owner/repo/",
    "https://user:token@GitHub.com/Owner/repo.git",
    "http://github.com/Owner/repo.git/",
    "git@github.com:Owner/repo.git",
    "git@github.com:Owner/repo",
    "ssh://git@github.com/Owner/repo.git",
    "ssh://git@github.com:22/Owner/repo.git",
    "git://github.com/Owner/repo.git",
    "  git@github.com:Owner/repo.git\n",
    "github.com/Owner/repo",
]


@pytest.mark.parametrize("remote", REMOTES)
def test_every_spelling_of_a_git_remote_is_one_namespace(alice: Actor, remote: str) -> None:
    memory = stored(alice, services.add(alice, NewMemory("X.", namespace=remote)).memory_id)
    assert memory.namespace.name == "github.com/Owner/repo"


@pytest.mark.parametrize("name", ["", "  ", "*", "a\x00b", "a\x07b", "x" * 201, "\ud800"])
def test_a_namespace_needs_a_name(alice: Actor, name: str) -> None:
    with pytest.raises(InvalidArgument):
        services.add(alice, NewMemory("X.", namespace=name))


def test_a_key_writes_only_in_its_namespaces(alice: Actor) -> None:
    limited = replace(alice, namespaces=frozenset({"shop"}))
    assert services.add(limited, NewMemory("X.", namespace="shop")).event == "ADD"
    for elsewhere in (None, "personal", "blog"):
        with pytest.raises(Forbidden, match="limited to the namespaces shop"):
            services.add(limited, NewMemory("X.", namespace=elsewhere))
    assert count(alice, Namespace) == 1


def test_a_key_without_the_scope_writes_nothing(alice: Actor) -> None:
    with pytest.raises(Forbidden, match="lacks the scope"):
        services.add(replace(alice, scopes=frozenset({"read"})), NewMemory("X."))


# --- secrets


WITH_SECRET = {
    "content": NewMemory(f"The token is {SECRET}."),
    "metadata": NewMemory("See metadata.", metadata={"deep": [{"token": SECRET}]}),
    "metadata key": NewMemory("See metadata.", metadata={SECRET: 1}),
    "tags": NewMemory("See tags.", tags=["fine", SECRET]),
}


@pytest.mark.parametrize("new", WITH_SECRET.values(), ids=WITH_SECRET)
def test_a_secret_is_stored_nowhere_and_logged_nowhere(
    alice: Actor, new: NewMemory, caplog: pytest.LogCaptureFixture
) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(SecretDetected) as refused:
        services.add(alice, new, idempotency_key="k")
    said = f"{refused.value.detail} {refused.value.errors} {logs} {caplog.text}".lower()
    assert SECRET.lower() not in said
    assert SECRET[8:20].lower() not in said
    assert refused.value.status == 422
    assert all(count(alice, model) == 0 for model in (Memory, MemoryHistory, OutboxEvent, IdempotencyKey))


def test_a_secret_is_named_by_kind_and_offset(alice: Actor) -> None:
    with pytest.raises(SecretDetected) as refused:
        services.add(alice, WITH_SECRET["content"])
    assert refused.value.errors is not None
    (found,) = refused.value.errors["content"]
    assert found["offset"] == len("The token is ")
    assert found["kind"]


@pytest.mark.parametrize("new", WITH_SECRET.values(), ids=WITH_SECRET)
def test_a_secret_is_stored_for_who_insists(alice: Actor, new: NewMemory) -> None:
    assert services.add(alice, replace(new, allow_secret=True)).event == "ADD"


def test_a_change_is_screened_like_an_addition(alice: Actor) -> None:
    first = services.add(alice, NewMemory("No secret."))
    for changes in ({"content": SECRET}, {"metadata": {"a": SECRET}}, {"tags": [SECRET]}):
        with pytest.raises(SecretDetected):
            services.update(alice, first.memory_id, changes)
    assert services.update(alice, first.memory_id, {"content": SECRET}, allow_secret=True).event == "UPDATE"


# --- limits


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"leaf": 1}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def of_size(size: int) -> dict[str, str]:
    return {"k": "x" * (size - len('{"k":""}'))}


AT_THE_EDGE: dict[str, dict[str, Any]] = {
    "content": {"content": "x" * 20_000},
    "content of wide characters": {"content": "𝒳" * 20_000},
    **{label: {label: "l" * 128} for label in ("app", "user_id", "agent_id", "run_id", "speaker")},
    "metadata": {"metadata": of_size(16 * 1024)},
    "metadata depth": {"metadata": nested(16)},
    "tags": {"tags": [f"t{n}" for n in range(50)]},
    "tag": {"tags": ["t" * 50]},
    "categories": {"categories": [f"c{n}" for n in range(20)]},
    "category": {"categories": ["c" * 128]},
    "namespace": {"namespace": "n" * 200},
    "seq": {"seq": 2**31 - 1, "run_id": "r"},
    "validity of one moment": {
        "valid_from": datetime(2024, 1, 1, tzinfo=UTC),
        "valid_to": datetime(2024, 1, 1, tzinfo=UTC),
    },
}
PAST_THE_EDGE: dict[str, dict[str, Any]] = {
    "content": {"content": "x" * 20_001},
    "no content": {"content": ""},
    "blank content": {"content": " \n\t\u2003"},
    "NUL in content": {"content": "a\x00b"},
    "half a surrogate in content": {"content": "a\ud83d"},
    **{label: {label: "l" * 129} for label in ("app", "user_id", "agent_id", "run_id", "speaker")},
    **{f"blank {label}": {label: " "} for label in ("app", "user_id", "agent_id", "run_id", "speaker")},
    **{f"NUL in {label}": {label: "a\x00"} for label in ("app", "user_id", "agent_id", "run_id", "speaker")},
    "half a surrogate in a label": {"user_id": "\udc00"},
    "metadata": {"metadata": of_size(16 * 1024 + 1)},
    "metadata depth": {"metadata": nested(17)},
    "absurd metadata depth": {"metadata": nested(900)},
    "NUL in metadata": {"metadata": {"a": ["\x00"]}},
    "NUL in a key": {"metadata": {"a\x00": 1}},
    "half a surrogate in metadata": {"metadata": {"a": "\ud800"}},
    "NaN": {"metadata": {"a": float("nan")}},
    "infinity": {"metadata": {"a": [float("-inf")]}},
    "an enormous number": {"metadata": {"a": 10**40}},
    "tags": {"tags": [f"t{n}" for n in range(51)]},
    "tag": {"tags": ["t" * 51]},
    "blank tag": {"tags": ["a", " "]},
    "NUL in a tag": {"tags": ["a\x00"]},
    "half a surrogate in a tag": {"tags": ["\ud800"]},
    "categories": {"categories": [f"c{n}" for n in range(21)]},
    "category": {"categories": ["c" * 129]},
    "kind": {"kind": "rumour"},
    "validity backwards": {
        "valid_from": datetime(2024, 1, 2, tzinfo=UTC),
        "valid_to": datetime(2024, 1, 1, tzinfo=UTC),
    },
    **{
        f"naive {name}": {name: datetime(2024, 1, 1)}  # noqa: DTZ001  naive on purpose
        for name in ("event_at", "valid_from", "valid_to", "expires_at")
    },
    "a year that UTC does not have": {"event_at": datetime.fromisoformat("0001-01-01T00:00:00+14:00")},
}


@pytest.mark.parametrize("fields", AT_THE_EDGE.values(), ids=AT_THE_EDGE)
def test_a_value_at_the_limit_is_stored(alice: Actor, fields: dict[str, Any]) -> None:
    written = services.add(alice, NewMemory(**({"content": "Edge."} | fields)))
    assert stored(alice, written.memory_id)


@pytest.mark.parametrize("fields", PAST_THE_EDGE.values(), ids=PAST_THE_EDGE)
def test_a_value_past_the_limit_is_refused_with_its_field(alice: Actor, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        services.add(alice, NewMemory(**({"content": "Edge."} | fields)))
    assert set(refused.value.errors or {}) & set(fields)
    assert count(alice, Memory) == 0


@pytest.mark.parametrize("fields", PAST_THE_EDGE.values(), ids=PAST_THE_EDGE)
def test_a_change_past_the_limit_is_refused_too(alice: Actor, fields: dict[str, Any]) -> None:
    first = services.add(alice, NewMemory("Edge."))
    with pytest.raises(InvalidArgument):
        services.update(alice, first.memory_id, fields, idempotency_key="k")
    assert stored(alice, first.memory_id).version == 1


def test_the_hash_has_32_bytes_and_the_case_counts() -> None:
    assert len(texts.content_hash("x")) == 32
    assert texts.content_hash("x") != texts.content_hash("X")


def test_what_is_shown_to_nobody_else_is_not_even_counted(alice: Actor, charlie: Actor) -> None:
    written = services.add(alice, NewMemory("Mine."))
    with acting_as(charlie):
        assert not Memory.objects.filter(id=written.memory_id).exists()
