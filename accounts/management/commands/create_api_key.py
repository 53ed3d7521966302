import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from accounts import services
from accounts.models import Scope, User
from mem0stack.lib.commands import ServiceCommand


class Command(ServiceCommand):
    help = "Make a key for a user's programs. It is printed once, and stored only as a hash."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user")
        parser.add_argument("--name", default="command line", help="what it is for")
        parser.add_argument("--scopes", default="read,write", help=f"of {', '.join(Scope.values)}, with commas")
        parser.add_argument("--namespaces", default="", help="limit the key to these, with commas")
        parser.add_argument(
            "--expires", default="", help="a date, a time with its offset, or a number of days like 90d"
        )
        parser.add_argument("--rate-limit", type=int, help="calls a minute; 0 is no limit, else API_RATE_LIMIT's")
        parser.add_argument("--json", action="store_true", help="the last line is a JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(
                f"There is no user {options['user']!r}. Make it with: manage.py create_user {options['user']}"
            )
        key, plain = services.create_api_key(
            user,
            name=options["name"],
            scopes=_words(options["scopes"]),
            namespaces=_words(options["namespaces"]) or None,
            expires_at=_moment(options["expires"]),
            rate_limit=options["rate_limit"],
        )
        if options["json"]:
            self.stdout.write(json.dumps({"id": str(key.id), "key": plain, "name": key.name, "scopes": key.scopes}))
            return
        self.stdout.write(f"Key {key.id} for {user.username} ({', '.join(key.scopes)}), shown this once:")
        self.stdout.write(plain)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    if days := re.fullmatch(r"(\d{1,4})d", text):
        return timezone.now() + timedelta(days=int(days[1]))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"--expires {text!r} is no date. Write 2027-01-31, 2027-01-31T12:00:00Z or 90d.") from error
    if moment.tzinfo is None:
        if len(text) > len("2027-01-31"):
            raise CommandError(f"--expires {text!r} has no offset. Write 2027-01-31T12:00:00Z.")
        moment = moment.replace(tzinfo=UTC)
    return moment
