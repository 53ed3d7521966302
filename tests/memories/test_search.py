import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from django.db import connection
from django.utils import timezone

from accounts.actors import Actor, acting_as
from accounts.models import User
from mem0stack.lib.errors import Forbidden, InvalidArgument
from memories import candidates, outbox, ranking, services
from memories.candidates import Scope
from memories.embeddings import embed_documents
from memories.filters import NATIVE, Filter, parse
from memories.lexical import document_terms
from memories.models import Memory, Share
from memories.search import SearchResult, pool, search
from memories.services import NewMemory
from tests.memories.reading import stored

pytestmark = pytest.mark.django_db


def add(actor: Actor, content: str, **fields: Any) -> UUID:
    return services.add(actor, NewMemory(content, **fields)).memory_id


def add_many(actor: Actor, *contents: str, **fields: Any) -> list[UUID]:
    return [one.memory_id for one in services.add_many(actor, [NewMemory(text, **fields) for text in contents])]


def texts(result: SearchResult) -> list[str]:
    return [hit.memory.content for hit in result.hits]


def where(**conditions: Any) -> Filter:
    return parse(conditions, NATIVE)


def test_the_best_comes_first_by_words_and_by_meaning(alice: Actor) -> None:
    add_many(
        alice,
        "The database listens on port 5433.",
        "Our dog is called Rex.",
        "We deploy on Fridays with make release.",
        "psycopg_pool needs min_size 4.",
    )
    assert texts(search(alice, "what is psycopg_pool's min_size"))[0] == "psycopg_pool needs min_size 4."
    assert texts(search(alice, "which port does postgres use"))[0] == "The database listens on port 5433."
    assert texts(search(alice, "name of the puppy"))[0] == "Our dog is called Rex."


def test_scores_lie_in_0_to_1_fall_and_are_the_sum_of_their_signals_shares(alice: Actor) -> None:
    add_many(alice, *(f"Port {n} is for service {n % 7}." for n in range(40)), "port")
    result = search(alice, "port of service 3", top_k=50, explain=True)
    scores = [hit.score for hit in result.hits]
    assert len(scores) == 41
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    for hit in result.hits:
        assert set(hit.signals) == {"base", "fit", *ranking.SIGNALS, *ranking.NUDGES}
        assert sum(signal.share for signal in hit.signals.values()) == pytest.approx(hit.score, abs=1e-4)
    best = result.hits[0].signals
    assert best["coverage"].value == pytest.approx(1)
    assert 0.5 < best["similarity"].value <= 1
    assert result.took_ms > 0
    assert (result.degraded, result.truncated, result.answerable) == ((), False, True)
    assert [hit.signals for hit in search(alice, "port of service 3").hits] == [{}] * 10


@pytest.mark.parametrize("filters", [{}, {"tags": "even"}], ids=["no filter", "filter"])
def test_the_pool_holds_the_nearest_and_those_with_the_rarest_words(
    alice: Actor, bob: Actor, filters: dict[str, Any]
) -> None:
    draw = random.Random(7)  # noqa: S311  no secret
    words = ["port", "dog", "release", "pool", "deploy", "database", "puppy", "service", "stone", "walks", "never"]
    contents = [" ".join(draw.choices(words, k=draw.randint(1, 6))) + f" {n}" for n in range(400)]
    for actor, some in ((alice, contents[:250]), (bob, contents[250:])):
        new = [NewMemory(text, tags=["even"] if n % 2 else [], namespace="team") for n, text in enumerate(some)]
        services.add_many(actor, new)
    services.share(bob, grantee="alice", namespace="team")
    with acting_as(alice):
        rows = list(Memory.objects.values_list("id", "content", "tags"))
    assert len(rows) == 400
    wanted = [(one, text) for one, text, tags in rows if not filters or "even" in tags]
    vectors = np.stack(embed_documents([text for _, text in wanted]))
    for query in ("which port has the puppy", "walks quickly", "zxqv", "stone", "7", "never ever walks a stone"):
        question, found = pool(alice, query, filters=where(**filters))
        held = set(found.ids)
        assert held <= {one for one, _ in wanted}
        # Ties at the edge may fall to either side, so what is nearer than the edge has to be there.
        similarity = dict(zip(found.ids, found.similarity, strict=True))
        nearest = vectors @ _vector_of(question, similarity, wanted, vectors)
        edge = np.sort(nearest)[::-1][60]
        assert {wanted[n][0] for n in np.flatnonzero(nearest > edge + 1e-3)} <= held
        with_words = {one for one, text in wanted if set(question.terms) & set(document_terms(text))}
        assert len(with_words & held) >= min(60, len(with_words))


