"""Moving memories in and out. So far: conversations in the format of the LoCoMo benchmark."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from accounts.actors import Actor
from mem0stack.lib.errors import InvalidArgument
from memories import services
from memories.models import Kind
from memories.services import NewMemory, Step, Written

_SESSION = re.compile(r"session_(\d+)")
_BATCH = 500


@dataclass(frozen=True)
class Loaded:
    """What became of the turns of a file."""

    added: int
    known: int
    refused: Mapping[str, int]


def read_conversations(path: Path) -> list[NewMemory]:
    """The turns of a LoCoMo-format file, each a message in its conversation's namespace and its session's run.

    The file is one conversation or a list of them: `{"sample_id", "conversation": {"session_1": [{"speaker", "dia_id",
    "text", "blip_caption"?}], "session_1_date_time": "4:04 pm on 20 January, 2023", ...}}`. Raises InvalidArgument
    with the place of what is not so.
    """
    try:
        data = orjson.loads(path.read_bytes())
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}.") from error
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"{path} is not JSON: {error}.") from error
    samples = data if isinstance(data, list) else [data]
    return [turn for place, sample in enumerate(samples) for turn in _turns(sample, f"[{place}]")]


def load(actor: Actor, turns: Sequence[NewMemory], *, progress: Callable[[int], None]) -> Loaded:
    """Write turns through the services, 500 in a transaction. Those that are there already are left as they are."""
    added = known = 0
    refused: Counter[str] = Counter()
    for start in range(0, len(turns), _BATCH):
        some = turns[start : start + _BATCH]
        outcomes = services.batch(actor, [Step("add", new=turn) for turn in some])
        for outcome in outcomes:
            if not isinstance(outcome, Written):
                refused[outcome.error.detail] += 1
            elif outcome.is_duplicate:
                known += 1
            else:
                added += 1
        progress(len(some))
    return Loaded(added=added, known=known, refused=dict(refused))


def _turns(sample: Any, place: str) -> Iterator[NewMemory]:
    conversation = _get(sample, "conversation", dict, place)
    namespace = _get(sample, "sample_id", str, place)
    sessions = sorted(
        (int(match[1]), key) for key in conversation if (match := _SESSION.fullmatch(key)) and conversation[key]
    )
    for _, key in sessions:
        here = f"{place}.conversation.{key}"
        said_at = _moment(_get(conversation, f"{key}_date_time", str, f"{place}.conversation"), here)
        for seq, turn in enumerate(_get(conversation, key, list, f"{place}.conversation")):
            text = _get(turn, "text", str, f"{here}[{seq}]")
            caption = turn.get("blip_caption")
            yield NewMemory(
                content=f"{text} [photo: {caption}]".strip() if caption else text,
                kind=Kind.MESSAGE,
                namespace=namespace,
                run_id=key,
                seq=seq,
                speaker=_get(turn, "speaker", str, f"{here}[{seq}]"),
                event_at=said_at,
                metadata={"dia_id": _get(turn, "dia_id", str, f"{here}[{seq}]")},
            )


def _get(holder: Any, key: str, kind: type, place: str) -> Any:
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, kind):
        raise InvalidArgument(f"{place}.{key} should be a {kind.__name__}. Is this a LoCoMo-format file?")
    return value


def _moment(text: str, place: str) -> datetime:
    try:
        return datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidArgument(
            f"{place}_date_time is {text!r}; it should be like '4:04 pm on 20 January, 2023'."
        ) from error
