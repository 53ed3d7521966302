"""The one way anything about memories is written, for every door.

Each function takes the caller first, checks what may be done, and does it in one transaction: the row with its vector,
its terms, its history and its outbox event commit together or not at all. No model is called on the way.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar
from uuid import UUID

import orjson
import structlog
from django.db import IntegrityError, connection
from django.db.models import Max
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts.actors import Actor, acting_as
from accounts.models import Scope
from mem0stack.lib.errors import Conflict, Forbidden, InvalidArgument, Mem0Error, NotFound, NothingValid
from memories import outbox, texts
from memories.embeddings import embed_documents
from memories.lexical import document_terms, length, tag_term
from memories.models import (
    PERSONAL,
    App,
    Category,
    Event,
    IdempotencyKey,
    Kind,
    Memory,
    MemoryCategory,
    MemoryHistory,
    MemoryTerm,
    Namespace,
    Share,
    Standing,
    State,
)
from memories.querysets import MemoryQuerySet

log = structlog.get_logger(__name__)

RESTORABLE_FOR = timedelta(days=30)
MAX_BATCH = 1_000
_CHUNK = 500
_MAX_SEQ = 2**31 - 1


@dataclass(frozen=True)
class NewMemory:
    """What a caller wants remembered. Only `content` is needed."""

    content: str
    kind: str = Kind.FACT
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    categories: Sequence[str] = ()
    namespace: str | None = None
    app: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    seq: int | None = None
    speaker: str | None = None
    event_at: datetime | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    expires_at: datetime | None = None
    pinned: bool = False
    allow_secret: bool = False


@dataclass(frozen=True)
class Written:
    """A write that is done and durable. `event` is CONFIRM where the same thing was known already."""

    memory_id: UUID
    event: str

    @property
    def is_duplicate(self) -> bool:
        return self.event == Event.CONFIRM


@dataclass(frozen=True)
class Refused:
    """An operation of a batch that was not done, and why."""

    error: Mem0Error


@dataclass(frozen=True)
class Operation:
    """One step of a batch: an `add` with `new`, an `update` with `memory_id` and `changes`, a `delete` with `memory_id`."""

    op: Literal["add", "update", "delete"]
    new: NewMemory | None = None
    memory_id: UUID | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    expected_version: int | None = None
    allow_secret: bool = False


Outcome = Written | Refused


# Adding -------------------------------------------------------------------------------------------------------------


def add(actor: Actor, new: NewMemory, *, idempotency_key: str | None = None) -> Written:
    """Remember one thing; it is durable and searchable when this returns.

    The same content in the same namespace and labels is not stored twice: the existing memory is confirmed, its tags
    merged. Raises InvalidArgument, SecretDetected, Forbidden, Conflict (a message's place is taken, or the idempotency
    key was used for something else).
    """
    return add_many(actor, [new], idempotency_key=idempotency_key)[0]


def add_many(actor: Actor, items: Sequence[NewMemory], *, idempotency_key: str | None = None) -> list[Written]:
    """Remember several things in one transaction, all or nothing; one result for each, in their order."""
    outcomes = batch(
        actor, [Operation("add", new=item) for item in items], atomic=True, idempotency_key=idempotency_key
    )
    return [outcome for outcome in outcomes if isinstance(outcome, Written)]


def batch(
    actor: Actor, operations: Sequence[Operation], *, atomic: bool = False, idempotency_key: str | None = None
) -> list[Outcome]:
    """Apply up to 1,000 operations in one transaction; one outcome for each, in their order.

    Without `atomic` the valid ones commit together and the others are reported; NothingValid is raised when none is
    valid. With `atomic` the first refusal is raised and nothing is written.
    """
    actor.require(Scope.WRITE)
    if not operations or len(operations) > MAX_BATCH:
        raise InvalidArgument(f"A batch has 1 to {MAX_BATCH} operations; this one has {len(operations)}.")
    prepared = _prepare_all(actor, operations)
    if atomic:
        _raise_first(prepared)

    def write() -> list[Outcome]:
        outcomes = _apply(actor, operations, prepared)
        if atomic:
            _raise_first(outcomes)
        if all(isinstance(outcome, Refused) for outcome in outcomes):
            _raise_refusals(outcomes)
        return outcomes

    request = {"batch": [asdict(operation) for operation in operations], "atomic": atomic}
    with acting_as(actor):
        return _once(actor, idempotency_key, request, write)


def new_run_id() -> str:
    """A name for a run that the caller did not name, so that its messages still know their neighbours."""
    return uuid7().hex


# Changing -----------------------------------------------------------------------------------------------------------


def update(
    actor: Actor,
    memory_id: UUID,
    changes: Mapping[str, Any],
    *,
    expected_version: int | None = None,
    allow_secret: bool = False,
    idempotency_key: str | None = None,
) -> Written:
    """Change the given fields of a memory of the actor's own, and only those.

    Raises NotFound, Forbidden (a shared one), Conflict (another version than expected, or another memory says exactly
    this), InvalidArgument, SecretDetected.
    """
    operation = Operation(
        "update", memory_id=memory_id, changes=changes, expected_version=expected_version, allow_secret=allow_secret
    )
    return _single(actor, operation, idempotency_key)


def delete(
    actor: Actor, memory_id: UUID, *, expected_version: int | None = None, idempotency_key: str | None = None
) -> Written:
    """Take a memory out of everything; `restore` brings it back for 30 days. Raises NotFound, Forbidden, Conflict."""
    operation = Operation("delete", memory_id=memory_id, expected_version=expected_version)
    return _single(actor, operation, idempotency_key)


def restore(actor: Actor, memory_id: UUID, *, idempotency_key: str | None = None) -> Written:
    """Bring a deleted memory back. Raises NotFound, and Conflict when it is not deleted or its place is taken."""
    actor.require(Scope.WRITE)

    def write() -> list[Outcome]:
        memory = _lock_own(actor, memory_id, deleted=True)
        if memory.state != State.DELETED:
            raise Conflict("This memory is not deleted, so there is nothing to restore.")
        memory.state, memory.deleted_at = State.ACTIVE, None
        _save_change(actor, memory, Event.RESTORE, before={"state": State.DELETED}, after={"state": State.ACTIVE})
        return [Written(memory.id, Event.RESTORE)]

    try:
        with acting_as(actor):
            outcome = _once(actor, idempotency_key, {"restore": memory_id}, write)[0]
    except IntegrityError as error:
        raise _collision() from error
    return _raise_refused(outcome)


def delete_all(
    actor: Actor,
    *,
    namespace: str | None = None,
    user_id: str | None = None,
    agent_id: str | None = None,
    run_id: str | None = None,
    everything: bool = False,
    dry_run: bool = False,
) -> int:
    """Delete every memory of the actor's own in this scope, and say how many that was. `dry_run` only counts.

    Works through them in transactions of 500, so that a large space locks nothing for long, and goes on until none is
    left. Raises InvalidArgument without a scope: nobody wipes a space by forgetting a parameter.
    """
    actor.require(Scope.WRITE)
    labels = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
    scope = {name: value for name, value in labels.items() if value is not None}
    if not scope and namespace is None and not everything:
        raise InvalidArgument(
            "Name what to delete: namespace, user_id, agent_id or run_id; or all=true for everything of yours."
        )

    def rows() -> MemoryQuerySet:
        found = Memory.objects.owned_by(actor).alive().filter(**scope)
        if namespace is not None:
            names = Namespace.objects.filter(owner_id=actor.owner_id, name=texts.clean_namespace(namespace))
            found = found.filter(namespace_id__in=names.values("id"))
        return found

    if dry_run:
        with acting_as(actor):
            return rows().count()
    deleted = 0
    while True:
        with acting_as(actor):
            page = list(rows().order_by("id").select_for_update(of=("self",)).defer("embedding")[:_CHUNK])
            if not page:
                break
            for memory in page:
                _delete_locked(actor, memory)
            deleted += len(page)
    log.info("memories_deleted", owner_id=actor.owner_id, count=deleted, scope=sorted(scope) or ["namespace", "all"])
    return deleted


# Sharing ------------------------------------------------------------------------------------------------------------


def share(
    actor: Actor,
    *,
    grantee: str,
    memory_id: UUID | None = None,
    namespace: str | None = None,
    can_add: bool = False,
    expires_at: datetime | None = None,
) -> tuple[Share, bool]:
    """Let another user read one memory or one namespace of the actor's own; True when the share is new.

    The same share again changes `can_add` and `expires_at`. Raises NotFound, InvalidArgument.
    """
    actor.require(Scope.WRITE)
    if (memory_id is None) == (namespace is None):
        raise InvalidArgument("Name one thing to share: a memory or a namespace.")
    if can_add and memory_id is not None:
        raise InvalidArgument("can_add goes with a namespace; one memory can only be read.")
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidArgument("expires_at lies in the past.", errors={"expires_at": ["must be in the future"]})
    user_model = type(actor.user)
    other = user_model.objects.filter(username=grantee, is_active=True).first() if actor.user else None
    if other is None:
        raise NotFound(f"There is no user named {grantee!r}.")
    if other.pk == actor.owner_id:
        raise InvalidArgument("This is yours already; name another user to share it with.")
    with acting_as(actor):
        target: dict[str, Any] = {"memory_id": None, "namespace_id": None}
        if memory_id is not None:
            memory = _lock_own(actor, memory_id)
            target["memory_id"] = memory.id
            _record(actor, memory, Event.SHARE, after={"grantee": other.username})
        else:
            target["namespace_id"] = _existing_namespace(actor, str(namespace)).id
        values = {"can_add": can_add, "expires_at": expires_at}
        found, created = Share.objects.update_or_create(
            owner_id=actor.owner_id, grantee_id=other.pk, revoked_at=None, **target, defaults=values
        )
        return found, created


def unshare(actor: Actor, share_id: UUID) -> Share:
    """End a share that the actor gave, at once. Raises NotFound."""
    actor.require(Scope.WRITE)
    with acting_as(actor):
        found = Share.objects.select_for_update().filter(owner_id=actor.owner_id, id=share_id, revoked_at=None).first()
        if found is None:
            raise NotFound("There is no such share of yours, or it has ended already.")
        found.revoked_at = timezone.now()
        found.save(update_fields=["revoked_at"])
        memory = Memory.objects.owned_by(actor).filter(id=found.memory_id).defer("embedding").first()
        if memory is not None:
            _record(actor, memory, Event.SHARE, before={"grantee_id": found.grantee_id}, after={"revoked": True})
        return found


# Namespaces, apps, categories ---------------------------------------------------------------------------------------


def set_app_active(actor: Actor, app_id: UUID, *, is_active: bool) -> App:
    """Let an app write, or keep it from writing. Raises NotFound."""
    actor.require(Scope.WRITE)
    with acting_as(actor):
        app = App.objects.select_for_update().filter(owner_id=actor.owner_id, id=app_id).first()
        if app is None:
            raise NotFound("There is no such app of yours.")
        app.is_active = is_active
        app.save(update_fields=["is_active"])
        return app


def add_category(actor: Actor, name: str, *, description: str = "") -> tuple[Category, bool]:
    """A category of the actor's own with this name; True when it is new."""
    actor.require(Scope.WRITE)
    cleaned = texts.clean_categories([name])[0]
    with acting_as(actor):
        return Category.objects.get_or_create(
            owner_id=actor.owner_id, name=cleaned, defaults={"description": description}
        )


