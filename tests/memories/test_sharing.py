from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from accounts.actors import Actor, acting_as
from mem0stack.lib.errors import Forbidden, InvalidArgument, NotFound
from memories import services
from memories.models import IdempotencyKey, Memory, Share
from memories.services import NewMemory
from tests.memories.reading import count, events, history, stored

pytestmark = pytest.mark.django_db


@pytest.fixture
def plan(alice: Actor) -> UUID:
    return services.add(alice, NewMemory("The plan.", namespace="team")).memory_id


def sees(actor: Actor, memory_id: UUID) -> bool:
    with acting_as(actor):
        return Memory.objects.visible_to(actor).filter(id=memory_id).exists()


def test_a_shared_memory_is_seen_until_the_share_ends(alice: Actor, bob: Actor, charlie: Actor, plan: UUID) -> None:
    other = services.add(alice, NewMemory("Not shared.", namespace="team")).memory_id
    found, is_new = services.share(alice, grantee="bob", memory_id=plan)
    assert is_new
    assert [sees(who, plan) for who in (alice, bob, charlie)] == [True, True, False]
    assert not sees(bob, other)
    services.unshare(alice, found.id)
    assert not sees(bob, plan)
    assert [event for event, _ in events(alice, plan)] == ["ADD", "SHARE", "SHARE"]


def test_a_shared_namespace_is_seen_with_what_comes_later(alice: Actor, bob: Actor, charlie: Actor, plan: UUID) -> None:
    found, _ = services.share(alice, grantee="bob", namespace="team")
    later = services.add(alice, NewMemory("Later.", namespace="team")).memory_id
    elsewhere = services.add(alice, NewMemory("Private.")).memory_id
    assert [sees(bob, one) for one in (plan, later, elsewhere)] == [True, True, False]
    assert not sees(charlie, later)
    services.unshare(alice, found.id)
    assert not sees(bob, later)


def test_an_expired_share_shows_nothing(alice: Actor, bob: Actor, plan: UUID) -> None:
    found, _ = services.share(
        alice, grantee="bob", namespace="team", can_add=True, expires_at=timezone.now() + timedelta(hours=1)
    )
    assert sees(bob, plan)
    with acting_as(alice):
        Share.objects.filter(id=found.id).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert not sees(bob, plan)
    services.add(bob, NewMemory("Mine then.", namespace="alice/team"))
    assert count(alice, Memory) == 1


def test_sharing_again_changes_the_share(alice: Actor, bob: Actor, plan: UUID) -> None:
    first, _ = services.share(alice, grantee="bob", namespace="team")
    again, is_new = services.share(alice, grantee="bob", namespace="team", can_add=True)
    assert (again.id, is_new, again.can_add) == (first.id, False, True)
    services.unshare(alice, again.id)
    third, is_new = services.share(alice, grantee="bob", namespace="team")
    assert is_new
    assert third.id != first.id
    assert count(alice, Share) == 2


def test_the_other_user_is_named_by_name_or_by_id(alice: Actor, bob: Actor, plan: UUID) -> None:
    first, _ = services.share(alice, grantee="bob", memory_id=plan)
    again, is_new = services.share(alice, grantee=str(bob.person.uuid), memory_id=plan)
    assert (again.id, is_new) == (first.id, False)


def test_a_reader_changes_nothing(alice: Actor, bob: Actor, charlie: Actor, plan: UUID) -> None:
    services.share(alice, grantee="bob", memory_id=plan)
    for call in (
        lambda: services.update(bob, plan, {"content": "Bob's plan."}),
        lambda: services.delete(bob, plan),
        lambda: services.share(bob, grantee="charlie", memory_id=plan),
    ):
        with pytest.raises(Forbidden, match="shared with you for reading"):
            call()
    with pytest.raises(NotFound):
        services.restore(bob, uuid4())
    assert stored(alice, plan).version == 1


def test_what_a_stranger_asks_for_is_not_there(alice: Actor, charlie: Actor, plan: UUID) -> None:
    found, _ = services.share(alice, grantee=charlie.user.username if charlie.user else "", memory_id=plan)
    services.unshare(alice, found.id)
    for call in (
        lambda: services.update(charlie, plan, {"content": "X."}),
        lambda: services.delete(charlie, plan),
        lambda: services.restore(charlie, plan),
        lambda: services.share(charlie, grantee="alice", memory_id=plan),
        lambda: services.unshare(charlie, found.id),
        lambda: services.share(charlie, grantee="alice", namespace="team"),
    ):
        with pytest.raises(NotFound):
            call()


