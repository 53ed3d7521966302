"""Every setting, from the environment. `.env.example` names them all; `NAME_FILE` reads a value from a file.

With nothing set it is the embedded service: PostgreSQL and Valkey on the sockets of `MEM0_HOME`.
"""

import logging
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import structlog
from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse_lazy
from environ import FileAwareEnv

from mem0stack.lib.home import Home
from mem0stack.logs import PRE_CHAIN, renderer


class Environment(FileAwareEnv):  # type: ignore[misc]  # environ has no types
    """The environment, and files named by NAME_FILE; nonsense is refused with the name of the setting."""

    def int(self, var: str, default: Any = FileAwareEnv.NOTSET) -> Any:
        try:
            return super().int(var, default=default)
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} must be a whole number: {error}.") from error


env = Environment()

VERSION = "0.1.0"
BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Home.from_environ(os.environ)

# Security -----------------------------------------------------------------------------------------------------------

INSECURE_SECRET_KEY = "insecure: only for commands that run before the first `manage.py up`"  # noqa: S105  refused by a check


def _text_of(file: Path) -> str:
    """What `up` left there; "" before the first one."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""


SECRET_KEY = env.str("SECRET_KEY", default="") or _text_of(HOME.secret_key_file) or INSECURE_SECRET_KEY
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
SECURE_COOKIES = env.bool("SECURE_COOKIES", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_HTTPONLY = True
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
BEHIND_PROXY = env.bool("BEHIND_PROXY", default=False)
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    USE_X_FORWARDED_HOST = True

# Applications -------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    # First, so that its templates come before the libraries' own.
    "mem0stack",
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "accounts.apps.StaffAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django_structlog",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "accounts",
    "memories",
    "mcp_bridge",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    # Before the request's log line: a page's twenty files are no events.
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "mem0stack.middleware.measure",
    "mem0stack.middleware.RequestMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "mem0stack.middleware.SlashMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "mem0stack.urls"
WSGI_APPLICATION = "mem0stack.wsgi.application"
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "/api/login/"
LOGIN_REDIRECT_URL = "/api/v2/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Stores -------------------------------------------------------------------------------------------------------------

# "app" is the service's own role, which row-level security binds. "owner" owns the tables and migrates them.
DB_ROLE = env.str("MEM0_DB_ROLE", default="app")
DATABASE_URL = env.str("DATABASE_URL", default="")
DATABASE_OWNER_URL = env.str("DATABASE_OWNER_URL", default="")
EMBEDDED_POSTGRES = not DATABASE_URL
EMBEDDED_VALKEY = not env.str("REDIS_URL", default="")
DATABASE_STATEMENT_TIMEOUT_MS = env.int("DATABASE_STATEMENT_TIMEOUT_MS", default=10_000)


DATABASE_APP_ROLE = "mem0_app" if EMBEDDED_POSTGRES else env.db_url("DATABASE_URL")["USER"]
# For the worker, which makes indexes; empty where it has no address of the owner's.
DATABASE_OWNER_ROLE = "mem0_owner" if EMBEDDED_POSTGRES else unquote(urlsplit(DATABASE_OWNER_URL).username or "")
DATABASE_OWNER_PASSWORD = "" if EMBEDDED_POSTGRES else unquote(urlsplit(DATABASE_OWNER_URL).password or "")
# Owners with so many memories get a vector index of their own; 0 is nobody. See memories/vector_indexes.py.
VECTOR_INDEX_FROM = env.int("VECTOR_INDEX_FROM", default=20_000)


def database(role: str) -> dict[str, Any]:
    """The connection of one of the two roles."""
    as_owner = role == "owner"
    if EMBEDDED_POSTGRES:
        config: dict[str, Any] = {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": str(HOME.postgres_socket_dir),
            "NAME": "mem0",
            "USER": "mem0_owner" if as_owner else "mem0_app",
        }
    else:
        config = env.db_url("DATABASE_OWNER_URL" if as_owner else "DATABASE_URL")
    if config["ENGINE"] != "django.db.backends.postgresql":
        raise ImproperlyConfigured(
            "DATABASE_URL and DATABASE_OWNER_URL name a PostgreSQL 16: postgres://user:password@host:5432/database."
        )
    timeouts = "-c lock_timeout=3s" if as_owner else f"-c statement_timeout={DATABASE_STATEMENT_TIMEOUT_MS}"
    options = config.setdefault("OPTIONS", {})
    options["connect_timeout"] = 3
    options["options"] = f"{timeouts} -c random_page_cost=1.1 -c jit=off"
    # A host that vanishes, without a word, from under a connection over TCP.
    options |= {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 10_000}
    if not as_owner:
        config["ENGINE"] = "mem0stack.lib.postgres"
        # Of the cursors of mem0stack/lib/prepared.py: Django's own bind on this side, and prepare nothing.
        options["prepare_threshold"] = 2
        # The pool's own default waits 30 s for a connection, so every request would hang that long without PostgreSQL.
        options["pool"] = {
            "min_size": env.int("DATABASE_POOL_MIN_SIZE", default=0),
            "max_size": env.int("DATABASE_POOL_MAX_SIZE", default=16),
            "timeout": 3,
            # Then no more until a request asks: the pauses between attempts grow, and nobody should wait for one.
            "reconnect_timeout": 2.5,
        }
    return config | {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": not as_owner}


DATABASES = {"default": database(DB_ROLE)}

REDIS_URL = env.str("REDIS_URL", default="") or f"unix://{quote(str(HOME.valkey_socket))}"
_REDIS_TIMEOUT_S = 0.25
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "TIMEOUT": 3600,
        "KEY_PREFIX": "mem0",
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": _REDIS_TIMEOUT_S, "SOCKET_TIMEOUT": _REDIS_TIMEOUT_S},
    }
}
SESSION_ENGINE = "django.contrib.sessions.backends.db"

# Background work ----------------------------------------------------------------------------------------------------

CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_SERIALIZER = "json"
CELERY_TASK_DEFAULT_QUEUE = "mem0"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A nudge is worth a quarter of a second and no retry: the outbox row is what counts.
CELERY_TASK_PUBLISH_RETRY = False
# What nudges that were lost, or consumers that failed, have left behind.
CELERY_BEAT_SCHEDULE = {
    "drain what waits in the outboxes": {
        "task": "memories.tasks.drain_everything",
        "schedule": 10.0,
        "options": {"expires": 10.0},
    },
    "take up operations that wait": {
        "task": "memories.tasks.resume_operations",
        "schedule": 10.0,
        "options": {"expires": 10.0},
    },
    "embed what waits for the provider": {
        "task": "memories.tasks.embed_waiting",
        "schedule": 15.0,
        "options": {"expires": 15.0},
    },
    "build and drop vector indexes": {
        "task": "memories.tasks.maintain_vector_indexes",
        "schedule": 300.0,
        "options": {"expires": 300.0},
    },
    "remove what the outboxes are done with": {"task": "memories.tasks.prune_outbox", "schedule": 300.0},
    "remove what the access log has kept long enough": {"task": "memories.tasks.prune_access_log", "schedule": 3600.0},
    "purge what was deleted over 30 days ago": {"task": "memories.tasks.purge_overdue", "schedule": 6 * 3600.0},
}
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": _REDIS_TIMEOUT_S,
    # Without it a publish waits for ever for a server that hangs. The worker has a longer one: see celery.py.
    "socket_timeout": _REDIS_TIMEOUT_S,
    "max_retries": 0,
    "global_keyprefix": "mem0:",
}

# Access log --------------------------------------------------------------------------------------------------------

ACCESS_LOG_KEEP_DAYS = env.int("ACCESS_LOG_KEEP_DAYS", default=90)

# Providers ----------------------------------------------------------------------------------------------------------

# What holds where nobody has made a row of provider settings in the admin. No kind is no provider.
PROVIDERS: dict[str, dict[str, Any]] = {
    "embedder": {
        "kind": env.str("EMBEDDER_KIND", default=""),
        "base_url": env.str("EMBEDDER_BASE_URL", default=""),
        "api_version": env.str("EMBEDDER_API_VERSION", default=""),
        "key": env.str("EMBEDDER_API_KEY", default=""),
        "model": env.str("EMBEDDER_MODEL", default="text-embedding-3-small"),
        "dimensions": env.int("EMBEDDER_DIMENSIONS", default=512),
        "batch_size": env.int("EMBEDDER_BATCH_SIZE", default=64),
        "timeout_ms": env.int("EMBEDDER_TIMEOUT_MS", default=30_000),
        "query_budget_ms": env.int("EMBEDDER_QUERY_BUDGET_MS", default=150),
        "requests_a_minute": env.int("EMBEDDER_REQUESTS_A_MINUTE", default=0),
    },
    "model": {
        "kind": env.str("MODEL_KIND", default=""),
        "base_url": env.str("MODEL_BASE_URL", default=""),
        "api_version": env.str("MODEL_API_VERSION", default=""),
        "key": env.str("MODEL_API_KEY", default=""),
        "model": env.str("MODEL_NAME", default=""),
        "timeout_ms": env.int("MODEL_TIMEOUT_MS", default=60_000),
        "requests_a_minute": env.int("MODEL_REQUESTS_A_MINUTE", default=0),
    },
}

# MCP ----------------------------------------------------------------------------------------------------------------

# Host names under which MCP may be asked, and those whose pages may; "*" is any.
MCP_ALLOWED_HOSTS = env.list("MCP_ALLOWED_HOSTS", default=ALLOWED_HOSTS)
MCP_ALLOWED_ORIGINS = env.list("MCP_ALLOWED_ORIGINS", default=ALLOWED_HOSTS)
# Where it answers, for those who ask elsewhere: `up` leaves it in the home.
MCP_URL = env.str("MEM0_MCP_URL", default="") or _text_of(HOME.mcp_url_file)
MCP_TOOL_DEADLINE_S = env.int("MCP_TOOL_DEADLINE_S", default=8)
# Calls a minute of a key that has no limit of its own; 0 is none.
MCP_RATE_LIMIT = env.int("MCP_RATE_LIMIT", default=600)
MCP_ALLOW_DELETE_ALL = env.bool("MCP_ALLOW_DELETE_ALL", default=True)

# REST ---------------------------------------------------------------------------------------------------------------

REQUEST_DEADLINE_S = env.int("REQUEST_DEADLINE_S", default=12)
# Calls a minute of a key that has no limit of its own; 0 is none.
API_RATE_LIMIT = env.int("API_RATE_LIMIT", default=0)
DATA_UPLOAD_MAX_MEMORY_SIZE = env.int("REQUEST_MAX_BYTES", default=4 * 1024 * 1024)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.ApiKeyAuthentication",
        "accounts.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.authentication.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["accounts.authentication.KeyThrottle"],
    "DEFAULT_PARSER_CLASSES": ["mem0stack.lib.rest.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": [
        "mem0stack.lib.rest.JSONRenderer",
        "mem0stack.lib.rest.BrowsableRenderer",
    ],
    "DEFAULT_SCHEMA_CLASS": "mem0stack.lib.schema.Schema",
    "EXCEPTION_HANDLER": "mem0stack.api.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "mem0-stack",
    "DESCRIPTION": "Memory for AI agents: store what is worth keeping, find it in milliseconds.",
    "VERSION": "2",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    # Groups routes by what follows it: memories, search, shares, ...
    "SCHEMA_PATH_PREFIX": r"/api/v2",
    "ENUM_NAME_OVERRIDES": {
        "KindEnum": "memories.models.Kind.choices",
        "EntityKindEnum": "memories.models.EntityKind.choices",
        "StateEnum": "memories.models.State.choices",
        "StandingEnum": "memories.models.Standing.choices",
        "OperationKindEnum": "memories.models.OperationKind.choices",
        "OperationStateEnum": "memories.models.OperationState.choices",
        "AccessActionEnum": "memories.models.AccessAction.choices",
    },
}

# Pages --------------------------------------------------------------------------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT = HOME.static
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = DEBUG


def _link(title: str, icon: str, model: str, app: str = "memories") -> dict[str, Any]:
    """A line of the admin's sidebar, for those who may look at the model."""
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{model}_changelist"),
        "permission": lambda request: request.user.has_perm(f"{app}.view_{model}"),
    }