def delete_category(actor: Actor, category_id: UUID) -> None:
    """Take a category away, and from every memory that had it; the memories stay. Raises NotFound."""
    actor.require(Scope.WRITE)
    with acting_as(actor):
        count, _ = Category.objects.filter(owner_id=actor.owner_id, id=category_id).delete()
    if not count:
        raise NotFound("There is no such category of yours.")


# How an addition is made --------------------------------------------------------------------------------------------


@dataclass
class _Draft:
    """A checked addition with everything that can be computed before the transaction."""

    memory: Memory
    namespace: str
    app: str | None
    categories: list[str]
    terms: Mapping[str, int]


def _prepare_all(actor: Actor, operations: Sequence[Operation]) -> list[_Draft | Refused | None]:
    """Check every addition and compute its vector and terms; None for the other operations."""
    prepared: list[_Draft | Refused | None] = []
    for operation in operations:
        if operation.op != "add":
            prepared.append(None)
            continue
        assert operation.new is not None  # noqa: S101  Operation's own rule
        try:
            prepared.append(_prepare(actor, operation.new))
        except Mem0Error as error:
            prepared.append(Refused(error))
    drafts = [draft for draft in prepared if isinstance(draft, _Draft)]
    vectors = embed_documents([_embedded_text(draft.memory) for draft in drafts])
    for draft, vector in zip(drafts, vectors, strict=True):
        draft.memory.embedding = vector
    return prepared


