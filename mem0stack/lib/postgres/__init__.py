"""Django's PostgreSQL backend for a server that may be away or hang: nobody waits long for a connection."""
