"""The REST dialects, one module each, over the same services and the same search."""
