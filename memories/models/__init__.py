"""What a memory is, and what may never be untrue of it.

Every table but `ProviderSettings` and `EmbeddingSpace` holds users' data: it has an immutable `owner`, every unique
constraint begins with it, and every reference between two of them carries it too (composite foreign keys, in the
migrations; Django's own constraint is off). So PostgreSQL itself refuses a row that points into somebody else's space,
and the tables can be distributed by owner.
"""

from memories.models.background import IdempotencyKey, Operation, OutboxDelivery, OutboxEvent
from memories.models.choices import (
    AccessAction,
    Event,
    Kind,
    OperationKind,
    OperationState,
    ProviderKind,
    Purpose,
    RelationKind,
    SpaceState,
    Standing,
    State,
    Verdict,
)
from memories.models.embeddings import EmbeddingSpace, MemoryEmbedding, ProviderSettings
from memories.models.fields import (
    COVERED_DIMENSIONS,
    DIMENSIONS,
    LABEL_LENGTH,
    NAME_LENGTH,
    PERSONAL,
    REASON_LENGTH,
)
from memories.models.memory import App, Category, Memory, MemoryCategory, MemoryHistory, MemoryTerm, Namespace
from memories.models.relations import Relation
from memories.models.sharing import AccessLog, Feedback, Share
from memories.models.statistics import OwnerStatistics, OwnerTerm

__all__ = [
    "AccessAction",
    "AccessLog",
    "App",
    "COVERED_DIMENSIONS",
    "Category",
    "DIMENSIONS",
    "EmbeddingSpace",
    "Event",
    "Feedback",
    "IdempotencyKey",
    "Kind",
    "LABEL_LENGTH",
    "Memory",
    "MemoryCategory",
    "MemoryEmbedding",
    "MemoryHistory",
    "MemoryTerm",
    "NAME_LENGTH",
    "Namespace",
    "Operation",
    "OperationKind",
    "OperationState",
    "OutboxDelivery",
    "OutboxEvent",
    "OwnerStatistics",
    "OwnerTerm",
    "PERSONAL",
    "ProviderKind",
    "ProviderSettings",
    "Purpose",
    "REASON_LENGTH",
    "Relation",
    "RelationKind",
    "Share",
    "SpaceState",
    "Standing",
    "State",
    "Verdict",
]
