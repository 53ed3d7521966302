"""The rules of the schema, read from PostgreSQL's own catalogue: what the database enforces, not what models say."""

from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection, models

from tests.guard import PROTECTED_TABLES

pytestmark = pytest.mark.django_db

# Tables without row-level security, each with the reason why it needs none.
OPEN_TABLES = {
    "accounts_user": "read before anybody is known; holds no memories",
    "accounts_user_groups": "Django's own",
    "accounts_user_user_permissions": "Django's own",
    "accounts_apikey": "read to find out who is calling",
    "auth_group": "Django's own",
    "auth_group_permissions": "Django's own",
    "auth_permission": "Django's own",
    "django_admin_log": "Django's own; written by staff pages only",
    "django_content_type": "Django's own",
    "django_migrations": "Django's own",
    "memories_embeddingspace": "of the instance: which models have made vectors; holds no memories",
    "memories_providersettings": "of the instance: whom to ask for vectors and replies; holds no memories",
    "django_session": "read to find out who is calling",
}


def rows(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)
        return cursor.fetchall()


@pytest.fixture
def protected() -> set[str]:
    return {name for (name,) in rows(PROTECTED_TABLES)}


def test_every_table_is_protected_or_listed_with_its_reason(protected: set[str]) -> None:
    everything = {
        name
        for (name,) in rows(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        )
    }
    assert everything - protected == set(OPEN_TABLES)


def test_what_users_own_is_protected(protected: set[str]) -> None:
    owned = {
        model._meta.db_table
        for model in apps.get_models()
        if any(field.name == "owner" for field in model._meta.get_fields())
    }
    assert owned == protected


def test_row_level_security_is_not_forced(protected: set[str]) -> None:
    """FORCE would blind the owner: a data migration would change nothing, and a dump would be empty."""
    assert rows("SELECT relname FROM pg_class WHERE relforcerowsecurity") == []


def test_every_protected_table_has_a_policy_for_each_command_and_for_nobody_special(protected: set[str]) -> None:
    policies = rows("SELECT tablename, cmd, permissive, roles::text FROM pg_policies WHERE schemaname = 'public'")
    commands: dict[str, list[str]] = {table: [] for table in protected}
    for table, command, permissive, roles in policies:
        assert (permissive, roles) == ("PERMISSIVE", "{public}"), table
        commands[table].append(command)
    for table, found in commands.items():
        assert sorted(found) == ["DELETE", "INSERT", "SELECT", "UPDATE"], table


def test_only_reading_goes_beyond_the_owner(protected: set[str]) -> None:
    conditions = {
        condition
        for pair in rows("SELECT qual, with_check FROM pg_policies WHERE schemaname = 'public' AND cmd <> 'SELECT'")
        for condition in pair
        if condition is not None
    }
    assert len(conditions) == 1, conditions
    [condition] = conditions
    assert "owner_id" in condition
    assert "grantee" not in condition


def test_the_owner_comes_first_and_is_never_null(protected: set[str]) -> None:
    """Distribution by owner wants the column before any that may be generated or dropped."""
    for table in protected:
        columns = rows(
            "SELECT attname, attnotnull, attgenerated FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
            table,
        )
        names = [name for name, _, _ in columns]
        place = names.index("owner_id")
        assert place < 2, f"{table}: {names}"
        assert all(not_null and not generated for _, not_null, generated in columns[: place + 1]), table


def test_every_unique_rule_but_the_primary_key_begins_with_the_owner(protected: set[str]) -> None:
    """Or a collision would tell of a stranger's row, and no server that holds one owner could check it."""
    uniques = rows(
        "SELECT t.relname, i.relname, x.indisprimary, pg_get_indexdef(x.indexrelid, 1, true)"
        " FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid"
        " WHERE x.indisunique AND t.relname = ANY(%s)",
        sorted(protected),
    )
    assert uniques
    for table, name, is_primary, first in uniques:
        has_own_key = table in {"memories_memoryterm", "memories_memoryembedding", "memories_ownerterm"}
        assert first == ("id" if is_primary and not has_own_key else "owner_id"), f"{table}: {name}"


def test_every_index_begins_with_the_owner_but_these(protected: set[str]) -> None:
    others = {
        name
        for (name,) in rows(
            "SELECT i.relname FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid"
            " JOIN pg_class i ON i.oid = x.indexrelid WHERE NOT x.indisprimary AND t.relname = ANY(%s)"
            " AND pg_get_indexdef(x.indexrelid, 1, true) <> 'owner_id'",
            sorted(protected),
        )
    }
    assert others == {"share_received"}, "the grantee asks for what he received, whoever owns it"


