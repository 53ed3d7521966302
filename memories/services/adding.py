"""How an addition is made: checked and embedded before the transaction, inserted or confirmed within it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Max, Q
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts.actors import Actor, acting_as
from mem0stack.lib.bulk import insert_many
from mem0stack.lib.errors import Conflict, Forbidden, InvalidArgument, Mem0Error
from memories import outbox, texts
from memories.embeddings import embed_documents
from memories.lexical import length
from memories.models import (
    PERSONAL,
    App,
    Category,
    Event,
    Kind,
    Memory,
    Namespace,
    RelationKind,
    Share,
    Standing,
    State,
)
from memories.querysets import name_in_anothers_space
from memories.services import rows
from memories.services.changing import TIMES, check_kind, check_validity, save_change
from memories.services.outcomes import NewMemory, Outcome, Refused, Written

_MAX_SEQ = 2**31 - 1
_TRIES = 16


@dataclass
class Draft:
    """A checked addition with everything that can be computed before the transaction."""

    memory: Memory
    namespace: str
    app: str | None
    categories: list[str]
    derived: rows.Derived
    derived_from: Sequence[UUID] = ()


def prepare(actor: Actor, items: Sequence[NewMemory]) -> list[Draft | Refused]:
    """Check every addition and compute its vector, terms and entities. Touches no database."""
    prepared: list[Draft | Refused] = []
    for new in items:
        try:
            prepared.append(_draft(actor, new))
        except Mem0Error as error:
            prepared.append(Refused(error))
    drafts = [draft for draft in prepared if isinstance(draft, Draft)]
    vectors = embed_documents([rows.embedded_text(draft.memory) for draft in drafts])
    for draft, vector in zip(drafts, vectors, strict=True):
        draft.memory.embedding = vector
    return prepared


def apply(actor: Actor, drafts: Sequence[Draft | Refused]) -> list[Outcome]:
    """Insert what is new, confirm what is known. One outcome for each draft, in their order."""
    outcomes: dict[int, Outcome] = {}
    spaces: dict[int, tuple[Actor, list[tuple[int, Draft]]]] = {}
    for place, draft in enumerate(drafts):
        if isinstance(draft, Refused):
            outcomes[place] = draft
            continue
        try:
            owner, draft.namespace = _space(actor, draft.namespace)
        except Mem0Error as error:
            outcomes[place] = Refused(error)
        else:
            spaces.setdefault(owner.owner_id, (owner, []))[1].append((place, draft))
    for _, (owner, placed) in sorted(spaces.items()):
        with nullcontext() if owner is actor else acting_as(owner):
            added = _add_to_space(owner, [draft for _, draft in placed], writer=actor)
        outcomes |= {place: outcome for (place, _), outcome in zip(placed, added, strict=True)}
    return [outcomes[place] for place in range(len(drafts))]


def new_run_id(idempotency_key: str | None = None) -> str:
    """A name for a run that the caller did not name, so that its messages still know their neighbours. The same for
    the same idempotency key: a request that is repeated must be the same request."""
    if idempotency_key is None:
        return uuid7().hex
    return hashlib.sha256(f"run of {idempotency_key}".encode()).hexdigest()[:32]


def _draft(actor: Actor, new: NewMemory) -> Draft:
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
    check_kind(new.kind)
    for name in TIMES:
        texts.check_time(name, getattr(new, name))
    check_validity(new.valid_from, new.valid_to)
    now = timezone.now()
    memory_id = uuid7()
    memory = Memory(
        id=memory_id,
        short_id=memory_id.hex[-8:],
        written_by_id=actor.owner_id,
        content=new.content,
        content_hash=texts.content_hash(new.content),
        kind=new.kind,
        user_id=new.user_id,
        agent_id=new.agent_id,
        run_id=new_run_id() if new.kind == Kind.MESSAGE and new.run_id is None else new.run_id,
        seq=new.seq,
        speaker=new.speaker,
        event_at=new.event_at or now,
        valid_from=new.valid_from,
        valid_to=new.valid_to,
        expires_at=new.expires_at,
        pinned_at=now if new.pinned else None,
        metadata=dict(new.metadata),
        tags=tags,
        asks=texts.asks(new.content),
        says_when=texts.says_when(new.content),
        created_at=now,
        updated_at=now,
    )
    derived = rows.derive(memory)
    memory.term_count = length(derived.terms)
    memory.importance, memory.confidence, memory.quality = _weights(new, terms=len(derived.terms))
    namespace = PERSONAL if new.namespace is None else texts.clean_namespace(new.namespace)
    # Before an idempotency key is looked at: it may stand for a write into another namespace.
    actor.require_namespace(namespace)
    categories = texts.clean_categories(new.categories)
    return Draft(memory, namespace, new.app or actor.app, categories, derived, new.derived_from)


def _weights(new: NewMemory, *, terms: int) -> tuple[float, float, float]:
    """Importance, confidence, quality at the time of writing, each 0..1. The rules are in docs/memories.md."""
    by_kind = {Kind.MESSAGE: 0.3, Kind.PREFERENCE: 0.7, Kind.DECISION: 0.7, Kind.PROCEDURE: 0.6, Kind.ERROR: 0.6}
    importance = by_kind.get(Kind(new.kind), 0.5) + (0.2 if new.pinned else 0.0)
    # Stated over inferred.
    confidence = 0.6 if new.kind == Kind.MESSAGE or new.derived_from else 0.8
    quality = 0.3 if terms < 3 else 0.5
    return importance, confidence, quality


def _space(actor: Actor, namespace: str) -> tuple[Actor, str]:
    """Whose space a namespace's name means: the actor's own, or for `alice/name` Alice's, if she lets the actor add.

    A namespace of the actor's own that is called just so comes first: a share needs nobody's consent, and must not
    draw into another's space what goes into the actor's today.
    In Alice's space the actor acts as Alice, but only for this; `written_by` says who it was.
    """
    anothers = name_in_anothers_space(namespace)
    if anothers and not Namespace.objects.filter(owner_id=actor.owner_id, name=namespace).exists():
        owner_name, name = anothers
        grants = Share.objects.received_by(actor).filter(owner__username=owner_name, namespace__name=name)
        grant = grants.select_related("owner").first()
        if grant is not None:
            if not grant.can_add:
                raise Forbidden(f"{owner_name} shares {name!r} with you for reading only. Ask for can_add.")
            return replace(actor, user=grant.owner), name
    return actor, namespace


def _add_to_space(owner: Actor, drafts: Sequence[Draft], *, writer: Actor) -> list[Outcome]:
    namespaces = rows.namespaces_for(owner, {draft.namespace for draft in drafts})
    apps = rows.get_or_create_names(App, owner.owner_id, {draft.app for draft in drafts if draft.app})
    rows.get_or_create_names(Category, owner.owner_id, {name for draft in drafts for name in draft.categories})
    outcomes: dict[UUID, Outcome] = {}
    pending: list[Draft] = []
    for draft in drafts:
        if draft.app and not apps[draft.app].is_active:
            refusal = Forbidden(f"The app {draft.app!r} is paused. Make it active to let it write.")
            outcomes[draft.memory.id] = Refused(refusal)
            continue
        draft.memory.owner_id = owner.owner_id
        draft.memory.namespace_id = namespaces[draft.namespace].id
        draft.memory.app_id = apps[draft.app].id if draft.app else None
        pending.append(draft)
    _assign_seq(owner.owner_id, [draft.memory for draft in pending])
    # Sorted, or two batches with the same texts would wait for each other's rows.
    pending.sort(key=_unique_key)
    for _ in range(_TRIES):
        if not pending:
            break
        outcomes |= _insert_or_confirm(owner, pending, writer=writer)
        pending = [draft for draft in pending if draft.memory.id not in outcomes]
    _cite(owner.owner_id, drafts, outcomes)
    busy = Conflict("Others add and delete the same memory at this moment. Send it again.")
    return [outcomes.get(draft.memory.id, Refused(busy)) for draft in drafts]


def _cite(owner_id: int, drafts: Sequence[Draft], outcomes: Mapping[UUID, Outcome]) -> None:
    """Link what was derived to its sources, also where the same had been known from elsewhere."""
    cited = {
        outcome.memory_id: set(draft.derived_from) - {outcome.memory_id}
        for draft in drafts
        if draft.derived_from and isinstance(outcome := outcomes.get(draft.memory.id), Written)
    }
    if cited:
        rows.relate(owner_id, RelationKind.DERIVED_FROM, cited)


def _insert_or_confirm(owner: Actor, drafts: Sequence[Draft], *, writer: Actor) -> dict[UUID, Outcome]:
    """By the drafts' ids. One is left out when what stood in its way was deleted before it could be confirmed."""
    inserted = _insert(owner.owner_id, drafts)
    new = [draft for draft in drafts if draft.memory.id in inserted]
    known = _known(owner.owner_id, [draft.memory for draft in drafts if draft.memory.id not in inserted])
    rows.link_categories(owner.owner_id, {draft.memory.id: draft.categories for draft in new})
    rows.record_all(writer, [(draft.memory, Event.ADD, None, {"content": draft.memory.content}) for draft in new])
    outbox.write(
        owner.owner_id,
        [outbox.event_for(d.memory.id, Event.ADD, memories=1, terms=d.memory.term_count) for d in new],
    )
    outcomes: dict[UUID, Outcome] = {draft.memory.id: Written(draft.memory.id, Event.ADD) for draft in new}
    for draft in drafts:
        found = known.get(_identity(draft.memory))
        if draft.memory.id not in inserted and found is not None:
            outcomes[draft.memory.id] = _confirm(draft, found, writer=writer)
    return outcomes


