"""Alice owns, Bob was given a share, Charlie is a stranger: the three people of every test of isolation."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from accounts import services as accounts
from accounts.actors import Actor, acting_as
from accounts.models import ApiKey, Scope, User
from mem0stack.lib.rest import dumps
from memories import access, outbox, services
from memories.models import PERSONAL, App, Category, EmbeddingSpace, Memory, MemoryEmbedding, Mention, Relation
from memories.services import NewMemory
from tests.guard import PROTECTED_TABLES

# One for all: each would load the middleware anew.
_client = Client(raise_request_exception=False)


@dataclass(frozen=True)
class Caller:
    """Somebody who calls over HTTP, with a key or with nothing."""

    name: str
    key: str | None = None

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        _client.cookies.clear()
        if self.key is not None:
            headers = {"Authorization": f"Bearer {self.key}"} | headers
        response: HttpResponse = _client.generic(
            method, path, _encoded(body), content_type="application/json", headers=headers
        )
        return response


@dataclass(frozen=True)
class Person(Caller):
    user: User = None  # type: ignore[assignment]

    @property
    def actor(self) -> Actor:
        return Actor.of(self.user, door="rest")

    @property
    def id(self) -> int:
        return self.user.pk

    def another_key(self, **options: Any) -> tuple[ApiKey, Caller]:
        """One more key of this person's, and a caller who uses it."""
        key, plain = accounts.create_api_key(self.user, **({"name": "another"} | options))
        return key, Caller(f"{self.name}: {key.name}", plain)


@dataclass(frozen=True)
class People:
    alice: Person
    bob: Person
    charlie: Person


def make_people() -> People:
    return People(*(_person(name) for name in ("alice", "bob", "charlie")))


def _person(name: str) -> Person:
    user = accounts.create_user(name)
    _, plain = accounts.create_api_key(user, name=f"{name}'s key", scopes=Scope.values)
    return Person(name, plain, user)


def _encoded(body: Any) -> bytes:
    return b"" if body is None else dumps(body)


@dataclass
class Space:
    """What one person has, with a canary in every text: a word that no stranger's reply may hold.

    Three places: `open` is a namespace shared with the grantee, `lone` one memory of `personal` shared alone, `hidden`
    a namespace shared with nobody. Each text reads `canary-OWNER-PLACE-FIELD`.
    """

    owner: Person
    grantee: Person
    memories: dict[str, UUID]
    shares: dict[str, UUID]
    categories: dict[str, UUID]
    apps: dict[str, UUID]
    keys: dict[str, UUID]
    operations: dict[str, UUID]
    feedback: dict[str, UUID]
    relations: dict[str, UUID]
    # The speakers, who are persons.
    entities: dict[str, UUID]

    def word(self, place: str, field: str) -> str:
        return f"canary-{self.owner.name}-{place}-{field}"

    @property
    def ids(self) -> dict[str, UUID]:
        groups = {"memory": self.memories, "share": self.shares, "category": self.categories}
        groups |= {"app": self.apps, "key": self.keys, "operation": self.operations, "feedback": self.feedback}
        groups |= {"relation": self.relations, "entity": self.entities}
        return {f"{place} {group}": found for group, some in groups.items() for place, found in some.items()}

    def secrets(self) -> set[str]:
        """Everything that must not be seen: the words, and all ids."""
        words = {self.word(place, field) for place in PLACES for field in FIELDS}
        return words | {str(found) for found in self.ids.values()} | {self.memories["hidden"].hex[-8:]}

    def shared(self) -> set[str]:
        """What of it the grantee may see."""
        seen = {self.word(place, field) for place in SHARED for field in ("content", "tag", "speaker", "run")}
        seen |= {str(group[place]) for group in (self.memories, self.shares) for place in SHARED}
        return seen | {self.word("open", "namespace")}

    def within(self, place: str) -> set[str]:
        """What of it a key sees that is limited to this place's namespace."""
        ids = (self.memories, self.shares, self.categories, self.apps, self.operations, self.relations, self.entities)
        seen = {self.word(place, field) for field in FIELDS} | {str(group[place]) for group in ids if place in group}
        # What lies in the shared namespace and is out of use: the owner's, all the same.
        return (
            seen | {self.word(other, "content") for other in OUT_OF_USE} | {str(self.memories[o]) for o in OUT_OF_USE}
        )


SHARED = ("open", "lone")
OUT_OF_USE = ("archived", "expired", "deleted")
PLACES = ("open", "lone", "hidden", *OUT_OF_USE)
FIELDS = (
    ("content", "tag", "category", "description", "namespace", "app", "user", "agent", "run", "speaker")
    + ("metadata", "key", "idempotency", "reason")
)  # fmt: skip


