"""The stranger matrix: every route of the web process, called by everybody who has no business there.

Generated from the URL resolver: a route that no case covers fails, and so does a case whose route is gone.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts import services as accounts
from accounts.actors import Actor, acting_as
from accounts.models import ApiKey, Scope
from memories import services
from memories.models import Share
from tests.people import PLACES, Caller, People, Space, fill, snapshot

# Routes that hold nothing of anybody's. A prefix that fits no route any more fails.
EXCEPTIONS = {
    "": "the home page, which leads to the documentation",
    "health/": "said to everybody: whether the service lives",
    "metrics": "figures of the whole service, for this machine and staff; see tests/mem0stack/test_metrics.py",
    "api/schema/": "the description of the API",
    "api/docs/": "the description of the API",
    "api/redoc/": "the description of the API",
    "api/login/": "how to become somebody",
    "api/logout/": "how to stop being somebody",
    "admin/": "Django's admin asks for staff on every page; see its own tests",
}
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}


@dataclass(frozen=True)
class Call:
    """One request that names Alice's things, and what each caller gets for it."""

    path: str
    body: Any = None
    charlie: int = 404
    bob: int = 0  # as Charlie
    limited: int = 0  # as Charlie; a key of Alice's own that is limited to the namespace `open`
    headers: dict[str, str] = field(default_factory=dict)
    # It may well change things of the caller's own, and the limited key's owner is Alice.
    limited_may_write: bool = False

    def status(self, who: str) -> int:
        return {"bob": self.bob, "limited": self.limited}.get(who) or self.charlie

    @property
    def sent(self) -> str:
        return self.path + json.dumps(self.body, default=str) + json.dumps(self.headers)


CASES: dict[tuple[str, str], Callable[[Space], list[Call]]] = {}
Case = Callable[[Space], list[Call]]


def case(method: str, route: str) -> Callable[[Case], Case]:
    def note(make: Case) -> Case:
        CASES[method, f"api/v2/{route}"] = make
        return make

    return note


@case("GET", "")
def _(alices: Space) -> list[Call]:
    return [Call("", charlie=200)]


@case("GET", "me/")
def _(alices: Space) -> list[Call]:
    return [Call("me/", charlie=200)]


@case("PATCH", "me/")
def _(alices: Space) -> list[Call]:
    return [
        Call("me/", {"timezone": "UTC"}, charlie=200),
        Call("me/", {"timezone": "UTC", "user": alices.owner.name}, charlie=400),
    ]


@case("GET", "keys/")
def _(alices: Space) -> list[Call]:
    return [Call(f"keys/{query}", charlie=200) for query in ("", "?page_size=500")]


@case("POST", "keys/")
def _(alices: Space) -> list[Call]:
    name = alices.word("hidden", "key")
    return [
        Call("keys/", {"name": name}, charlie=201, limited=400),
        Call("keys/", {"name": name, "namespaces": [alices.word("hidden", "namespace")]}, charlie=201, limited=403),
        Call("keys/", {"name": name, "user": alices.owner.name}, charlie=400),
    ]


@case("PATCH", "keys/<uuid:key_id>/")
def _(alices: Space) -> list[Call]:
    return [Call(f"keys/{key_id}/", {"rate_limit": 1}) for key_id in alices.keys.values()]


@case("DELETE", "keys/<uuid:key_id>/")
def _(alices: Space) -> list[Call]:
    return [Call(f"keys/{key_id}/") for key_id in alices.keys.values()]


def _filters(alices: Space, place: str) -> list[str]:
    word = alices.word
    return [
        f"q={word(place, 'content')}",
        f"tags={word(place, 'tag')}",
        f"categories={word(place, 'category')}",
        f"namespace={word(place, 'namespace')}",
        f"namespace={alices.owner.name}/{word(place, 'namespace')}",
        f"app={word(place, 'app')}",
        f"user_id={word(place, 'user')}",
        f"agent_id={word(place, 'agent')}",
        f"run_id={word(place, 'run')}",
        f"speaker={word(place, 'speaker')}",
        f"metadata.canary={word(place, 'metadata')}",
    ]


@case("GET", "memories/")
def _(alices: Space) -> list[Call]:
    queries = ["", "page_size=500&show_expired=true", "state=deleted&state=paused&state=archived&state=active"]
    queries += [f"order={order}" for order in ("created_at", "-updated_at", "event_at")]
    return [Call(f"memories/?{query}", charlie=200) for query in queries + _filters(alices, "hidden")]


@case("POST", "memories/")
def _(alices: Space) -> list[Call]:
    word, owner = alices.word, alices.owner.name
    hidden, opened = word("hidden", "namespace"), f"{owner}/{word('open', 'namespace')}"
    same = {
        "content": word("hidden", "content"),
        "namespace": hidden,
        "app": word("hidden", "app"),
        "categories": [word("hidden", "category")],
        "user_id": word("hidden", "user"),
        "agent_id": word("hidden", "agent"),
        "run_id": word("hidden", "run"),
        "seq": 1,
    }
    said = [{"role": "user", "content": "x"}]
    key = {"idempotency_key": word("hidden", "idempotency")}
    return [
        Call("memories/", same, charlie=201, limited=403),
        Call("memories/", same | key | {"content": "another"}, charlie=201, limited=403),
        Call("memories/", same | {"namespace": f"{owner}/{hidden}"}, charlie=201, limited=403),
        Call("memories/", same | {"namespace": opened}, charlie=201, bob=403, limited=403),
        Call("memories/", same | {"owner": owner}, charlie=400),
        Call("memories/", same | {"content": "yet another", "infer": True}, charlie=201, limited=403),
        Call("memories/", {"content": "x", "owner_id": alices.owner.id}, charlie=400),
        Call("memories/", {"messages": said, "namespace": hidden}, charlie=201, limited=403),
    ]  # fmt: skip


