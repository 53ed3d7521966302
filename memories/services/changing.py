"""How a change of one memory is made, under its row's lock."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson
from django.db import IntegrityError, connection
from django.db.models import F
from django.utils import timezone

from accounts.actors import Actor, acting_as
from mem0stack.lib.errors import Conflict, InvalidArgument, Mem0Error
from memories import outbox, texts
from memories.embeddings import embed_documents
from memories.lexical import document_terms, length
from memories.models import (
    Category,
    Event,
    Kind,
    Memory,
    MemoryCategory,
    MemoryHistory,
    Standing,
    State,
)
from memories.services import rows
from memories.services.locking import lock_rows
from memories.services.outcomes import Outcome, Refused, Step, Written, collision

CHANGEABLE = frozenset(
    {"content", "kind", "metadata", "tags", "categories", "namespace", "speaker", "event_at", "valid_from", "valid_to"}
    | {"expires_at", "pinned", "state", "standing", "superseded_by"}
)
# What a memory is worth, which is no version of it: it rises while somebody edits.
_TRUST = {"confidence", "quality"}
TIMES = ("event_at", "valid_from", "valid_to", "expires_at")


def prepare(step: Step) -> Step | Refused:
    """An update or deletion with its changes checked and in their stored form. Touches no database."""
    try:
        return replace(step, changes=_checked(step))
    except Mem0Error as error:
        return Refused(error)


def take_locks(actor: Actor, steps: Sequence[Step]) -> None:
    """Take everything that several steps will lock, in the order that all writers keep to."""
    successors = {step.changes["superseded_by"] for step in steps if step.changes.get("superseded_by")}
    ids = {step.memory_id for step in steps if step.memory_id is not None} | successors
    if len(ids) < 2:
        return
    found = lock_rows(actor, ids)
    changes = [step.changes for step in steps if step.memory_id in found]
    namespaces = {change["namespace"] for change in changes if "namespace" in change}
    rows.namespaces_for(actor, {name for name in namespaces if actor.may_use(name)})
    categories = {name for change in changes for name in change.get("categories", ())}
    rows.get_or_create_names(Category, actor.owner_id, categories)


def apply(actor: Actor, step: Step) -> Outcome:
    """One prepared update or deletion within a batch: a refusal undoes this one alone."""
    assert step.memory_id is not None  # noqa: S101  Step's own rule
    try:
        with acting_as(actor):
            memory = rows.lock_own(actor, step.memory_id)
            if step.expected_version not in (None, memory.version):
                raise Conflict(
                    f"This memory is at version {memory.version}, not {step.expected_version}."
                    " Read it, and decide again.",
                    errors={"version": memory.version, "content": memory.content},
                )
            if step.op == "delete":
                delete(actor, memory)
                return Written(memory.id, Event.DELETE)
            return _update(actor, memory, step)
    except IntegrityError:
        return Refused(collision())
    except Mem0Error as error:
        return Refused(error)


def delete(actor: Actor, memory: Memory) -> None:
    """Take a locked memory out of everything, for now."""
    save_change(actor, memory, Event.DELETE, {"state": State.DELETED, "deleted_at": timezone.now()})


def delete_many(actor: Actor, memories: Sequence[Memory]) -> None:
    """Take locked memories of one owner out of everything, in a few statements for all of them."""
    now = timezone.now()
    owner_id = actor.owner_id
    ids = [memory.id for memory in memories]
    Memory.objects.filter(owner_id=owner_id, id__in=ids).update(
        state=State.DELETED, deleted_at=now, updated_at=now, version=F("version") + 1
    )
    for memory in memories:
        memory.version += 1
    rows.record_all(actor, [(m, Event.DELETE, {"state": m.state}, {"state": State.DELETED}) for m in memories])
    outbox.write(owner_id, [outbox.event_for(m.id, Event.DELETE, memories=-1, terms=-m.term_count) for m in memories])


def restore(actor: Actor, memory: Memory) -> None:
    """Bring a locked, deleted memory back."""
    save_change(actor, memory, Event.RESTORE, {"state": State.ACTIVE, "deleted_at": None, "archived_at": None})


def save_change(
    actor: Actor, memory: Memory, event: str, changes: Mapping[str, Any], *, categories: list[str] | None = None
) -> None:
    """Write changed columns of a locked row, with all that hangs on them: vector, postings, history, outbox.

    `changes` holds column values under the model's attribute names. The version rises unless all that changed is how
    far the memory is trusted.
    """
    before = {name: getattr(memory, name) for name in changes}
    was_alive, had_terms = memory.state != State.DELETED, memory.term_count
    for name, value in changes.items():
        setattr(memory, name, value)
    written = dict(changes)
    if {"content", "speaker"} & set(changes):
        written |= derived_columns(memory)
    if categories is not None or not set(changes) <= _TRUST:
        written["version"] = memory.version + 1
    written["updated_at"] = timezone.now()
    for name, value in written.items():
        setattr(memory, name, value)
    mine = {"owner_id": memory.owner_id, "id": memory.id}
    Memory.objects.filter(**mine).update(**written)
    if {"content", "speaker", "tags"} & set(changes):
        rows.remove_derived(memory, with_vectors=bool({"content", "speaker"} & set(changes)))
        rows.write_derived(memory.owner_id, [(memory, rows.derive(memory))])
    after = dict(changes)
    if categories is not None:
        before["categories"] = sorted(memory.category_links.values_list("category__name", flat=True))
        after["categories"] = categories
        MemoryCategory.objects.filter(owner_id=memory.owner_id, memory_id=memory.id).delete()
        rows.link_categories(memory.owner_id, {memory.id: categories})
    rows.record(actor, memory, event, before=before, after=after)
    alive = memory.state != State.DELETED
    numbers = {
        "memories": alive - was_alive,
        "terms": alive * memory.term_count - was_alive * had_terms,
    }
    outbox.write(memory.owner_id, [outbox.event_for(memory.id, event, **numbers)])


def derived_columns(memory: Memory) -> dict[str, Any]:
    """The columns that follow from a memory's text."""
    text = rows.embedded_text(memory)
    return {
        "content_hash": texts.content_hash(memory.content),
        "asks": texts.asks(memory.content),
        "says_when": texts.says_when(memory.content),
        "term_count": length(document_terms(text)),
        "embedding": embed_documents([text])[0],
    }


