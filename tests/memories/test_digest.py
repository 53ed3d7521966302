"""What an agent is told before anybody asks."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db.models import F
from django.utils import timezone

from accounts.actors import Actor, acting_as
from mem0stack.lib.errors import Forbidden, InvalidArgument
from memories import digest, services
from memories.models import AccessAction, AccessLog, Memory
from memories.services import NewMemory
from tests.rest import Caller, refusal

pytestmark = pytest.mark.django_db

SHOP = "github.com/acme/shop"


def add(actor: Actor, content: str, **options: Any) -> UUID:
    return services.add(actor, NewMemory(content, **options)).memory_id


def told(found: digest.Digest) -> list[str]:
    return [memory.content for memory in found.memories]


def of_shop(actor: Actor, **options: Any) -> list[str]:
    return told(digest.project(actor, SHOP, **options))


def shown(actor: Actor, memory_id: UUID, times: int, *, action: AccessAction = AccessAction.SEARCH) -> None:
    with acting_as(actor):
        AccessLog.objects.bulk_create(
            [
                AccessLog(
                    owner_id=actor.owner_id, memory_id=memory_id, accessed_by=actor.user, door="rest", action=action
                )
                for _ in range(times)
            ]
        )


def aged(actor: Actor, memory_id: UUID, days: int) -> None:
    with acting_as(actor):
        Memory.objects.filter(id=memory_id).update(updated_at=F("updated_at") - timedelta(days=days))


def test_pins_come_first_and_then_it_goes_by_kind_with_messages_last(alice: Actor) -> None:
    texts = {
        "message": "Good morning to everybody.",
        "fact": "The server listens on 8080.",
        "reference": "Runbooks live in the wiki.",
        "error": "Import failed without a locale.",
        "procedure": "Release by make ship.",
        "decision": "Money is stored as cents.",
        "preference": "Short answers please.",
    }
    for kind, text in texts.items():
        add(alice, text, kind=kind, namespace=SHOP)
    add(alice, "Never touch the ledger.", namespace=SHOP, pinned=True)
    expected = ["Never touch the ledger.", *reversed(texts.values())]
    assert of_shop(alice) == expected
    assert of_shop(alice) == expected, "the same twice"
    assert digest.project(alice, SHOP).left_out == 0


def test_what_was_found_useful_or_is_used_comes_before_its_like(alice: Actor) -> None:
    ids = [
        add(alice, text, namespace=SHOP)
        for text in ("Port 8080 of the server is open.", "The sky over Lisbon is blue.", "Tea comes at four in summer.")
    ]
    assert of_shop(alice) == [
        "Tea comes at four in summer.",
        "The sky over Lisbon is blue.",
        "Port 8080 of the server is open.",
    ], "the newest first"
    services.give_feedback(alice, ids[0], "useful")
    assert of_shop(alice)[0] == "Port 8080 of the server is open."
    shown(alice, ids[1], 10, action=AccessAction.READ)
    assert of_shop(alice) == [
        "The sky over Lisbon is blue.",
        "Port 8080 of the server is open.",
        "Tea comes at four in summer.",
    ]


def test_what_staff_looked_at_or_a_list_showed_is_no_use(alice: Actor) -> None:
    first = add(alice, "Port 8080 of the server is open.", namespace=SHOP)
    add(alice, "The sky over Lisbon is blue.", namespace=SHOP)
    for action in (AccessAction.STAFF_VIEW, AccessAction.LIST):
        shown(alice, first, 10, action=action)
    assert of_shop(alice)[0] == "The sky over Lisbon is blue."


def test_what_is_old_comes_after_its_like(alice: Actor) -> None:
    add(alice, "Port 8080 of the server is open.", namespace=SHOP)
    aged(alice, add(alice, "The sky over Lisbon is blue.", namespace=SHOP), 90)
    assert of_shop(alice) == ["Port 8080 of the server is open.", "The sky over Lisbon is blue."]


def test_only_what_holds_now_is_told(alice: Actor) -> None:
    now = timezone.now()
    kept = add(alice, "The port is 9090 now.", namespace=SHOP)
    add(alice, "Ended.", namespace=SHOP, valid_to=now - timedelta(days=1))
    add(alice, "Not yet.", namespace=SHOP, valid_from=now + timedelta(days=1))
    gone = {name: add(alice, f"This one is {name}.", namespace=SHOP) for name in ("a", "b", "c", "d", "e")}
    services.update(alice, gone["a"], {"state": "archived"})
    services.update(alice, gone["b"], {"expires_at": now - timedelta(seconds=1)})
    services.link(alice, kept, gone["c"], "supersedes")
    services.give_feedback(alice, gone["d"], "wrong")
    services.delete(alice, gone["e"])
    found = digest.project(alice, SHOP)
    assert (told(found), found.left_out) == (["The port is 9090 now."], 0)


def test_lines_that_say_the_same_are_told_once_and_those_that_differ_in_a_number_are_not_the_same(
    alice: Actor,
) -> None:
    add(alice, "The tests of the shop run with pytest in parallel.", namespace=SHOP, pinned=True)
    for text in (
        "In parallel, the tests of the shop run with pytest.",
        "The server of the shop listens on port 8080.",
        "The server of the shop listens on port 9090.",
    ):
        add(alice, text, namespace=SHOP)
    found = digest.project(alice, SHOP)
    assert told(found) == [
        "The tests of the shop run with pytest in parallel.",
        "The server of the shop listens on port 9090.",
        "The server of the shop listens on port 8080.",
    ]
    assert found.left_out == 1


def test_a_digest_keeps_to_its_size_and_says_how_much_it_left_out(alice: Actor) -> None:
    services.add_many(
        alice, [NewMemory(f"{number} is number {number:030}.", namespace=SHOP) for number in range(100, 400)]
    )
    found = digest.project(alice, SHOP)
    size = sum(min(len(text), digest.MAX_EACH) + digest.BESIDE for text in told(found))
    assert 0.97 * 8_000 < size <= 8_000
    assert found.left_out == 300 - len(found.memories)
    assert len(digest.project(alice, SHOP, max_chars=500).memories) == 5
    assert len(digest.project(alice, SHOP, max_chars=1).memories) == 0
    for size in (0, -1, 100_001):
        with pytest.raises(InvalidArgument):
            digest.project(alice, SHOP, max_chars=size)


def test_a_long_memory_counts_as_it_is_cut_and_leaves_room_for_short_ones(alice: Actor) -> None:
    add(alice, "Long. " * 1_000, namespace=SHOP, kind="preference")
    add(alice, "Short.", namespace=SHOP)
    assert [text[:6] for text in of_shop(alice, max_chars=600)] == ["Long. ", "Short."]
    assert of_shop(alice, max_chars=300) == ["Short."]


def test_a_profile_is_what_holds_everywhere_and_the_project_does_not_repeat_it(alice: Actor) -> None:
    add(alice, "Robin lives in Lisbon.")
    add(alice, "Short answers please.", kind="preference")
    add(alice, "Four spaces in every language.", kind="preference", namespace=SHOP, pinned=True)
    add(alice, "Line length is 100 here.", kind="preference", namespace=SHOP)
    add(alice, "Never touch the ledger.", namespace=SHOP, pinned=True)
    add(alice, "Elsewhere the moon is green.", namespace="blog")
    expected = ["Four spaces in every language.", "Short answers please.", "Robin lives in Lisbon."]
    assert told(digest.profile(alice)) == expected
    assert of_shop(alice) == ["Never touch the ledger.", "Line length is 100 here."]
    add(alice, "Call me Robin.", kind="preference", pinned=True)
    assert told(digest.project(alice, "personal")) == [
        "Call me Robin.",
        "Short answers please.",
        "Robin lives in Lisbon.",
    ]


def test_a_project_is_told_under_both_its_names(alice: Actor) -> None:
    add(alice, "From the folder.", namespace="shop")
    add(alice, "From the remote.", namespace=SHOP)
    for name in ("shop", SHOP, "git@github.com:acme/shop.git", "/work/shop"):
        assert set(told(digest.project(alice, name))) == {"From the folder.", "From the remote."}


def test_nobody_puts_a_text_before_anothers_agents_unasked(alice: Actor, bob: Actor, charlie: Actor) -> None:
    add(alice, "Mine.", namespace=SHOP)
    add(bob, "Bob's order to your agent.", namespace=SHOP, pinned=True)
    services.share(bob, grantee="alice", namespace=SHOP)
    assert of_shop(alice) == ["Mine."]
    assert told(digest.project(alice, f"bob/{SHOP}")) == ["Bob's order to your agent."]
    assert told(digest.project(charlie, f"bob/{SHOP}")) == []
    assert told(digest.profile(alice)) == []


def test_a_key_is_told_of_its_namespaces_alone(alice: Actor) -> None:
    add(alice, "Four spaces.", kind="preference", namespace="blog", pinned=True)
    add(alice, "Mine.", namespace=SHOP)
    add(alice, "Personal.")
    limited = replace(alice, namespaces=frozenset({SHOP}))
    assert of_shop(limited) == ["Mine."]
    assert told(digest.profile(limited)) == []
    for call in (lambda: digest.project(limited, "blog"), lambda: digest.profile(replace(alice, scopes=frozenset()))):
        with pytest.raises(Forbidden):
            call()


def test_over_http_a_digest_is_memories_in_their_order(db: None) -> None:
    alice = Caller("alice")
    alice.remember("The port is 8080.", namespace=SHOP)
    alice.remember("Short answers please.", kind="preference", namespace=SHOP)
    alice.remember("Robin lives in Lisbon.")
    reply = alice.get("digest/", {"namespace": SHOP})
    assert [row["content"] for row in reply.json()["results"]] == ["Short answers please.", "The port is 8080."]
    assert reply.json()["left_out"] == 0
    assert reply.json()["results"][0]["namespace"] == SHOP
    mine = alice.get("digest/").json()
    assert [row["content"] for row in mine["results"]] == ["Robin lives in Lisbon."]
    assert alice.get("digest/", {"max_chars": "20"}).json() == {"results": [], "left_out": 1}
    for asked in ({"max_chars": "x"}, {"max_chars": "0"}, {"max_chars": "1e3"}, {"namespace": "*"}, {"project": "x"}):
        refusal(alice.get("digest/", asked), 400, "invalid_argument")
