"""The errors a caller can meet. One base: a stable code, an HTTP status, and a sentence that says what to do."""

from collections.abc import Mapping
from typing import Any


class Mem0Error(Exception):
    """What a door turns into a response. `detail` is for the caller; it never holds memory text, keys or SQL."""

    code = "internal"
    status = 500

    def __init__(self, detail: str, *, errors: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors


class InvalidArgument(Mem0Error):
    """A value is missing, of the wrong type, or past its limit. `errors` names the fields."""

    code = "invalid_argument"
    status = 400


class NotFound(Mem0Error):
    """No such thing, or none that this caller may see: the two are told apart nowhere."""

    code = "not_found"
    status = 404


class AmbiguousId(Mem0Error):
    """A short id that fits several visible memories."""

    code = "ambiguous_id"
    status = 409


class Conflict(Mem0Error):
    """The thing has changed, or a key was used before for something else."""

    code = "conflict"
    status = 409


class Forbidden(Mem0Error):
    """The caller is known and may see the thing, and still may not do this."""

    code = "forbidden"
    status = 403


class TooLarge(Mem0Error):
    code = "too_large"
    status = 413


class SecretDetected(Mem0Error):
    """The text holds a credential. Nothing was stored; `errors` gives kind and offset, never the secret."""

    code = "secret_detected"
    status = 422


class NothingValid(Mem0Error):
    """A batch in which no operation could be applied; `errors` holds each one's reason."""

    code = "invalid_argument"
    status = 422


class StorageFull(Mem0Error):
    """There is no room to write. Nothing was written; reading goes on."""

    code = "storage_full"
    status = 507


class Unavailable(Mem0Error):
    """A part that this call needs does not answer. Nothing was written; the caller may try again."""

    code = "unavailable"
    status = 503


class TookTooLong(Mem0Error):
    """A statement or a call reached its deadline."""

    code = "timeout"
    status = 503


class RateLimited(Mem0Error):
    """The key's calls of this minute are used up; the sentence says for how many seconds."""

    code = "rate_limited"
    status = 429