@case("DELETE", "memories/")
def _(alices: Space) -> list[Call]:
    word = alices.word
    scopes = [f"namespace={word('hidden', 'namespace')}", f"user_id={word('hidden', 'user')}"]
    scopes += [f"agent_id={word('hidden', 'agent')}", f"run_id={word('hidden', 'run')}"]
    scopes += [f"namespace={alices.owner.name}/{word('open', 'namespace')}"]
    calls = [
        # A limited key is told its limit; what lies beyond it does not matter for that.
        Call(f"memories/?{scope}{dry}", charlie=200, limited=403 if scope.startswith("namespace=") else 200)
        for scope in scopes
        for dry in ("&dry_run=true", "")
    ]
    everything = Call("memories/?all=true", charlie=200, limited_may_write=True)
    return [*calls, Call(f"memories/?all=true&owner={alices.owner.name}", charlie=400), everything]


@case("POST", "memories/batch/")
def _(alices: Space) -> list[Call]:
    ids = alices.memories
    steps = [{"op": "update", "id": ids[place], "content": "mine"} for place in ("hidden", "lone")]
    steps += [{"op": "delete", "id": ids[place]} for place in ("hidden", "lone")]
    steps += [{"op": "update", "id": ids["hidden"], "content": "mine", "expected_version": 9}]
    calls = [Call("memories/batch/", {"operations": steps}, charlie=422)]
    calls += [Call("memories/batch/", {"operations": [steps[0]], "atomic": True}, charlie=404)]
    successor = {"op": "update", "id": ids["hidden"], "superseded_by": ids["lone"]}
    return [*calls, Call("memories/batch/", {"operations": [successor]}, charlie=422)]


def _each(alices: Space, make: Callable[[UUID], Call], *, shared: int, own: int) -> list[Call]:
    """The same call about every memory: `shared` is what Bob gets for what he may read, `own` what the limited key
    gets in its namespace. The others do not exist for anybody."""
    statuses = {"open": (shared, own), "lone": (shared, 404), "hidden": (404, 404)}
    calls = []
    for place, (bob, limited) in statuses.items():
        call = make(alices.memories[place])
        calls.append(Call(call.path, call.body, 404, bob, limited, call.headers, limited_may_write=place == "open"))
    return calls


@case("GET", "memories/<uuid:memory_id>/")
def _(alices: Space) -> list[Call]:
    out = [Call(f"memories/{alices.memories[place]}/", limited=200) for place in ("archived", "expired")]
    deleted = Call(f"memories/{alices.memories['deleted']}/")
    return [*_each(alices, lambda pk: Call(f"memories/{pk}/"), shared=200, own=200), *out, deleted]


@case("PATCH", "memories/<uuid:memory_id>/")
def _(alices: Space) -> list[Call]:
    changes: list[Any] = [{"content": "mine"}, {"state": "archived"}, {"namespace": alices.word("open", "namespace")}]
    changes += [{"tags": ["mine"], "expected_version": 1}, {"superseded_by": alices.memories["archived"]}]
    calls = []
    for change in changes:
        calls += _each(alices, lambda pk, change=change: Call(f"memories/{pk}/", change), shared=403, own=0)  # type: ignore[misc]
    # What the limited key may do in its own namespace is no stranger's business.
    return [call for call in calls if call.limited]


@case("DELETE", "memories/<uuid:memory_id>/")
def _(alices: Space) -> list[Call]:
    plain = _each(alices, lambda pk: Call(f"memories/{pk}/?expected_version=1"), shared=403, own=200)
    return plain + _each(alices, lambda pk: Call(f"memories/{pk}/"), shared=403, own=404)


@case("POST", "memories/<uuid:memory_id>/restore/")
def _(alices: Space) -> list[Call]:
    calls = _each(alices, lambda pk: Call(f"memories/{pk}/restore/"), shared=403, own=409)
    return [*calls, Call(f"memories/{alices.memories['deleted']}/restore/", limited=200, limited_may_write=True)]


@case("GET", "memories/<uuid:memory_id>/history/")
def _(alices: Space) -> list[Call]:
    calls = _each(alices, lambda pk: Call(f"memories/{pk}/history/"), shared=403, own=200)
    return [*calls, Call(f"memories/{alices.memories['deleted']}/history/", limited=200)]


@case("GET", "memories/<uuid:memory_id>/access/")
def _(alices: Space) -> list[Call]:
    calls = _each(alices, lambda pk: Call(f"memories/{pk}/access/"), shared=404, own=200)
    return [*calls, Call(f"memories/{alices.memories['deleted']}/access/", limited=200)]


