"""Roles, database and extension, on the embedded PostgreSQL or on any other: idempotent SQL from one plan."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql

from mem0stack.embedded import postgres
from mem0stack.embedded.account import EmbeddedError


@dataclass(frozen=True)
class Role:
    name: str
    password: str | None = None


@dataclass(frozen=True)
class Plan:
    """What must be there: the owner of the tables, the service's own role that is bound by policies, the database."""

    owner: Role
    app: Role
    database: str


EMBEDDED = Plan(owner=Role(postgres.OWNER), app=Role(postgres.APP), database=postgres.DATABASE)


def plan_from_urls(app_url: str, owner_url: str) -> Plan:
    """Names and passwords as DATABASE_URL and DATABASE_OWNER_URL give them."""
    app, owner = urlsplit(app_url), urlsplit(owner_url)
    for name, url in (("DATABASE_URL", app), ("DATABASE_OWNER_URL", owner)):
        if not url.username or not url.path.strip("/"):
            raise EmbeddedError(f"{name} must name a user and a database: postgres://user:password@host:5432/database.")
    if (app.hostname, app.port, app.path) != (owner.hostname, owner.port, owner.path):
        raise EmbeddedError("DATABASE_URL and DATABASE_OWNER_URL must name the same server and database.")
    if app.username == owner.username:
        raise EmbeddedError(
            "DATABASE_URL and DATABASE_OWNER_URL name the same user. They must differ: row-level security "
            "does not bind the owner of the tables."
        )
    return Plan(owner=_role(owner), app=_role(app), database=unquote(app.path.strip("/")))


def _role(url: Any) -> Role:
    return Role(unquote(url.username), unquote(url.password) if url.password else None)


def apply(plan: Plan, **superuser: Any) -> None:
    """Makes what is missing. `superuser` is what psycopg.connect() takes, without a database's name."""
    with _connect(superuser, "postgres") as connection:
        for statement in _role_statements(plan):
            connection.execute(statement)
        _refuse_mighty(connection, plan)
        exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [plan.database]).fetchone()
        if not exists:
            connection.execute(_create_database(plan))
    for database in ("template1", plan.database):
        with _connect(superuser, database) as connection:
            connection.execute(_EXTENSION)
            if database == plan.database:
                for statement in _grant_statements(plan):
                    connection.execute(statement)


def script(plan: Plan) -> str:
    """The same as a script for psql, to be run by a superuser."""
    guarded = sql.SQL("SELECT {} WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = {})\\gexec").format(
        sql.Literal(_create_database(plan).as_string()), sql.Literal(plan.database)
    )
    lines = [f"{statement.as_string()};" for statement in _role_statements(plan)]
    lines.append(guarded.as_string())
    lines += ["\\connect template1", f"{_EXTENSION.as_string()};"]
    lines += [sql.SQL("\\connect {}").format(sql.Identifier(plan.database)).as_string(), f"{_EXTENSION.as_string()};"]
    lines += [f"{statement.as_string()};" for statement in _grant_statements(plan)]
    return "\n".join(lines)


# Not a trusted extension: only a superuser may make it. In template1, new databases (those of tests) have it at once.
_EXTENSION = sql.SQL("CREATE EXTENSION IF NOT EXISTS vector")


def _role_statements(plan: Plan) -> list[sql.Composed]:
    statements = []
    for role, options in ((plan.owner, "LOGIN CREATEDB"), (plan.app, "LOGIN")):
        name = sql.Identifier(role.name)
        create = sql.SQL("CREATE ROLE {} {}").format(name, sql.SQL(options))
        statements.append(
            sql.SQL(
                "DO $mem0$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {}) THEN {}; END IF; END $mem0$"
            ).format(  # noqa: E501
                sql.Literal(role.name), create
            )
        )
        password = sql.SQL(" PASSWORD {}").format(sql.Literal(role.password)) if role.password else sql.SQL("")
        statements.append(sql.SQL("ALTER ROLE {} {}{}").format(name, sql.SQL(options), password))
    return statements


def _create_database(plan: Plan) -> sql.Composed:
    return sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8'").format(
        sql.Identifier(plan.database), sql.Identifier(plan.owner.name)
    )


def _grant_statements(plan: Plan) -> list[sql.Composed]:
    names = {
        "database": sql.Identifier(plan.database),
        "owner": sql.Identifier(plan.owner.name),
        "app": sql.Identifier(plan.app.name),
    }
    return [
        sql.SQL(text).format(**names)
        for text in (
            "ALTER SCHEMA public OWNER TO {owner}",
            "REVOKE ALL ON DATABASE {database} FROM PUBLIC",
            "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {app}",
            "GRANT USAGE ON SCHEMA public TO {app}",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public "
            "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app}",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {app}",
        )
    ]


def _refuse_mighty(connection: psycopg.Connection[Any], plan: Plan) -> None:
    row = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND (rolsuper OR rolbypassrls) "
        "OR rolname = %s AND pg_has_role(rolname, %s, 'MEMBER')",
        [[plan.owner.name, plan.app.name], plan.app.name, plan.owner.name],
    ).fetchone()
    if row:
        raise EmbeddedError(
            f"The role {row[0]} exists and may pass by row-level security (superuser, BYPASSRLS, or member of the "
            "owner). Take that away from it, or name another role in the URL."
        )


def _connect(superuser: dict[str, Any], database: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(**superuser, dbname=database, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise EmbeddedError(f"PostgreSQL refuses the superuser's connection: {str(error).strip()}") from error