def check_kind(kind: str) -> None:
    if kind not in Kind.values:
        raise InvalidArgument(f"kind is one of {', '.join(Kind.values)}.", errors={"kind": ["unknown"]})


def check_validity(valid_from: datetime | None, valid_to: datetime | None) -> None:
    if valid_from is not None and valid_to is not None and valid_to < valid_from:
        raise InvalidArgument("valid_to lies before valid_from.", errors={"valid_to": ["before valid_from"]})


def _update(actor: Actor, memory: Memory, step: Step) -> Written:
    given = _columns(actor, memory, step.changes)
    categories = given.pop("categories", None)
    changes = {name: value for name, value in given.items() if _differs(getattr(memory, name), value)}
    if changes.get("kind") == Kind.MESSAGE and (memory.run_id is None or memory.seq is None):
        raise InvalidArgument(
            "A message has a place in a run, and this memory has none. Add it as a message instead.",
            errors={"kind": ["needs run_id and seq"]},
        )
    check_validity(changes.get("valid_from", memory.valid_from), changes.get("valid_to", memory.valid_to))
    if changes.get("kind") == Kind.MESSAGE and memory.seq is None:
        raise InvalidArgument(
            "Only a memory with a place in a run can be a message; add it as one instead.",
            errors={"kind": ["needs run_id and seq"]},
        )
    if changes.get("standing", Standing.SUPERSEDED) != Standing.SUPERSEDED:
        changes["superseded_by_id"] = None
    if "valid_to" not in given:
        changes |= _end_of_validity(memory, changes.get("standing"), changes.get("valid_from", memory.valid_from))
    if "state" in changes:
        changes["archived_at"] = timezone.now() if changes["state"] == State.ARCHIVED else None
    if categories is not None and categories == sorted(memory.category_links.values_list("category__name", flat=True)):
        categories = None
    event = _event_of(changes)
    if changes or categories is not None:
        save_change(actor, memory, event, changes, categories=categories)
    return Written(memory.id, event)


def _end_of_validity(memory: Memory, standing: str | None, valid_from: datetime | None) -> dict[str, Any]:
    """What a new standing says of `valid_to`, where the caller says nothing: what is superseded was true until now,
    and what is current again, and was ended only by that, is so without an end."""
    if standing == Standing.SUPERSEDED and memory.valid_to is None:
        now = timezone.now()
        return {"valid_to": now if valid_from is None else max(now, valid_from)}
    if standing == Standing.CURRENT and memory.standing == Standing.SUPERSEDED and memory.valid_to is not None:
        mine = MemoryHistory.objects.filter(owner_id=memory.owner_id, memory_id=memory.id, event=Event.SUPERSEDE)
        last = mine.order_by("-id").first()
        before, after = (last.before or {}, last.after or {}) if last is not None else ({}, {})
        if before.get("valid_to", "") is None and datetime.fromisoformat(after["valid_to"]) == memory.valid_to:
            return {"valid_to": None}
    return {}