@case("GET", "memories/<uuid:memory_id>/near-duplicates/")
def _(alices: Space) -> list[Call]:
    return _each(alices, lambda pk: Call(f"memories/{pk}/near-duplicates/"), shared=404, own=200)


@case("POST", "memories/<uuid:memory_id>/feedback/")
def _(alices: Space) -> list[Call]:
    key = {"idempotency_key": alices.word("hidden", "idempotency")}
    calls = [Call(f"memories/{alices.memories['deleted']}/feedback/", {"verdict": "wrong"})]
    for body in ({"verdict": "useful", "reason": "x"}, {"verdict": "outdated"}, {"verdict": "wrong"}):
        calls += _each(alices, lambda pk, body=body: Call(f"memories/{pk}/feedback/", body), shared=403, own=201)  # type: ignore[misc]
    return [*calls, Call(f"memories/{alices.memories['hidden']}/feedback/", {"verdict": "wrong"} | key, limited=409)]


@case("GET", "operations/")
def _(alices: Space) -> list[Call]:
    return [Call(f"operations/{query}", charlie=200) for query in ("", "?state=skipped", "?order=created_at")]


@case("GET", "operations/<uuid:operation_id>/")
def _(alices: Space) -> list[Call]:
    opened, others = alices.operations["open"], [alices.operations[place] for place in ("lone", "hidden")]
    return [Call(f"operations/{opened}/", limited=200), *(Call(f"operations/{one}/") for one in others)]


@case("GET", "relations/")
def _(alices: Space) -> list[Call]:
    hidden, opened = alices.memories["hidden"], alices.memories["open"]
    queries = ("", f"?source={hidden}", f"?target={opened}", "?relation=derived_from")
    return [Call(f"relations/{query}", charlie=200) for query in queries]


@case("POST", "relations/")
def _(alices: Space) -> list[Call]:
    ids = alices.memories
    key = {"idempotency_key": alices.word("hidden", "idempotency")}

    def said(source: str, relation: str, target: str) -> dict[str, Any]:
        return {"source": ids[source], "relation": relation, "target": ids[target]}

    return [
        Call("relations/", said("hidden", "supersedes", "open")),
        Call("relations/", said("open", "supersedes", "hidden"), bob=403),
        Call("relations/", said("open", "relates_to", "lone"), bob=403),
        Call("relations/", said("open", "relates_to", "deleted"), bob=403),
        Call("relations/", said("open", "relates_to", "archived"), bob=403, limited=201, limited_may_write=True),
        Call("relations/", said("hidden", "derived_from", "lone"), charlie=400),
        Call("relations/", said("hidden", "contradicts", "lone") | key, limited=409),
    ]


@case("DELETE", "relations/<uuid:relation_id>/")
def _(alices: Space) -> list[Call]:
    return [Call(f"relations/{relation_id}/") for relation_id in alices.relations.values()]


@case("GET", "entities/")
def _(alices: Space) -> list[Call]:
    hidden = alices.memories["hidden"]
    queries = ("", f"?q={alices.word('hidden', 'speaker')}", "?kind=person", "?q=canary&order=-key&page_size=1")
    queries += (f"?memory={hidden}",)
    return [Call(f"entities/{query}", charlie=200) for query in queries]


@case("GET", "entities/<uuid:entity_id>/")
def _(alices: Space) -> list[Call]:
    opened, others = alices.entities["open"], [alices.entities[place] for place in ("lone", "hidden")]
    return [Call(f"entities/{opened}/", limited=200), *(Call(f"entities/{one}/") for one in others)]


@case("POST", "search/")
def _(alices: Space) -> list[Call]:
    calls = []
    for place in ("hidden", "open", "archived", "expired", "deleted"):
        asked = {"query": alices.word(place, "content"), "top_k": 100, "expand": 5, "explain": True}
        calls.append(Call("search/", asked, charlie=200))
    hidden, owner = alices.word("hidden", "namespace"), alices.owner.name
    asked = {"query": alices.word("hidden", "content")}
    calls += [
        Call("search/", asked | {"namespace": hidden}, charlie=200, limited=403),
        Call("search/", asked | {"namespace": f"{owner}/{hidden}"}, charlie=200, limited=403),
        Call("search/", asked | {"namespace": "*"}, charlie=200),
        Call("search/", asked | {"filters": {"id": str(alices.memories["hidden"])}}, charlie=200),
        Call("search/", asked | {"filters": {"id": alices.memories["hidden"].hex[-8:]}}, charlie=200),
        Call("search/", asked | {"filters": {"NOT": {"user_id": "nobody"}}}, charlie=200),
        Call("search/", asked | {"filters": {"state": {"in": ["paused", "archived", "deleted"]}}}, charlie=200),
        Call("search/", asked | {"as_of": timezone.now().isoformat()}, charlie=200),
    ]  # fmt: skip
    return calls