def _vector_of(question: Any, similarity: Any, wanted: Any, vectors: Any) -> Any:
    """The query's vector, solved from what the database says of its similarity to known ones."""
    known = [n for n, (one, _) in enumerate(wanted) if one in similarity]
    told = np.array([similarity[wanted[n][0]] for n in known])
    solved, *_ = np.linalg.lstsq(vectors[known], told, rcond=1e-3)
    return solved


def test_the_very_text_scores_near_one_and_nothing_alike_near_zero(alice: Actor) -> None:
    add_many(alice, "The database listens on port 5433.", "Rex")
    assert search(alice, "The database listens on port 5433.").hits[0].score > 0.7
    assert not search(alice, "zxqv").answerable


def test_equal_scores_come_in_one_order(alice: Actor) -> None:
    for n in range(20):
        add(alice, "Exactly the same text.", user_id=f"u{n}")
    first = [hit.memory.id for hit in search(alice, "the same text", top_k=20).hits]
    assert len(set(first)) == 20
    for top_k in (20, 7, 20):
        assert [hit.memory.id for hit in search(alice, "the same text", top_k=top_k).hits] == first[:top_k]


@pytest.mark.parametrize("query", ["what is it", "???", "zxqv wvutq", "🦆", "to be or not to be", "\u0bcd"])
def test_any_query_has_an_answer_and_no_error(alice: Actor, query: str) -> None:
    add_many(alice, "It is what it is.", "Rex", "Something else.", "12345 67890")
    assert len(search(alice, query).hits) <= 4
    assert all(0 <= hit.score <= 1 for hit in search(alice, query).hits)


def test_an_owner_of_nothing_finds_nothing(alice: Actor) -> None:
    result = search(alice, "anything")
    assert (result.hits, result.answerable, result.truncated) == ([], False, False)


def test_what_is_written_is_found_at_once_and_what_is_gone_no_longer(alice: Actor) -> None:
    rex = add(alice, "Our dog is called Rex.")
    assert texts(search(alice, "dog")) == ["Our dog is called Rex."]
    services.update(alice, rex, {"content": "Our cat is called Tom."})
    assert texts(search(alice, "cat")) == ["Our cat is called Tom."]
    services.delete(alice, rex)
    assert texts(search(alice, "cat")) == []
    services.restore(alice, rex)
    assert texts(search(alice, "cat")) == ["Our cat is called Tom."]


# --- how many


def test_the_number_of_results_stays_right_when_the_connection_is_warm(alice: Actor, bob: Actor) -> None:
    add_many(alice, *(f"Alice wrote note {n} about the release." for n in range(80)))
    add_many(bob, *(f"Bob wrote note {n} about the release." for n in range(300)))
    outbox.drain(alice.owner_id)
    for _ in range(14):
        for top_k, expected in ((1, 1), (10, 10), (60, 60)):
            found = search(alice, "note about the release", top_k=top_k).hits
            assert len(found) == expected
            assert {hit.memory.owner_id for hit in found} == {alice.owner_id}


@pytest.mark.parametrize("rows", [3, 80])
def test_as_many_are_found_as_are_asked_for_and_there(alice: Actor, rows: int) -> None:
    add_many(alice, *(f"Note {n} about the release." for n in range(rows)))
    for top_k in (1, 10, 100):
        assert len(search(alice, "note about the release", top_k=top_k).hits) == min(rows, top_k)