def _unique_key(draft: Draft) -> tuple[object, ...]:
    memory = draft.memory
    if memory.kind == Kind.MESSAGE:
        return (str(memory.namespace_id), 0, memory.run_id, "", memory.seq)
    return (str(memory.namespace_id), 1, memory.user_id or "", memory.agent_id or "", memory.content_hash)


def _insert(owner_id: int, drafts: Sequence[Draft]) -> set[UUID]:
    """Insert memories with their postings and mentions, leaving out what is known already; the ids that are in now."""
    inserted = insert_many([draft.memory for draft in drafts], skip_known=True)
    rows.write_derived(owner_id, [(draft.memory, draft.derived) for draft in drafts if draft.memory.id in inserted])
    return inserted


def _assign_seq(owner_id: int, memories: Sequence[Memory]) -> None:
    """Give every memory of a run that has no place the next one, under a lock per run."""
    runs = _runs(memories)
    # Who brings a place takes the lock too, or it could be given away at this moment. In the order of their numbers.
    for lock, run in sorted((_run_lock(owner_id, *run), run) for run in runs):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock])
        if any(memory.seq is None for memory in runs[run]):
            _number(owner_id, run, runs[run])


def _number(owner_id: int, run: tuple[UUID, str], memories: Sequence[Memory]) -> None:
    namespace_id, run_id = run
    in_run = Memory.objects.filter(owner_id=owner_id, namespace_id=namespace_id, run_id=run_id)
    last = in_run.aggregate(last=Max("seq"))["last"]
    for memory in memories:
        if memory.seq is None:
            if last == _MAX_SEQ:
                raise Conflict(f"The run {run_id!r} is full: it has a memory at place {_MAX_SEQ}. Begin a new run.")
            memory.seq = 0 if last is None else last + 1
        last = memory.seq if last is None else max(last, memory.seq)


