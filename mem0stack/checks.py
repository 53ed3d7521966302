"""What must be right before the service serves: settings with ids and hints, and the role that it connects as."""

import logging
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from environ import Env

from accounts.services import MAX_RATE_LIMIT
from memories import providers

TAG = "mem0stack"
_POSTGRES_SCHEMES = {"postgres", "postgresql", "psql", "pgsql"}
_REDIS_SCHEMES = {"redis", "rediss", "unix"}
_LOG_FORMATS = {"json", "console"}
_SWITCHES = ("DEBUG", "SECURE_COOKIES", "BEHIND_PROXY")
_SMALLEST_REQUEST_BYTES = 64 * 1024


def register_all() -> None:
    register(check_database, TAG)
    register(check_redis, TAG)
    register(check_logs, TAG)
    register(check_limits, TAG)
    register(check_switches, TAG)
    register(check_providers, TAG)
    register(check_secret_key, Tags.security, deploy=True)
    connection_created.connect(refuse_mighty_role, dispatch_uid="mem0stack.refuse_mighty_role")


def check_database(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """The two addresses belong together, and name PostgreSQL."""
    found: list[CheckMessage] = []
    addresses = {name: os.environ.get(name, "") for name in ("DATABASE_URL", "DATABASE_OWNER_URL")}
    if not settings.EMBEDDED_POSTGRES and not _is_given("DATABASE_OWNER_URL"):
        found.append(
            Error(
                "DATABASE_URL is set and DATABASE_OWNER_URL is not.",
                hint="Set both: the service's role and the owner of the tables, who migrates. See `bootstrap_db`.",
                id="mem0stack.E001",
            )
        )
    for name, address in addresses.items():
        if address and urlsplit(address).scheme not in _POSTGRES_SCHEMES:
            found.append(
                Error(
                    f"{name} does not name a PostgreSQL.",
                    hint="Write postgres://user:password@host:5432/database; no other database will do.",
                    id="mem0stack.E002",
                )
            )
    if settings.DB_ROLE not in ("app", "owner"):
        found.append(
            Error(
                f"MEM0_DB_ROLE is {settings.DB_ROLE!r}.",
                hint="It is app (the default) or owner; manage.py sets owner where it is needed.",
                id="mem0stack.E003",
            )
        )
    pool = settings.DATABASES["default"].get("OPTIONS", {}).get("pool")
    if isinstance(pool, dict) and not 0 <= pool["min_size"] <= pool["max_size"] or pool and pool["max_size"] < 1:
        found.append(
            Error(
                f"DATABASE_POOL_MIN_SIZE {pool['min_size']} and DATABASE_POOL_MAX_SIZE {pool['max_size']} do not fit.",
                hint="0 <= DATABASE_POOL_MIN_SIZE <= DATABASE_POOL_MAX_SIZE, and at least one connection.",
                id="mem0stack.E004",
            )
        )
    return found


def check_redis(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    if urlsplit(settings.REDIS_URL).scheme in _REDIS_SCHEMES:
        return []
    return [
        Error(
            "REDIS_URL does not name a Redis or Valkey.",
            hint="Write redis://host:6379/0, rediss://... or unix:///path/to/socket.",
            id="mem0stack.E005",
        )
    ]


def check_logs(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if settings.LOG_LEVEL not in logging.getLevelNamesMapping():
        found.append(
            Error(
                f"LOG_LEVEL is {settings.LOG_LEVEL!r}.",
                hint="One of DEBUG, INFO, WARNING, ERROR, CRITICAL.",
                id="mem0stack.E006",
            )
        )
    if settings.LOG_FORMAT not in _LOG_FORMATS:
        found.append(
            Error(f"LOG_FORMAT is {settings.LOG_FORMAT!r}.", hint="It is json or console.", id="mem0stack.E007")
        )
    return found


def check_limits(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if limit is None or limit < _SMALLEST_REQUEST_BYTES:
        found.append(
            Error(
                f"REQUEST_MAX_BYTES is {limit}.",
                hint=f"At least {_SMALLEST_REQUEST_BYTES}: a memory may have 20,000 characters and 16 KiB of metadata.",
                id="mem0stack.E008",
            )
        )
    if settings.ACCESS_LOG_KEEP_DAYS < 1:
        found.append(
            Error(
                f"ACCESS_LOG_KEEP_DAYS is {settings.ACCESS_LOG_KEEP_DAYS}.",
                hint="Days, at least 1.",
                id="mem0stack.E012",
            )
        )
    if not 0 <= settings.API_RATE_LIMIT <= MAX_RATE_LIMIT:
        found.append(
            Error(
                f"API_RATE_LIMIT is {settings.API_RATE_LIMIT}.",
                hint=f"Calls a minute, up to {MAX_RATE_LIMIT}; 0 means no limit.",
                id="mem0stack.E014",
            )
        )
    if settings.VECTOR_INDEX_FROM < 0:
        found.append(
            Error(
                f"VECTOR_INDEX_FROM is {settings.VECTOR_INDEX_FROM}.",
                hint="A number of memories, for example 20000; 0 means that nobody gets a vector index.",
                id="mem0stack.E015",
            )
        )
    if settings.DATABASE_STATEMENT_TIMEOUT_MS < 0:
        found.append(
            Error(
                f"DATABASE_STATEMENT_TIMEOUT_MS is {settings.DATABASE_STATEMENT_TIMEOUT_MS}.",
                hint="Milliseconds, for example 10000; 0 means no limit.",
                id="mem0stack.E009",
            )
        )
    return found


def check_switches(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """django-environ takes every word it does not know for false."""
    known = {*Env.BOOLEAN_TRUE_STRINGS, "false", "off", "no", "n", "0", ""}
    return [
        Error(f"{name} is {os.environ[name]!r}.", hint="It is true or false.", id="mem0stack.E011")
        for name in _SWITCHES
        if os.environ.get(name, "").lower() not in known
    ]


def check_providers(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """What the environment says of providers can be used."""
    found: list[CheckMessage] = []
    for purpose in settings.PROVIDERS:
        provider = providers.from_environment(purpose)
        if provider is not None and provider.trouble:
            prefix = purpose.upper()
            found.append(
                Error(
                    f"{prefix}_KIND is set, but: {provider.trouble}",
                    hint=f"Set the names that begin with {prefix}_ as docs/configuration.md says, or none of them.",
                    id="mem0stack.E012",
                )
            )
    return found


def check_secret_key(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    if settings.SECRET_KEY != settings.INSECURE_SECRET_KEY and len(settings.SECRET_KEY) >= 32:
        return []
    return [
        Error(
            "SECRET_KEY is not secret.",
            hint="Set SECRET_KEY or SECRET_KEY_FILE to 50 random characters; `manage.py up` makes one by itself.",
            id="mem0stack.E010",
        )
    ]


def _is_given(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


# The role that was found good. A process connects many times and as one role.
_checked_roles: set[str] = set()


def refuse_mighty_role(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Raises ImproperlyConfigured for a role that row-level security does not bind, once per process."""
    role = str(connection.settings_dict["USER"])
    if settings.DB_ROLE == "owner" or connection.vendor != "postgresql" or role in _checked_roles:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolsuper, rolbypassrls, "
            "EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
            "AND pg_has_role(current_user, relowner, 'MEMBER')) FROM pg_roles WHERE rolname = current_user"
        )
        is_super, may_bypass, is_owner = cursor.fetchone()
    for is_so, what in ((is_super, "a superuser"), (may_bypass, "BYPASSRLS"), (is_owner, "the owner of the tables")):
        if is_so:
            raise ImproperlyConfigured(
                f"The database role {role!r} is {what}, which row-level security does not bind, so everyone could "
                "read everyone's memories. Let DATABASE_URL name the role that `manage.py bootstrap_db` makes for it."
            )
    _checked_roles.add(role)
