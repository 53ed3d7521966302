"""The names of projects, for doors that are told where an agent works.

`project_key` reads whatever a client sends; `folder_of` is the name by which a project is known where its remote is
not. That the two mean one project is said once, in `NamespaceQuerySet.other_name`.
"""

from mem0stack.lib.remotes import project_key
from memories.querysets import folder_of

__all__ = ["folder_of", "project_key"]
