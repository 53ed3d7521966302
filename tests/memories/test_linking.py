"""Relations that are said by hand: through the service, and over HTTP."""

import random
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from accounts.actors import Actor, acting_as
from mem0stack.lib.errors import Conflict, Forbidden, InvalidArgument, NotFound
from memories import services
from memories.models import Memory, Relation, RelationKind
from memories.search import search
from memories.services import NewMemory
from memories.services.linking import BY_HAND
from tests.memories.reading import at_once, count, events, history, outbox_events, stored
from tests.rest import Caller, refusal

pytestmark = pytest.mark.django_db


def add(actor: Actor, content: str, **options: str) -> UUID:
    return services.add(actor, NewMemory(content, **options)).memory_id  # type: ignore[arg-type]


@pytest.fixture
def old(alice: Actor) -> UUID:
    return add(alice, "The port is 8080.")


@pytest.fixture
def new(alice: Actor) -> UUID:
    return add(alice, "The port is 9090.")


def said(actor: Actor) -> set[tuple[UUID, str, UUID]]:
    with acting_as(actor):
        mine = Relation.objects.filter(owner_id=actor.owner_id)
        return set(mine.values_list("source_id", "relation", "target_id"))


def standing(actor: Actor, memory_id: UUID) -> tuple[str, UUID | None]:
    memory = stored(actor, memory_id)
    return memory.standing, memory.superseded_by_id


@pytest.mark.parametrize("relation", [kind for kind in BY_HAND if kind != "supersedes"])
def test_a_link_is_stored_once_and_taken_back_once(alice: Actor, old: UUID, new: UUID, relation: str) -> None:
    before = stored(alice, old), stored(alice, new)
    first = services.link(alice, new, old, relation)
    assert (first.memory_id, first.event) == (new, "LINK")
    again = services.link(alice, new, old, relation)
    assert (again.made_id, again.event, again.is_duplicate) == (first.made_id, "CONFIRM", True)
    assert said(alice) == {(new, relation, old)}
    assert first.made_id is not None
    taken = services.unlink(alice, first.made_id)
    assert (taken.memory_id, taken.event, taken.made_id) == (new, "UNLINK", first.made_id)
    assert said(alice) == set()
    with pytest.raises(NotFound):
        services.unlink(alice, first.made_id)
    for was in before:
        now = stored(alice, was.id)
        assert (now.version, now.standing, now.updated_at) == (was.version, "current", was.updated_at)


def test_both_histories_tell_of_it_and_so_does_the_outbox(alice: Actor, old: UUID, new: UUID) -> None:
    made = services.link(replace(alice, door="mcp", app="cursor"), new, old, "depends_on").made_id
    assert made is not None
    services.link(alice, new, old, "depends_on")
    services.unlink(alice, made)
    of_new, of_old = {"relation": "depends_on", "target": str(old)}, {"relation": "depends_on", "source": str(new)}
    for memory_id, told in ((new, of_new), (old, of_old)):
        _, linked, unlinked = history(alice, memory_id)
        assert (linked.event, linked.before, linked.after, linked.version) == ("LINK", None, told, 1)
        assert (linked.by, linked.door, linked.app) == (alice.user, "mcp", "cursor")
        assert (unlinked.event, unlinked.before, unlinked.after, unlinked.door) == ("UNLINK", told, None, "rest")
    ends = {"relation_id": str(made), "source_id": str(new), "relation": "depends_on", "target_id": str(old)}
    events_of_relations = [event.payload for event in outbox_events(alice) if event.kind == "relation"]
    assert events_of_relations == [ends | {"event": "LINK"}, ends | {"event": "UNLINK"}]


@pytest.mark.parametrize(("relation", "known"), [("relates_to", True), ("contradicts", True), ("part_of", False)])
def test_what_is_mutual_is_known_in_both_directions(
    alice: Actor, old: UUID, new: UUID, relation: str, known: bool
) -> None:
    first = services.link(alice, new, old, relation)
    back = services.link(alice, old, new, relation)
    assert back.is_duplicate == known
    assert (back.made_id == first.made_id) == known
    assert said(alice) == ({(new, relation, old)} if known else {(new, relation, old), (old, relation, new)})


def test_what_is_superseded_leaves_the_search_until_the_link_is_taken_back(alice: Actor, old: UUID, new: UUID) -> None:
    def found() -> set[UUID]:
        return {hit.memory.id for hit in search(alice, "port").hits}

    assert found() == {old, new}
    made = services.link(alice, new, old, "supersedes").made_id
    assert made is not None
    assert standing(alice, old) == ("superseded", new)
    assert stored(alice, old).valid_to is not None
    assert found() == {new}
    assert services.link(alice, new, old, "supersedes").is_duplicate
    services.unlink(alice, made)
    assert standing(alice, old) == ("current", None)
    assert stored(alice, old).valid_to is None
    assert found() == {old, new}
    assert [event for event, _ in events(alice, old)] == ["ADD", "LINK", "SUPERSEDE", "UNLINK", "UPDATE"]


