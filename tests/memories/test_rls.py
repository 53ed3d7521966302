"""Row-level security as the service's own role meets it: no services in between, rows and references alone."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.apps import apps
from django.db import IntegrityError, ProgrammingError, connection, models, transaction
from psycopg.errors import ForeignKeyViolation

from accounts.actors import Actor, acting, acting_as
from memories import services
from memories.models import (
    AccessLog,
    Category,
    EmbeddingSpace,
    Feedback,
    Memory,
    MemoryCategory,
    MemoryEmbedding,
    MemoryHistory,
    MemoryTerm,
    Mention,
    Namespace,
    Operation,
    OutboxDelivery,
    OutboxEvent,
    Share,
)
from tests.guard import PROTECTED_TABLES, Unattended
from tests.people import People, Space, fill, snapshot

pytestmark = pytest.mark.django_db(transaction=True)

PROTECTED = [
    model
    for model in apps.get_app_config("memories").get_models()
    if any(field.name == "owner" for field in model._meta.get_fields())
]
INNER = [
    (model, field)
    for model in PROTECTED
    for field in model._meta.concrete_fields
    if isinstance(field, models.ForeignKey) and not field.db_constraint
]


@pytest.fixture
def alices(people: People) -> Space:
    return fill(people.alice, people.bob)


@pytest.fixture
def charlies(people: People) -> Space:
    return fill(people.charlie, people.bob)


def rows(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def run(sql: str, *params: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.rowcount


def owners_seen(table: str) -> set[int]:
    return {owner for (owner,) in rows(f"SELECT DISTINCT owner_id FROM {table}")}  # noqa: S608


@contextmanager
def unchanged(*spaces: Space) -> Iterator[None]:
    before = [snapshot(space.owner) for space in spaces]
    yield
    assert [snapshot(space.owner) for space in spaces] == before


# Who sees what ---------------------------------------------------------------------------------------------------


def test_every_protected_table_is_tried_here(alices: Space) -> None:
    with acting_as(alices.owner.actor):
        tables = {table for (table,) in rows(PROTECTED_TABLES)}
        assert tables == {model._meta.db_table for model in PROTECTED}
        empty = {table for table in tables if not owners_seen(table)}
    assert not empty, f"fill() in tests/people.py writes nothing to {empty}"


@pytest.mark.unattended
def test_nothing_is_seen_without_an_actor(alices: Space, subtests: pytest.Subtests) -> None:
    for model in PROTECTED:
        table = model._meta.db_table
        with subtests.test(table):
            assert rows(f"SELECT * FROM {table}") == []  # noqa: S608
            with transaction.atomic():
                assert not model._default_manager.exists()
            with acting_as(alices.owner.actor):
                pass
            # A setting that was once set reads as '' afterwards, not as null.
            assert not model._default_manager.exists()
            assert run(f"UPDATE {table} SET owner_id = owner_id") == 0  # noqa: S608
            assert run(f"DELETE FROM {table}") == 0  # noqa: S608


def test_each_sees_their_own_and_system_scope_sees_all(
    alices: Space, charlies: Space, subtests: pytest.Subtests
) -> None:
    alice, charlie = alices.owner, charlies.owner
    for model in PROTECTED:
        with subtests.test(model._meta.db_table):
            for person in (alice, charlie):
                with acting_as(person.actor):
                    assert owners_seen(model._meta.db_table) == {person.id}
                    assert set(model._default_manager.values_list("owner_id", flat=True)) == {person.id}
            with acting_as(Actor.system("test")):
                assert owners_seen(model._meta.db_table) == {alice.id, charlie.id}


# Across owners ---------------------------------------------------------------------------------------------------


def as_columns(model: type[models.Model], values: dict[str, str]) -> tuple[str, str]:
    columns = [field.column for field in model._meta.concrete_fields]
    return ", ".join(columns), ", ".join(values.get(column, column) for column in columns)


def test_rows_of_another_can_neither_be_seen_nor_changed_nor_removed(
    alices: Space, charlies: Space, subtests: pytest.Subtests
) -> None:
    for model in PROTECTED:
        table, alice = model._meta.db_table, alices.owner
        with subtests.test(table), unchanged(alices), acting_as(charlies.owner.actor):
            assert rows(f"SELECT 1 FROM {table} WHERE owner_id = %s", alice.id) == []  # noqa: S608
            assert rows(f"SELECT 1 FROM {table} WHERE owner_id = %s FOR UPDATE", alice.id) == []  # noqa: S608
            assert run(f"UPDATE {table} SET owner_id = owner_id WHERE owner_id = %s", alice.id) == 0  # noqa: S608
            assert run(f"DELETE FROM {table} WHERE owner_id = %s", alice.id) == 0  # noqa: S608


def test_a_row_cannot_be_put_into_anothers_space(alices: Space, charlies: Space, subtests: pytest.Subtests) -> None:
    new = {"id": "gen_random_uuid()", "owner_id": str(alices.owner.id)}
    for model in PROTECTED:
        table, columns = model._meta.db_table, [field.column for field in model._meta.concrete_fields]
        copied = ", ".join(new.get(column, column) for column in columns)
        with (
            subtests.test(table),
            unchanged(alices, charlies),
            pytest.raises(ProgrammingError, match="row-level security"),
            acting_as(charlies.owner.actor),
        ):
            run(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {copied} FROM {table} LIMIT 1")  # noqa: S608


def test_a_row_cannot_be_moved_to_another_owner(alices: Space, charlies: Space, subtests: pytest.Subtests) -> None:
    for model in PROTECTED:
        with (
            subtests.test(model._meta.db_table),
            unchanged(alices, charlies),
            pytest.raises(ProgrammingError, match="row-level security"),
            acting_as(charlies.owner.actor),
        ):
            run(f"UPDATE {model._meta.db_table} SET owner_id = %s", alices.owner.id)  # noqa: S608


def test_no_row_can_point_into_anothers_space(alices: Space, charlies: Space, subtests: pytest.Subtests) -> None:
    """Foreign keys look past row-level security; only the owner in them keeps a stranger's id out."""
    for model, field in INNER:
        table, target = model._meta.db_table, field.related_model._meta.db_table
        with subtests.test(f"{table}.{field.column}"), unchanged(alices, charlies):
            with acting_as(alices.owner.actor):
                [(theirs,)] = rows(f"SELECT id FROM {target} ORDER BY id LIMIT 1")  # noqa: S608
            with pytest.raises(IntegrityError) as caught, acting_as(charlies.owner.actor):
                run(
                    f"UPDATE {table} SET {field.column} = %s WHERE ctid IN"  # noqa: S608
                    f" (SELECT ctid FROM {table} WHERE {field.column} IS NOT NULL LIMIT 1)",
                    theirs,
                )
            assert isinstance(caught.value.__cause__, ForeignKeyViolation)


