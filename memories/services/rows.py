"""The rows behind a memory: names, postings, categories, history, and the lock every change begins with."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Model

from accounts.actors import Actor
from mem0stack.lib import prepared
from mem0stack.lib.bulk import as_json, insert_many
from mem0stack.lib.errors import Forbidden, NotFound
from mem0stack.lib.metrics import WRITES
from memories import outbox, texts
from memories.entities import Found, entities_of
from memories.lexical import document_terms, tag_term
from memories.models import App, Category, Event, Memory, MemoryCategory, MemoryHistory, Namespace, Relation
from memories.querysets import folder_of

NamedModel = TypeVar("NamedModel", Namespace, App, Category)
# Of one memory, aliases included.
MAX_MENTIONS = 64


def lock_own(actor: Actor, memory_id: UUID, *, deleted: bool = False) -> Memory:
    """The actor's own memory, locked. NotFound for what they may not see, Forbidden for what is only shared."""
    rows = Memory.objects.owned_by(actor).filter(id=memory_id)
    found: Memory | None = (
        (rows if deleted else rows.alive()).select_for_update(of=("self",), no_key=True).defer("embedding").first()
    )
    if found is not None:
        return found
    shared = Memory.objects.visible_to(actor).alive().filter(id=memory_id).values_list("owner__username", flat=True)
    if owner := shared.first():
        raise Forbidden(f"This memory is {owner}'s and shared with you for reading. Only {owner} can change it.")
    raise NotFound("There is no such memory, or none that you may see.")


def existing_namespace(actor: Actor, name: str) -> Namespace:
    cleaned = texts.clean_namespace(name)
    actor.require_namespace(cleaned)
    found: Namespace | None = Namespace.objects.filter(owner_id=actor.owner_id, name=cleaned).first()
    if found is None:
        raise NotFound(f"There is no namespace {cleaned!r} of yours. Writing a memory to it creates it.")
    return found


def get_or_create_names(model: type[NamedModel], owner_id: int, names: set[str]) -> dict[str, NamedModel]:
    """The owner's rows with these names, made where they are not there yet."""
    if not names:
        return {}
    rows = _by_name[model]
    found = {row.name: row for row in rows.fetch(owner_id, sorted(names))}
    missing = sorted(names - set(found))
    if missing:
        model._default_manager.bulk_create(
            [model(owner_id=owner_id, name=name) for name in missing], ignore_conflicts=True
        )
        found = {row.name: row for row in rows.fetch(owner_id, sorted(names))}
    return found


def namespaces_for(actor: Actor, names: set[str]) -> dict[str, Namespace]:
    """Where writes to these names go, by name; made where it is not there yet.

    A bare name that has no namespace means the one remote of the actor's that ends in it, if their key may write there:
    the same project, seen from a clone that does not know its remote.
    """
    known: list[Namespace] = _by_name[Namespace].fetch(actor.owner_id, sorted(names)) if names else []
    found = {row.name: row for row in known}
    for name in sorted(names - set(found)):
        remote = Namespace.objects.all().other_name(actor.owner_id, name) if folder_of(name) == name else ""
        if remote and actor.may_use(remote):
            found[name] = Namespace.objects.get(owner_id=actor.owner_id, name=remote)
    return found | get_or_create_names(Namespace, actor.owner_id, names - set(found))


def _named_rows(model: type[Model]) -> prepared.Rows:
    rows = model._default_manager
    return prepared.Rows(lambda owner_id, name: rows.filter(owner_id=owner_id).filter(name__in=[name]), 0, "name")


_by_name = {model: _named_rows(model) for model in (Namespace, App, Category)}


def link_categories(owner_id: int, names: Mapping[UUID, Sequence[str]]) -> None:
    categories = get_or_create_names(Category, owner_id, {name for some in names.values() for name in some})
    MemoryCategory.objects.bulk_create(
        [
            MemoryCategory(owner_id=owner_id, memory_id=memory_id, category=categories[name])
            for memory_id, some in names.items()
            for name in some
        ],
        ignore_conflicts=True,
    )


def relate(owner_id: int, relation: str, targets: Mapping[UUID, Collection[UUID]]) -> None:
    """Write that each memory is `relation` its targets; what is known or gone is left out."""
    wanted = {target for some in targets.values() for target in some}
    there = set(Memory.objects.filter(owner_id=owner_id, id__in=wanted).values_list("id", flat=True))
    related = [
        Relation(owner_id=owner_id, source_id=source, relation=relation, target_id=target)
        for source, some in targets.items()
        for target in sorted(there.intersection(some))
    ]
    new = insert_many(related, skip_known=True)
    outbox.write(owner_id, [outbox.event_of(one, Event.LINK) for one in related if one.id in new])


@dataclass(frozen=True)
class Derived:
    """What follows from a memory's text and has rows of its own."""

    terms: Mapping[str, int]
    entities: Sequence[Found]


def derive(memory: Memory) -> Derived:
    """Read the memory's text. Touches no database."""
    return Derived(document_terms(embedded_text(memory)), entities_of(memory.content, memory.speaker))


