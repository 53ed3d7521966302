"""`/api/v2/entities/`: what the caller's own memories name, and which of them name it."""

from typing import Any

import pytest

from memories.services.purging import purge
from tests.rest import Caller, refusal

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice(db: None) -> Caller:
    return Caller("alice")


@pytest.fixture
def memories(alice: Caller) -> dict[str, dict[str, Any]]:
    return {
        "pool": alice.remember("psycopg_pool times out in src/db/pool.py.", namespace="shop"),
        "person": alice.remember("Priya Raman keeps src/db/pool.py.", namespace="shop"),
        "alone": alice.remember("Priya lives in Lisbon.", namespace="home"),
        "nothing": alice.remember("Answers are to be short."),
    }


def listed(caller: Caller, **params: Any) -> list[tuple[str, str]]:
    reply = caller.get("entities/", params)
    assert reply.status_code == 200, reply.content
    return [(row["kind"], row["key"]) for row in reply.json()["results"]]


def named(caller: Caller, key: str) -> Any:
    [row] = [row for row in caller.get("entities/", {"q": key}).json()["results"] if row["key"] == key]
    return caller.get(f"entities/{row['id']}/").json()


@pytest.mark.usefixtures("memories")
def test_they_are_listed_by_their_keys(alice: Caller) -> None:
    found = listed(alice)
    assert found == [
        ("place", "lisbon"),
        ("path", "pool.py"),
        ("person", "priya"),
        ("person", "priya-raman"),
        ("symbol", "psycopg-pool"),
        ("person", "raman"),
        ("path", "src/db/pool.py"),
    ]
    assert listed(alice, order="-key") == found[::-1]
    assert listed(alice, kind=["place", "symbol"]) == [("place", "lisbon"), ("symbol", "psycopg-pool")]
    assert listed(alice, q="Psycopg Pool") == [("symbol", "psycopg-pool")]
    assert listed(alice, q="100%") == []


@pytest.mark.usefixtures("memories")
def test_pages_go_through_all_of_them(alice: Caller) -> None:
    keys: list[str] = []
    address: str | None = "entities/?page_size=3"
    while address:
        page = alice.get(address).json()
        keys += [row["key"] for row in page["results"]]
        address = page["next"]
    assert keys == [key for _, key in listed(alice)]


def test_one_is_shown_with_its_memories(alice: Caller, memories: dict[str, Any]) -> None:
    page = named(alice, "src/db/pool.py")
    assert page["entity"] | {"id": ""} == {
        "id": "",
        "kind": "path",
        "key": "src/db/pool.py",
        "name": "src/db/pool.py",
        "aliases": ["pool.py"],
    }
    assert [row["id"] for row in page["results"]] == [memories["person"]["id"], memories["pool"]["id"]]
    assert page["results"][0] == alice.get(f"memories/{memories['person']['id']}/").json()


def test_what_one_memory_names(alice: Caller, memories: dict[str, Any]) -> None:
    assert listed(alice, memory=memories["alone"]["id"]) == [("place", "lisbon"), ("person", "priya")]
    assert listed(alice, memory=memories["nothing"]["id"]) == []
    limited = Caller(alice.user, namespaces=["shop"])
    assert listed(limited, memory=memories["alone"]["id"]) == [], "not even what others of its memories name, too"


def test_what_only_deleted_memories_name_does_not_show(alice: Caller, memories: dict[str, Any]) -> None:
    lisbon = named(alice, "lisbon")["entity"]
    alice.delete(f"memories/{memories['alone']['id']}/")
    assert ("place", "lisbon") not in listed(alice)
    refusal(alice.get(f"entities/{lisbon['id']}/"), 404, "not_found")
    assert [row["id"] for row in named(alice, "priya")["results"]] == [memories["person"]["id"]]
    alice.post(f"memories/{memories['alone']['id']}/restore/")
    assert named(alice, "lisbon")["entity"] == lisbon


def test_another_text_names_other_things_and_the_id_stays(alice: Caller, memories: dict[str, Any]) -> None:
    path = f"memories/{memories['alone']['id']}/"
    lisbon = named(alice, "lisbon")["entity"]["id"]
    alice.patch(path, {"content": "Priya lives in Porto."})
    assert ("place", "porto") in listed(alice)
    assert ("place", "lisbon") not in listed(alice)
    purge()
    alice.patch(path, {"content": "Priya lives in Lisbon again."})
    assert named(alice, "lisbon")["entity"]["id"] == lisbon


def test_a_limited_key_sees_what_its_namespaces_name(alice: Caller, memories: dict[str, Any]) -> None:
    limited = Caller(alice.user, namespaces=["home"])
    assert listed(limited) == [("place", "lisbon"), ("person", "priya")]
    assert [row["id"] for row in named(limited, "priya")["results"]] == [memories["alone"]["id"]]
    hidden = named(alice, "src/db/pool.py")["entity"]["id"]
    refusal(limited.get(f"entities/{hidden}/"), 404, "not_found")


@pytest.mark.usefixtures("memories")
def test_a_share_shows_the_memory_and_not_its_entities(alice: Caller) -> None:
    bob = Caller("bob")
    alice.post("shares/", {"grantee": "bob", "namespace": "shop"})
    assert len(bob.listed()) == 2
    assert listed(bob) == []


@pytest.mark.usefixtures("memories")
def test_they_are_asked_for_rightly(alice: Caller) -> None:
    one = named(alice, "lisbon")["entity"]["id"]
    for path in (
        "entities/?kind=thing",
        "entities/?x=1",
        "entities/?q=%00",
        "entities/?order=name",
        "entities/?cursor=x",
    ):
        refusal(alice.get(path), 400, "invalid_argument")
    for path in (f"entities/{one}/?kind=path", f"entities/{one}/?order=key"):
        refusal(alice.get(path), 400, "invalid_argument")