def _refuse_circle(actor: Actor, memory: Memory, successor: Memory) -> None:
    """Raises Conflict when the chain that begins at the locked successor leads back to the locked memory."""
    if successor.superseded_by_id is None:
        return
    with connection.cursor() as cursor:
        # One at a time: two links of one circle could each miss the other. A link to what has no successor is kept out
        # of a circle by the lock of that row.
        digest = hashlib.sha256(f"chains of {actor.owner_id}".encode()).digest()
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [int.from_bytes(digest[:8], "big", signed=True)])
        cursor.execute(
            """
            WITH RECURSIVE chain (id) AS (
                SELECT %(first)s::uuid
                UNION
                SELECT m.superseded_by_id FROM chain
                JOIN memories_memory m ON m.owner_id = %(owner)s AND m.id = chain.id
                WHERE m.superseded_by_id IS NOT NULL
            )
            SELECT 1 FROM chain WHERE id = %(memory)s
            """,
            {"first": successor.id, "owner": actor.owner_id, "memory": memory.id},
        )
        if cursor.fetchone() is not None:
            raise Conflict(
                "This memory supersedes that one already, directly or through others; both cannot be."
                " Set the other one's standing to current first.",
                errors={"superseded_by": ["a circle"]},
            )


def _differs(old: Any, new: Any) -> bool:
    """Whether to write. As JSON, 1 and true are two values, which Python holds for equal."""
    if isinstance(new, Mapping):
        return orjson.dumps(old, option=orjson.OPT_SORT_KEYS) != orjson.dumps(new, option=orjson.OPT_SORT_KEYS)
    return bool(old != new)


def _event_of(changes: Mapping[str, Any]) -> str:
    if changes.get("standing") == Standing.REJECTED:
        return Event.REJECT
    if changes.get("standing") == Standing.SUPERSEDED:
        return Event.SUPERSEDE
    return Event.STATE if set(changes) == {"state", "archived_at"} else Event.UPDATE


def _columns(actor: Actor, memory: Memory, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Checked changes as column values. Makes the namespace if it is new, and locks the successor."""
    values = dict(changes)
    if "pinned" in values:
        # What is pinned already keeps its time.
        values["pinned_at"] = (memory.pinned_at or timezone.now()) if values.pop("pinned") else None
    if "namespace" in values:
        name = values.pop("namespace")
        actor.require_namespace(name)
        values["namespace_id"] = rows.namespaces_for(actor, {name})[name].id
    if "superseded_by" in values:
        successor = values.pop("superseded_by")
        if successor is not None:
            _refuse_circle(actor, memory, rows.lock_own(actor, successor))
            values["standing"] = Standing.SUPERSEDED
        values["superseded_by_id"] = successor
    return values


def _checked(step: Step) -> dict[str, Any]:
    """The asked changes, texts in their stored form. Raises what a caller can mend."""
    changes = dict(step.changes)
    unknown = sorted(set(changes) - CHANGEABLE)
    if unknown:
        raise InvalidArgument(
            f"{', '.join(unknown)} cannot be changed. What can: {', '.join(sorted(CHANGEABLE))}.",
            errors={name: ["cannot be changed"] for name in unknown},
        )
    _check_texts(changes, allow_secret=step.allow_secret)
    if "kind" in changes:
        check_kind(changes["kind"])
    for name in TIMES:
        texts.check_time(name, changes.get(name))
    if changes.get("event_at", True) is None:
        raise InvalidArgument("event_at can be moved, but not taken away.", errors={"event_at": ["may not be null"]})
    if "state" in changes and changes["state"] not in (State.ACTIVE, State.PAUSED, State.ARCHIVED):
        raise InvalidArgument(
            "state is active, paused or archived; to delete a memory, delete it.", errors={"state": ["unknown"]}
        )
    if "standing" in changes and changes["standing"] not in Standing.values:
        raise InvalidArgument(f"standing is one of {', '.join(Standing.values)}.", errors={"standing": ["unknown"]})
    if changes.get("superseded_by") == step.memory_id:
        raise InvalidArgument("A memory cannot supersede itself.", errors={"superseded_by": ["itself"]})
    return changes


def _check_texts(changes: dict[str, Any], *, allow_secret: bool) -> None:
    """Check the texts among the changes, and put tags and categories into their stored form."""
    if "content" in changes:
        texts.check_content(changes["content"])
    if "metadata" in changes:
        texts.check_metadata(changes["metadata"])
    if "tags" in changes:
        changes["tags"] = texts.clean_tags(changes["tags"])
    if "categories" in changes:
        changes["categories"] = texts.clean_categories(changes["categories"])
    if "namespace" in changes:
        changes["namespace"] = texts.clean_namespace(changes["namespace"])
    if "speaker" in changes:
        texts.check_label("speaker", changes["speaker"])
    if not allow_secret:
        texts.refuse_secrets(
            content=changes.get("content", ""), metadata=changes.get("metadata"), tags=changes.get("tags", ())
        )
