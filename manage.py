#!/usr/bin/env python
"""Django's command line, with two words of ours: `--home DIR` for every command, and the right database role."""

import os
import sys

# These change the schema, so they run as the role that owns the tables. Everything else runs as the service's own role.
OWNER_COMMANDS = {"migrate", "sqlmigrate", "sqlflush"}


def take_home(argv: list[str]) -> list[str]:
    """Move `--home DIR` from the arguments into MEM0_HOME, which settings read before any command sees its options."""
    rest = []
    words = iter(argv)
    for word in words:
        if word == "--home":
            directory = next(words, "")
        elif word.startswith("--home="):
            directory = word.removeprefix("--home=")
        else:
            rest.append(word)
            continue
        if not directory:
            sys.exit("manage.py: --home needs a directory, for example --home ~/.mem0stack")
        os.environ["MEM0_HOME"] = os.path.abspath(os.path.expanduser(directory))
    return rest


def main() -> None:
    argv = take_home(sys.argv)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mem0stack.settings")
    if len(argv) > 1 and argv[1] in OWNER_COMMANDS:
        os.environ.setdefault("MEM0_DB_ROLE", "owner")
    # Here and not above: settings must find MEM0_HOME set.
    from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415
    from django.core.management import execute_from_command_line  # noqa: PLC0415

    try:
        execute_from_command_line(argv)
    except ImproperlyConfigured as error:
        sys.exit(f"manage.py: {error}")


if __name__ == "__main__":
    main()
