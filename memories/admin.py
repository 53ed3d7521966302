"""What of memories the admin shows; Django looks here for it."""

from memories import admin_providers  # noqa: F401  it registers itself
