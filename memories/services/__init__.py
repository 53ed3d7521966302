"""The one way anything about memories is written, for every door.

Each function takes the caller first, checks what may be done, and does it in one transaction: the row with its vector,
its terms, its history and its outbox event commit together or not at all. No model is called on the way.
"""

from memories.services.feedback import give_feedback
from memories.services.linking import link, unlink
from memories.services.organising import add_category, delete_category, set_app_active
from memories.services.outcomes import NewMemory, Outcome, Refused, Step, Written
from memories.services.sharing import share, unshare
from memories.services.writing import add, add_many, batch, delete, delete_all, new_run_id, restore, update

__all__ = [
    "NewMemory",
    "Outcome",
    "Refused",
    "Step",
    "Written",
    "add",
    "add_category",
    "add_many",
    "batch",
    "delete",
    "delete_all",
    "delete_category",
    "give_feedback",
    "link",
    "new_run_id",
    "restore",
    "set_app_active",
    "share",
    "unlink",
    "unshare",
    "update",
]
