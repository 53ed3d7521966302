"""The words a field may hold."""

from django.db import models


class Kind(models.TextChoices):
    MESSAGE = "message"
    FACT = "fact"
    PREFERENCE = "preference"
    DECISION = "decision"
    PROCEDURE = "procedure"
    ERROR = "error"
    REFERENCE = "reference"


class State(models.TextChoices):
    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"
    DELETED = "deleted"


class Standing(models.TextChoices):
    CURRENT = "current"
    SUPERSEDED = "superseded"  # was true once
    REJECTED = "rejected"  # was never true


class Event(models.TextChoices):
    ADD = "ADD"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    RESTORE = "RESTORE"
    STATE = "STATE"
    CONFIRM = "CONFIRM"
    SUPERSEDE = "SUPERSEDE"
    REJECT = "REJECT"
    MERGE = "MERGE"
    SHARE = "SHARE"
    LINK = "LINK"
    UNLINK = "UNLINK"


class RelationKind(models.TextChoices):
    DERIVED_FROM = "derived_from"  # the target says so: written with what was inferred, never by hand
    RELATES_TO = "relates_to"
    SUPERSEDES = "supersedes"
    CONTRADICTS = "contradicts"
    DEPENDS_ON = "depends_on"
    CAUSED_BY = "caused_by"
    PART_OF = "part_of"


class OperationKind(models.TextChoices):
    EXTRACT = "extract"  # facts from a source that is stored already


class OperationState(models.TextChoices):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # there was nothing to do it with


class AccessAction(models.TextChoices):
    SEARCH = "search"  # a hit, or shown beside one
    READ = "read"  # by its id
    LIST = "list"  # in a list of somebody else's than the owner's
    STAFF_VIEW = "staff_view"


class SpaceState(models.TextChoices):
    BUILDING = "building"  # memories are being embedded
    ACTIVE = "active"  # searches ask it
    RETIRED = "retired"  # was active once, or will not be


class Purpose(models.TextChoices):
    EMBEDDER = "embedder"  # texts to vectors
    MODEL = "model"  # chat: a prompt to a reply


class ProviderKind(models.TextChoices):
    OPENAI = "openai", "OpenAI"
    AZURE = "azure", "Azure OpenAI"
    COMPATIBLE = "compatible", "Compatible with OpenAI (Ollama, vLLM, LiteLLM, ...)"


class Verdict(models.TextChoices):
    USEFUL = "useful"
    WRONG = "wrong"  # was never true
    OUTDATED = "outdated"  # was true until now