# --- own and shared


@pytest.fixture
def shared(alice: Actor, bob: Actor) -> Callable[[], list[str]]:
    add(alice, "Alice's plan for the release.", namespace="team")
    add(alice, "Alice's private plan for the release.")
    single = add(alice, "Alice's single plan for the release.", namespace="other")
    add(bob, "Bob's plan for the release.")
    services.share(alice, grantee="bob", namespace="team")
    services.share(alice, grantee="bob", memory_id=single)
    return lambda: sorted(texts(search(bob, "plan for the release")))


def test_own_and_shared_memories_are_found_and_private_ones_not(
    charlie: Actor, alice: Actor, shared: Callable[[], list[str]]
) -> None:
    assert shared() == [
        "Alice's plan for the release.",
        "Alice's single plan for the release.",
        "Bob's plan for the release.",
    ]
    assert texts(search(charlie, "plan for the release")) == []
    assert len(texts(search(alice, "plan for the release"))) == 3


def test_a_shared_memory_is_as_good_as_an_own_one(bob: Actor, shared: Callable[[], list[str]]) -> None:
    hits = {hit.memory.content: hit for hit in search(bob, "Alice's plan for the release.").hits}
    assert hits["Alice's plan for the release."].score > hits["Bob's plan for the release."].score
    assert hits["Alice's plan for the release."].memory.owner_name == "alice"  # type: ignore[attr-defined]


def test_a_memory_shared_in_two_ways_is_found_once(alice: Actor, bob: Actor, shared: Callable[[], list[str]]) -> None:
    twice = search(alice, "Alice's plan for the release.").hits[0].memory
    services.share(alice, grantee="bob", memory_id=twice.id)
    ids = [hit.memory.id for hit in search(bob, "plan for the release").hits]
    assert len(ids) == len(set(ids)) == 3


def test_what_is_no_longer_shared_is_no_longer_found(alice: Actor, bob: Actor, shared: Callable[[], list[str]]) -> None:
    with acting_as(alice):
        shares = list(Share.objects.filter(owner_id=alice.owner_id).values_list("id", flat=True))
    for share in shares:
        services.unshare(alice, share)
    assert shared() == ["Bob's plan for the release."]


def test_paused_or_expired_memories_of_others_are_not_found(
    alice: Actor, bob: Actor, shared: Callable[[], list[str]]
) -> None:
    with acting_as(alice):
        Memory.objects.filter(owner_id=alice.owner_id, namespace__name="team").update(state="paused")
        Memory.objects.filter(owner_id=alice.owner_id, namespace__name="other").update(
            expires_at=timezone.now() - timedelta(minutes=1)
        )
    assert shared() == ["Bob's plan for the release."]
    everything = where(state={"in": ["active", "paused", "archived"]})
    assert texts(search(bob, "plan for the release", filters=everything)) == ["Bob's plan for the release."]


def test_a_limited_key_finds_only_what_is_in_its_namespaces(bob: Actor, shared: Callable[[], list[str]]) -> None:
    add(bob, "Bob's shop plan for the release.", namespace="shop")
    limited = replace(bob, namespaces=frozenset({"shop"}))
    for namespace in (None, "*", "shop"):
        found = texts(search(limited, "plan for the release", namespace=namespace))
        assert found == ["Bob's shop plan for the release."]
    with pytest.raises(Forbidden):
        search(limited, "plan", namespace="personal")


def test_a_key_without_the_scope_searches_nothing(alice: Actor) -> None:
    with pytest.raises(Forbidden, match="lacks the scope"):
        search(replace(alice, scopes=frozenset({"write"})), "plan")


# --- filters and namespaces


