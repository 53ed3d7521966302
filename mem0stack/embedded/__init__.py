"""Embedded mode: PostgreSQL, Valkey, web and worker as children of one supervisor, below one directory."""
