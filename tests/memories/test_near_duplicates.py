"""Near duplicates are found where two texts say the same, and never where a value differs.

The labelled pairs are in tests/evaluation/near_duplicates; what follows them shows one rule each.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mem0stack.lib.errors import NotFound
from memories import services
from memories.near_duplicates import compare, find
from memories.services import NewMemory
from memories.wording import MAX_CHARACTERS, Text
from tests.people import People, Person

EVALUATION = Path(__file__).parents[1] / "evaluation"


def _rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EVALUATION / path).read_text(encoding="utf-8").splitlines()]


PAIRS = _rows("near_duplicates/pairs.jsonl")


def changes(a: str, b: str) -> set[str]:
    """The kinds of what differs; the same both ways round."""
    comparison, turned = compare(Text(a), Text(b)), compare(Text(b), Text(a))
    assert comparison.is_duplicate == turned.is_duplicate
    kinds = {change.kind for change in comparison.changed}
    assert kinds == {change.kind for change in turned.changed}
    assert comparison.is_duplicate or kinds, "too far from each other to tell anything"
    return kinds


# --- the labelled pairs


@pytest.mark.parametrize(
    "pair", [pytest.param(pair, id=f"{pair['id']}-{pair['kind']}") for pair in PAIRS if not pair["duplicate"]]
)
def test_no_changed_value_is_swallowed(pair: dict[str, Any]) -> None:
    assert not compare(Text(pair["a"]), Text(pair["b"])).is_duplicate
    assert not compare(Text(pair["b"]), Text(pair["a"])).is_duplicate


@pytest.mark.parametrize("held_out", [None, False, True], ids=["all", "tuned on", "held out"])
def test_four_of_five_paraphrases_are_found(held_out: bool | None) -> None:
    same = [pair for pair in PAIRS if pair["duplicate"] and held_out in (None, pair["held_out"])]
    found = [pair for pair in same if compare(Text(pair["a"]), Text(pair["b"])).is_duplicate]
    assert len(found) >= 0.8 * len(same), f"{len(found)} of {len(same)}"


def test_memories_of_the_coding_set_are_no_duplicates_of_each_other() -> None:
    texts = [Text(row["content"]) for row in _rows("coding/memories.jsonl")]
    alike = [
        (a.content, b.content) for place, a in enumerate(texts) for b in texts[:place] if compare(a, b).is_duplicate
    ]
    assert alike == []


def test_another_digit_anywhere_in_a_real_memory_is_another_memory() -> None:
    swallowed = []
    for row in _rows("coding/memories.jsonl"):
        text = Text(row["content"])
        for digit in re.finditer(r"[0-9]", text.content):
            other = text.content[: digit.start()] + str((int(digit[0]) + 1) % 10) + text.content[digit.end() :]
            if compare(text, Text(other)).is_duplicate:
                swallowed.append(other)
    assert swallowed == []


def test_a_not_anywhere_in_a_real_memory_makes_it_another() -> None:
    swallowed = []
    for row in _rows("coding/memories.jsonl"):
        text = Text(row["content"])
        for verb in re.finditer(r"\b(?:is|are|was|must|do|does|can|should)\b", text.content):
            other = f"{text.content[: verb.end()]} not{text.content[verb.end() :]}"
            if compare(text, Text(other)).is_duplicate:
                swallowed.append(other)
    assert swallowed == []


# --- one rule each


@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param("Log out after 30 minutes.", "Log out after 30min.", id="units"),
        pytest.param("The cluster has three nodes.", "The cluster has 3 nodes.", id="number words"),
        pytest.param("The limit is 1,000 rows.", "The limit is 1000 rows.", id="thousands"),
        pytest.param("GitHub's runner is slow.", "The GitHub runner is slow.", id="possessive"),
        pytest.param("Use the `time_out` setting.", "**Use** the time_out setting", id="markup"),
        pytest.param("See [the guide](docs/guide.md).", "See the guide docs/guide.md.", id="link"),
        pytest.param("Fehler im Import melden wir.", "Wir melden Importfehler.", id="compound"),
        pytest.param("Deploys use ArgoCD and Helm.", "Deploys use Helm and ArgoCD.", id="list"),
        pytest.param("Kim approves releases.", "Releases are approved by Kim.", id="passive"),
        pytest.param("We run migrations in the pipeline.", "We run migratoins in the pipeline.", id="typing error"),
    ],
)
def test_other_words_for_the_same(a: str, b: str) -> None:
    assert changes(a, b) == set()


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        pytest.param("Requests over 5 MB are rejected.", "Requests of 5 MB are rejected.", "word", id="over"),
        pytest.param("Set the weight to -1.", "Set the weight to 1.", "word", id="sign"),
        pytest.param("Retry when x > 5", "Retry when x < 5", "word", id="operator"),
        pytest.param("The job runs at 0 3 * * *", "The job runs at 3 0 * * *", "word", id="cron"),
        pytest.param("OrderService emits it.", "OrderServices emits it.", "word", id="camelCase"),
        pytest.param("Use Redis and Valkey.", "Use Redis or Valkey.", "word", id="or"),
        pytest.param("Just admins can export.", "Admins can export.", "word", id="just"),
        pytest.param("Clients may retry.", "Clients must retry.", "word", id="may"),
        pytest.param("The user's name is Jon.", "The user's name is John.", "word", id="name"),
        pytest.param("The stage is saved.", "The state is saved.", "word", id="two words, one letter"),
        pytest.param("Ports 80 and 443, then 80.", "Ports 80 and 443, then 443.", "word", id="how often"),
        pytest.param("Use npm, not pnpm.", "Use pnpm, not npm.", "order", id="what is denied"),
        pytest.param("Log headers, do not log bodies.", "Log bodies, do not log headers.", "order", id="denied verb"),
        pytest.param("The cache is shared.", "The cache isn't shared.", "negation", id="n't"),
        pytest.param("Alice approves Bob's changes.", "Bob approves Alice's changes.", "order", id="who does it"),
        pytest.param("Only deploy from main.", "Only deploy to main.", "order", id="from and to"),
        pytest.param("Ann reviewed it, Ben merged it.", "Ben reviewed it, Ann merged it.", "order", id="crossed"),
        pytest.param("Set retries=3, timeout 9.", "Set retries=9, timeout 3.", "word", id="assigned"),
        pytest.param("We removed the cache.", "Remove the cache.", "time", id="done and to do"),
        pytest.param("The default was 30 s.", "The default is 30 s.", "time", id="was and is"),
        pytest.param("We will use Kafka.", "We use Kafka.", "time", id="will"),
        pytest.param("Backups are encrypted.", "Backups must be encrypted.", "time", id="is and must"),
        pytest.param("The API supports CSV.", "The API should support CSV.", "time", id="does and should"),
        pytest.param("Deploy if Kim approves.", "Kim approves deploys.", "condition", id="if"),
        pytest.param("First lint, then test.", "First test, then lint.", "order", id="first and then"),
        pytest.param("Not all tests need Docker.", "All tests need not Docker.", "order", id="not all"),
        pytest.param("The mother of Kim is Lee.", "The mother of Lee is Kim.", "order", id="of and is"),
        pytest.param("Use !important.", "Use important.", "word", id="exclamation before a word"),
        pytest.param("Is the API public?", "The API is public.", "question", id="question"),
        pytest.param("Her birthday is 3 May.", "His birthday is 3 May.", "person", id="his and her"),
        pytest.param("服务A调用服务B。", "服务B调用服务A。", "order", id="Chinese order"),
        pytest.param("田中さんが承認する", "中田さんが承認する", "order", id="Japanese name"),
    ],
)
def test_what_differs_is_named(a: str, b: str, kind: str) -> None:
    assert kind in changes(a, b)


def test_a_text_too_long_to_be_read_whole_is_no_duplicate() -> None:
    text = "The gateway strips headers. " * 100
    assert len(text) > MAX_CHARACTERS

    assert changes(text + "Port 1.", text + "Port 2.") == {"length"}


@pytest.mark.parametrize("text", ["", "?!", "\u0301", "·", "'", "-", "…\n\n"], ids=repr)
def test_texts_without_words_can_be_compared(text: str) -> None:
    assert not compare(Text(text), Text("Something else.")).is_duplicate


# --- found among an owner's memories


def keep(person: Person, content: str, **more: Any) -> UUID:
    return services.add(person.actor, NewMemory(content=content, **more)).memory_id


def found(person: Person, memory_id: UUID, **key: Any) -> list[UUID]:
    return [one.memory.id for one in find(replace(person.actor, **key), memory_id)]


@pytest.mark.django_db
def test_what_says_the_same_is_found_and_what_differs_is_not(people: People) -> None:
    first = keep(people.alice, "The upload timeout is 30 seconds.")
    again = keep(people.alice, "Note that the upload timeout is 30s.")
    keep(people.alice, "The upload timeout is 60 seconds.")
    keep(people.alice, "The upload timeout is not 30 seconds.")
    keep(people.alice, "The download timeout is 30 seconds.")

    assert found(people.alice, first) == [again]
    assert found(people.alice, again) == [first]


@pytest.mark.django_db
def test_the_most_alike_come_first(people: People) -> None:
    first = keep(people.alice, "Run `make test` before pushing to `main`.")
    near = keep(people.alice, "Run make test before pushing to main!")
    far = keep(people.alice, "Please remember: before pushing to main, execute make test.")

    duplicates = find(people.alice.actor, first)

    assert [one.memory.id for one in duplicates] == [near, far]
    assert 1 >= duplicates[0].score > duplicates[1].score > 0
    assert duplicates[0].memory.content == "Run make test before pushing to main!"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "elsewhere",
    [{"namespace": "team"}, {"user_id": "u"}, {"agent_id": "a"}, {"kind": "message", "run_id": "r"}],
    ids=lambda more: next(iter(more)),
)
def test_only_what_could_be_an_exact_duplicate_is_looked_at(people: People, elsewhere: dict[str, Any]) -> None:
    here = keep(people.alice, "Migrations must be reversible.")
    there = keep(people.alice, "Note that migrations must be reversible.", **elsewhere)

    assert found(people.alice, here) == []
    assert found(people.alice, there) == []


@pytest.mark.django_db
@pytest.mark.parametrize("changes", [{"state": "archived"}, {"standing": "rejected"}], ids=["archived", "rejected"])
def test_what_search_leaves_out_is_left_out(people: People, changes: dict[str, Any]) -> None:
    here = keep(people.alice, "Migrations must be reversible.")
    other = keep(people.alice, "Note that migrations must be reversible.")
    services.update(people.alice.actor, other, changes)

    assert found(people.alice, here) == []
    assert found(people.alice, other) == [here]


@pytest.mark.django_db
def test_another_persons_memory_is_no_near_duplicate(people: People) -> None:
    here = keep(people.alice, "Migrations must be reversible.")
    theirs = keep(people.bob, "Note that migrations must be reversible.")
    services.share(people.bob.actor, grantee="alice", memory_id=theirs)

    assert found(people.alice, here) == []
    with pytest.raises(NotFound):
        find(people.alice.actor, theirs)


@pytest.mark.django_db
def test_a_limited_key_asks_within_its_namespaces(people: People) -> None:
    here = keep(people.alice, "Migrations must be reversible.")

    with pytest.raises(NotFound):
        found(people.alice, here, namespaces=frozenset(["team"]))
    assert found(people.alice, here, namespaces=frozenset(["personal"])) == []


@pytest.mark.django_db
def test_the_route_answers_with_memories_and_their_scores(people: People) -> None:
    first = keep(people.alice, "The upload timeout is 30 seconds.")
    again = keep(people.alice, "Note that the upload timeout is 30s.")

    response = people.alice.call("GET", f"/api/v2/memories/{first}/near-duplicates/")

    assert response.status_code == 200
    [one] = json.loads(response.content)["results"]
    assert one["id"] == str(again)
    assert one["content"] == "Note that the upload timeout is 30s."
    assert 0.5 < one["score"] <= 1