def _prepare(actor: Actor, new: NewMemory) -> _Draft:
    texts.check_content(new.content)
    texts.check_metadata(new.metadata)
    tags = texts.clean_tags(new.tags)
    for label in ("app", "user_id", "agent_id", "run_id", "speaker"):
        texts.check_label(label, getattr(new, label))
    if not new.allow_secret:
        texts.refuse_secrets(content=new.content, metadata=new.metadata, tags=tags)
    if new.seq is not None and not 0 <= new.seq <= _MAX_SEQ:
        raise InvalidArgument(f"seq is a whole number from 0 to {_MAX_SEQ}.", errors={"seq": ["out of range"]})
    if new.seq is not None and new.run_id is None:
        raise InvalidArgument("seq is a place within a run; send run_id too.", errors={"run_id": ["needed with seq"]})
    _check_kind(new.kind)
    _check_validity(new.valid_from, new.valid_to)
    run_id = new_run_id() if new.kind == Kind.MESSAGE and new.run_id is None else new.run_id
    now = timezone.now()
    memory_id = uuid7()
    terms = document_terms(_embedded(new.speaker, new.content))
    importance, confidence, quality = _weights(new.kind, pinned=new.pinned, terms=len(terms))
    memory = Memory(
        id=memory_id,
        short_id=memory_id.hex[-8:],
        written_by_id=actor.owner_id,
        content=new.content,
        content_hash=texts.content_hash(new.content),
        kind=new.kind,
        user_id=new.user_id,
        agent_id=new.agent_id,
        run_id=run_id,
        seq=new.seq,
        speaker=new.speaker,
        event_at=new.event_at or now,
        valid_from=new.valid_from,
        valid_to=new.valid_to,
        expires_at=new.expires_at,
        pinned_at=now if new.pinned else None,
        metadata=dict(new.metadata),
        tags=tags,
        importance=importance,
        confidence=confidence,
        quality=quality,
        term_count=length(terms),
        asks=new.content.rstrip().endswith(("?", "？")),
        created_at=now,
        updated_at=now,
    )
    namespace = PERSONAL if new.namespace is None else texts.clean_namespace(new.namespace)
    return _Draft(memory, namespace, new.app or actor.app, texts.clean_categories(new.categories), terms)