def test_a_link_that_is_said_again_supersedes_again_what_was_made_current(alice: Actor, old: UUID, new: UUID) -> None:
    first = services.link(alice, new, old, "supersedes")
    services.update(alice, old, {"standing": "current"})
    again = services.link(alice, new, old, "supersedes")
    assert (again.made_id, again.event) == (first.made_id, "SUPERSEDE")
    assert standing(alice, old) == ("superseded", new)


def test_what_was_never_true_is_not_true_once_because_something_supersedes_it(
    alice: Actor, old: UUID, new: UUID
) -> None:
    services.give_feedback(alice, old, "wrong")
    made = services.link(alice, new, old, "supersedes").made_id
    assert made is not None
    assert standing(alice, old) == ("rejected", None)
    services.unlink(alice, made)
    assert standing(alice, old) == ("rejected", None)


def test_taking_back_a_link_leaves_alone_what_something_else_superseded(alice: Actor, old: UUID, new: UUID) -> None:
    newest = add(alice, "The port is 9191.")
    made = services.link(alice, new, old, "supersedes").made_id
    assert made is not None
    services.update(alice, old, {"superseded_by": newest})
    services.unlink(alice, made)
    assert standing(alice, old) == ("superseded", newest)


def test_of_two_successors_the_other_remains(alice: Actor, old: UUID, new: UUID) -> None:
    newest = add(alice, "The port is 9191.")
    first, second = (services.link(alice, one, old, "supersedes").made_id for one in (new, newest))
    assert first is not None
    assert second is not None
    assert standing(alice, old) == ("superseded", newest)
    services.unlink(alice, second)
    assert standing(alice, old) == ("superseded", new)
    services.unlink(alice, first)
    assert standing(alice, old) == ("current", None)


def test_a_successor_that_was_superseded_itself_meanwhile_does_not_remain(alice: Actor, old: UUID, new: UUID) -> None:
    newest = add(alice, "The port is 9191.")
    services.link(alice, new, old, "supersedes")
    second = services.link(alice, newest, old, "supersedes").made_id
    assert second is not None
    services.update(alice, new, {"superseded_by": old})
    services.unlink(alice, second)
    assert standing(alice, old) == ("current", None)


def test_a_circle_is_refused_and_nothing_of_it_is_left(alice: Actor, old: UUID, new: UUID) -> None:
    third = add(alice, "The port is 7070.")
    services.link(alice, new, old, "supersedes")
    services.link(alice, third, new, "supersedes")
    before = len(outbox_events(alice))
    with pytest.raises(Conflict):
        services.link(alice, old, third, "supersedes")
    assert said(alice) == {(new, "supersedes", old), (third, "supersedes", new)}
    assert len(outbox_events(alice)) == before
    assert [event for event, _ in events(alice, third)] == ["ADD", "LINK"]


def test_a_relation_is_between_two_and_of_a_known_kind(alice: Actor, old: UUID, new: UUID) -> None:
    for relation in ("knows", "", "derived_from", "SUPERSEDES"):
        with pytest.raises(InvalidArgument, match="relates_to"):
            services.link(alice, new, old, relation)
    with pytest.raises(InvalidArgument, match="itself"):
        services.link(alice, new, new, "relates_to")
    assert set(BY_HAND) == set(RelationKind.values) - {"derived_from"}


def test_where_something_comes_from_cannot_be_taken_back(alice: Actor, old: UUID) -> None:
    services.add(alice, NewMemory("A port is open.", derived_from=[old]))
    with acting_as(alice):
        derived = Relation.objects.get(owner_id=alice.owner_id)
    assert [event.payload["event"] for event in outbox_events(alice) if event.kind == "relation"] == ["LINK"]
    with pytest.raises(Forbidden):
        services.unlink(alice, derived.id)
    assert count(alice, Relation) == 1


def test_only_ones_own_memories_are_linked(alice: Actor, bob: Actor, charlie: Actor, old: UUID, new: UUID) -> None:
    made = services.link(alice, new, old, "relates_to").made_id
    assert made is not None
    services.share(alice, grantee="bob", memory_id=old)
    mine = {who: add(who, "Mine.") for who in (bob, charlie)}
    for source, target in ((old, mine[bob]), (mine[bob], old)):
        with pytest.raises(Forbidden, match="alice"):
            services.link(bob, source, target, "relates_to")
    for source, target in ((old, mine[charlie]), (mine[charlie], old), (mine[charlie], uuid4())):
        with pytest.raises(NotFound):
            services.link(charlie, source, target, "relates_to")
    for who in (bob, charlie):
        with pytest.raises(NotFound):
            services.unlink(who, made)
    assert said(alice) == {(new, "relates_to", old)}


