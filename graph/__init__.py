"""Floor 3: the mirror of entities and relations in Neo4j."""