def _weights(kind: str, *, pinned: bool, terms: int) -> tuple[float, float, float]:
    """Importance, confidence, quality at the time of writing, each 0..1. The rules are in docs/memories.md."""
    importance = {
        Kind.MESSAGE: 0.3,
        Kind.PREFERENCE: 0.7,
        Kind.DECISION: 0.7,
        Kind.PROCEDURE: 0.6,
        Kind.ERROR: 0.6,
    }.get(Kind(kind), 0.5)
    if pinned:
        importance = min(1.0, importance + 0.2)
    confidence = 0.6 if kind == Kind.MESSAGE else 0.8
    quality = 0.3 if terms < 3 else 0.5
    return importance, confidence, quality


def _apply(actor: Actor, operations: Sequence[Operation], prepared: Sequence[_Draft | Refused | None]) -> list[Outcome]:
    """Do them in order, neighbouring additions at once. Runs in the caller's transaction."""
    outcomes: list[Outcome] = []
    additions: list[_Draft | Refused] = []
    for operation, draft in zip(operations, prepared, strict=True):
        if draft is not None:
            additions.append(draft)
            continue
        outcomes += _add_drafts(actor, additions)
        additions = []
        outcomes.append(_change(actor, operation))
    return outcomes + _add_drafts(actor, additions)


def _add_drafts(actor: Actor, drafts: Sequence[_Draft | Refused]) -> list[Outcome]:
    """Insert what is new, confirm what is known. One outcome for each draft, in their order."""
    outcomes: dict[int, Outcome] = {place: draft for place, draft in enumerate(drafts) if isinstance(draft, Refused)}
    by_space: dict[int, tuple[Actor, list[int]]] = {}
    for place, draft in enumerate(drafts):
        if isinstance(draft, _Draft):
            try:
                owner, namespace = _space(actor, draft.namespace)
            except Mem0Error as error:
                outcomes[place] = Refused(error)
                continue
            draft.namespace = namespace
            by_space.setdefault(owner.owner_id, (owner, []))[1].append(place)
    for owner, places in by_space.values():
        with acting_as(owner):
            mine = [draft for place in places if isinstance(draft := drafts[place], _Draft)]
            for place, outcome in zip(places, _add_to_space(owner, mine, writer=actor), strict=True):
                outcomes[place] = outcome
    return [outcomes[place] for place in range(len(drafts))]


def _space(actor: Actor, namespace: str) -> tuple[Actor, str]:
    """Whose space a namespace's name means: the actor's own, or for `alice/name` Alice's, if she lets the actor add.

    In Alice's space the actor acts as Alice, but only for this; `written_by` says who it was.
    """
    owner_name, slash, name = namespace.partition("/")
    if slash:
        grant = (
            Share.objects.received_by(actor)
            .filter(owner__username=owner_name, namespace__name=name)
            .select_related("owner")
            .first()
        )
        if grant is not None:
            if not grant.can_add:
                raise Forbidden(f"{owner_name} shares {name!r} with you for reading only. Ask for can_add.")
            return replace(actor, user=grant.owner), name
    actor.require_namespace(namespace)
    return actor, namespace