def test_with_can_add_a_memory_is_the_owners_and_written_by_the_caller(alice: Actor, bob: Actor, plan: UUID) -> None:
    services.share(alice, grantee="bob", namespace="team", can_add=True)
    new = NewMemory("Bob's part.", namespace="alice/team", categories=["work"], app="cursor", run_id="r")
    written = services.add(bob, new, idempotency_key="k")
    memory = stored(alice, written.memory_id)
    assert (memory.owner_id, memory.written_by_id, memory.namespace.name) == (alice.owner_id, bob.owner_id, "team")
    (entry,) = history(alice, memory.id)
    assert (entry.owner_id, entry.by_id) == (alice.owner_id, bob.owner_id)
    assert sees(bob, memory.id)
    assert count(bob, Memory) == 0
    assert (count(bob, IdempotencyKey), count(alice, IdempotencyKey)) == (1, 0)
    assert services.add(bob, new, idempotency_key="k") == written


def test_a_duplicate_in_a_shared_namespace_is_the_owners_memory(alice: Actor, bob: Actor, plan: UUID) -> None:
    services.share(alice, grantee="bob", namespace="team", can_add=True)
    again = services.add(bob, NewMemory("The plan.", namespace="alice/team", tags=["t"]))
    assert (again.memory_id, again.event) == (plan, "CONFIRM")
    assert stored(alice, plan).tags == ["t"]
    assert history(alice, plan)[-1].by_id == bob.owner_id


def test_one_call_writes_to_several_spaces_in_order(alice: Actor, bob: Actor, plan: UUID) -> None:
    services.share(alice, grantee="bob", namespace="team", can_add=True)
    mine, hers, mine_too = services.add_many(
        bob, [NewMemory("Mine."), NewMemory("Hers.", namespace="alice/team"), NewMemory("Mine too.", namespace="team")]
    )
    assert stored(bob, mine.memory_id).content == "Mine."
    assert stored(alice, hers.memory_id).content == "Hers."
    assert stored(bob, mine_too.memory_id).namespace.name == "team"


def test_a_share_for_reading_lets_nobody_add(alice: Actor, bob: Actor, plan: UUID) -> None:
    services.share(alice, grantee="bob", namespace="team")
    with pytest.raises(Forbidden, match="for reading only"):
        services.add(bob, NewMemory("Bob's part.", namespace="alice/team"))
    assert (count(alice, Memory), count(bob, Memory)) == (1, 0)


def test_the_app_that_the_owner_paused_adds_nothing_to_a_shared_namespace(alice: Actor, bob: Actor, plan: UUID) -> None:
    services.share(alice, grantee="bob", namespace="team", can_add=True)
    app = stored(alice, services.add(alice, NewMemory("X.", app="cursor")).memory_id).app
    assert app is not None
    services.set_app_active(alice, app.id, is_active=False)
    with pytest.raises(Forbidden, match="paused"):
        services.add(replace(bob, app="cursor"), NewMemory("Y.", namespace="alice/team"))


def test_a_limited_key_does_not_reach_shared_namespaces(alice: Actor, bob: Actor, plan: UUID) -> None:
    services.share(alice, grantee="bob", namespace="team", can_add=True)
    with pytest.raises(Forbidden, match="limited"):
        services.add(replace(bob, namespaces=frozenset({"team"})), NewMemory("Y.", namespace="alice/team"))


def test_a_namespace_of_ones_own_is_not_taken_over_by_a_share(alice: Actor, bob: Actor, plan: UUID) -> None:
    mine = services.add(bob, NewMemory("Mine.", namespace="alice/team"))
    services.share(alice, grantee="bob", namespace="team", can_add=True)
    again = services.add(bob, NewMemory("Mine as well.", namespace="alice/team"))
    assert stored(bob, mine.memory_id).namespace_id == stored(bob, again.memory_id).namespace_id


def test_what_cannot_be_shared_is_refused(alice: Actor, bob: Actor, plan: UUID) -> None:
    past = timezone.now() - timedelta(hours=1)
    for call in (
        lambda: services.share(alice, grantee="bob"),
        lambda: services.share(alice, grantee="bob", memory_id=plan, namespace="team"),
        lambda: services.share(alice, grantee="bob", memory_id=plan, can_add=True),
        lambda: services.share(alice, grantee="bob", memory_id=plan, expires_at=past),
        lambda: services.share(alice, grantee="bob", memory_id=plan, expires_at=past.replace(tzinfo=None)),
        lambda: services.share(alice, grantee="alice", memory_id=plan),
    ):
        with pytest.raises(InvalidArgument):
            call()
    for call in (
        lambda: services.share(alice, grantee="nobody", memory_id=plan),
        lambda: services.share(alice, grantee="bob", memory_id=uuid4()),
        lambda: services.share(alice, grantee="bob", namespace="nowhere"),
        lambda: services.unshare(alice, uuid4()),
    ):
        with pytest.raises(NotFound):
            call()
    assert count(alice, Share) == 0