def _foreign_rows(alices: Space, charlies: Space) -> dict[str, Callable[[], Any]]:
    mine, theirs = {"owner_id": charlies.owner.id}, alices.memories["hidden"]
    category = charlies.categories["open"]
    return {
        "a share of a stranger's memory with oneself": lambda: Share.objects.create(
            **mine, memory_id=theirs, grantee=alices.grantee.user
        ),
        "a share of a stranger's namespace": lambda: Share.objects.create(
            **mine, namespace_id=_namespace_of(alices), grantee=alices.grantee.user
        ),
        "a stranger's memory in a category of one's own": lambda: MemoryCategory.objects.create(
            **mine, memory_id=theirs, category_id=category
        ),
        "one's own memory in a stranger's category": lambda: MemoryCategory.objects.create(
            **mine, memory_id=charlies.memories["open"], category_id=alices.categories["open"]
        ),
        "a posting of a stranger's memory": lambda: MemoryTerm.objects.create(
            **mine, memory_id=theirs, term="mine", tf=1, length=1
        ),
        "a mention of one's own entity in a stranger's memory": lambda: Mention.objects.create(
            **mine, memory_id=theirs, entity_id=charlies.entities["open"]
        ),
        "a mention of a stranger's entity in one's own memory": lambda: Mention.objects.create(
            **mine, memory_id=charlies.memories["open"], entity_id=alices.entities["open"]
        ),
        "history of a stranger's memory": lambda: MemoryHistory.objects.create(
            **mine, memory_id=theirs, event="UPDATE", door="rest", version=2
        ),
        "a vector of a stranger's memory": lambda: MemoryEmbedding.objects.create(
            **mine, memory_id=theirs, space=EmbeddingSpace.objects.get()
        ),
        "feedback on a stranger's memory": lambda: Feedback.objects.create(
            **mine, memory_id=theirs, by=charlies.owner.user, verdict="wrong"
        ),
        "a note of access to a stranger's memory": lambda: AccessLog.objects.create(
            **mine, memory_id=theirs, accessed_by=charlies.owner.user, door="rest", action="read"
        ),
        "an operation on a stranger's namespace": lambda: Operation.objects.create(
            **mine, namespace_id=_namespace_of(alices), kind="extract"
        ),
        "a delivery of a stranger's event": lambda: OutboxDelivery.objects.create(
            **mine, event_id=_event_of(alices), consumer="mine"
        ),
    }


