"""Which project a caller means, for every door that looks through memories."""

from accounts.actors import Actor
from memories import texts
from memories.models import Namespace


def wanted(actor: Actor, namespace: str | None) -> str | None:
    """The key of the project to look in; None for everything visible, which is what none and `*` mean.

    Raises InvalidArgument, and Forbidden where the actor's key is limited to others.
    """
    if namespace is None or namespace == "*":
        return None
    name = texts.clean_namespace(namespace)
    actor.require_namespace(name)
    return name


def other_name(actor: Actor, project: str | None) -> str:
    """The other namespace of the actor's that is the same project, or "". One query, in the caller's transaction."""
    return Namespace.objects.all().other_name(actor.owner_id, project) if project else ""