@case("GET", "digest/")
def _(alices: Space) -> list[Call]:
    hidden, opened, owner = alices.word("hidden", "namespace"), alices.word("open", "namespace"), alices.owner.name
    return [
        Call("digest/?max_chars=100000", charlie=200),
        Call(f"digest/?namespace={hidden}", charlie=200, limited=403),
        Call(f"digest/?namespace={opened}", charlie=200),
        Call(f"digest/?namespace={owner}/{hidden}", charlie=200, limited=403),
        Call(f"digest/?namespace={owner}/{opened}", charlie=200, limited=403),
        Call("digest/?namespace=personal", charlie=200, limited=403),
        Call(f"digest/?owner={owner}", charlie=400),
    ]


@case("GET", "shares/")
def _(alices: Space) -> list[Call]:
    return [Call(f"shares/{query}", charlie=200) for query in ("", "?direction=given", "?direction=received")]


@case("POST", "shares/")
def _(alices: Space) -> list[Call]:
    ids, word = alices.memories, alices.word
    return [
        Call("shares/", {"grantee": "dora", "memory": ids["hidden"]}),
        Call("shares/", {"grantee": "dora", "memory": ids["lone"]}, bob=403),
        Call("shares/", {"grantee": "dora", "namespace": word("hidden", "namespace")}, limited=403),
        Call("shares/", {"grantee": "dora", "namespace": word("open", "namespace"), "can_add": True}, limited=201,
             limited_may_write=True),
        Call("shares/", {"grantee": "dora", "namespace": f"alice/{word('hidden', 'namespace')}"[:200]}, limited=403),
        Call("shares/", {"grantee": "dora", "memory": ids["hidden"], "owner": alices.owner.name}, charlie=400),
    ]  # fmt: skip


@case("GET", "shares/<uuid:share_id>/")
def _(alices: Space) -> list[Call]:
    lone, opened = alices.shares["lone"], alices.shares["open"]
    return [Call(f"shares/{lone}/", bob=200), Call(f"shares/{opened}/", bob=200, limited=200)]


@case("DELETE", "shares/<uuid:share_id>/")
def _(alices: Space) -> list[Call]:
    lone, opened = alices.shares["lone"], alices.shares["open"]
    return [Call(f"shares/{lone}/"), Call(f"shares/{opened}/", limited=200, limited_may_write=True)]


@case("GET", "categories/")
def _(alices: Space) -> list[Call]:
    return [Call(f"categories/{query}", charlie=200) for query in ("", "?order=-name", "?order=created_at")]


@case("POST", "categories/")
def _(alices: Space) -> list[Call]:
    return [Call("categories/", {"name": alices.word("hidden", "category")}, charlie=201, limited=403)]


@case("GET", "categories/<uuid:category_id>/")
def _(alices: Space) -> list[Call]:
    found = alices.categories
    return [Call(f"categories/{found['hidden']}/"), Call(f"categories/{found['open']}/", limited=200)]


@case("DELETE", "categories/<uuid:category_id>/")
def _(alices: Space) -> list[Call]:
    found = alices.categories
    return [Call(f"categories/{found['hidden']}/"), Call(f"categories/{found['open']}/", limited=403)]


@case("GET", "apps/")
def _(alices: Space) -> list[Call]:
    return [Call(f"apps/{query}", charlie=200) for query in ("", "?order=-name", "?order=created_at")]


@case("GET", "apps/<uuid:app_id>/")
def _(alices: Space) -> list[Call]:
    return [Call(f"apps/{alices.apps['hidden']}/"), Call(f"apps/{alices.apps['open']}/", limited=200)]


@case("PATCH", "apps/<uuid:app_id>/")
def _(alices: Space) -> list[Call]:
    return [Call(f"apps/{alices.apps[place]}/", {"is_active": False}, limited=403) for place in ("hidden", "open")]


@case("GET", "namespaces/")
def _(alices: Space) -> list[Call]:
    return [Call(f"namespaces/{query}", charlie=200) for query in ("", "?order=-name", "?order=created_at")]


@case("GET", "stats/")
def _(alices: Space) -> list[Call]:
    return [Call("stats/", charlie=200)]


# The matrix ------------------------------------------------------------------------------------------------------


def routes() -> dict[str, set[str]]:
    """Every route of the resolver with the methods it answers to."""
    return dict(_walk(get_resolver().url_patterns, ""))