def _namespace_of(space: Space) -> Any:
    with acting_as(Actor.system("test")):
        return Namespace.objects.get(owner_id=space.owner.id, name=space.word("hidden", "namespace")).id


def _event_of(space: Space) -> Any:
    with acting_as(Actor.system("test")):
        return OutboxEvent.objects.filter(owner_id=space.owner.id).values_list("id", flat=True)[0]


def test_new_rows_cannot_point_into_anothers_space_either(
    alices: Space, charlies: Space, subtests: pytest.Subtests
) -> None:
    for what, write in _foreign_rows(alices, charlies).items():
        with subtests.test(what), unchanged(alices, charlies):
            with pytest.raises(IntegrityError) as caught, acting_as(charlies.owner.actor):
                write()
            assert isinstance(caught.value.__cause__, ForeignKeyViolation)


def test_a_stranger_cannot_grant_himself_a_share_in_the_owners_name(alices: Space, people: People) -> None:
    with pytest.raises(ProgrammingError, match="row-level security"), acting_as(people.charlie.actor):
        Share.objects.create(owner_id=people.alice.id, memory_id=alices.memories["hidden"], grantee=people.charlie.user)


def test_the_grantee_can_change_neither_the_share_nor_what_is_shared(alices: Space, people: People) -> None:
    with unchanged(alices), acting_as(people.bob.actor):
        assert Share.objects.count() == 2
        assert Share.objects.update(can_add=True) == 0
        assert Share.objects.filter(id=alices.shares["lone"]).update(grantee_id=people.charlie.id) == 0
        assert Memory.objects.update(content="his") == 0
        assert MemoryTerm.objects.update(tf=9) == 0
        assert Namespace.objects.update(name="his") == 0
        for model in (Share, Memory, MemoryTerm, Namespace):
            assert model._default_manager.all()._raw_delete("default") == 0


# Shares ----------------------------------------------------------------------------------------------------------


def test_a_share_shows_current_content_and_terms_and_nothing_else(alices: Space, people: People) -> None:
    seen = {alices.memories["open"], alices.memories["lone"]}
    with acting_as(people.bob.actor):
        assert set(Memory.objects.values_list("id", flat=True)) == seen
        assert set(MemoryTerm.objects.values_list("memory_id", flat=True)) == seen
        assert set(Namespace.objects.values_list("name", flat=True)) == {alices.word("open", "namespace")}
        assert set(MemoryEmbedding.objects.values_list("memory_id", flat=True)) == seen
        readable = {
            "memories_memory",
            "memories_memoryembedding",
            "memories_memoryterm",
            "memories_namespace",
            "memories_share",
        }
        for model in PROTECTED:
            expected = {people.alice.id} if model._meta.db_table in readable else set()
            assert owners_seen(model._meta.db_table) == expected, model


def test_what_comes_into_a_shared_namespace_is_seen_and_what_leaves_is_not(alices: Space, people: People) -> None:
    actor = people.alice.actor
    services.update(actor, alices.memories["hidden"], {"namespace": alices.word("open", "namespace")})
    services.update(actor, alices.memories["open"], {"namespace": alices.word("hidden", "namespace")})
    with acting_as(people.bob.actor):
        seen = set(Memory.objects.values_list("id", flat=True))
    assert seen == {alices.memories["hidden"], alices.memories["lone"]}


@pytest.mark.parametrize("place", ["lone", "open"])
@pytest.mark.parametrize("ending", ["revoked_at", "expires_at"])
def test_a_share_ends_at_once_by_the_databases_clock(alices: Space, people: People, ending: str, place: str) -> None:
    with acting_as(people.alice.actor):
        sql = f"UPDATE memories_share SET {ending} = clock_timestamp() WHERE id = %s"  # noqa: S608
        assert run(sql, alices.shares[place]) == 1
    left = "open" if place == "lone" else "lone"
    with acting_as(people.bob.actor):
        assert set(Memory.objects.values_list("id", flat=True)) == {alices.memories[left]}
        assert set(MemoryTerm.objects.values_list("memory_id", flat=True)) == {alices.memories[left]}
        assert Namespace.objects.count() == (left == "open")
        assert set(Memory.objects.visible_to(people.bob.actor).values_list("id", flat=True)) == {alices.memories[left]}


