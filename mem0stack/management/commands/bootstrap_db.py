"""`manage.py bootstrap_db`: roles, database and extension on a PostgreSQL of one's own."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from mem0stack.embedded import bootstrap
from mem0stack.embedded.account import EmbeddedError


class Command(BaseCommand):
    help = (
        "Makes the two roles, the database and the extension `vector` on any PostgreSQL 16, with the names and "
        "passwords of DATABASE_URL and DATABASE_OWNER_URL. May be run again. `manage.py migrate` comes next."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        way = parser.add_mutually_exclusive_group(required=True)
        way.add_argument("--superuser-url", help="postgres://superuser:password@host:5432/ to do it with")
        way.add_argument("--print-sql", action="store_true", help="print the script for psql instead")

    def handle(self, *args: Any, **options: Any) -> None:
        app_url, owner_url = settings.DATABASE_URL, settings.DATABASE_OWNER_URL
        if not app_url or not owner_url:
            raise CommandError(
                "Set DATABASE_URL (the service's role) and DATABASE_OWNER_URL (the tables' owner) first."
            )
        try:
            plan = bootstrap.plan_from_urls(app_url, owner_url)
            if options["print_sql"]:
                self.stdout.write(bootstrap.script(plan))
                return
            superuser = conninfo_to_dict(options["superuser_url"])
            superuser.pop("dbname", None)
            bootstrap.apply(plan, **superuser)
        except ProgrammingError as error:
            raise CommandError(f"--superuser-url is no address of a PostgreSQL: {error}") from error
        except EmbeddedError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Ready: database {plan.database}, owner {plan.owner.name}, service's role {plan.app.name}, "
            "extension vector. Next: manage.py migrate."
        )
