"""A folder's bare name and the git remote that ends in it are one project, where there is but one such remote."""

from dataclasses import replace

import pytest

from accounts.actors import Actor, acting_as
from mem0stack.lib.errors import Forbidden
from mem0stack.lib.remotes import project_key
from memories import candidates, services
from memories.filters import parse
from memories.models import Namespace
from memories.querysets import folder_of
from memories.search import search
from memories.services import NewMemory
from tests.memories.reading import count, stored

pytestmark = pytest.mark.django_db

REMOTE, OTHER = "github.com/acme/shop", "gitlab.example.com/robin/tools/shop"
FACT = "The port of the server is 8080"


def add(actor: Actor, namespace: str | None) -> str:
    """Store a fact that names where it was meant to go; the namespace it went to."""
    written = services.add(actor, NewMemory(f"{FACT}, says {namespace}.", namespace=namespace))
    return stored(actor, written.memory_id).namespace.name


def found(actor: Actor, project: str, **options: object) -> set[str]:
    """The namespaces of what a search in this project finds."""
    hits = search(actor, "port of the server", namespace=project, top_k=100, **options).hits  # type: ignore[arg-type]
    return {hit.memory.namespace_name for hit in hits}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        (REMOTE, "shop"),
        (OTHER, "shop"),
        ("shop", "shop"),
        ("my shop.js", "my shop.js"),
        ("personal", ""),
        ("github.com/acme/personal", ""),
        ("alice/shop", ""),
        ("alice.b/shop", ""),
        ("localhost/acme/shop", ""),
    ],
)
def test_a_project_has_a_bare_name(name: str, folder: str) -> None:
    assert folder_of(name) == folder
    assert project_key(name) == name


def test_a_search_in_the_folder_finds_what_is_known_of_the_remote_and_the_other_way_round(alice: Actor) -> None:
    assert [add(alice, name) for name in ("shop", REMOTE, "blog", None)] == ["shop", REMOTE, "blog", "personal"]
    both = {"shop", REMOTE, "personal"}
    assert found(alice, "shop") == found(alice, REMOTE) == both
    assert found(alice, "blog") == {"blog", "personal"}
    assert found(alice, "personal") == {"personal"}


def test_of_two_remotes_neither_is_meant_by_the_folder(alice: Actor) -> None:
    for name in ("shop", REMOTE, OTHER):
        add(alice, name)
    assert found(alice, "shop") == {"shop"}
    assert found(alice, REMOTE) == {REMOTE}
    assert found(alice, OTHER) == {OTHER}


def test_a_remote_that_is_not_known_yet_is_one_of_the_two(alice: Actor) -> None:
    add(alice, "shop")
    assert found(alice, REMOTE) == {"shop"}
    add(alice, OTHER)
    assert found(alice, REMOTE) == set()


def test_what_only_looks_alike_is_another_project(alice: Actor) -> None:
    for name in ("shop", "github.com/acme/workshop", "github.com/acme/shop-api", "github.com/shop", "bob/shop"):
        assert add(alice, name) == name
    assert found(alice, "shop") == {"shop"}
    assert found(alice, "github.com/acme/workshop") == {"github.com/acme/workshop"}


def test_a_folder_may_be_called_anything(alice: Actor) -> None:
    for folder in ("100%", "my_shop", "back\\slash"):
        add(alice, f"github.com/acme/{folder}")
        assert add(alice, folder) == f"github.com/acme/{folder}"
    add(alice, "github.com/acme/myXshop")
    assert found(alice, "my_shop") == {"github.com/acme/my_shop"}


def test_a_repository_called_personal_is_not_the_owners_own(alice: Actor) -> None:
    add(alice, "github.com/acme/personal")
    assert add(alice, "personal") == "personal"
    assert found(alice, "personal") == {"personal"}


def test_a_write_to_an_unknown_folder_goes_to_the_one_remote_that_ends_so(alice: Actor) -> None:
    add(alice, REMOTE)
    assert add(alice, "shop") == REMOTE
    assert add(alice, "blog") == "blog"
    add(alice, OTHER)
    assert add(alice, "shop") == "shop"


def test_a_folder_that_has_a_namespace_keeps_it(alice: Actor) -> None:
    add(alice, "shop")
    add(alice, REMOTE)
    assert add(alice, "shop") == "shop"


def test_the_same_text_by_both_names_is_stored_once(alice: Actor) -> None:
    first = services.add(alice, NewMemory(FACT, namespace=REMOTE))
    again = services.add(alice, NewMemory(FACT, namespace="shop"))
    assert again.is_duplicate
    assert again.memory_id == first.memory_id
    assert count(alice, Namespace) == 1


def test_a_memory_that_is_moved_goes_where_a_new_one_would(alice: Actor) -> None:
    add(alice, REMOTE)
    written = services.add(alice, NewMemory("Tea at four."))
    services.update(alice, written.memory_id, {"namespace": "shop"})
    assert stored(alice, written.memory_id).namespace.name == REMOTE


def test_a_key_that_is_limited_to_one_of_the_names_reaches_no_further(alice: Actor) -> None:
    add(alice, "shop")
    add(alice, REMOTE)
    for name in ("shop", REMOTE):
        limited = replace(alice, namespaces=frozenset({name}))
        assert found(limited, name) == {name}
    limited = replace(alice, namespaces=frozenset({REMOTE}))
    with pytest.raises(Forbidden):
        found(limited, "shop")
    with pytest.raises(Forbidden):
        add(limited, "shop")


def test_a_key_that_may_not_write_to_the_remote_makes_the_folder_a_namespace(alice: Actor) -> None:
    add(alice, REMOTE)
    assert add(replace(alice, namespaces=frozenset({"shop"})), "shop") == "shop"


def test_a_remote_of_somebody_else_decides_nothing(alice: Actor, bob: Actor) -> None:
    add(alice, "shop")
    add(alice, REMOTE)
    add(bob, OTHER)
    assert found(alice, "shop") == {"shop", REMOTE}
    assert add(bob, "blog") == "blog"
    services.share(bob, grantee="alice", namespace=OTHER)
    assert found(alice, "shop") == {"shop", REMOTE}


def test_filters_and_a_vector_index_know_the_two_names_too(alice: Actor) -> None:
    add(alice, "shop")
    add(alice, REMOTE)
    assert found(alice, "shop", filters=parse({"kind": "fact"})) == {"shop", REMOTE}
    scope = candidates.Scope(alice, (), project="shop", other_name=REMOTE)
    with acting_as(alice):
        names = Namespace.objects.filter(id__in=candidates._namespaces_of(scope)).values_list("name", flat=True)
        assert set(names) == {"shop", REMOTE}
