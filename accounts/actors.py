"""Who is calling, with which rights; and the database's knowledge of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

import structlog
from django.db import connection, transaction

from accounts.models import ApiKey, Scope, User
from mem0stack.lib.errors import Forbidden

log = structlog.get_logger(__name__)

Door = Literal["rest", "mcp", "admin", "command", "task", "ui"]
ALL_SCOPES = frozenset(Scope.values)


@dataclass(frozen=True)
class Actor:
    """The caller of a service. Made from a credential at a door, passed first to every service, never changed."""

    user: User | None
    scopes: frozenset[str] = ALL_SCOPES
    namespaces: frozenset[str] | None = None
    door: Door = "rest"
    key: ApiKey | None = field(default=None, compare=False)
    app: str | None = None
    request_id: str | None = None
    reason: str = ""
    staff: User | None = None

    @classmethod
    def of(cls, user: User, *, door: Door, app: str | None = None) -> "Actor":
        """A user who proved to be one by other means than a key: a session, or the machine's own account."""
        return cls(user=user, door=door, app=app)

    @classmethod
    def from_key(cls, key: ApiKey, *, door: Door, app: str | None = None, request_id: str | None = None) -> "Actor":
        return cls(
            user=key.user,
            scopes=frozenset(key.scopes),
            namespaces=frozenset(key.namespaces) if key.namespaces else None,
            door=door,
            key=key,
            app=app,
            request_id=request_id,
        )

    @classmethod
    def for_staff(cls, staff: User, owner: User, *, request_id: str | None = None) -> "Actor":
        """A member of staff who curates in an owner's space, in the admin: the history says that it was them."""
        return cls(user=owner, staff=staff, door="admin", request_id=request_id)

    @classmethod
    def system(cls, reason: str) -> "Actor":
        """Sees every owner's rows. For jobs and staff pages only; each use is logged with its reason."""
        log.info("system_actor", reason=reason)
        return cls(user=None, door="task", reason=reason)

    @property
    def is_system(self) -> bool:
        return self.user is None

    @property
    def person(self) -> User:
        """The user whose space this is; a system actor has none."""
        if self.user is None:
            raise Forbidden("A system actor owns nothing; act as an owner.")
        return self.user

    @property
    def caller(self) -> User | None:
        """Who it is in person: the user, or the member of staff who acts in the user's space."""
        return self.staff or self.user

    @property
    def owner_id(self) -> int:
        return self.person.pk

    def require(self, scope: str) -> None:
        if scope not in self.scopes:
            raise Forbidden(
                f"This key lacks the scope {str(scope)!r}. Use a key that has it, or ask the key's owner for one."
            )

    def may_use(self, namespace: str) -> bool:
        return self.namespaces is None or namespace in self.namespaces

    def require_namespace(self, namespace: str) -> None:
        if not self.may_use(namespace):
            allowed = ", ".join(sorted(self.namespaces or ()))
            raise Forbidden(f"This key is limited to the namespaces {allowed}.")

    def require_every_namespace(self, what: str) -> None:
        """For what reaches beyond any one namespace. Raises Forbidden for a key that is limited to some."""
        if self.namespaces is not None:
            raise Forbidden(f"{what} reach into every namespace, and this key is limited to some. Use another key.")


_acting: ContextVar[Actor | None] = ContextVar("acting", default=None)


def acting() -> Actor | None:
    """The actor whose rows the current transaction sees, if any."""
    return _acting.get()


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Open a transaction in which PostgreSQL's row-level security shows exactly what this actor may see.

    Nested use is allowed and costs a savepoint; the outer actor is back when the inner block ends. SET LOCAL ends with
    the transaction but leaks out of a released savepoint, so the previous value is set again by hand. (`set_config()`
    would do the same on one machine; SET LOCAL also travels to the workers of a distributed PostgreSQL.)
    """
    nested = connection.in_atomic_block
    outer = _acting.get() if nested else None
    changes = outer != actor
    with transaction.atomic():
        if changes:
            _set_actor(actor)
        token = _acting.set(actor)
        try:
            yield
        finally:
            _acting.reset(token)
        if nested and changes and not connection.needs_rollback:
            _set_actor(outer)


def _set_actor(actor: Actor | None) -> None:
    owner = str(actor.owner_id) if actor is not None and not actor.is_system else ""
    scope = "system" if actor is not None and actor.is_system else ""
    with connection.cursor() as cursor:
        # Both values are ours: a number and a fixed word. SET takes no parameters.
        cursor.execute(f"SET LOCAL mem0.actor = '{owner}'; SET LOCAL mem0.scope = '{scope}'")
