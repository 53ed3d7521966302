"""Names in scripts without spaces, where no capital letter shows them: only what its surroundings give away."""

import re
from collections.abc import Iterator

from memories.entities.code import day_of
from memories.entities.found import EntityKind, Found, found
from memories.entities.words import UNSPACED_PLACES

_DATE = re.compile(r"(?:(\d{4})年)?(\d{1,2})月(?:(\d{1,2})[日号])?")
_PERSON = re.compile(
    r"([\u4e00-\u9fff]{1,4}|[\u30a0-\u30ff]{2,8})(?:さん|さま|様|氏|先生|君|くん|ちゃん)|([\u4e00-\u9fff]{1,3})(?:老师|女士)"
)
_PLACE = re.compile("|".join(sorted(UNSPACED_PLACES)))
_TITLE = re.compile(r"[「『《]([^」』》\n]{2,40})[」』》]")


def names(text: str) -> Iterator[Found]:
    for match in _DATE.finditer(text):
        if dated := day_of(match[0], int(match[1] or 0), int(match[2]), int(match[3] or 0)):
            yield dated
    for match in _PERSON.finditer(text):
        yield found(EntityKind.PERSON, match[1] or match[2])
    for match in _PLACE.finditer(text):
        yield found(EntityKind.PLACE, match[0])
    for match in _TITLE.finditer(text):
        yield found(EntityKind.QUOTE, match[1])