def _add_to_space(owner: Actor, drafts: Sequence[_Draft], *, writer: Actor) -> list[Outcome]:
    namespaces = _get_or_create_names(Namespace, owner.owner_id, {draft.namespace for draft in drafts})
    apps = _get_or_create_names(App, owner.owner_id, {draft.app for draft in drafts if draft.app})
    outcomes: dict[int, Outcome] = {}
    for place, draft in enumerate(drafts):
        draft.memory.owner_id = owner.owner_id
        draft.memory.namespace_id = namespaces[draft.namespace].id
        app = apps.get(draft.app or "")
        draft.memory.app_id = app.id if app else None
        if app is not None and not app.is_active:
            outcomes[place] = Refused(Forbidden(f"The app {app.name!r} is paused. Make it active to let it write."))
    allowed = [(place, draft) for place, draft in enumerate(drafts) if place not in outcomes]
    _assign_seq(owner.owner_id, [draft.memory for _, draft in allowed])
    rows = [draft.memory for _, draft in allowed]
    Memory.objects.bulk_create(rows, ignore_conflicts=True)
    inserted = set(
        Memory.objects.filter(owner_id=owner.owner_id, id__in=[row.id for row in rows]).values_list("id", flat=True)
    )
    new = [draft for _, draft in allowed if draft.memory.id in inserted]
    _insert_terms(new)
    _link_categories(owner.owner_id, {draft.memory.id: draft.categories for draft in new})
    _record_all(writer, [(draft.memory, Event.ADD, None, {"content": draft.memory.content}) for draft in new])
    outbox.write(
        owner.owner_id,
        [outbox.event_for(d.memory.id, Event.ADD, memories=1, terms=d.memory.term_count) for d in new],
    )
    for place, draft in allowed:
        if draft.memory.id in inserted:
            outcomes[place] = Written(draft.memory.id, Event.ADD)
        else:
            outcomes[place] = _confirm(owner, draft, writer=writer)
    return [outcomes[place] for place in range(len(drafts))]


def _assign_seq(owner_id: int, memories: Sequence[Memory]) -> None:
    """Give every memory of a run that has no place the next one, under a lock per run."""
    runs: dict[tuple[UUID, str], list[Memory]] = {}
    for memory in memories:
        if memory.run_id is not None and memory.seq is None:
            runs.setdefault((memory.namespace_id, memory.run_id), []).append(memory)
    locks = {_run_lock(owner_id, *run): run for run in runs}
    # Every writer takes its locks in the order of their numbers, or two batches over two runs would wait for each other.
    for lock in sorted(locks):
        namespace_id, run_id = locks[lock]
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock])
        in_run = Memory.objects.filter(owner_id=owner_id, namespace_id=namespace_id, run_id=run_id)
        last = in_run.aggregate(last=Max("seq"))["last"]
        given = [m.seq for m in memories if (m.namespace_id, m.run_id) == (namespace_id, run_id) and m.seq is not None]
        following = max([-1 if last is None else last, *given]) + 1
        for offset, memory in enumerate(runs[namespace_id, run_id]):
            memory.seq = following + offset


