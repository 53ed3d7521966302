"""The one way memories are found, for every door.

A query becomes a question (what it says of words, people and times), the database gives a pool of candidates, and
`ranking` puts them in order. Where a provider embeds too, its vectors find and rank as well, as far as there are any
and it answers in time.
"""

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from zoneinfo import ZoneInfo

import structlog
from django.db.models import Q
from django.utils import timezone

from accounts.actors import Actor, acting_as
from accounts.models import Scope as Right
from mem0stack.lib.errors import InvalidArgument
from mem0stack.lib.metrics import SEARCH_STAGE_SECONDS, SEARCHES_DEGRADED
from memories import access, candidates, embedding_spaces, expansion, projects, ranking, statistics, texts
from memories.candidates import Scope, wanted
from memories.embedding_spaces import FarQuery
from memories.embeddings import embed_query
from memories.expansion import Expanded
from memories.filters import EVERYTHING, Filter
from memories.models import AccessAction, Memory, Share
from memories.providers import ProviderAway
from memories.querysets import MemoryQuerySet
from memories.ranking import Pool, Question, Ranked, Signal
from memories.statistics import Corpus

log = structlog.get_logger(__name__)

MAX_QUERY = 2_000
MAX_TOP_K = 100
MAX_EXPAND = 5


@dataclass(frozen=True)
class Hit:
    """A memory and how likely it answers (0..1, the same from one query to the next); when asked, what that is made of:
    each signal's value, and its share of the score."""

    memory: Memory
    score: float
    signals: Mapping[str, Signal] = field(default_factory=dict)
    neighbours: Sequence[Memory] = ()


@dataclass(frozen=True)
class SearchResult:
    """The whole answer, best first. `answerable` is false when nothing is likely enough to answer; `degraded` names
    parts that were away; `truncated` says that `token_budget`, and nothing else, has cut hits off."""

    hits: Sequence[Hit]
    answerable: bool
    degraded: Sequence[str]
    truncated: bool
    took_ms: float


def search(
    actor: Actor,
    query: str,
    *,
    filters: Filter = EVERYTHING,
    top_k: int = 10,
    threshold: float = 0.0,
    namespace: str | None = None,
    as_of: datetime | None = None,
    expand: int = 0,
    explain: bool = False,
    token_budget: int | None = None,
    asked_at: datetime | None = None,
) -> SearchResult:
    """What this actor remembers about `query`.

    A `namespace` covers itself and `personal`; none, or `*`, covers everything visible. Superseded and rejected
    memories stay out unless a filter names `standing`; `as_of` asks what was true then. `expand` adds that many
    neighbours on each side in a hit's run. `token_budget` (of about 4 characters each) is a ceiling for the texts.
    "yesterday" is the day before `asked_at` (now, unless said) in the actor's time zone.
    Raises InvalidArgument, Forbidden.
    """
    started = time.perf_counter()
    actor.require(Right.READ)
    texts.check_time("as_of", as_of)
    _check(query, top_k=top_k, threshold=threshold, expand=expand, token_budget=token_budget)
    project = projects.wanted(actor, namespace)
    question = _question(actor, query, asked_at)
    # Before the transaction: it holds database work only.
    far, degraded = _far(query)
    with acting_as(actor):
        scope = _scope(actor, filters, project, as_of)
        found = _pool(scope, question, far, at_least=top_k)
        with SEARCH_STAGE_SECONDS.labels("rank").time():
            ranked = ranking.current().rank(question, found)
        with SEARCH_STAGE_SECONDS.labels("read").time():
            hits = _read(ranked, found, top_k=top_k, threshold=threshold, explain=explain)
            if expand:
                hits = _with_neighbours(hits, Memory.objects.visible_to(actor).searchable(as_of=as_of), expand)
    kept = _fit(hits, token_budget)
    access.note(actor, AccessAction.SEARCH, (memory for hit in kept for memory in (hit.memory, *hit.neighbours)))
    took_ms = (time.perf_counter() - started) * 1000
    log.debug("searched", owner_id=actor.owner_id, hits=len(kept), took_ms=round(took_ms, 2))
    return SearchResult(
        hits=kept,
        answerable=bool(kept) and kept[0].score >= ranking.current().answerable,
        degraded=degraded,
        truncated=len(kept) < len(hits),
        took_ms=round(took_ms, 2),
    )


def _check(query: str, *, top_k: int, threshold: float, expand: int, token_budget: int | None) -> None:
    if not query.strip():
        raise InvalidArgument("query is empty; ask in a few words.", errors={"query": ["empty"]})
    if len(query) > MAX_QUERY:
        raise InvalidArgument(
            f"query has {len(query)} characters; at most {MAX_QUERY} are read.", errors={"query": ["long"]}
        )
    if "\x00" in query or any("\ud800" <= character <= "\udfff" for character in query):
        raise InvalidArgument("query holds a NUL character or half a surrogate pair.", errors={"query": ["invalid"]})
    if not 1 <= top_k <= MAX_TOP_K:
        raise InvalidArgument(f"top_k is 1 to {MAX_TOP_K}.", errors={"top_k": [f"1 to {MAX_TOP_K}"]})
    if not 0 <= threshold <= 1:
        raise InvalidArgument("threshold is a number from 0 to 1.", errors={"threshold": ["0 to 1"]})
    if not 0 <= expand <= MAX_EXPAND:
        raise InvalidArgument(f"expand is 0 to {MAX_EXPAND}.", errors={"expand": [f"0 to {MAX_EXPAND}"]})
    if token_budget is not None and token_budget < 1:
        raise InvalidArgument("token_budget is 1 or more.", errors={"token_budget": ["1 or more"]})