def test_a_key_links_within_its_namespaces_and_with_its_rights(alice: Actor) -> None:
    inside = [add(alice, f"Number {n}.", namespace="team") for n in range(2)]
    outside = add(alice, "Another.")
    across = services.link(alice, inside[0], outside, "relates_to").made_id
    assert across is not None
    limited = replace(alice, namespaces=frozenset({"team"}))
    assert services.link(limited, inside[0], inside[1], "relates_to").event == "LINK"
    with pytest.raises(NotFound):
        services.link(limited, inside[0], outside, "part_of")
    with pytest.raises(NotFound):
        services.unlink(limited, across)
    for call in (lambda who: services.link(who, *inside, "part_of"), lambda who: services.unlink(who, across)):
        with pytest.raises(Forbidden, match="lacks the scope"):
            call(replace(alice, scopes=frozenset({"read"})))


def test_a_deleted_memory_has_no_relations_until_it_is_back(alice: Actor, old: UUID, new: UUID) -> None:
    made = services.link(alice, new, old, "relates_to").made_id
    assert made is not None
    services.delete(alice, old)
    with pytest.raises(NotFound):
        services.link(alice, new, old, "part_of")
    with pytest.raises(NotFound):
        services.unlink(alice, made)
    services.restore(alice, old)
    assert services.unlink(alice, made).event == "UNLINK"


def test_an_idempotency_key_links_once(alice: Actor, old: UUID, new: UUID) -> None:
    first = services.link(alice, new, old, "relates_to", idempotency_key="k")
    assert first.made_id is not None
    taken = services.unlink(alice, first.made_id, idempotency_key="u")
    assert services.link(alice, new, old, "relates_to", idempotency_key="k") == first
    assert services.unlink(alice, first.made_id, idempotency_key="u") == taken
    assert said(alice) == set()
    with pytest.raises(Conflict):
        services.link(alice, new, old, "part_of", idempotency_key="k")


@pytest.mark.django_db(transaction=True)
def test_links_made_and_taken_back_at_once_do_not_lock_each_other_out(
    alice: Actor, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = random.Random(seed)  # noqa: S311  no secret
    ids = [add(alice, f"Number {n}.") for n in range(4)]

    def work() -> None:
        for _ in range(15):
            source, target = drawn.sample(ids, 2)
            try:
                made = services.link(alice, source, target, drawn.choice(["supersedes", "relates_to"])).made_id
                if made is not None and drawn.random() < 0.5:
                    services.unlink(alice, made)
            except (Conflict, NotFound):
                continue

    assert at_once([work] * 6) == [None] * 6
    with acting_as(alice):
        rows = {one.id: one for one in Memory.objects.filter(owner_id=alice.owner_id)}
    for memory_id, memory in rows.items():
        seen = {memory_id}
        while memory.superseded_by_id is not None:
            assert memory.superseded_by_id not in seen, "a circle"
            seen.add(memory.superseded_by_id)
            memory = rows[memory.superseded_by_id]  # noqa: PLW2901
        superseded = {target for _, relation, target in said(alice) if relation == "supersedes"}
        assert (rows[memory_id].standing == "superseded") <= (memory_id in superseded)


@pytest.mark.django_db(transaction=True)
def test_the_same_link_at_once_is_one_relation_whichever_way_it_is_said(alice: Actor) -> None:
    one, other = add(alice, "One."), add(alice, "Other.")
    calls = [
        lambda: services.link(alice, one, other, "contradicts"),
        lambda: services.link(alice, other, one, "contradicts"),
    ]
    outcomes = at_once(calls * 4)
    assert len({outcome.made_id for outcome in outcomes}) == 1
    assert sorted(outcome.event for outcome in outcomes) == ["CONFIRM"] * 7 + ["LINK"]


def test_over_http_a_relation_is_made_shown_and_taken_back(db: None) -> None:
    alice = Caller("alice")
    one, other = (alice.remember(text)["id"] for text in ("One.", "Other."))
    asked = {"source": one, "relation": "supersedes", "target": other}
    made = alice.post("relations/", asked)
    assert made.status_code == 201
    assert {name: made.json()[name] for name in asked} == asked
    assert alice.get(f"memories/{other}/").json()["superseded_by"] == one
    known = alice.post("relations/", asked)
    assert (known.status_code, known.json()) == (200, made.json())
    assert alice.get("relations/", {"relation": "supersedes"}).json()["results"] == [made.json()]
    path = f"relations/{made.json()['id']}/"
    taken = alice.delete(path)
    assert (taken.status_code, taken.json()) == (200, {"id": made.json()["id"], "event": "UNLINK"})
    assert alice.get(f"memories/{other}/").json()["standing"] == "current"
    refusal(alice.delete(path), 404, "not_found")
    refusal(alice.post("relations/", asked | {"relation": "derived_from"}), 400, "invalid_argument")
    refusal(alice.post("relations/", asked | {"target": one}), 400, "invalid_argument")
    refusal(alice.post("relations/", asked | {"owner": "bob"}), 400, "invalid_argument")
    refusal(alice.post("relations/", {"source": one, "relation": "part_of"}), 400, "invalid_argument")
    told = alice.get(f"memories/{one}/history/").json()["results"]
    assert [change["event"] for change in told] == ["UNLINK", "LINK", "ADD"]
