"""The admin of memories: what staff look at and curate. Looking is recorded, writing goes by the services."""

from memories.admin import background, entities, memory, providers, records, spaces

__all__ = ["background", "entities", "memory", "providers", "records", "spaces"]
