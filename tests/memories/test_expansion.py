from pathlib import Path

import pytest
from pytest_django import DjangoAssertNumQueries

from accounts.actors import Actor, acting_as
from memories import expansion, services, statistics
from memories.expansion import Expanded, corrections, expand, suggestions, synonyms
from memories.lexical import document_terms, query_terms
from memories.services import NewMemory

LISTS = [Path(expansion.__file__).with_name(name) for name in ("synonyms.txt", "translations.txt")]
VOCABULARY = {"terraform": 9, "webhook": 4, "instanc": 7, "verif": 5, "signatur": 3, "port": 30, "pool": 2, "5.2.19": 1}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("terrafrom", {"terraform"}, id="swapped"),
        pytest.param("webhok", {"webhook"}, id="a letter less"),
        pytest.param("webhoook", {"webhook"}, id="a letter more"),
        pytest.param("wibhook", {"webhook"}, id="another letter"),
        pytest.param("etrraform", {"terraform"}, id="first two swapped"),
        pytest.param("tarrafrom", {"terraform"}, id="two edits in a long word"),
        pytest.param("wbhok", set(), id="two edits in a short word"),
        pytest.param("verificaton", {"verif"}, id="where the stem ends"),
        pytest.param("prt", set(), id="too short"),
        pytest.param("5.2.18", set(), id="a version is not misspelt"),
        pytest.param("kubernetes", set(), id="nothing near"),
    ],
)
def test_a_misspelt_word_stands_for_the_nearest_of_the_owners(query: str, expected: set[str]) -> None:
    unknown = query_terms(query)
    found = corrections(unknown, VOCABULARY)
    assert {one.term for one in found} == expected
    assert all(0 < one.weight < 1 and one.of in unknown for one in found)


def test_of_equally_near_words_the_frequent_ones_are_taken() -> None:
    near = {f"serve{letter}": df for df, letter in enumerate("abcdefg", 1)}
    assert [one.term for one in corrections(["serve"], near)] == ["serveg", "servef", "servee"]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        pytest.param("which db", "The database is PostgreSQL 16.", id="short form"),
        pytest.param("k8s upgrade", "Kubernetes was moved to 1.33.", id="number in a word"),
        pytest.param("open a pr", "Every merge request needs two reviewers.", id="two words for one"),
        pytest.param("merge request", "A PR needs two reviewers.", id="one word for two"),
        pytest.param("wo liegt die Sicherung der Datenbank", "Database backups are in s3://vault.", id="German"),
        pytest.param("Datenbank Sicherung", "Database backups are in s3://vault.", id="German, too short to tell"),
        pytest.param("database backup", "Die Sicherungen unserer Datenbanken werden geprüft.", id="to German"),
        pytest.param("где резервные копии базы данных", "Backups are in s3://vault.", id="Russian"),
        pytest.param("certificate", "Сертификаты обновляем в марте.", id="to Russian"),
        pytest.param("数据库备份在哪里", "Backups of the database are in s3://vault.", id="Chinese"),
        pytest.param("certificate", "邮件服务器的证书每年更新。", id="to Chinese"),
        pytest.param("証明書の更新", "Certificates are renewed in March.", id="Japanese"),
        pytest.param("Zertifikat", "メールサーバーの証明書は毎年更新する。", id="German to Japanese"),
    ],
)
def test_another_word_for_the_same_finds_a_text(query: str, text: str) -> None:
    terms = query_terms(query)
    found = expand(terms)
    assert set(document_terms(text)) & {one.term for one in found}
    assert all(0 < one.weight < 1 and one.of in terms and one.term not in terms for one in found)
    assert len({one.term for one in found}) == len(found)


def test_a_phrase_counts_only_when_all_of_it_is_asked_for() -> None:
    assert "pr" in {one.term for one in synonyms(query_terms("merge request"))}
    assert "pr" not in {one.term for one in synonyms(query_terms("merge"))}


def test_a_phrase_of_several_terms_weighs_as_much_as_one() -> None:
    chinese = [one for one in synonyms(query_terms("Tabelle und Datenbank")) if one.term in ("数据", "据库")]
    assert chinese
    assert sum(one.weight for one in chinese) < 1


def test_a_word_of_the_lists_is_not_misspelt() -> None:
    found = expand(["datenbank"], unknown=["datenbank"], vocabulary={"datenbanc": 5, "databas": 2})
    assert "datenbanc" not in {one.term for one in found}
    assert "databas" in {one.term for one in found}


def test_the_likelier_of_two_ways_to_a_term_counts() -> None:
    found = expand(["datenbank", "databa"], unknown=["databa"], vocabulary={"databas": 2})
    assert [one for one in found if one.term == "databas"] == [Expanded("databas", 0.9, "datenbank")]


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_no_phrase_of_the_lists_is_lost(path: Path) -> None:
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        languages = line.split("|")
        assert len(languages) == (5 if path.stem == "translations" else 1), line
        phrases = [phrase for language in languages for phrase in language.split(",")]
        assert len(phrases) > 1, line
        for phrase in phrases:
            assert query_terms(phrase), f"{phrase!r} of {line!r} has nothing to find"


@pytest.mark.django_db
def test_suggestions_are_the_owners_own_in_one_query(
    alice: Actor, bob: Actor, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for actor, text in ((alice, "Terraform verifies each webhook."), (bob, "Terrafirm calls each webhooc.")):
        services.add(actor, NewMemory(text))
        with acting_as(actor):
            statistics.count_terms(actor.owner_id)
    with acting_as(alice), django_assert_num_queries(1):
        found = suggestions(alice.owner_id, ["terrafrom", "webhok", "verificaton"])
    assert found == {"terraform": 1, "webhook": 1, "verifi": 1}
    with acting_as(alice):
        assert suggestions(bob.owner_id, ["terrafrom"]) == {}


@pytest.mark.django_db
@pytest.mark.parametrize("word", ["terrafrom", "etrraform", "xterraform", "terrform", "terraforms"])
def test_a_typo_at_either_end_is_met(alice: Actor, word: str) -> None:
    services.add(alice, NewMemory("Terraform is pinned."))
    with acting_as(alice):
        statistics.count_terms(alice.owner_id)
        assert "terraform" in suggestions(alice.owner_id, [word])


@pytest.mark.django_db
def test_cyrillic_words_have_typos_too(alice: Actor) -> None:
    services.add(alice, NewMemory("Сертификаты обновляем в марте."))
    with acting_as(alice):
        statistics.count_terms(alice.owner_id)
        unknown = query_terms("сиртификат")
        found = corrections(unknown, suggestions(alice.owner_id, unknown))
    assert [one.term for one in found] == ["сертификат"]


@pytest.mark.django_db
def test_what_cannot_be_misspelt_costs_no_query(
    alice: Actor, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with acting_as(alice), django_assert_num_queries(0):
        assert suggestions(alice.owner_id, ["5.2.19", "abc", "psycopg_pool"]) == {}