FILTERED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tag": ({"tags": ["needle"]}, {"tags": {"contains": "needle"}}),
    "metadata": ({"metadata": {"ticket": 77}}, {"metadata": {"ticket": 77}}),
    "user": ({"user_id": "carol"}, {"user_id": "carol"}),
    "category": ({"categories": ["rare"]}, {"categories": {"contains": "rare"}}),
    "kind": ({"kind": "decision"}, {"kind": "decision"}),
    "event_at": ({"event_at": datetime(2001, 5, 4, tzinfo=UTC)}, {"event_at": {"lt": "2002-01-01"}}),
}


@pytest.mark.parametrize(("fields", "asked"), FILTERED.values(), ids=FILTERED)
def test_a_filter_finds_one_old_memory_among_many_better_ones(
    alice: Actor, fields: dict[str, Any], asked: dict[str, Any]
) -> None:
    needle = add(alice, "Something about a deployment, long ago, that was not so important.", **fields)
    add_many(alice, *(f"Deployment of the release {n}." for n in range(300)))
    result = search(alice, "deployment of the release", filters=where(**asked), top_k=3)
    assert [hit.memory.id for hit in result.hits] == [needle]


def test_a_filter_is_in_the_shared_arm_too(alice: Actor, bob: Actor) -> None:
    add(alice, "The plan, version 1.", namespace="team", tags=["needle"])
    add(alice, "The plan, version 2.", namespace="team")
    add(bob, "The plan, version 3.", tags=["needle"])
    add(bob, "The plan, version 4.")
    services.share(alice, grantee="bob", namespace="team")
    found = texts(search(bob, "the plan", filters=where(tags={"contains": "needle"})))
    assert sorted(found) == ["The plan, version 1.", "The plan, version 3."]


def test_a_project_covers_itself_and_personal(alice: Actor) -> None:
    for namespace in ("github.com/o/shop", "blog", None):
        add(alice, f"The port in {namespace}.", namespace=namespace)
    ask: Callable[[str | None], list[str]] = lambda name: sorted(texts(search(alice, "port", namespace=name)))  # noqa: E731
    assert ask("git@github.com:o/shop.git") == ["The port in None.", "The port in github.com/o/shop."]
    assert ask("personal") == ask("nowhere") == ["The port in None."]
    assert len(ask("*")) == len(ask(None)) == 3


def test_a_project_covers_what_others_share_under_its_name(alice: Actor, bob: Actor) -> None:
    add(alice, "Alice's port.", namespace="shop")
    add(bob, "Bob's port.", namespace="shop")
    add(bob, "Bob's other port.", namespace="blog")
    services.share(alice, grantee="bob", namespace="shop")
    assert sorted(texts(search(bob, "port", namespace="shop"))) == ["Alice's port.", "Bob's port."]
    assert texts(search(bob, "port", namespace="alice/shop")) == ["Alice's port."]


# --- what counts as an answer


def test_only_active_current_and_unexpired_memories_are_found_unless_asked_for(alice: Actor) -> None:
    now = timezone.now()
    made = {
        name: add(alice, f"The {name} port.") for name in ("active", "paused", "archived", "rejected", "superseded")
    }
    for state in ("paused", "archived"):
        services.update(alice, made[state], {"state": state})
    for standing in ("rejected", "superseded"):
        services.update(alice, made[standing], {"standing": standing})
    services.delete(alice, add(alice, "The deleted port."))
    add(alice, "The expired port.", expires_at=now - timedelta(seconds=1))
    add(alice, "The past port.", valid_to=now - timedelta(days=1))
    add(alice, "The future port.", valid_from=now + timedelta(days=1))
    add(alice, "The present port.", valid_from=now - timedelta(days=1), expires_at=now + timedelta(days=1))

    def ask(**conditions: Any) -> list[str]:
        return sorted(text.split()[1] for text in texts(search(alice, "port", filters=where(**conditions))))

    assert ask() == ["active", "present"]
    assert ask(state="paused") == ["paused"]
    assert ask(state={"in": ["active", "archived"]}) == ["active", "archived", "present"]
    assert ask(standing="rejected") == ["rejected"]
    assert ask(standing="superseded") == ["superseded"]


