from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.db import connections
from django.db.models.signals import post_migrate


def grant_to_service(using: str = "default", **_: Any) -> None:
    """Let the service's role use every table. Default privileges would not reach a new database."""
    role = settings.DATABASE_APP_ROLE
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT current_user")
        if cursor.fetchone() == (role,):
            return
        quoted = connections[using].ops.quote_name(role)
        cursor.execute(
            f"GRANT USAGE ON SCHEMA public TO {quoted};"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {quoted};"
            f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {quoted}"
        )


class MemoriesConfig(AppConfig):
    name = "memories"
    verbose_name = "Memories"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Consumers register where they live; Django's start is the one moment that comes before every door.
        from memories import embedding_spaces, statistics  # noqa: F401, PLC0415
        from memories.services import operations  # noqa: F401, PLC0415

        post_migrate.connect(grant_to_service, sender=apps.get_app_config("memories"))