def _far(query: str) -> tuple[FarQuery | None, Sequence[str]]:
    """The query in the provider's space, where there is one, and the part that was away when it should have told."""
    try:
        return embedding_spaces.query_vector(query), ()
    except ProviderAway as away:
        SEARCHES_DEGRADED.labels("embedder").inc()
        log.debug("search_without_embedder", reason=away.reason)
        return None, ("embedder",)


def _scope(actor: Actor, filters: Filter, project: str | None, as_of: datetime | None) -> Scope:
    """Where to search: what the actor received, and by which names the project goes, is looked up now."""
    other_name, received = projects.other_name(actor, project), Share.objects.received(actor)
    return Scope(actor, received, filters=filters, project=project, other_name=other_name, as_of=as_of)


def pool(
    actor: Actor,
    query: str,
    *,
    filters: Filter = EVERYTHING,
    namespace: str | None = None,
    asked_at: datetime | None = None,
) -> tuple[Question, Pool]:
    """What `search` would rank, and by which question: for fitting the weights. The local tier alone."""
    question = _question(actor, query, asked_at)
    with acting_as(actor):
        scope = _scope(actor, filters, projects.wanted(actor, namespace), None)
        return question, _pool(scope, question, None, at_least=0)


def _question(actor: Actor, query: str, asked_at: datetime | None) -> Question:
    now = (asked_at or timezone.now()).astimezone(ZoneInfo(actor.person.timezone))
    return Question.of(query, now)


def _pool(scope: Scope, question: Question, far: FarQuery | None, *, at_least: int) -> Pool:
    with SEARCH_STAGE_SECONDS.labels("embed").time():
        corpus, also = _corpus(scope.actor.owner_id, question)
        vector = embed_query(
            question.text,
            [(word.start, word.end, corpus.rarity_of_word(word.terms)) for word in question.words],
            corpus.rarity_of_word(()),
        )
    with SEARCH_STAGE_SECONDS.labels("candidates").time():
        return candidates.pool_of(scope, wanted(vector, question, also, corpus, far), at_least=at_least)


def _corpus(owner_id: int, question: Question) -> tuple[Corpus, list[Expanded]]:
    """What is known of the owner's words, and what else the query's may mean among them: one query, and a second one
    when the owner has never used a word, which is then likely misspelt."""
    synonyms = expansion.synonyms(question.terms)
    terms = {term for word in question.words for term in word.terms}.union(question.terms)
    corpus = statistics.corpus_of(owner_id, sorted(terms.union(one.term for one in synonyms)))
    unknown = set(question.terms) - set(corpus.known) - {one.of for one in synonyms}
    vocabulary = expansion.suggestions(owner_id, unknown) if unknown and corpus.known else {}
    return corpus.with_terms(vocabulary), expansion.expand(question.terms, sorted(unknown), vocabulary)


def _read(ranked: Ranked, pool: Pool, *, top_k: int, threshold: float, explain: bool) -> list[Hit]:
    """The rows of the best, in one query."""
    best = [
        (rank, pool.owner_ids[place], pool.ids[place])
        for rank, place in enumerate(ranked.places[:top_k])
        if ranked.scores[rank] >= threshold
    ]
    if not best:
        return []
    owners, ids = {owner_id for _, owner_id, _ in best}, [memory_id for _, _, memory_id in best]
    rows = {memory.id: memory for memory in Memory.objects.all().named_by_id(owners, ids)}
    return [
        Hit(
            memory=rows[memory_id],
            score=round(float(ranked.scores[rank]), 4),
            signals=ranked.explain(rank) if explain else {},
        )
        for rank, _, memory_id in best
        if memory_id in rows
    ]


def _with_neighbours(hits: Sequence[Hit], rows: MemoryQuerySet, reach: int) -> list[Hit]:
    """The hits, each in a run with up to `reach` of the rows before and after it, in their order."""
    placed = [hit.memory for hit in hits if hit.memory.run_id is not None]
    if not placed:
        return list(hits)
    near = Q()
    for memory in placed:
        near |= _same_run(memory) & Q(seq__range=(max(0, _seq(memory) - reach), _seq(memory) + reach))
    runs: dict[tuple[object, ...], list[Memory]] = defaultdict(list)
    for memory in rows.filter(near).with_names().order_by("seq", "id"):
        runs[_run(memory)].append(memory)
    return [
        replace(
            hit, neighbours=[other for other in runs.get(_run(hit.memory), ()) if _is_near(hit.memory, other, reach)]
        )
        for hit in hits
    ]


def _is_near(memory: Memory, other: Memory, reach: int) -> bool:
    return other.id != memory.id and abs(_seq(other) - _seq(memory)) <= reach


def _run(memory: Memory) -> tuple[object, ...]:
    return memory.owner_id, memory.namespace_id, memory.run_id


def _seq(memory: Memory) -> int:
    # Whatever is in a run has a place: the services give it one.
    return memory.seq or 0


def _same_run(memory: Memory) -> Q:
    return Q(owner_id=memory.owner_id, namespace_id=memory.namespace_id, run_id=memory.run_id)


def _fit(hits: Sequence[Hit], token_budget: int | None) -> list[Hit]:
    """As many of the best as fit the budget, whole. A token is about four characters."""
    if token_budget is None:
        return list(hits)
    kept: list[Hit] = []
    left = token_budget
    for hit in hits:
        left -= sum(math.ceil(len(memory.content) / 4) for memory in (hit.memory, *hit.neighbours))
        if left < 0:
            break
        kept.append(hit)
    return kept