def write_derived(owner_id: int, memories: Sequence[tuple[Memory, Derived]]) -> None:
    """Write these memories' postings, the entities that are new to the owner, and the mentions: one statement.

    Entities are inserted in the order of their ids, as every writer does, so that two who name the same new ones wait
    for each other and not in a circle. The shared lock keeps the purge from taking an entity that is being mentioned.
    """
    if not memories:
        return
    postings = [
        {"id": memory.id, "length": memory.term_count, "terms": postings_of(derived.terms, memory.tags)}
        for memory, derived in memories
    ]
    entities: dict[UUID, dict[str, Any]] = {}
    mentions = []
    for memory, derived in memories:
        mentioned = entities_by_id(owner_id, derived.entities)
        entities |= mentioned
        mentions += [{"entity": entity_id, "memory": memory.id} for entity_id in mentioned]
    with prepared.cursor() as cursor:
        cursor.execute(
            _WRITE_DERIVED,
            {
                "owner": owner_id,
                "lock": entity_lock(owner_id),
                "postings": as_json(postings),
                "entities": as_json([entities[entity_id] for entity_id in sorted(entities)]),
                "mentions": as_json(mentions),
            },
        )


_WRITE_DERIVED = """
    WITH posted AS (
        INSERT INTO memories_memoryterm (owner_id, term, memory_id, tf, length)
        SELECT %(owner)s::bigint, posting.key, memory.id, posting.value::smallint, memory.length
        FROM json_to_recordset(%(postings)s) AS memory (id uuid, length smallint, terms json),
            json_each_text(memory.terms) AS posting ORDER BY 2, 3
    ), made AS (
        INSERT INTO memories_entity (owner_id, id, kind, key, name, aliases)
        SELECT %(owner)s::bigint, thing.id, thing.kind, thing.key, thing.name, thing.aliases
        FROM (SELECT pg_advisory_xact_lock_shared(%(lock)s::bigint)) AS held,
            json_to_recordset(%(entities)s) AS thing (id uuid, kind text, key text, name text, aliases text[])
        ORDER BY 2
        ON CONFLICT (owner_id, key, kind) DO NOTHING
    )
    INSERT INTO memories_mention (owner_id, entity_id, memory_id)
    SELECT %(owner)s::bigint, mention.entity, mention.memory
    FROM json_to_recordset(%(mentions)s) AS mention (entity uuid, memory uuid) ORDER BY 2, 3
"""


def entities_by_id(owner_id: int, things: Iterable[Found]) -> dict[UUID, dict[str, Any]]:
    """The rows of these entities and of their aliases, by their ids; at most 64."""
    found: dict[UUID, dict[str, Any]] = {}
    things = list(things)
    # What is an alias here may well be named for itself too: the thing comes first, with its own aliases.
    for one in (*things, *(alias for thing in things for alias in thing.aliases)):
        entity: dict[str, Any] = {"kind": one.kind, "key": one.key, "name": one.name}
        entity["id"] = entity_id(owner_id, one.kind, one.key)
        entity["aliases"] = [alias.key for alias in one.aliases] or None
        found.setdefault(entity["id"], entity)
    return dict(islice(found.items(), MAX_MENTIONS))


def entity_id(owner_id: int, kind: str, key: str) -> UUID:
    """Which row stands for this thing: the same in every process, so that nobody need ask."""
    digest = blake2b(f"{owner_id} {kind} {key}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return UUID(bytes=digest, version=5)


def entity_lock(owner_id: int) -> int:
    """The number of the advisory lock on an owner's entities: writers share it, the purge has it alone."""
    digest = blake2b(f"entities of {owner_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def remove_derived(memory: Memory, *, with_vectors: bool) -> None:
    """Remove a memory's postings and mentions, and a provider's vectors where the text is another, in one statement.

    The memory is locked and has been changed: who is storing a vector of the old text has done so before, or will see
    that it is old.
    """
    vectors = (
        "far AS (UPDATE memories_memoryembedding SET embedding = NULL, problem = ''"
        " WHERE owner_id = %(owner)s AND memory_id = %(memory)s), "
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH {vectors if with_vectors else ''}"  # noqa: S608  fixed parts
            "mentioned AS (DELETE FROM memories_mention WHERE owner_id = %(owner)s AND memory_id = %(memory)s) "
            'DELETE FROM "memories_memoryterm" WHERE owner_id = %(owner)s AND memory_id = %(memory)s',
            {"owner": memory.owner_id, "memory": memory.id},
        )


def embedded_text(memory: Memory) -> str:
    """What of a memory is put into its vector and its terms: who said it is worth 3 points of recall."""
    return f"{memory.speaker}: {memory.content}" if memory.speaker else memory.content


def postings_of(text_terms: Mapping[str, int], tags: Sequence[str]) -> dict[str, int]:
    """A memory's postings: the terms of its text, and one for each tag."""
    return dict(text_terms) | {tag_term(tag): 1 for tag in tags}


def record(
    actor: Actor,
    memory: Memory,
    event: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    record_all(actor, [(memory, event, before, after)])


def record_all(
    actor: Actor, changes: Sequence[tuple[Memory, str, Mapping[str, Any] | None, Mapping[str, Any] | None]]
) -> None:
    insert_many(
        [
            MemoryHistory(
                owner_id=memory.owner_id,
                memory_id=memory.id,
                event=event,
                by=actor.caller,
                door=actor.door,
                app=actor.app,
                version=memory.version,
                before=before,
                after=after,
            )
            for memory, event, before, after in changes
        ]
    )
    counted = Counter(event for _, event, _, _ in changes)
    transaction.on_commit(partial(_count_writes, counted), robust=True)


def _count_writes(events: Mapping[str, int]) -> None:
    for event, number in events.items():
        WRITES.labels(event).inc(number)
