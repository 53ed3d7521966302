"""Writing once: an idempotency key and what was done under it."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import orjson

from accounts.actors import Actor
from mem0stack.lib.errors import Conflict, InvalidArgument, Mem0Error
from memories.models import IdempotencyKey
from memories.services.outcomes import Outcome, Refused, Written

MAX_KEY = 255


def once(
    actor: Actor, key: str | None, request: Callable[[], Mapping[str, Any]], write: Callable[[], list[Outcome]]
) -> list[Outcome]:
    """Run `write` unless this key was used before; then give the earlier outcome. In the caller's transaction.

    Two requests with one key at the same moment: the second waits at the unique index for the first, and then reads
    what it did. A key with another request is a Conflict.
    """
    if key is None:
        return write()
    if not key.strip() or len(key) > MAX_KEY or not key.isprintable():
        raise InvalidArgument(
            f"An idempotency key has 1 to {MAX_KEY} printable characters.", errors={"idempotency_key": ["invalid"]}
        )
    request_hash = hashlib.sha256(orjson.dumps(request(), default=str, option=orjson.OPT_SORT_KEYS)).digest()
    mine = IdempotencyKey(owner_id=actor.owner_id, key=key, request_hash=request_hash)
    IdempotencyKey.objects.bulk_create([mine], ignore_conflicts=True)
    stored = IdempotencyKey.objects.get(owner_id=actor.owner_id, key=key)
    if stored.id != mine.id:
        if bytes(stored.request_hash) != request_hash:
            raise Conflict("This idempotency key was used for another request. Take a new key for a new request.")
        return [_outcome(entry) for entry in stored.response or ()]
    outcomes = write()
    stored.response = [_entry(outcome) for outcome in outcomes]
    stored.save(update_fields=["response"])
    return outcomes


def _entry(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Written):
        entry = {"id": str(outcome.memory_id), "event": outcome.event}
        return entry if outcome.made_id is None else entry | {"made_id": str(outcome.made_id)}
    return {"code": outcome.error.code, "status": outcome.error.status, "detail": outcome.error.detail}


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    if "id" in entry:
        made_id = entry.get("made_id")
        return Written(UUID(entry["id"]), entry["event"], made_id=UUID(made_id) if made_id else None)
    error = Mem0Error(entry["detail"])
    error.code, error.status = entry["code"], entry["status"]
    return Refused(error)
