"""Floor 2: the product. Memories are stored, found, shared and kept apart here."""