def _walk(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[tuple[str, set[str]]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, route)
        else:
            yield route, _methods(pattern.callback)


def _methods(view: Any) -> set[str]:
    cls = getattr(view, "view_class", None) or getattr(view, "cls", None)
    names = ("get", "post", "put", "patch", "delete")
    return {name.upper() for name in names if cls is None or hasattr(cls, name)}


def _exception(route: str) -> str | None:
    fitting = [prefix for prefix in EXCEPTIONS if (route.startswith(prefix) if prefix else route == "")]
    return max(fitting, key=len) if fitting else None


def test_every_route_and_method_has_a_case_or_a_reason() -> None:
    covered = {(method, route) for route, some in routes().items() if _exception(route) is None for method in some}
    assert len(covered) > 20
    assert covered - set(CASES) == set(), "routes that no case covers"
    assert set(CASES) - covered == set(), "cases whose route is gone"
    assert {_exception(route) for route in routes()} - {None} == set(EXCEPTIONS), "exceptions whose route is gone"


def told(response: HttpResponse) -> str:
    """Everything that a reply says."""
    body = b"".join(response.streaming_content) if response.streaming else response.content  # type: ignore[attr-defined]
    return body.decode() + "\n" + "\n".join(f"{name}: {value}" for name, value in response.headers.items())


def leaked(response: HttpResponse, secrets: set[str], sent: str) -> set[str]:
    """The secrets in a reply that the caller did not bring along."""
    text = told(response)
    return {secret for secret in secrets if secret in text and secret not in sent}


@dataclass
class World:
    people: People
    alices: Space
    limited: Caller
    read_only: Caller
    turned_away: dict[int, list[Caller]]


@pytest.fixture
def world(people: People) -> World:
    alice = people.alice
    accounts.create_user("dora")
    alices = fill(alice, people.bob)
    _, limited = alice.another_key(name="limited", scopes=Scope.values, namespaces=[alices.word("open", "namespace")])
    _, read_only = alice.another_key(name="read only", scopes=["read"])
    expired, with_expired = alice.another_key(name="expired", scopes=Scope.values)
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    revoked, with_revoked = alice.another_key(name="revoked", scopes=Scope.values)
    accounts.revoke_api_key(str(revoked.pk))
    gone = accounts.create_user("eve")
    _, plain = accounts.create_api_key(gone, name="eve's", scopes=Scope.values)
    gone.is_active = False
    gone.save()
    nobody = [Caller("nobody"), Caller("a made-up key", f"{str(alice.key)[:11]}{'x' * 32}"), with_expired, with_revoked]
    return World(people, alices, limited, read_only, {401: nobody, 403: [Caller("a disabled user", plain)]})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("method", "route"), [pytest.param(*one, id=" ".join(one)) for one in sorted(CASES, key=lambda one: one[::-1])]
)
def test_strangers_see_and_change_nothing(world: World, method: str, route: str) -> None:
    alices, people = world.alices, world.people
    secrets = alices.secrets()
    calls = CASES[method, route](alices)
    problems: list[str] = []

    def check(who: Caller, call: Call, status: int, hidden: set[str]) -> None:
        response = who.call(method, f"/api/v2/{call.path}", call.body, **call.headers)
        where = f"{who.name}: {method} {call.path} {call.body}"
        if response.status_code != status:
            problems.append(f"{where}: {response.status_code} instead of {status}: {told(response)[:300]}")
        if found := leaked(response, hidden, call.sent):
            problems.append(f"{where}: shows {sorted(found)}")

    before = snapshot(alices.owner)
    for call in calls:
        for status, callers in world.turned_away.items():
            for caller in callers:
                check(caller, call, status, secrets)
        if method in UNSAFE and route != "api/v2/search/":
            check(world.read_only, call, 403, secrets)
        check(people.bob, call, call.status("bob"), secrets - alices.shared())
        check(people.charlie, call, call.status("charlie"), secrets)
        for other in ("HEAD", "OPTIONS"):
            response = people.charlie.call(other, f"/api/v2/{call.path}")
            assert response.status_code < 500
            assert leaked(response, secrets, call.sent) == set()
    assert snapshot(alices.owner) == before, problems

    for call in calls:
        before = snapshot(alices.owner)
        check(world.limited, call, call.status("limited"), secrets - alices.within("open"))
        if not call.limited_may_write and snapshot(alices.owner) != before:
            problems.append(f"the limited key changed something: {call}")
    assert not problems, "\n".join(["", *problems])


@pytest.mark.django_db
def test_the_admin_is_for_staff_alone(people: People) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(people.charlie.user)
    open_to_all = {"admin/login/", "admin/logout/"}
    pages = [route for route in routes() if re.fullmatch(r"admin/[a-z_0-9/]*", route) and route not in open_to_all]
    assert len(pages) > 3
    for page in pages:
        response = client.get(f"/{page}")
        assert response.status_code == 302, page
        assert response["Location"].startswith("/admin/login/"), page


# What the matrix cannot say ---------------------------------------------------------------------------------------


def body(response: HttpResponse) -> Any:
    return json.loads(response.content)


@pytest.fixture
def alices(people: People) -> Space:
    return fill(people.alice, people.bob)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path", "sent", "which"),
    [
        ("GET", "memories/{}/", None, "memories"),
        ("PATCH", "memories/{}/", {"content": "mine"}, "memories"),
        ("DELETE", "memories/{}/", None, "memories"),
        ("GET", "memories/{}/history/", None, "memories"),
        ("GET", "memories/{}/access/", None, "memories"),
        ("GET", "memories/{}/near-duplicates/", None, "memories"),
        ("POST", "memories/{}/restore/", None, "memories"),
        ("POST", "memories/batch/", {"operations": [{"op": "delete", "id": "{}"}]}, "memories"),
        ("POST", "memories/batch/", {"operations": [{"op": "delete", "id": "{}"}], "atomic": True}, "memories"),
        ("POST", "shares/", {"grantee": "bob", "memory": "{}"}, "memories"),
        ("POST", "relations/", {"source": "{}", "relation": "part_of", "target": str(UUID(int=1))}, "memories"),
        ("DELETE", "relations/{}/", None, "relations"),
        ("GET", "shares/{}/", None, "shares"),
        ("DELETE", "shares/{}/", None, "shares"),
        ("GET", "categories/{}/", None, "categories"),
        ("DELETE", "categories/{}/", None, "categories"),
        ("GET", "apps/{}/", None, "apps"),
        ("PATCH", "apps/{}/", {"is_active": False}, "apps"),
        ("PATCH", "keys/{}/", {"rate_limit": 1}, "keys"),
        ("DELETE", "keys/{}/", None, "keys"),
    ],
)
def test_anothers_id_and_an_unknown_one_are_told_apart_by_nothing(
    alices: Space, people: People, method: str, path: str, sent: Any, which: str
) -> None:
    def ask(one: UUID) -> tuple[int, Any, dict[str, str]]:
        given = None if sent is None else json.loads(json.dumps(sent).replace("{}", str(one)))
        response = people.charlie.call(method, f"/api/v2/{path.format(one)}", given, **{"X-Request-ID": "the-same"})
        text = response.content.decode().replace(str(one), "ID")
        return response.status_code, text, dict(response.headers)

    for place in ("hidden", "lone"):
        assert ask(getattr(alices, which).get(place, uuid7())) == ask(uuid7())