def fill(owner: Person, grantee: Person) -> Space:
    """At least one row of this person's in every protected table, and what nobody else may see in every text."""
    space = Space(owner, grantee, *({} for _ in range(9)))
    actor = owner.actor
    for place in PLACES:
        namespace = PERSONAL if place == "lone" else space.word("open" if place in OUT_OF_USE else place, "namespace")
        new = NewMemory(content=space.word(place, "content"), namespace=namespace)
        if place not in OUT_OF_USE:
            services.add_category(actor, space.word(place, "category"), description=space.word(place, "description"))
            new = replace(
                new,
                tags=[space.word(place, "tag")],
                categories=[space.word(place, "category")],
                app=space.word(place, "app"),
                user_id=space.word(place, "user"),
                agent_id=space.word(place, "agent"),
                run_id=space.word(place, "run"),
                seq=1,
                speaker=space.word(place, "speaker"),
                metadata={"canary": space.word(place, "metadata")},
            )
            space.keys[place] = owner.another_key(name=space.word(place, "key"))[0].pk
        if place == "hidden":
            # Of two that another key and others may not see.
            new = replace(new, derived_from=[space.memories["open"], space.memories["lone"]])
        key = space.word(place, "idempotency")
        written = services.add(actor, new, infer=place not in OUT_OF_USE, idempotency_key=key)
        space.memories[place] = written.memory_id
        if written.made_id is not None:
            space.operations[place] = written.made_id
            reason = space.word(place, "reason")
            space.feedback[place] = services.give_feedback(actor, written.memory_id, "useful", reason=reason)
    services.update(actor, space.memories["archived"], {"state": "archived"})
    services.update(actor, space.memories["expired"], {"expires_at": timezone.now() - timedelta(seconds=1)})
    services.delete(actor, space.memories["deleted"])
    older = services.add(actor, NewMemory(content=f"{space.word('hidden', 'content')} of old"))
    services.link(actor, space.memories["hidden"], older.memory_id, "supersedes")
    space.shares["lone"] = services.share(actor, grantee=grantee.name, memory_id=space.memories["lone"])[0].pk
    space.shares["open"] = services.share(actor, grantee=grantee.name, namespace=space.word("open", "namespace"))[0].pk
    with acting_as(Actor.system("test: staff looks")):
        shown = Memory.objects.filter(owner_id=owner.id)
        access.record_staff_view(grantee.user, shown.values_list("owner_id", "id"))
    outbox.drain(owner.id)
    # Not an active one: searches would ask its provider.
    of_old, _ = EmbeddingSpace.objects.get_or_create(kind="openai", model="of old", dimensions=2, state="retired")
    with acting_as(actor):
        names = {pk: place for place, pk in space.memories.items()}
        names |= {older.memory_id: "older"}
        space.relations |= {
            f"hidden from {names[r.target_id]}": r.pk for r in Relation.objects.filter(owner_id=owner.id)
        }
        space.entities |= {names[m.memory_id]: m.entity_id for m in Mention.objects.filter(owner_id=owner.id)}
        for memory_id in space.memories.values():
            MemoryEmbedding.objects.create(
                owner_id=owner.id, memory_id=memory_id, space=of_old, memory_version=1, embedding=[0.6, 0.8]
            )
        for model, found in ((Category, space.categories), (App, space.apps)):
            names = {space.word(place, model.__name__.lower()): place for place in PLACES}
            found |= {names[row.name]: row.pk for row in model._default_manager.filter(owner_id=owner.id)}
    return space


def snapshot(person: Person) -> dict[str, list[str]]:
    """Every row of this person's, as text: equal before and after whatever a stranger tried."""
    rows: dict[str, list[str]] = {}
    with acting_as(Actor.system("test: snapshot")), connection.cursor() as cursor:
        cursor.execute(PROTECTED_TABLES)
        tables = [name for (name,) in cursor.fetchall()]
        for table in tables:
            cursor.execute(f"SELECT t::text FROM {table} t WHERE owner_id = %s ORDER BY 1", [person.id])  # noqa: S608
            rows[table] = [text for (text,) in cursor.fetchall()]
        cursor.execute(
            "SELECT (id, name, digest, scopes, namespaces, expires_at, revoked_at)::text FROM accounts_apikey"
            " WHERE user_id = %s ORDER BY 1",
            [person.id],
        )
        rows["keys"] = [text for (text,) in cursor.fetchall()]
        cursor.execute("SELECT t::text FROM accounts_user t WHERE id = %s", [person.id])
        rows["user"] = [text for (text,) in cursor.fetchall()]
    return rows