def test_a_share_that_ends_later_still_shows(alices: Space, people: People) -> None:
    with acting_as(people.alice.actor):
        assert run("UPDATE memories_share SET expires_at = clock_timestamp() + interval '1 hour'") == 2
    with acting_as(people.bob.actor):
        assert Memory.objects.count() == 2


def test_a_share_is_not_passed_on(alices: Space, people: People) -> None:
    with pytest.raises(IntegrityError), acting_as(people.bob.actor):
        Share.objects.create(owner_id=people.bob.id, memory_id=alices.memories["lone"], grantee=people.charlie.user)
    with acting_as(people.charlie.actor):
        assert not Memory.objects.exists()


# The actor in the database ---------------------------------------------------------------------------------------


def settings_now() -> tuple[str, str]:
    [(actor, scope)] = rows("SELECT current_setting('mem0.actor', true), current_setting('mem0.scope', true)")
    return actor or "", scope or ""


def test_an_inner_actor_gives_way_to_the_outer_one(people: People) -> None:
    alice, bob = people.alice, people.bob
    with acting_as(alice.actor):
        with acting_as(bob.actor):
            assert settings_now() == (str(bob.id), "")
            with acting_as(Actor.system("test")):
                assert settings_now() == ("", "system")
            assert settings_now() == (str(bob.id), "")
        assert settings_now() == (str(alice.id), "")
        assert acting() == alice.actor
    assert settings_now() == ("", "")
    assert acting() is None


def test_the_outer_actor_is_back_after_an_error_within(people: People) -> None:
    with acting_as(people.alice.actor):
        with pytest.raises(ZeroDivisionError), acting_as(people.bob.actor):
            raise ZeroDivisionError
        assert settings_now() == (str(people.alice.id), "")
        with pytest.raises(ProgrammingError), acting_as(Actor.system("test")):
            rows("SELECT nonsense")
        assert settings_now() == (str(people.alice.id), "")
        assert acting() == people.alice.actor


def test_the_outer_actor_is_back_after_a_rollback_without_an_error(people: People) -> None:
    with acting_as(people.alice.actor):
        with acting_as(Actor.system("test")):
            transaction.set_rollback(True)
        assert settings_now() == (str(people.alice.id), "")


def test_a_released_savepoint_keeps_no_actor(people: People) -> None:
    with transaction.atomic():
        with acting_as(people.alice.actor):
            pass
        assert settings_now() == ("", "")
        with transaction.atomic(), acting_as(Actor.system("test")):
            pass
        assert settings_now() == ("", "")


def test_a_connection_from_the_pool_has_no_actor_left(people: People) -> None:
    with acting_as(people.alice.actor):
        [(before,)] = rows("SELECT pg_backend_pid()")
    with pytest.raises(ZeroDivisionError), acting_as(Actor.system("test")):
        raise ZeroDivisionError
    seen = set()
    for _ in range(3):
        connection.close()
        [(pid,)] = rows("SELECT pg_backend_pid()")
        seen.add(pid)
        assert settings_now() == ("", "")
    assert before in seen


def test_a_transaction_that_breaks_leaves_no_actor(people: People) -> None:
    with pytest.raises(ProgrammingError), acting_as(people.alice.actor):
        rows("SELECT nonsense")
    assert settings_now() == ("", "")
    assert acting() is None


def test_an_actor_reaches_no_other_thread(alices: Space, people: People) -> None:
    found: list[Any] = []

    def look() -> None:
        try:
            found.append((acting(), settings_now()))
            try:
                Category.objects.count()
            except Unattended as error:
                found.append(error)
            with acting_as(people.charlie.actor):
                found.append(Category.objects.count())
        finally:
            connection.close()

    with acting_as(people.alice.actor):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert settings_now() == (str(people.alice.id), "")
    assert found[0] == (None, ("", ""))
    assert isinstance(found[1], Unattended)
    assert found[2] == 0


def test_work_after_the_commit_has_no_actor(people: People) -> None:
    seen: list[Any] = []
    with acting_as(people.alice.actor):
        transaction.on_commit(lambda: seen.append((acting(), settings_now())))
    assert seen == [(None, ("", ""))]


def test_a_query_without_an_actor_fails_the_test(people: People) -> None:
    with pytest.raises(Unattended, match="memories_memory"):
        Memory.objects.count()
    with transaction.atomic(), pytest.raises(Unattended):
        Memory.objects.count()