@pytest.mark.django_db
def test_anothers_memory_is_no_successor(alices: Space, people: People) -> None:
    mine = body(people.charlie.call("POST", "/api/v2/memories/", {"content": "mine"}))["id"]
    replies = []
    for successor in (alices.memories["hidden"], uuid7()):
        response = people.charlie.call("PATCH", f"/api/v2/memories/{mine}/", {"superseded_by": str(successor)})
        assert response.status_code == 404
        replies.append(body(response)["detail"])
    assert replies[0] == replies[1]


@pytest.mark.django_db
def test_nothing_of_alices_is_listed_found_or_counted_for_charlie(alices: Space, people: People) -> None:
    for path in ("memories/?page_size=500&show_expired=true", "shares/", "categories/", "apps/", "namespaces/"):
        assert body(people.charlie.call("GET", f"/api/v2/{path}"))["results"] == [], path
    for place in PLACES:
        asked = {"query": alices.word(place, "content"), "top_k": 100}
        found = body(people.charlie.call("POST", "/api/v2/search/", asked))
        assert (found["results"], found["answerable"]) == ([], False)
    counts = body(people.charlie.call("GET", "/api/v2/stats/"))
    assert not any(counts.values()), counts


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["memories/", "shares/", "categories/", "apps/", "namespaces/", "keys/"])
def test_a_cursor_of_alices_shows_charlie_nothing_of_hers(alices: Space, people: People, path: str) -> None:
    cursor = body(people.alice.call("GET", f"/api/v2/{path}?page_size=1"))["next"].partition("/api/v2/")[2]
    assert "cursor=" in cursor
    response = people.charlie.call("GET", f"/api/v2/{cursor}")
    assert response.status_code == 200
    assert leaked(response, alices.secrets(), cursor) == set()
    assert {row["id"] for row in body(response)["results"]} <= {
        str(key.pk) for key in people.charlie.user.api_keys.all()
    }


@pytest.mark.django_db
def test_an_idempotency_key_of_alices_is_a_new_one_for_charlie(alices: Space, people: People) -> None:
    key = alices.word("hidden", "idempotency")
    for content in (alices.word("hidden", "content"), "something else"):
        headers = {"Idempotency-Key": f"{key}{'' if content != 'something else' else '-2'}"}
        response = people.charlie.call("POST", "/api/v2/memories/", {"content": content}, **headers)
        assert response.status_code == 201
        assert body(response)["owner"] == "charlie"
        assert body(response)["id"] not in {str(one) for one in alices.memories.values()}


@pytest.mark.django_db
def test_the_same_names_are_charlies_own(alices: Space, people: People) -> None:
    word = alices.word
    said = {"content": word("open", "content"), "namespace": word("open", "namespace"), "app": word("open", "app")}
    said |= {"user_id": word("open", "user"), "agent_id": word("open", "agent")}
    said |= {"categories": [word("open", "category")]}
    first = people.charlie.call("POST", "/api/v2/memories/", said)
    assert first.status_code == 201
    assert "duplicate" not in body(first)
    for path, theirs in (("categories/", alices.categories), ("apps/", alices.apps), ("namespaces/", {})):
        [row] = body(people.charlie.call("GET", f"/api/v2/{path}"))["results"]
        assert row["id"] not in {str(one) for one in theirs.values()}
        assert row.get("memories", 1) == 1
        assert row.get("description", "") == ""
    listed = body(people.alice.call("GET", "/api/v2/memories/"))["results"]
    assert body(first)["id"] not in {row["id"] for row in listed}


@pytest.mark.django_db
def test_a_name_of_alices_namespace_is_no_way_into_it(alices: Space, people: People) -> None:
    name = f"alice/{alices.word('open', 'namespace')}"
    written = people.charlie.call("POST", "/api/v2/memories/", {"content": "intruder", "namespace": name})
    assert body(written)["owner"] == "charlie"
    assert people.bob.call("POST", "/api/v2/memories/", {"content": "x", "namespace": name}).status_code == 403