UNFOLD = {
    "SITE_TITLE": "mem0-stack",
    "SITE_HEADER": "mem0-stack",
    "SITE_SYMBOL": "neurology",
    "SHOW_VIEW_ON_SITE": False,
    "SIDEBAR": {
        "navigation": [
            {
                "title": "Memories",
                "items": [
                    _link("Memories", "neurology", "memory"),
                    _link("Namespaces", "folder", "namespace"),
                    _link("Categories", "category", "category"),
                    _link("Apps", "apps", "app"),
                    _link("Entities", "deployed_code", "entity"),
                    _link("Shares", "share", "share"),
                ],
            },
            {
                "title": "What happened",
                "items": [
                    _link("History", "history", "memoryhistory"),
                    _link("Access log", "visibility", "accesslog"),
                    _link("Feedback", "thumbs_up_down", "feedback"),
                    _link("Relations", "link", "relation"),
                ],
            },
            {
                "title": "Background",
                "items": [
                    _link("Operations", "pending_actions", "operation"),
                    _link("Outbox events", "outbox", "outboxevent"),
                    _link("Outbox deliveries", "local_shipping", "outboxdelivery"),
                    _link("Idempotency keys", "fingerprint", "idempotencykey"),
                ],
            },
            {
                "title": "People",
                "items": [
                    _link("Users", "person", "user", "accounts"),
                    _link("API keys", "key", "apikey", "accounts"),
                    _link("Groups", "group", "group", "auth"),
                ],
            },
        ],
    },
}

# Logs ---------------------------------------------------------------------------------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO").upper()
LOG_FORMAT = env.str("LOG_FORMAT", default="json")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "events": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer(LOG_FORMAT)],
            "foreign_pre_chain": PRE_CHAIN,
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "events"}},
    # A level that does not exist is named by a system check, which could not speak if logging failed first.
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL if LOG_LEVEL in logging.getLevelNamesMapping() else "INFO"},
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        "celery": {"handlers": [], "propagate": True},
        # At DEBUG they tell what is sent and where to.
        "openai": {"level": "WARNING"},
        "httpx2": {"level": "WARNING"},
        "httpcore2": {"level": "WARNING"},
    },
}
DJANGO_STRUCTLOG_CELERY_ENABLED = False
# One line a request, when it has ended; those that hang are ended and told of by their deadline.
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG
# Our middleware has made sure that it is a plain word; a correlation id would be a caller's free text.
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True
DJANGO_STRUCTLOG_TRUST_UPSTREAM_CORRELATION_ID = False