def test_references_between_protected_tables_carry_the_owner(protected: set[str]) -> None:
    keys = rows(
        """
        SELECT c.conname, t.relname, r.relname, c.condeferrable, c.convalidated,
            c.confdeltype::text, c.confupdtype::text,
            (SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(c.conkey) WITH ORDINALITY k(n, place)
                JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n),
            (SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(c.confkey) WITH ORDINALITY k(n, place)
                JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n)
        FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_class r ON r.oid = c.confrelid
        WHERE c.contype = 'f' AND t.relname = ANY(%s)
        """,
        sorted(protected),
    )
    composite = set()
    for name, table, target, deferrable, valid, on_delete, on_update, columns, referenced in keys:
        if target not in protected:
            assert target in {"accounts_user", "memories_embeddingspace"}, f"{name}: {table} refers to {target}"
            continue
        assert columns[0] == "owner_id", name
        assert referenced == ["owner_id", "id"], name
        assert valid, name
        assert not deferrable, f"{name} must be immediate"
        assert on_delete in {"a", "c"}, f"{name}: SET NULL would take the owner away too"
        assert on_update == "a", name
        composite.add((table, columns[1], target))
    assert composite == _inner_keys()


def _inner_keys() -> set[tuple[str, str, str]]:
    return {
        (model._meta.db_table, field.column, field.related_model._meta.db_table)
        for model in apps.get_models()
        for field in model._meta.local_concrete_fields
        if isinstance(field, models.ForeignKey) and not field.db_constraint
    }


def test_models_that_are_owned_refer_to_each_other_by_inner_keys_only(protected: set[str]) -> None:
    for model in apps.get_models():
        for field in model._meta.local_concrete_fields:
            if model._meta.db_table in protected and isinstance(field, models.ForeignKey):
                is_inner = field.related_model._meta.db_table in protected
                assert field.db_constraint is not is_inner, f"{model.__name__}.{field.name}"
        assert not (model._meta.db_table in protected and model._meta.local_many_to_many), model


def test_there_are_no_triggers_but_those_of_foreign_keys(protected: set[str]) -> None:
    assert rows("SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal") == []


def test_there_are_no_rules_views_or_functions_that_could_look_past_the_policies() -> None:
    assert rows("SELECT viewname FROM pg_views WHERE schemaname = 'public'") == []
    assert rows("SELECT matviewname FROM pg_matviews WHERE schemaname = 'public'") == []
    assert (
        rows(
            "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace"
            " AND p.prosecdef"
        )
        == []
    )


def test_vectors_are_stored_plain() -> None:
    found = rows(
        "SELECT attrelid::regclass::text, attstorage::text FROM pg_attribute"
        " WHERE attname = 'embedding' AND attrelid IN (SELECT oid FROM pg_class WHERE relkind = 'r') ORDER BY 1"
    )
    assert found == [("memories_memory", "p"), ("memories_memoryembedding", "p")]


def test_the_service_owns_nothing_and_is_nobody_special() -> None:
    [(name, *rights)] = rows(
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles"
        " WHERE rolname = current_user"
    )
    assert name == settings.DATABASE_APP_ROLE
    assert not any(rights)
    assert (
        rows("SELECT relname FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = %s)", name) == []
    )
    assert (
        rows("SELECT datname FROM pg_database WHERE datdba = (SELECT oid FROM pg_roles WHERE rolname = %s)", name) == []
    )
    assert (
        rows("SELECT roleid::regrole::text FROM pg_auth_members WHERE member = (SELECT current_user::regrole)") == []
    ), "a member of another role could SET ROLE to it"


def test_the_service_may_use_rows_and_nothing_more(protected: set[str]) -> None:
    for table in protected:
        [(rows_too, beyond)] = rows(
            "SELECT has_table_privilege(%s, 'SELECT') AND has_table_privilege(%s, 'INSERT')"
            " AND has_table_privilege(%s, 'UPDATE') AND has_table_privilege(%s, 'DELETE'),"
            " has_table_privilege(%s, 'TRUNCATE, REFERENCES, TRIGGER')",
            *[table] * 5,
        )
        assert rows_too, table
        assert not beyond, f"{table}: TRUNCATE would look past the policies"