def test_as_of_asks_what_was_true_then(alice: Actor) -> None:
    moved = datetime(2024, 6, 1, tzinfo=UTC)
    add(alice, "The office is in Bonn.", valid_from=datetime(2020, 1, 1, tzinfo=UTC), valid_to=moved)
    add(alice, "The office is in Berlin.", valid_from=moved)
    add(alice, "The office has plants.")
    ask: Callable[[datetime | None], list[str]] = lambda as_of: sorted(texts(search(alice, "office", as_of=as_of)))  # noqa: E731
    assert ask(None) == ["The office has plants.", "The office is in Berlin."]
    assert ask(datetime(2023, 1, 1, tzinfo=UTC)) == ["The office is in Bonn."]
    assert ask(moved) == ["The office is in Berlin."]
    assert ask(timezone.now()) == ask(None)
    assert ask(datetime(2019, 1, 1, tzinfo=UTC)) == []


def test_as_of_finds_what_was_superseded_later_and_never_what_was_rejected(alice: Actor) -> None:
    then = timezone.now()
    old, new = add(alice, "The port was 5432.", valid_to=then), add(alice, "The port is 5433.", valid_from=then)
    wrong = add(alice, "The port is 1.", valid_from=then - timedelta(days=9))
    services.update(alice, old, {"superseded_by": new, "valid_from": then - timedelta(days=9)})
    services.update(alice, wrong, {"standing": "rejected"})
    assert texts(search(alice, "port", as_of=then - timedelta(days=1))) == ["The port was 5432."]
    assert texts(search(alice, "port")) == ["The port is 5433."]


# --- the arguments


