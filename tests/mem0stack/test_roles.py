"""Which role the service is, and that it refuses to be a mightier one."""

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections

from mem0stack import checks
from mem0stack.embedded import postgres
from mem0stack.settings import HOME, database
from tests.conftest import as_owner


@pytest.mark.django_db
def test_tests_run_as_the_service_does() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, rolsuper, rolbypassrls, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        )
        assert cursor.fetchone() == ("mem0_app", False, False, False)
        cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner = 'mem0_app'")
        assert cursor.fetchone() == (0,)


@pytest.mark.django_db
def test_the_service_may_not_change_the_schema() -> None:
    with connection.cursor() as cursor, pytest.raises(Exception, match="permission denied for schema public"):
        cursor.execute("CREATE TABLE intruder (id int)")


@pytest.mark.django_db(transaction=True)
def test_after_owner_work_the_service_is_itself_again() -> None:
    with as_owner(), connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == ("mem0_owner",)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == ("mem0_app",)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("role", "what"),
    [("mem0_owner", "the owner of the tables"), ("mem0_super", "a superuser"), ("mem0_bypass", "BYPASSRLS")],
)
def test_a_role_that_policies_do_not_bind_is_refused(role: str, what: str) -> None:
    superuser = {"host": str(HOME.postgres_socket_dir), "user": postgres.SUPERUSER, "dbname": "postgres"}
    if role == "mem0_bypass":
        with psycopg.connect(**superuser, autocommit=True) as direct:  # type: ignore[arg-type]
            direct.execute("DROP ROLE IF EXISTS mem0_bypass")
            direct.execute("CREATE ROLE mem0_bypass LOGIN BYPASSRLS")
        ident = HOME.postgres_data / "pg_ident.conf"
        ident.write_text(ident.read_text() + ident.read_text().splitlines()[-1].replace("mem0_app", role) + "\n")
        with psycopg.connect(**superuser, autocommit=True) as direct:  # type: ignore[arg-type]
            direct.execute("SELECT pg_reload_conf()")
    other = connections.create_connection("default")
    other.settings_dict = other.settings_dict | {"USER": role, "OPTIONS": database("owner")["OPTIONS"]}
    try:
        with pytest.raises(ImproperlyConfigured, match=what) as caught:
            other.ensure_connection()
        assert "bootstrap_db" in str(caught.value)
    finally:
        other.close()


@pytest.mark.django_db
def test_a_good_role_is_asked_once() -> None:
    connection.ensure_connection()
    assert "mem0_app" in checks._checked_roles
    again = connections.create_connection("default")
    again.settings_dict = again.settings_dict | {"OPTIONS": database("owner")["OPTIONS"]}
    again.force_debug_cursor = True
    try:
        again.ensure_connection()
        assert [query for query in again.queries if "rolbypassrls" in query["sql"]] == []
    finally:
        again.close()
