from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.actors import Actor, acting_as
from mem0stack.lib.errors import AmbiguousId, Forbidden, InvalidArgument, NotFound
from memories import services, short_ids
from memories.models import Memory
from memories.services import NewMemory

pytestmark = pytest.mark.django_db


def add(actor: Actor, content: str, *, namespace: str = "team") -> UUID:
    return services.add(actor, NewMemory(content, namespace=namespace)).memory_id


def rename(actor: Actor, memory_id: UUID, last: str) -> UUID:
    """The same memory under an id that ends so: chance gives two of a kind to nobody's tests."""
    wanted = UUID(memory_id.hex[:-8] + last)
    with acting_as(actor):
        row = Memory.objects.get(owner_id=actor.owner_id, id=memory_id)
        row.id, row.short_id, row.content_hash = wanted, last, uuid4().bytes
        row.save(force_insert=True)
    return wanted


def short(memory_id: UUID) -> str:
    return memory_id.hex[-8:]


def test_the_last_eight_characters_name_a_memory_and_so_does_the_whole_id(alice: Actor) -> None:
    first, second = add(alice, "one"), add(alice, "two")
    spellings = [
        short(first),
        f"  {short(second).upper()}\n",
        str(first),
        str(second).upper(),
        first.hex,
        f" {second} ",
    ]
    assert short_ids.resolve(alice, spellings) == [first, second, first, second, first, second]


@pytest.mark.parametrize(
    "reference",
    ["", " ", "0000000", "000000000", "0000000g", "-00000000", "memory", "é" * 8, "0" * 31, "0" * 33, "\x00" * 8]
    + ["00000000-0000-0000-0000-00000000000", "٠٠٠٠٠٠٠٠"],
)
def test_what_is_no_id_is_not_found(alice: Actor, reference: str) -> None:
    add(alice, "one")
    [error] = short_ids.resolve(alice, [reference])
    assert isinstance(error, NotFound)
    assert error.detail.isprintable()


def test_shared_memories_have_short_ids_too_and_strangers_have_none(alice: Actor, bob: Actor, charlie: Actor) -> None:
    shared, alone, hidden = add(alice, "one"), add(alice, "two", namespace="other"), add(alice, "3", namespace="other")
    services.share(alice, grantee="bob", namespace="team")
    services.share(alice, grantee="bob", memory_id=alone)
    asked = [short(shared), str(alone), short(hidden), str(hidden)]
    found = short_ids.resolve(bob, asked)
    assert found[:2] == [shared, alone]
    assert [type(one) for one in found[2:]] == [NotFound, NotFound]
    assert [type(one) for one in short_ids.resolve(charlie, asked)] == [NotFound] * 4
    nobody = short_ids.resolve(charlie, [str(uuid4())])[0]
    strangers = short_ids.resolve(charlie, [str(hidden)])[0]
    assert isinstance(nobody, NotFound)
    assert isinstance(strangers, NotFound)
    assert nobody.detail.partition("'")[0] == strangers.detail.partition("'")[0]


def test_for_what_only_the_owner_may_do_a_shared_memory_is_forbidden(alice: Actor, bob: Actor) -> None:
    shared = add(alice, "one")
    mine = add(bob, "mine")
    services.share(alice, grantee="bob", namespace="team")
    forbidden, own = short_ids.resolve(bob, [short(shared), short(mine)], own=True)
    assert isinstance(forbidden, Forbidden)
    assert "alice" in forbidden.detail
    assert own == mine


def test_an_id_that_fits_several_is_ambiguous_and_names_them(alice: Actor, bob: Actor) -> None:
    ids = sorted(rename(alice, add(alice, f"text {n}"), "abcdef01") for n in range(6))
    [error] = short_ids.resolve(alice, ["ABCDEF01"])
    assert isinstance(error, AmbiguousId)
    assert error.errors == {"ids": [str(one) for one in ids[:5]]}
    assert all(str(one) in error.detail for one in ids[:5])
    assert short_ids.resolve(alice, [str(ids[3])]) == [ids[3]]


def test_ones_own_and_a_shared_one_of_the_same_short_id_are_ambiguous_unless_only_own_ones_are_meant(
    alice: Actor, bob: Actor
) -> None:
    theirs = rename(alice, add(alice, "theirs"), "abcdef02")
    mine = rename(bob, add(bob, "mine"), "abcdef02")
    assert short_ids.resolve(bob, ["abcdef02"]) == [mine]
    services.share(alice, grantee="bob", memory_id=theirs)
    [error] = short_ids.resolve(bob, ["abcdef02"])
    assert isinstance(error, AmbiguousId)
    assert short_ids.resolve(bob, ["abcdef02"], own=True) == [mine]


def test_deleted_ones_are_found_only_when_asked_for(alice: Actor, bob: Actor) -> None:
    gone = add(alice, "one")
    services.share(alice, grantee="bob", memory_id=gone)
    services.delete(alice, gone)
    assert isinstance(short_ids.resolve(alice, [short(gone)])[0], NotFound)
    assert short_ids.resolve(alice, [short(gone)], deleted=True) == [gone]
    assert isinstance(short_ids.resolve(bob, [short(gone)], deleted=True)[0], NotFound)


def test_a_key_limited_to_namespaces_reaches_no_further_by_an_id(alice: Actor) -> None:
    inside, outside = add(alice, "one"), add(alice, "two", namespace="other")
    limited = replace(alice, namespaces=frozenset({"team"}))
    found = short_ids.resolve(limited, [short(inside), short(outside), str(outside)])
    assert found[0] == inside
    assert [type(one) for one in found[1:]] == [NotFound, NotFound]


def test_a_hundred_ids_take_two_queries_and_more_are_refused(alice: Actor) -> None:
    ids = [add(alice, f"text {n}") for n in range(3)]
    asked = [*(short(one) for one in ids), *(f"{n:08x}" for n in range(90)), *(str(one) for one in ids)]
    with CaptureQueriesContext(connection) as captured:
        found = short_ids.resolve(alice, asked)
    assert [*found[:3], *found[-3:]] == [*ids, *ids]
    assert len([one for one in captured if "FROM" in one["sql"]]) == 2
    with pytest.raises(InvalidArgument, match="100"):
        short_ids.resolve(alice, ["0" * 8] * 101)


def test_nothing_asked_is_nothing_found(alice: Actor) -> None:
    with CaptureQueriesContext(connection) as captured:
        assert short_ids.resolve(alice, []) == []
    assert len(captured) == 0
