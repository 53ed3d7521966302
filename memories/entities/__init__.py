"""Text to entities: the things that a memory or a query names, found by rules. Pure functions, safe in any thread.

Code is told by its spelling (`memories.entities.code`), prose by capital letters, lists of names and what stands around
(`memories.entities.prose`). Whatever finds nothing else under a name still finds it as a `name`. Linear in the text.
"""

from memories.entities.found import MAX_KEY, MAX_NAME, EntityKind, Found, key_of
from memories.entities.reading import MAX_ENTITIES, entities_of, query_keys

__all__ = ["MAX_ENTITIES", "MAX_KEY", "MAX_NAME", "EntityKind", "Found", "entities_of", "key_of", "query_keys"]
