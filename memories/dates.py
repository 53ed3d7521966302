"""The days, weeks, months and years that a query names, as spans of time. Pure functions.

English in full, the common forms of German, Russian, Japanese and Chinese. A month or a day without its year is the
last one that has begun: memories lie in the past.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

_DAY_S = 86_400.0
_MAX_PERIODS = 4


@dataclass(frozen=True)
class Period:
    """From `start` up to `end`, and how fast what lies outside of it stops counting."""

    start: datetime
    end: datetime
    unit: str

    def nearness(self, moments: NDArray[np.float64]) -> NDArray[np.float64]:
        """For times in seconds since 1970: 1 inside, less and less outside, never below 0.

        People tell a day late, rarely early, so it falls off slower afterwards; the constants were measured on
        conversations with a day and a month (see docs/search.md).
        """
        before = np.maximum(0.0, self.start.timestamp() - moments) / _DAY_S
        after = np.maximum(0.0, moments - self.end.timestamp()) / _DAY_S
        slack, early, late = _FADING[self.unit]
        early_side = 0.5 * np.exp(-before / early) if early else np.zeros_like(before)
        outside = np.where(before > 0, early_side, np.exp(-np.maximum(0.0, after - slack) / late))
        near: NDArray[np.float64] = np.where(before <= slack, np.where(before > 0, 1.0, outside), outside)
        return near


# Days: what still counts as inside, on both sides; the scale of fading before (0: nothing counts) and after.
_FADING = {"day": (1.0, 2.0, 7.0), "week": (0.0, 2.0, 7.0), "month": (0.0, 0.0, 10.0), "year": (0.0, 0.0, 10.0)}


def periods_in(text: str, now: datetime) -> list[Period]:
    """What `text` names, seen from `now` (aware; its time zone is the asker's). At most four, the finest first."""
    if not _ANY.search(text):
        return []
    found: list[Period] = []
    rest = text.casefold()
    for pattern, read in _READERS:
        taken = rest
        for match in pattern.finditer(rest):
            try:
                period = read(match, now)
            except (ValueError, OverflowError):  # the 31st of June, a million years ago
                continue
            found.append(period)
            taken = taken.replace(match[0], " ", 1)
        rest = taken
    return found[:_MAX_PERIODS]


def _day(moment: datetime) -> Period:
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return Period(start, start + timedelta(days=1), "day")


def _week(moment: datetime) -> Period:
    monday = _day(moment - timedelta(days=moment.weekday())).start
    return Period(monday, monday + timedelta(days=7), "week")


def _month(year: int, month: int, now: datetime) -> Period:
    start = _day(now).start.replace(year=year, month=month, day=1)
    return Period(start, (start + timedelta(days=32)).replace(day=1), "month")


def _year(year: int, now: datetime) -> Period:
    start = _day(now).start.replace(year=year, month=1, day=1)
    return Period(start, start.replace(year=year + 1), "year")


def _ago(number: int, unit: str, now: datetime) -> Period:
    if unit == "day":
        return _day(now - timedelta(days=number))
    if unit == "week":
        return _week(now - timedelta(weeks=number))
    if unit == "month":
        months = now.year * 12 + now.month - 1 - number
        return _month(months // 12, months % 12 + 1, now)
    return _year(now.year - number, now)


def _dated(year: str | None, month: int, day: int, now: datetime) -> Period:
    made = _day(now).start.replace(year=int(year) if year else now.year, month=month, day=day)
    return _day(made if year or made <= now else made.replace(year=now.year - 1))


def _named_month(year: str | None, month: int, now: datetime) -> Period:
    return _month(int(year) if year else now.year - (month > now.month), month, now)


def _weekday(number: int, now: datetime) -> Period:
    """The last one before today."""
    return _day(now - timedelta(days=(now.weekday() - number - 1) % 7 + 1))


_MONTHS = {
    name: place
    for names in (
        "january february march april may june july august september october november december",
        "januar februar märz april mai juni juli august september oktober november dezember",
        "январе феврале марте апреле мае июне июле августе сентябре октябре ноябре декабре",
        "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
        "jan feb mar apr may jun jul aug sep oct nov dec",
    )
    for place, name in enumerate(names.split(), 1)
}
_WEEKDAYS = {
    name: place
    for names in (
        "monday tuesday wednesday thursday friday saturday sunday",
        "montag dienstag mittwoch donnerstag freitag samstag sonntag",
        "понедельник вторник среду четверг пятницу субботу воскресенье",
    )
    for place, name in enumerate(names.split())
}
_NUMBERS = {
    word: number
    for words in ("one two three four five six seven eight nine ten", "einem zwei drei vier fünf sechs")
    for number, word in enumerate(words.split(), 1)
} | {"a": 1, "einer": 1, "a couple of": 2}
_UNITS = {
    **dict.fromkeys(("day", "days", "tag", "tagen", "день", "дня", "дней", "日", "天"), "day"),
    **dict.fromkeys(("week", "weeks", "woche", "wochen", "неделю", "недели", "недель", "週間", "周", "个星期"), "week"),
    **dict.fromkeys(
        ("month", "months", "monat", "monaten", "месяц", "месяца", "месяцев", "か月", "ヶ月", "个月"), "month"
    ),
    **dict.fromkeys(("year", "years", "jahr", "jahren", "год", "года", "лет", "年"), "year"),
}
_RELATIVE = {
    **dict.fromkeys(("today", "tonight", "this morning", "heute", "сегодня", "今日", "今天"), (0, "day")),
    **dict.fromkeys(("yesterday", "last night", "gestern", "вчера", "昨日", "昨天"), (1, "day")),
    **dict.fromkeys(("the day before yesterday", "vorgestern", "позавчера", "一昨日", "おととい", "前天"), (2, "day")),
    **dict.fromkeys(("this week", "diese woche", "на этой неделе", "今週", "这周", "本周"), (0, "week")),
    **dict.fromkeys(
        ("last week", "letzte woche", "letzter woche", "на прошлой неделе", "先週", "上周", "上个星期"), (1, "week")
    ),
    **dict.fromkeys(("this month", "diesen monat", "в этом месяце", "今月", "这个月", "本月"), (0, "month")),
    **dict.fromkeys(
        ("last month", "letzten monat", "letztem monat", "в прошлом месяце", "先月", "上个月"), (1, "month")
    ),
    **dict.fromkeys(("this year", "dieses jahr", "в этом году", "今年"), (0, "year")),
    **dict.fromkeys(("last year", "letztes jahr", "в прошлом году", "去年", "昨年"), (1, "year")),
}


def _either(words: dict[str, int] | dict[str, str] | dict[str, tuple[int, str]]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


_M, _NUMBER = _either(_MONTHS), _either(_NUMBERS)
_UNSPACED_UNIT = "日|天|週間|周|个星期|か月|ヶ月|个月|年"
_Reader = Callable[[re.Match[str], datetime], Period]
_READERS: tuple[tuple[re.Pattern[str], _Reader], ...] = (
    (
        re.compile(r"\b(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})"),
        lambda found, now: _dated(found[1], int(found[2]), int(found[3]), now),
    ),
    (
        re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th|\.)?(?: of)? ({_M})\b\.?,?(?: (\d{{4}})\b)?"),
        lambda found, now: _dated(found[3], _MONTHS[found[2]], int(found[1]), now),
    ),
    (
        re.compile(rf"\b({_M})\.? (\d{{1,2}})(?:st|nd|rd|th)?\b(?!:),?(?: (\d{{4}})\b)?"),
        lambda found, now: _dated(found[3], _MONTHS[found[1]], int(found[2]), now),
    ),
    (re.compile(r"(\d{1,2})月(\d{1,2})[日号]"), lambda found, now: _dated(None, int(found[1]), int(found[2]), now)),
    (
        re.compile(rf"\b({_M})\.?,?(?: of)? (\d{{4}})\b"),
        lambda found, now: _named_month(found[2], _MONTHS[found[1]], now),
    ),
    (re.compile(r"\b(\d{4})[-年](\d{1,2})(?!\d)月?"), lambda found, now: _named_month(found[1], int(found[2]), now)),
    (
        re.compile(rf"(?<!half )\b(\d{{1,3}}|{_NUMBER}) (days?|weeks?|months?|years?) ago\b"),
        lambda found, now: _ago(_number(found[1]), _UNITS[found[2]], now),
    ),
    (
        re.compile(rf"\bvor (\d{{1,3}}|{_NUMBER}) (tag|tagen|woche|wochen|monat|monaten|jahr|jahren)\b"),
        lambda found, now: _ago(_number(found[1]), _UNITS[found[2]], now),
    ),
    (
        re.compile(r"(?:(\d{1,3}) )?\b(день|дня|дней|неделю|недели|недель|месяц|месяца|месяцев|год|года|лет) назад\b"),
        lambda found, now: _ago(_number(found[1] or "1"), _UNITS[found[2]], now),
    ),
    (
        re.compile(rf"(\d{{1,3}})({_UNSPACED_UNIT})前"),
        lambda found, now: _ago(_number(found[1]), _UNITS[found[2]], now),
    ),
    (
        re.compile(
            rf"(?<!\w)(?:{_either(_RELATIVE)})(?!\w)|昨日|今日|昨天|今天|先週|上周|先月|上个月|去年|昨年|今週|今月"
        ),
        lambda found, now: _ago(*_RELATIVE[found[0]], now),
    ),
    (
        re.compile(rf"\b(?:last|on|since|letzten|am|seit|в|во) ({_either(_WEEKDAYS)})\b"),
        lambda found, now: _weekday(_WEEKDAYS[found[1]], now),
    ),
    (
        # "may" and "mar" alone are words; a month stands after a preposition.
        re.compile(rf"\b(?:in|since|during|by|until|last|early|late|mid|im|seit|letzten|в) ({_M})\b"),
        lambda found, now: _named_month(None, _MONTHS[found[1]], now),
    ),
    (re.compile(r"(?<![\d])(\d{1,2})月"), lambda found, now: _named_month(None, int(found[1]), now)),
    (
        re.compile(r"\b(?:in|of|since|during|by|im jahr|seit|в) ((?:19|20)\d\d)\b|\b((?:19|20)\d\d)年"),
        lambda found, now: _year(int(found[1] or found[2]), now),
    ),
)
# One look says that most queries name no time at all.
_ANY = re.compile(
    rf"\d|\bago\b|(?<!\w)(?:{_either(_RELATIVE)})|\b(?:{_either(_WEEKDAYS)}|{_M})\b|\bvor\b|назад|[昨今先上去前]",
    re.IGNORECASE,
)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else _NUMBERS[text]