def _run_lock(owner_id: int, namespace_id: UUID, run_id: str) -> int:
    digest = hashlib.sha256(f"run {owner_id} {namespace_id} {run_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _confirm(owner: Actor, draft: _Draft, *, writer: Actor) -> Outcome:
    """The memory that stood in the draft's way: merge its tags, trust it more, and name it."""
    draft_memory = draft.memory
    same = Memory.objects.filter(owner_id=owner.owner_id, namespace_id=draft_memory.namespace_id).alive()
    if draft_memory.kind == Kind.MESSAGE:
        same = same.filter(kind=Kind.MESSAGE, run_id=draft_memory.run_id, seq=draft_memory.seq)
    else:
        same = same.filter(
            user_id=draft_memory.user_id, agent_id=draft_memory.agent_id, content_hash=draft_memory.content_hash
        ).exclude(kind=Kind.MESSAGE)
    found = same.select_for_update(of=("self",)).defer("embedding").first()
    if found is None:
        return Refused(Conflict("Another writer deleted the same memory at this moment. Send it again."))
    if bytes(found.content_hash) != draft_memory.content_hash:
        return Refused(
            Conflict(
                f"Place {found.seq} of the run {found.run_id!r} holds another message ({found.short_id})."
                " Leave seq out to have the next place, or update that memory."
            )
        )
    if found.standing != Standing.CURRENT:
        # What was found wrong or out of date stays so when somebody says it again.
        return Written(found.id, Event.CONFIRM)
    before: dict[str, Any] = {"confidence": found.confidence}
    after: dict[str, Any] = {"confidence": round(found.confidence + (1 - found.confidence) * 0.2, 4)}
    tags = list(dict.fromkeys([*found.tags, *draft_memory.tags]))[: texts.MAX_TAGS]
    if tags != found.tags:
        before["tags"], after["tags"] = found.tags, tags
    if found.state == State.ARCHIVED or (found.expires_at is not None and found.expires_at <= timezone.now()):
        # Acknowledged means searchable: what somebody saves again comes back into use.
        before |= {"state": found.state, "expires_at": found.expires_at}
        after |= {"state": State.ACTIVE, "expires_at": draft_memory.expires_at}
        found.archived_at = None
    for name, value in after.items():
        setattr(found, name, value)
    _save_change(
        writer, found, Event.CONFIRM, before=before, after=after, terms=_terms_of(found) if "tags" in after else None
    )
    _link_categories(owner.owner_id, {found.id: draft.categories})
    return Written(found.id, Event.CONFIRM)


# How a change is made -----------------------------------------------------------------------------------------------

CHANGEABLE = frozenset(
    {"content", "kind", "metadata", "tags", "categories", "namespace", "speaker", "event_at", "valid_from", "valid_to"}
    | {"expires_at", "pinned", "state", "standing", "superseded_by"}
)


def _single(actor: Actor, operation: Operation, idempotency_key: str | None) -> Written:
    return _raise_refused(batch(actor, [operation], atomic=True, idempotency_key=idempotency_key)[0])


def _change(actor: Actor, operation: Operation) -> Outcome:
    assert operation.memory_id is not None  # noqa: S101  Operation's own rule
    try:
        with acting_as(actor):
            memory = _lock_own(actor, operation.memory_id)
            if operation.expected_version not in (None, memory.version):
                raise Conflict(
                    f"This memory is at version {memory.version}, not {operation.expected_version}. Read it, and decide again.",
                    errors={"version": memory.version, "content": memory.content},
                )
            if operation.op == "delete":
                _delete_locked(actor, memory)
                return Written(memory.id, Event.DELETE)
            return _update_locked(actor, memory, operation)
    except IntegrityError:
        return Refused(_collision())
    except Mem0Error as error:
        return Refused(error)


def _delete_locked(actor: Actor, memory: Memory) -> None:
    before = {"state": memory.state}
    memory.state, memory.deleted_at = State.DELETED, timezone.now()
    _save_change(actor, memory, Event.DELETE, before=before, after={"state": State.DELETED})


def _update_locked(actor: Actor, memory: Memory, operation: Operation) -> Written:
    changes = _checked_changes(actor, operation)
    categories = changes.pop("categories", None)
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for name, value in changes.items():
        if getattr(memory, name) != value:
            before[name], after[name] = getattr(memory, name), value
            setattr(memory, name, value)
    _check_validity(memory.valid_from, memory.valid_to)
    if memory.superseded_by_id is not None and memory.standing != Standing.SUPERSEDED:
        memory.superseded_by_id = None
    if categories is not None:
        had = sorted(memory.category_links.values_list("category__name", flat=True))
        if had != categories:
            before["categories"], after["categories"] = had, categories
            MemoryCategory.objects.filter(owner_id=memory.owner_id, memory_id=memory.id).delete()
            _link_categories(memory.owner_id, {memory.id: categories})
    if not after:
        return Written(memory.id, Event.UPDATE)
    if "state" in after:
        memory.archived_at = timezone.now() if memory.state == State.ARCHIVED else None
    retext = {"content", "speaker"} & set(after)
    if retext:
        memory.content_hash = texts.content_hash(memory.content)
        memory.asks = memory.content.rstrip().endswith(("?", "？"))
        memory.embedding = embed_documents([_embedded_text(memory)])[0]
    terms = _terms_of(memory) if retext or "tags" in after else None
    _save_change(actor, memory, _event_of(after), before=before, after=after, terms=terms)
    return Written(memory.id, _event_of(after))


def _event_of(after: Mapping[str, Any]) -> str:
    if "standing" in after and after["standing"] != Standing.CURRENT:
        return Event.REJECT if after["standing"] == Standing.REJECTED else Event.SUPERSEDE
    return Event.STATE if set(after) == {"state"} else Event.UPDATE


def _checked_changes(actor: Actor, operation: Operation) -> dict[str, Any]:
    changes = dict(operation.changes)
    unknown = sorted(set(changes) - CHANGEABLE)
    if unknown:
        raise InvalidArgument(
            f"{', '.join(unknown)} cannot be changed. What can: {', '.join(sorted(CHANGEABLE))}.",
            errors={name: ["cannot be changed"] for name in unknown},
        )
    if "content" in changes:
        texts.check_content(changes["content"])
    if "metadata" in changes:
        texts.check_metadata(changes["metadata"])
    if "tags" in changes:
        changes["tags"] = texts.clean_tags(changes["tags"])
    if not operation.allow_secret:
        texts.refuse_secrets(
            content=changes.get("content", ""), metadata=changes.get("metadata"), tags=changes.get("tags", ())
        )
    if "categories" in changes:
        changes["categories"] = texts.clean_categories(changes["categories"])
    if "speaker" in changes:
        texts.check_label("speaker", changes["speaker"])
    if "kind" in changes:
        _check_kind(changes["kind"])
    if changes.get("event_at", True) is None:
        raise InvalidArgument("event_at can be moved, but not taken away.", errors={"event_at": ["may not be null"]})
    if "state" in changes and changes["state"] not in (State.ACTIVE, State.PAUSED, State.ARCHIVED):
        raise InvalidArgument(
            "state is active, paused or archived; delete a memory to delete it.", errors={"state": ["unknown"]}
        )
    if "standing" in changes and changes["standing"] not in Standing.values:
        raise InvalidArgument(f"standing is one of {', '.join(Standing.values)}.", errors={"standing": ["unknown"]})
    if "pinned" in changes:
        changes["pinned_at"] = timezone.now() if changes.pop("pinned") else None
    if "namespace" in changes:
        name = texts.clean_namespace(changes.pop("namespace"))
        actor.require_namespace(name)
        changes["namespace_id"] = _get_or_create_names(Namespace, actor.owner_id, {name})[name].id
    if "superseded_by" in changes:
        successor = changes.pop("superseded_by")
        if successor is not None:
            if successor == operation.memory_id:
                raise InvalidArgument("A memory cannot supersede itself.", errors={"superseded_by": ["itself"]})
            _lock_own(actor, successor)
            changes["standing"] = Standing.SUPERSEDED
        changes["superseded_by_id"] = successor
    return changes


def _save_change(
    actor: Actor,
    memory: Memory,
    event: str,
    *,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    terms: Mapping[str, int] | None = None,
) -> None:
    """Save a locked, changed row with its postings (if `terms` is given), its history and its outbox event."""
    counted = {State.DELETED: -1}.get(State(after["state"]), 0) if "state" in after else 0
    if event == Event.RESTORE:
        counted = 1
    old_count = memory.term_count
    if terms is not None:
        memory.term_count = length(terms)
    if event != Event.CONFIRM or "tags" in after or "state" in after:
        memory.version += 1
    memory.updated_at = timezone.now()
    memory.save(update_fields=_SAVED if memory.get_deferred_fields() else None)
    if terms is not None:
        MemoryTerm.objects.filter(owner_id=memory.owner_id, memory_id=memory.id).delete()
        _insert_terms([_Draft(memory, "", None, [], terms)])
    _record(actor, memory, event, before=before, after=after)
    numbers = {"memories": counted, "terms": counted * memory.term_count or memory.term_count - old_count}
    outbox.write(memory.owner_id, [outbox.event_for(memory.id, event, **numbers)])


_SAVED = [
    *("state", "standing", "tags", "confidence", "expires_at", "archived_at", "deleted_at"),
    *("term_count", "version", "updated_at"),
]


def _record(
    actor: Actor,
    memory: Memory,
    event: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    _record_all(actor, [(memory, event, before, after)])


def _record_all(
    actor: Actor, changes: Sequence[tuple[Memory, str, Mapping[str, Any] | None, Mapping[str, Any] | None]]
) -> None:
    MemoryHistory.objects.bulk_create(
        MemoryHistory(
            owner_id=memory.owner_id,
            memory_id=memory.id,
            event=event,
            by=actor.user,
            door=actor.door,
            app=actor.app,
            version=memory.version,
            before=_plain(before),
            after=_plain(after),
        )
        for memory, event, before, after in changes
    )


def _plain(values: Mapping[str, Any] | None) -> Any:
    """What JSON can hold of these values: times and ids become text."""
    return None if values is None else orjson.loads(orjson.dumps(values, default=str))


# Rows ---------------------------------------------------------------------------------------------------------------


def _lock_own(actor: Actor, memory_id: UUID, *, deleted: bool = False) -> Memory:
    """The actor's own memory, locked. NotFound for what they may not see, Forbidden for what is only shared."""
    rows = Memory.objects.owned_by(actor).filter(id=memory_id)
    found = (rows if deleted else rows.alive()).select_for_update(of=("self",)).defer("embedding").first()
    if found is not None:
        return found
    shared = Memory.objects.visible_to(actor).alive().filter(id=memory_id).values_list("owner__username", flat=True)
    if owner := shared.first():
        raise Forbidden(f"This memory is {owner}'s and shared with you for reading. Only {owner} can change it.")
    raise NotFound("There is no such memory, or none that you may see.")


def _existing_namespace(actor: Actor, name: str) -> Namespace:
    cleaned = texts.clean_namespace(name)
    actor.require_namespace(cleaned)
    found = Namespace.objects.filter(owner_id=actor.owner_id, name=cleaned).first()
    if found is None:
        raise NotFound(f"There is no namespace {cleaned!r} of yours. Writing a memory to it creates it.")
    return found


NamedModel = TypeVar("NamedModel", Namespace, App, Category)


def _get_or_create_names(model: type[NamedModel], owner_id: int, names: set[str]) -> dict[str, NamedModel]:
    """The owner's rows with these names, made where they are not there yet."""
    if not names:
        return {}
    rows = model._default_manager.filter(owner_id=owner_id, name__in=sorted(names))
    found = {row.name: row for row in rows}
    missing = sorted(names - set(found))
    if missing:
        model._default_manager.bulk_create(
            [model(owner_id=owner_id, name=name) for name in missing], ignore_conflicts=True
        )
        found = {row.name: row for row in rows.all()}
    return found


def _link_categories(owner_id: int, names: Mapping[UUID, Sequence[str]]) -> None:
    categories = _get_or_create_names(Category, owner_id, {name for some in names.values() for name in some})
    MemoryCategory.objects.bulk_create(
        [
            MemoryCategory(owner_id=owner_id, memory_id=memory_id, category=categories[name])
            for memory_id, some in names.items()
            for name in some
        ],
        ignore_conflicts=True,
    )


def _insert_terms(drafts: Sequence[_Draft]) -> None:
    """Write the postings of text and tags: one statement for all, in the order of their index."""
    postings = sorted(
        (term, draft.memory.owner_id, draft.memory.id, tf)
        for draft in drafts
        for term, tf in [*draft.terms.items(), *((tag_term(tag), 1) for tag in draft.memory.tags)]
    )
    if not postings:
        return
    terms, owners, memories, frequencies = zip(*postings, strict=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO memories_memoryterm (owner_id, term, memory_id, tf)"
            " SELECT * FROM unnest(%s::bigint[], %s::text[], %s::uuid[], %s::smallint[])",
            [list(owners), list(terms), list(memories), list(frequencies)],
        )


def _terms_of(memory: Memory) -> Mapping[str, int]:
    return document_terms(_embedded_text(memory))


def _embedded_text(memory: Memory) -> str:
    return _embedded(memory.speaker, memory.content)


def _embedded(speaker: str | None, content: str) -> str:
    return f"{speaker}: {content}" if speaker else content


# Once ---------------------------------------------------------------------------------------------------------------


def _once(
    actor: Actor, key: str | None, request: Mapping[str, Any], write: Callable[[], list[Outcome]]
) -> list[Outcome]:
    """Run `write` unless this key was used before; then give the earlier outcome. In the caller's transaction.

    Two requests with one key at the same moment: the second waits at the unique index for the first, and then reads
    what it did. A key with another request is a Conflict.
    """
    if key is None:
        return write()
    if not key.strip() or len(key) > _KEY_LENGTH or not key.isprintable():
        raise InvalidArgument(
            f"An idempotency key has 1 to {_KEY_LENGTH} printable characters.", errors={"idempotency_key": ["invalid"]}
        )
    request_hash = hashlib.sha256(orjson.dumps(request, default=str, option=orjson.OPT_SORT_KEYS)).digest()
    mine = IdempotencyKey(owner_id=actor.owner_id, key=key, request_hash=request_hash)
    IdempotencyKey.objects.bulk_create([mine], ignore_conflicts=True)
    stored = IdempotencyKey.objects.get(owner_id=actor.owner_id, key=key)
    if stored.id != mine.id:
        if bytes(stored.request_hash) != request_hash:
            raise Conflict("This idempotency key was used for another request. Take a new key for a new request.")
        return [_outcome(entry) for entry in stored.response]
    outcomes = write()
    stored.response = [_entry(outcome) for outcome in outcomes]
    stored.save(update_fields=["response"])
    return outcomes


_KEY_LENGTH = 255


def _entry(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Written):
        return {"id": str(outcome.memory_id), "event": outcome.event}
    return {"code": outcome.error.code, "status": outcome.error.status, "detail": outcome.error.detail}


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    if "id" in entry:
        return Written(UUID(entry["id"]), entry["event"])
    error = Mem0Error(entry["detail"])
    error.code, error.status = entry["code"], entry["status"]
    return Refused(error)


# Refusals -----------------------------------------------------------------------------------------------------------


def _raise_first(outcomes: Sequence[object]) -> None:
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, Refused):
            if len(outcomes) > 1:
                outcome.error.detail = f"[{place}] {outcome.error.detail} Nothing was written."
            raise outcome.error


def _raise_refusals(outcomes: Sequence[Outcome]) -> None:
    reasons = {
        str(place): {"code": outcome.error.code, "detail": outcome.error.detail}
        for place, outcome in enumerate(outcomes)
        if isinstance(outcome, Refused)
    }
    raise NothingValid("None of the operations can be applied; `errors` says why for each.", errors=reasons)


def _raise_refused(outcome: Outcome) -> Written:
    if isinstance(outcome, Refused):
        raise outcome.error
    return outcome


def _collision() -> Conflict:
    return Conflict("Another memory in the same place says exactly this. Update or delete that one instead.")


def _check_kind(kind: str) -> None:
    if kind not in Kind.values:
        raise InvalidArgument(f"kind is one of {', '.join(Kind.values)}.", errors={"kind": ["unknown"]})


def _check_validity(valid_from: datetime | None, valid_to: datetime | None) -> None:
    if valid_from is not None and valid_to is not None and valid_to < valid_from:
        raise InvalidArgument("valid_to lies before valid_from.", errors={"valid_to": ["before valid_from"]})
