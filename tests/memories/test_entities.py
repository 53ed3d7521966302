"""Text to entities: what is found under which key, what is not, and that reading stays linear."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memories.entities import MAX_ENTITIES, MAX_KEY, MAX_NAME, entities_of, query_keys


def found(text: str, speaker: str | None = None) -> set[tuple[str, str]]:
    return {(str(one.kind), one.key) for one in entities_of(text, speaker)}


FOUND = {
    "a path": ("see src/app/views.py", ("path", "src/app/views.py")),
    "a path of a line": ("at src/app/views.py:12", ("path", "src/app/views.py")),
    "a path of Windows": (r"in C:\Temp\log.txt", ("path", "c:/temp/log.txt")),
    "a file": ("edit views.py.", ("path", "views.py")),
    "a dot file": ("put it in .env, please", ("path", ".env")),
    "a module": ("imported by memories.services.adding", ("module", "memories.services.adding")),
    "a function": ("`embed_documents()` is slow", ("function", "embed-documents")),
    "a method": ("UserService.create() fails", ("function", "userservice.create")),
    "a method without a call": ("UserService.create fails", ("function", "userservice.create")),
    "a method of C++": ("`UserService::create` fails", ("function", "userservice.create")),
    "a class": ("MemoryQuerySet hides it", ("class", "memoryqueryset")),
    "a name of a table": ("the memory_terms table", ("symbol", "memory-terms")),
    "a package": ("pin django==5.2.19", ("package", "django")),
    "a package of npm": ("bump react@18.3.1", ("package", "react")),
    "a scoped package": ("use @tanstack/query-core", ("package", "@tanstack/query-core")),
    "a package in a sentence": ("Django 5.2 is out", ("package", "django")),
    "a command": ("`git rebase -i HEAD~3`", ("command", "git-rebase")),
    "a command without marks": ("kubectl rollout restart helps", ("command", "kubectl-rollout")),
    "a flag": ("pass --reuse-db", ("flag", "--reuse-db")),
    "a flag with a value": ("pass --maxfail=1", ("flag", "--maxfail")),
    "a variable": ("set DATABASE_URL", ("variable", "database-url")),
    "a variable with a value": ("DEBUG=1 starts it", ("variable", "debug")),
    "an exception": ("raises ValueError", ("error", "valueerror")),
    "an exception of a name of its own": ("it raises UnsupportedMedia", ("error", "unsupportedmedia")),
    "an errno": ("fails with ECONNREFUSED", ("error", "econnrefused")),
    "a code": ("ruff says E501", ("error", "e501")),
    "a state": ("SQLSTATE 40P01", ("error", "40p01")),
    "a status": ("answers 502", ("error", "http-502")),
    "a status of HTTP": ("an HTTP 429", ("error", "http-429")),
    "an exit code": ("exit code 137", ("error", "exit-137")),
    "an address": ("see https://docs.example.com/a/b.", ("url", "https://docs.example.com/a/b")),
    "an issue": ("closes #482", ("issue", "#482")),
    "an issue of GitHub": ("closes GH-482", ("issue", "#482")),
    "an issue in words": ("see issue 482", ("issue", "#482")),
    "a pull request": ("see PR 17", ("issue", "#17")),
    "a ticket": ("see BILL-17", ("issue", "bill-17")),
    "a branch": ("on feature/new-checkout", ("branch", "feature/new-checkout")),
    "a trunk": ("cherry-pick it from main.", ("branch", "main")),
    "a host": ("db-1.internal:5432 is down", ("host", "db-1.internal")),
    "an IP": ("10.0.3.17 is down", ("host", "10.0.3.17")),
    "a person": ("ask Priya Raman", ("person", "priya-raman")),
    "a person with a title": ("Dr. Okonkwo called", ("person", "okonkwo")),
    "a person by what she does": ("Thandeka prefers tea", ("person", "thandeka")),
    "an organisation": ("we pay Nordwind Systems GmbH", ("organisation", "nordwind-systems-gmbh")),
    "a place": ("we meet in Lisbon", ("place", "lisbon")),
    "a place that no list knows": ("she lives in Quaxley", ("place", "quaxley")),
    "a product": ("PostgreSQL is up", ("product", "postgresql")),
    "a product that is written small": ("postgres is up", ("product", "postgres")),
    "a handle": ("@noor knows", ("handle", "@noor")),
    "an address of mail": ("write to kim@example.com", ("email", "kim@example.com")),
    "a tag": ("filed under #spring-hike", ("tag", "#spring-hike")),
    "a title": ('reading "The Dispossessed Ones" now', ("quote", "the-dispossessed-ones")),
    "a name": ("we call it Project Falcon", ("name", "project-falcon")),
    "a date": ("on 2026-11-25", ("date", "2026-11-25")),
    "a date of Germany": ("am 25.11.2026", ("date", "2026-11-25")),
    "a date in words": ("on 25 November 2026", ("date", "2026-11-25")),
    "a date in American": ("on November 25, 2026", ("date", "2026-11-25")),
    "a date in German": ("am 3. März 2026", ("date", "2026-03-03")),
    "a date in Russian": ("до 5 марта 2026 года", ("date", "2026-03-05")),
    "a date in Japanese": ("2026年3月5日に", ("date", "2026-03-05")),
    "a month": ("in March 2026", ("date", "2026-03")),
    "a day of any year": ("on 24 December", ("date", "12-24")),
    "a quarter": ("by Q3 2026", ("date", "2026-q3")),
}


@pytest.mark.parametrize(("text", "expected"), FOUND.values(), ids=FOUND)
def test_it_is_found(text: str, expected: tuple[str, str]) -> None:
    assert expected in found(text)


NOTHING = {
    "a sentence": "Please keep the answers short, and never explain the diff.",
    "words with a slash": "Choose either/or, he/she and 24/7 support.",
    "an ellipsis": "Well... that was it.",
    "numbers": "It takes 3.5 s, or 40 % of 12.",
    "a weekday": "We meet on Monday and on Friday.",
    "acronyms": "The API speaks JSON over TLS.",
    "standards": "It is UTF-8, hashed by SHA-256, as ISO-8601 says.",
    "a colour": "Use #ff8800 for it.",
    "English words that are programs": "Make sure to go and find the time to sort it.",
    "the first word": "Deadlocks happen.",
    "nothing": "",
    "blanks": " \n\t ",
    "punctuation": "--- ... !!! ``` ' \" ((( ",
}


@pytest.mark.parametrize("text", NOTHING.values(), ids=NOTHING)
def test_there_is_nothing_to_find(text: str) -> None:
    assert found(text) == set()


SAME = {
    "an import and a distribution": ("psycopg_pool", "psycopg-pool==3.2"),
    "a path and its file": ("src/app/views.py", "views.py"),
    "a method and its call": ("`UserService.create()`", "`UserService.create`"),
    "a method and its class": ("`UserService.create()`", "`UserService`"),
    "an issue and GitHub's": ("#123", "GH-123"),
    "a person and her first name": ("Priya Raman said so.", "Priya"),
    "an address and its host": ("https://docs.example.com/guide", "docs.example.com"),
    "a scoped package and its name": ("@tanstack/react-query", "react-query"),
    "a constant in any case": ("DATABASE_URL", "database_url"),
    "a program and what one does with it": ("`terraform plan`", "Terraform"),
}


@pytest.mark.parametrize(("written", "asked"), SAME.values(), ids=SAME)
def test_a_query_finds_it_by_another_spelling(written: str, asked: str) -> None:
    stored = {key for one in entities_of(written) for key in one.keys}
    assert stored & set(query_keys(asked))


def test_a_query_that_is_written_small_asks_for_its_words_and_pairs() -> None:
    keys = query_keys("what did priya raman say about the psycopg pool")
    assert {"priya", "priya-raman", "psycopg-pool"} <= set(keys)
    assert "what" not in keys
    assert len(query_keys(" ".join(f"word{n}x" for n in range(500)))) <= 64


def test_the_speaker_is_named() -> None:
    assert ("person", "caroline") in found("I signed up.", "Caroline")
    assert found("I signed up.", "user") == set()


def test_what_is_named_in_full_and_in_short_is_found_once() -> None:
    assert found("Priya Raman asked; Priya wants it.") == {("person", "priya-raman")}


def test_code_in_backticks_is_no_prose() -> None:
    assert found("`Paris` is a class here") == {("class", "paris")}


def test_a_memory_names_at_most_64_things() -> None:
    assert len(entities_of(" ".join(f"src/file{n}.py" for n in range(500)))) == MAX_ENTITIES


def test_keys_and_names_fit_their_columns() -> None:
    for text in ("src/" + "a" * 180 + "/b.py", "https://example.com/" + "x" * 170, "X" * 300 + "Error"):
        for one in entities_of(text):
            assert len(one.key) <= MAX_KEY
            assert len(one.name) <= MAX_NAME


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from("aB1é田й _-./\\:=@#`'\"()[]{}<>,;!$~*&|\n") | st.characters(codec="utf-8"), max_size=200)
)
def test_any_text_is_read(text: str) -> None:
    for one in entities_of(text, text[:20]):
        for thing in (one, *one.aliases):
            assert 0 < len(thing.key) <= MAX_KEY
            assert 0 < len(thing.name) <= MAX_NAME
    assert all(query_keys(text))


def _calls(run: Callable[[], Any]) -> int:
    """How many functions are called, ours and Python's."""
    number = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return number


HOSTILE = {
    "capitals": "Aaa Bbb. ",
    "first words": "Zzyzx. ",
    "backticks": "` `` ",
    "commands": "`git push && git pull` ",
    "quotation marks": '"a b ',
    "brackets": "((([[[ ",
    "slashes": "a/b/c/d ",
    "dots": "a.b.c. ",
    "connectors": "Aaa of the ",
    "numbers": "12 May ",
    "flags": "-a --bb ",
    "underscores": "a_b_ ",
    "hyphens": "a-b-c ",
    "signs": "@a #b !c ",
    "Japanese": "田中さんは2026年4月10日に",
    "combining marks": "e\u0301" * 8,
}


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("gap", ["", " "], ids=["in one", "apart"])
def test_reading_costs_by_the_length(piece: str, gap: str) -> None:
    short, long = ((piece.rstrip() + gap) * (size // (len(piece.rstrip()) + len(gap))) for size in (4_500, 18_000))
    entities_of(long)  # what is remembered is not counted
    assert _calls(lambda: entities_of(long)) <= 5 * _calls(lambda: entities_of(short)) + 200