BAD: dict[str, dict[str, Any]] = {
    "empty": {"query": ""},
    "blank": {"query": " \n"},
    "long": {"query": "x" * 2001},
    "NUL": {"query": "a\x00b"},
    "half a surrogate": {"query": "port \ud800"},
    "top_k 0": {"top_k": 0},
    "top_k 101": {"top_k": 101},
    "threshold": {"threshold": 1.01},
    "threshold below": {"threshold": -0.01},
    "threshold NaN": {"threshold": float("nan")},
    "expand": {"expand": 6},
    "expand below": {"expand": -1},
    "token_budget": {"token_budget": 0},
    "naive as_of": {"as_of": datetime(2024, 1, 1)},  # noqa: DTZ001
    "namespace": {"namespace": " "},
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD)
def test_an_argument_out_of_bounds_is_refused(alice: Actor, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        search(alice, **({"query": "port"} | arguments))


@pytest.mark.parametrize("arguments", [{"query": "x" * 2000}, {"top_k": 100}, {"threshold": 1}, {"expand": 5}], ids=str)
def test_an_argument_at_its_bound_is_taken(alice: Actor, arguments: dict[str, Any]) -> None:
    add(alice, "The port.")
    assert len(search(alice, **({"query": "port"} | arguments)).hits) <= 1


def test_a_threshold_cuts_where_it_says(alice: Actor) -> None:
    add_many(alice, "The port is 5433.", "The harbour and the port.", "Our dog is called Rex.")
    scores = [hit.score for hit in search(alice, "which port").hits]
    assert [hit.score for hit in search(alice, "which port", threshold=scores[1] - 1e-4).hits] == scores[:2]
    assert search(alice, "which port", threshold=1).hits == []


def test_a_token_budget_is_a_ceiling_and_says_when_it_cut(alice: Actor) -> None:
    add_many(alice, *(f"Port {n} " + "x" * 33 for n in range(9)), run_id="r")
    for budget in (1, 10, 25, 60, 1000):
        for expand in (0, 1):
            result = search(alice, "port", token_budget=budget, expand=expand)
            used = sum(len(m.content) / 4 for hit in result.hits for m in (hit.memory, *hit.neighbours))
            assert used <= budget
            assert result.truncated is (len(result.hits) < 9)
    assert len(search(alice, "port", token_budget=1000).hits) == 9


# --- neighbours


def conversation(actor: Actor, *lines: str, **fields: Any) -> list[UUID]:
    return add_many(actor, *lines, kind="message", run_id="r", **fields)


LINES = ["hello", "morning all", "the port is 5433", "thanks a lot", "see you"]


def test_expand_adds_neighbours_of_the_same_run_in_their_order(alice: Actor) -> None:
    conversation(alice, *LINES)
    conversation(alice, *("foreign one", "foreign two", "foreign three"), namespace="elsewhere")
    for reach, expected in ((0, []), (1, LINES[1:2] + LINES[3:4]), (5, LINES[:2] + LINES[3:])):
        hit = search(alice, "which port is it 5433", top_k=1, expand=reach).hits[0]
        assert hit.memory.content == LINES[2]
        assert [other.content for other in hit.neighbours] == expected


def test_neighbours_are_what_the_caller_may_see_and_what_still_counts(alice: Actor, bob: Actor) -> None:
    ids = conversation(alice, *LINES, namespace="team")
    services.share(alice, grantee="bob", memory_id=ids[2])
    assert search(bob, "port 5433", expand=3).hits[0].neighbours == []
    services.share(alice, grantee="bob", namespace="team")
    services.update(alice, ids[0], {"state": "paused"})
    services.update(alice, ids[1], {"standing": "rejected"})
    services.update(alice, ids[3], {"expires_at": timezone.now() - timedelta(minutes=1)})
    for actor in (alice, bob):
        (hit,) = [hit for hit in search(actor, "port 5433", expand=3).hits if hit.memory.id == ids[2]]
        assert [other.content for other in hit.neighbours] == ["see you"]


def test_a_search_takes_few_queries_whatever_it_finds(alice: Actor, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  no secret
    add_many(alice, *(f"Port {n} {rng.random()}" for n in range(60)), run_id="r")
    with connection.execute_wrapper(counting := Counting()):
        search(alice, "port", top_k=50, expand=2)
    assert counting.selects <= 6


class Counting:
    def __init__(self) -> None:
        self.selects = 0

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.selects += "SELECT" in sql
        return execute(sql, params, many, context)


def test_a_hit_holds_the_names_and_not_the_vector(alice: Actor) -> None:
    memory_id = add(alice, "The port.", categories=["b", "a"], app="cursor", namespace="shop")
    found: Any = search(alice, "port").hits[0].memory
    assert (found.owner_name, found.writer_name, found.namespace_name, found.app_name, found.category_names) == (
        *("alice", "alice", "shop", "cursor"),
        ["a", "b"],
    )
    assert {"embedding", "content_hash"} <= found.get_deferred_fields()
    assert found.id == stored(alice, memory_id).id


@pytest.mark.parametrize("project", [None, "github.com/acme/shop", "team"])
@pytest.mark.parametrize("other_name", ["", "shop"])
def test_the_statement_that_is_built_once_is_what_the_querysets_say(
    alice: Actor, project: str | None, other_name: str
) -> None:
    """For the one who asks, whoever asked first: `visible_to` stays the one definition."""
    for actor in (Actor.of(User(pk=77), door="rest"), alice):
        scope = Scope(actor, (), project=project, other_name=other_name)
        assert scope.is_plain
        built_once = candidates._plain_statement(
            in_project=project is not None, has_alternatives=True, nearest=candidates._Nearest.BY_SCAN
        )
        values = {
            candidates._ANY_OWNER: actor.owner_id,
            candidates._ANY_PROJECT: project,
            candidates._ANY_OTHER_NAME: other_name,
        }
        told = candidates._statement(scope, None, has_alternatives=True, nearest=candidates._Nearest.BY_SCAN)
        assert built_once.text == told.text
        assert candidates._filled(built_once.parameters, values) == list(told.parameters)
        assert actor.owner_id in told.parameters


def test_a_namespace_of_somebody_else_is_not_plain(alice: Actor) -> None:
    assert not Scope(alice, (), project="bob/team").is_plain
