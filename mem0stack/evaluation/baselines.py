"""What ours is measured beside: plain cosine, plain BM25, and mem0's scoring, over the same vectors and terms.

Each looks at every row that may answer, in memory: exact, and slow where there are many.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from accounts.actors import Actor, acting_as
from memories.embeddings import embed_documents
from memories.entities import entities_of
from memories.lexical import query_terms
from memories.models import Entity, Memory, MemoryTerm, Mention, Standing

COSINE, BM25, MEM0, MEM0_PLAIN = "plain cosine", "plain BM25", "mem0's scoring", "mem0's, no entities"
TOP_K = 50
# As our own postings are weighed; short texts want little saturation and little length correction.
_K1, _B = 0.6, 0.3
# fastembed's Qdrant/bm25, of mem0's default store, takes every text for one of 256 words on average. With the true mean
# mem0's scoring finds 4 to 8 points less on conversations, so this is the kinder of the two.
_MEM0_K1, _MEM0_B, _MEM0_MEAN_LENGTH = 1.2, 0.75, 256.0
_MEM0_THRESHOLD = 0.1
# A query's first entities; those of memories that are so similar to one of them; what a memory gets at most.
_MEM0_ENTITIES, _MEM0_ALIKE, _MEM0_BOOST = 8, 0.5, 0.5
# mem0/utils/scoring.py: up to so many terms, the sigmoid's midpoint and steepness.
_MEM0_SIGMOIDS = ((3, 5.0, 0.7), (6, 7.0, 0.6), (9, 9.0, 0.5), (15, 10.0, 0.5))
_MEM0_LONGEST = (12.0, 0.5)

_Scores = NDArray[np.float64]


class Corpus:
    """One owner's memories, read once."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._scopes: dict[tuple[str | None, bool], NDArray[np.bool_]] = {}
        with acting_as(actor):
            rows = list(Memory.objects.owned_by(actor).alive().order_by("id").values_list("id", "embedding"))
            postings = MemoryTerm.objects.filter(owner_id=actor.owner_id).exclude(term__startswith="tag:")
            read = list(postings.values_list("term", "memory_id", "tf", "length"))
            names = dict(Entity.objects.filter(owner_id=actor.owner_id).values_list("id", "name"))
            mentions = list(Mention.objects.filter(owner_id=actor.owner_id).values_list("entity_id", "memory_id"))
        self._ids: list[UUID] = [id_ for id_, _ in rows]
        self._vectors = np.array([vector for _, vector in rows], dtype=np.float32)
        places = {id_: place for place, id_ in enumerate(self._ids)}
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._lengths = np.zeros(len(rows))
        for term, memory_id, tf, length in read:
            self._postings[term].append((places[memory_id], tf))
            self._lengths[places[memory_id]] = length
        self._linked: dict[UUID, list[int]] = {entity_id: [] for entity_id in names}
        for entity_id, memory_id in mentions:
            self._linked[entity_id].append(places[memory_id])
        self._entities = embed_documents([names[entity_id] for entity_id in self._linked])

    def rankings(self, query: str, *, namespace: str | None, is_past: bool) -> Mapping[str, Sequence[UUID]]:
        """The best 50 by each baseline, of the rows that our own search would look at."""
        allowed = self._scope(namespace, is_past)
        cosine = (self._vectors @ embed_documents([query])[0]).astype(np.float64)
        terms = query_terms(query)
        nearest, mem0 = self._mem0_pool(cosine, allowed), cosine + self._mem0_lexical(terms)
        bm25 = self._bm25(terms, _K1, _B, mean_length=max(1.0, float(self._lengths.mean())))
        return {
            COSINE: self._best(cosine, allowed),
            BM25: self._best(bm25, allowed & (bm25 > 0)),
            MEM0: self._best(mem0 + self._boosts(query), nearest),
            MEM0_PLAIN: self._best(mem0, nearest),
        }

    def _scope(self, namespace: str | None, is_past: bool) -> NDArray[np.bool_]:
        if (namespace, is_past) not in self._scopes:
            with acting_as(self._actor):
                rows = Memory.objects.owned_by(self._actor).searchable(any_standing=is_past)
                if is_past:
                    rows = rows.filter(standing__in=[Standing.CURRENT, Standing.SUPERSEDED])
                if namespace is not None:
                    rows = rows.in_project(self._actor, namespace)
                seen = set(rows.values_list("id", flat=True))
            self._scopes[namespace, is_past] = np.array([id_ in seen for id_ in self._ids])
        return self._scopes[namespace, is_past]

    def _bm25(self, terms: Sequence[str], k1: float, b: float, *, mean_length: float) -> _Scores:
        scores = np.zeros(len(self._ids))
        damped = k1 * (1 - b + b * self._lengths / mean_length)
        for term in Counter(terms):
            held = self._postings.get(term, [])
            idf = math.log(1 + (len(self._ids) - len(held) + 0.5) / (len(held) + 0.5))
            for place, tf in held:
                scores[place] += idf * tf * (k1 + 1) / (tf + damped[place])
        return scores

    # mem0 ranks the nearest by cosine + sigmoid(BM25) + entity boost. What it divides the sum by is the same for all
    # candidates of a query, so it moves none of them and is left out.

    def _mem0_pool(self, cosine: _Scores, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        places = np.flatnonzero(allowed & (cosine >= _MEM0_THRESHOLD))
        pool = np.zeros(len(self._ids), dtype=bool)
        pool[places[np.argsort(-cosine[places], kind="stable")][: max(4 * TOP_K, 60)]] = True
        return pool

    def _mem0_lexical(self, terms: Sequence[str]) -> _Scores:
        bm25 = self._bm25(terms, _MEM0_K1, _MEM0_B, mean_length=_MEM0_MEAN_LENGTH)
        midpoint, steepness = next((rest for most, *rest in _MEM0_SIGMOIDS if len(terms) <= most), _MEM0_LONGEST)
        return np.where(bm25 > 0, 1 / (1 + np.exp(-steepness * (bm25 - midpoint))), 0)

    def _boosts(self, query: str) -> _Scores:
        """mem0's entity boost (`_compute_entity_boosts` in mem0/memory/main.py), over entities that our rules find."""
        boosts = np.zeros(len(self._ids))
        asked = embed_documents([thing.name for thing in entities_of(query)][:_MEM0_ENTITIES])
        if not asked or not self._entities:
            return boosts
        alike = (np.stack(self._entities) @ np.stack(asked).T).max(axis=1)
        for similarity, linked in zip(alike, self._linked.values(), strict=True):
            if similarity >= _MEM0_ALIKE and linked:
                boost = similarity * _MEM0_BOOST / (1 + 0.001 * (len(linked) - 1) ** 2)
                boosts[linked] = np.maximum(boosts[linked], boost)
        return boosts

    def _best(self, scores: _Scores, allowed: NDArray[np.bool_]) -> Sequence[UUID]:
        places = np.flatnonzero(allowed)
        return [self._ids[place] for place in places[np.argsort(-scores[places], kind="stable")][:TOP_K]]