# What a share shows -----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_reader_sees_content_and_tags_and_none_of_the_owners_arrangements(alices: Space, people: People) -> None:
    for place in ("open", "lone"):
        seen = body(people.bob.call("GET", f"/api/v2/memories/{alices.memories[place]}/"))
        assert (seen["content"], seen["tags"]) == (alices.word(place, "content"), [alices.word(place, "tag")])
        assert seen["owner"] == "alice"
        hidden = ("metadata", "categories", "app", "user_id", "agent_id", "written_by", "superseded_by")
        assert not any(seen[name] for name in hidden)
    listed = body(people.bob.call("GET", "/api/v2/memories/?page_size=500&show_expired=true"))["results"]
    assert {row["id"] for row in listed} == {str(alices.memories[place]) for place in ("open", "lone")}
    found = body(people.bob.call("POST", "/api/v2/search/", {"query": alices.word("open", "content"), "top_k": 100}))
    assert {row["id"] for row in found["results"]} == {row["id"] for row in listed}


@pytest.mark.django_db
def test_a_reader_cannot_find_out_by_asking_what_he_is_not_shown(alices: Space, people: People) -> None:
    for place in ("open", "lone"):
        for name, label in (("user_id", "user"), ("agent_id", "agent"), ("app", "app"), ("categories", "category")):
            path = f"/api/v2/memories/?{name}={alices.word(place, label)}"
            assert body(people.bob.call("GET", path))["results"] == [], name
            asked = {"query": alices.word(place, "content"), "filters": {name: alices.word(place, label)}}
            assert body(people.bob.call("POST", "/api/v2/search/", asked))["results"] == [], name
            present = asked | {"filters": {name: "*"}}
            assert body(people.bob.call("POST", "/api/v2/search/", present))["results"] == [], name
        path = f"/api/v2/memories/?metadata.canary={alices.word(place, 'metadata')}"
        assert body(people.bob.call("GET", path))["results"] == []


@pytest.mark.django_db
def test_a_reader_is_not_told_what_replaced_a_memory(alices: Space, people: People) -> None:
    hidden, lone = alices.memories["hidden"], alices.memories["lone"]
    assert people.alice.call("PATCH", f"/api/v2/memories/{lone}/", {"superseded_by": str(hidden)}).status_code == 200
    response = people.bob.call("GET", f"/api/v2/memories/{lone}/")
    assert response.status_code == 200
    assert str(hidden) not in told(response)
    assert body(people.alice.call("GET", f"/api/v2/memories/{lone}/"))["superseded_by"] == str(hidden)


@pytest.mark.django_db
def test_neighbours_are_only_what_the_caller_may_see(people: People) -> None:
    said = [{"role": "user", "content": f"turn {number}"} for number in range(5)]
    sent = {"messages": said, "namespace": "talk", "run_id": "talk"}
    ids = [one["id"] for one in body(people.alice.call("POST", "/api/v2/memories/", sent))["results"]]
    people.alice.call("POST", "/api/v2/shares/", {"grantee": "bob", "memory": ids[2]})
    asked = {"query": "turn 2", "expand": 5}
    [hit] = body(people.bob.call("POST", "/api/v2/search/", asked))["results"]
    assert hit["neighbours"] == []
    people.alice.call("POST", "/api/v2/shares/", {"grantee": "bob", "namespace": "talk"})
    people.alice.call("PATCH", f"/api/v2/memories/{ids[1]}/", {"state": "paused"})
    people.alice.call("PATCH", f"/api/v2/memories/{ids[3]}/", {"expires_at": "2020-01-01T00:00:00Z"})
    for who in (people.bob, people.alice):
        hits = body(who.call("POST", "/api/v2/search/", asked))["results"]
        [hit] = [one for one in hits if one["id"] == ids[2]]
        assert [one["id"] for one in hit["neighbours"]] == [ids[0], ids[4]], who.name


@pytest.mark.django_db
@pytest.mark.parametrize("ending", ["revoked", "expired"])
def test_a_share_that_ended_shows_nothing_any_more(alices: Space, people: People, ending: str) -> None:
    for share_id in alices.shares.values():
        if ending == "revoked":
            assert people.alice.call("DELETE", f"/api/v2/shares/{share_id}/").status_code == 200
        else:
            with acting_as(people.alice.actor):
                Share.objects.filter(id=share_id).update(expires_at=timezone.now() - timedelta(seconds=1))
    paths = [f"memories/{one}/" for one in alices.memories.values()] + [f"shares/{s}/" for s in alices.shares.values()]
    for path in paths:
        assert people.bob.call("GET", f"/api/v2/{path}").status_code == 404
    for path in ("memories/", "shares/", "namespaces/"):
        assert body(people.bob.call("GET", f"/api/v2/{path}"))["results"] == []
    asked = {"query": alices.word("open", "content")}
    assert body(people.bob.call("POST", "/api/v2/search/", asked))["results"] == []


