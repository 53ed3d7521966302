"""Apps and categories of an owner."""

from uuid import UUID

from accounts.actors import Actor, acting_as
from accounts.models import Scope
from mem0stack.lib.errors import NotFound
from memories import texts
from memories.models import App, Category


def set_app_active(actor: Actor, app_id: UUID, *, is_active: bool) -> App:
    """Let an app write, or keep it from writing. Raises NotFound, and Forbidden for a key limited to namespaces."""
    actor.require(Scope.WRITE)
    actor.require_every_namespace("Apps")
    with acting_as(actor):
        app = App.objects.select_for_update().filter(owner_id=actor.owner_id, id=app_id).first()
        if app is None:
            raise NotFound("There is no such app of yours.")
        app.is_active = is_active
        app.save(update_fields=["is_active"])
        return app


def add_category(actor: Actor, name: str, *, description: str = "") -> tuple[Category, bool]:
    """A category of the actor's own with this name; True when it is new. Raises Forbidden for a limited key."""
    actor.require(Scope.WRITE)
    actor.require_every_namespace("Categories")
    cleaned = texts.clean_categories([name])[0]
    with acting_as(actor):
        return Category.objects.get_or_create(
            owner_id=actor.owner_id, name=cleaned, defaults={"description": description}
        )


def delete_category(actor: Actor, category_id: UUID) -> None:
    """Take a category away, and from every memory that had it; the memories stay. Raises NotFound, Forbidden."""
    actor.require(Scope.WRITE)
    actor.require_every_namespace("Categories")
    with acting_as(actor):
        count, _ = Category.objects.filter(owner_id=actor.owner_id, id=category_id).delete()
    if not count:
        raise NotFound("There is no such category of yours.")
