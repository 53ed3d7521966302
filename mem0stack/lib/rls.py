"""Row-level security and composite foreign keys, as migration operations."""

from django.db import migrations

# The subselects are evaluated once a query, not once a row.
IS_OWNER = "owner_id = (SELECT nullif(current_setting('mem0.actor', true), '')::bigint)"
IS_SYSTEM = "(SELECT coalesce(current_setting('mem0.scope', true), '') = 'system')"


def protect(table: str, *, also_readable: str = "") -> migrations.RunSQL:
    """Show and change a row only as its owner, or in system scope; `also_readable` (SQL) adds rows to read.

    Not FORCEd: the service's role does not own the tables and refuses to, and FORCE would blind pg_dump and data
    migrations, which run as the owner.
    """
    mine = f"{IS_OWNER} OR {IS_SYSTEM}"
    readable = f"{mine} OR {also_readable}" if also_readable else mine
    return migrations.RunSQL(
        f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        CREATE POLICY read ON {table} FOR SELECT USING ({readable});
        CREATE POLICY write ON {table} FOR INSERT WITH CHECK ({mine});
        CREATE POLICY change ON {table} FOR UPDATE USING ({mine}) WITH CHECK ({mine});
        CREATE POLICY remove ON {table} FOR DELETE USING ({mine});
        """,
        f"""
        DROP POLICY remove ON {table};
        DROP POLICY change ON {table};
        DROP POLICY write ON {table};
        DROP POLICY read ON {table};
        ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;
        """,
    )


def composite_key(table: str, column: str, to: str, *, on_delete: str = "NO ACTION") -> migrations.RunSQL:
    """A foreign key (owner_id, column) -> to(owner_id, id): PostgreSQL checks references as if there were no RLS, so
    only the owner in the key keeps a row from pointing into another owner's space."""
    name = f"{table}_{column}_inner"
    return migrations.RunSQL(
        f"ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY (owner_id, {column}) "
        f"REFERENCES {to} (owner_id, id) ON DELETE {on_delete}",
        f"ALTER TABLE {table} DROP CONSTRAINT {name}",
    )