@pytest.mark.django_db
def test_nobody_can_draw_anothers_writes_into_his_own_space(people: People) -> None:
    """A share needs no consent: Charlie lets Alice add to `repo`, and Alice has a namespace `charlie/repo` herself."""
    before = people.alice.call("POST", "/api/v2/memories/", {"content": "first", "namespace": "charlie/repo"})
    assert body(before)["owner"] == "alice"
    people.charlie.call("POST", "/api/v2/memories/", {"content": "bait", "namespace": "repo"})
    shared = people.charlie.call("POST", "/api/v2/shares/", {"grantee": "alice", "namespace": "repo", "can_add": True})
    assert shared.status_code == 201
    after = people.alice.call("POST", "/api/v2/memories/", {"content": "second", "namespace": "charlie/repo"})
    assert body(after)["owner"] == "alice"


@pytest.mark.django_db
def test_a_user_named_like_a_git_host_draws_no_writes_to_projects_of_that_host(people: People) -> None:
    """Alice's first write to a project, whose name `HOST/OWNER/REPO` reads like a share of a user called HOST."""
    host = accounts.create_user("github.com")
    lure = Actor.of(host, door="rest")
    bait = services.add(lure, services.NewMemory("bait", namespace="acme/shop"))
    services.share(lure, grantee="alice", namespace="acme/shop", can_add=True)
    written = people.alice.call("POST", "/api/v2/memories/", {"content": "mine", "namespace": "github.com/acme/shop"})
    assert (body(written)["owner"], body(written)["namespace"]) == ("alice", "github.com/acme/shop")
    found = people.alice.call("POST", "/api/v2/search/", {"query": "bait", "namespace": "github.com/acme/shop"})
    assert str(bait.memory_id) not in found.content.decode()


# Keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_key_makes_none_that_outlives_it(people: People) -> None:
    ends = timezone.now() + timedelta(hours=1)
    _, brief = people.alice.another_key(scopes=Scope.values, expires_at=ends)
    made = brief.call("POST", "/api/v2/keys/", {"name": "child"})
    assert made.status_code == 201
    assert ApiKey.objects.get(pk=body(made)["id"]).expires_at == ends
    for later in ((ends + timedelta(seconds=1)).isoformat(), None):
        refused = brief.call("POST", "/api/v2/keys/", {"name": "child", "expires_at": later})
        assert (refused.status_code, body(refused)["code"]) == (403, "forbidden")
    sooner = (ends - timedelta(minutes=1)).isoformat()
    assert brief.call("POST", "/api/v2/keys/", {"name": "child", "expires_at": sooner}).status_code == 201


@pytest.mark.django_db
def test_a_limited_key_sees_and_ends_only_keys_within_its_limit(people: People) -> None:
    mine, limited = people.alice.another_key(name="mine", scopes=Scope.values, namespaces=["a", "b"])
    narrower, _ = people.alice.another_key(name="narrower", namespaces=["a"])
    wider, _ = people.alice.another_key(name="wider", namespaces=["a", "c"])
    listed = body(limited.call("GET", "/api/v2/keys/"))["results"]
    assert {row["name"] for row in listed} == {"mine", "narrower"}
    assert limited.call("DELETE", f"/api/v2/keys/{wider.pk}/").status_code == 404
    assert limited.call("DELETE", f"/api/v2/keys/{narrower.pk}/").status_code == 200
    assert limited.call("DELETE", f"/api/v2/keys/{mine.pk}/").status_code == 200
    assert limited.call("GET", "/api/v2/me/").status_code == 401


@pytest.mark.django_db
def test_a_bad_key_is_not_made_good_by_another_credential(people: People) -> None:
    """Whoever sends a key that is not valid is turned away, whatever else the request brings."""
    client = Client(raise_request_exception=False)
    client.force_login(people.alice.user)
    bad = f"{str(people.alice.key)[:11]}{'x' * 32}"
    for headers in (
        {"Authorization": f"Bearer {bad}"},
        {"X-API-Key": bad},
        {"Authorization": f"Bearer {bad}", "X-API-Key": str(people.alice.key)},
        {"Authorization": "Basic YWxpY2U6YWxpY2U=", "X-API-Key": str(people.alice.key)},
        {"Authorization": f"Bearer {people.charlie.key}, Bearer {people.alice.key}"},
    ):
        assert client.get("/api/v2/memories/", headers=headers).status_code == 401
    assert client.get("/api/v2/memories/").status_code == 200


@pytest.mark.django_db
def test_a_session_ends_with_the_account(people: People) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(people.alice.user)
    people.alice.user.is_active = False
    people.alice.user.save()
    assert client.get("/api/v2/memories/").status_code == 401


@pytest.mark.django_db
def test_a_session_writes_only_with_its_token(people: People) -> None:
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    client.force_login(people.alice.user)
    assert client.get("/api/v2/memories/").status_code == 200
    sent = {"content": "forged"}
    assert client.post("/api/v2/memories/", sent, content_type="application/json").status_code == 403


@pytest.mark.django_db
def test_no_header_names_another_user(alices: Space, people: People) -> None:
    names = ("X-User", "X-User-ID", "Remote-User", "X-Remote-User", "X-Mem0-User", "X-Owner", "X-Forwarded-User")
    for name in names:
        reply = body(people.charlie.call("GET", "/api/v2/me/", **{name: "alice"}))
        assert reply["username"] == "charlie"
        assert body(people.charlie.call("GET", "/api/v2/memories/", **{name: str(people.alice.id)}))["results"] == []