def _run_lock(owner_id: int, namespace_id: UUID, run_id: str) -> int:
    digest = hashlib.sha256(f"run {owner_id} {namespace_id} {run_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _confirm(draft: Draft, found: Memory, *, writer: Actor) -> Outcome:
    """The memory that stood in the draft's way: merge its tags, trust it more, and name it."""
    if bytes(found.content_hash) != draft.memory.content_hash:
        return Refused(
            Conflict(
                f"Place {found.seq} of the run {found.run_id!r} holds another message ({found.short_id})."
                " Leave seq out to have the next place, or update that memory."
            )
        )
    if found.kind == Kind.MESSAGE or found.standing != Standing.CURRENT:
        # A message sent again was not said again; and what was found wrong or out of date stays so.
        return Written(found.id, Event.CONFIRM)
    changes: dict[str, Any] = {"confidence": round(found.confidence + (1 - found.confidence) * 0.2, 4)}
    tags = list(dict.fromkeys([*found.tags, *draft.memory.tags]))[: texts.MAX_TAGS]
    if tags != found.tags:
        changes["tags"] = tags
    if found.state == State.ARCHIVED or found.is_expired:  # type: ignore[attr-defined]  # annotated below
        # Acknowledged means searchable: what somebody saves again comes back into use.
        changes |= {"state": State.ACTIVE, "archived_at": None, "expires_at": draft.memory.expires_at}
    save_change(writer, found, Event.CONFIRM, changes, categories=_merged_categories(found, draft.categories))
    return Written(found.id, Event.CONFIRM)


def _merged_categories(found: Memory, more: Sequence[str]) -> list[str] | None:
    """The memory's categories and as many more as there is room for; None where nothing is added."""
    if not more:
        return None
    present = set(found.category_links.values_list("category__name", flat=True))
    added = [name for name in more if name not in present][: max(0, texts.MAX_CATEGORIES - len(present))]
    return sorted([*present, *added]) if added else None


def _identity(memory: Memory) -> tuple[Any, ...]:
    """What no two memories of an owner have in common: a message's place, anything else's content and labels."""
    if memory.kind == Kind.MESSAGE:
        return memory.namespace_id, memory.run_id, memory.seq
    return memory.namespace_id, memory.user_id, memory.agent_id, bytes(memory.content_hash)


def _known(owner_id: int, memories: Sequence[Memory]) -> dict[tuple[Any, ...], Memory]:
    """The stored memories that stand in the way of these, by their identity, locked in the order of their ids."""
    if not memories:
        return {}
    places = Q()
    for (namespace_id, run_id), some in _runs(m for m in memories if m.kind == Kind.MESSAGE).items():
        places |= Q(namespace_id=namespace_id, run_id=run_id, seq__in=[memory.seq for memory in some])
    condition = Q(kind=Kind.MESSAGE) & places if places else Q()
    hashes = {memory.content_hash for memory in memories if memory.kind != Kind.MESSAGE}
    if hashes:
        namespaces = {memory.namespace_id for memory in memories}
        condition |= ~Q(kind=Kind.MESSAGE) & Q(namespace_id__in=namespaces, content_hash__in=hashes)
    stored = Memory.objects.filter(condition, owner_id=owner_id).alive().defer("embedding")
    # Expiry goes by the database's clock.
    stored = stored.annotate(is_expired=Q(expires_at__isnull=False, expires_at__lte=Now()))
    return {_identity(memory): memory for memory in stored.order_by("id").select_for_update(of=("self",), no_key=True)}


def _runs(memories: Iterable[Memory]) -> dict[tuple[UUID, str], list[Memory]]:
    runs: dict[tuple[UUID, str], list[Memory]] = {}
    for memory in memories:
        if memory.run_id is not None:
            runs.setdefault((memory.namespace_id, memory.run_id), []).append(memory)
    return runs
