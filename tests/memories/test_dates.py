"""The days, weeks, months and years that a question names, in five languages, where the asker is."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from memories.dates import Period, periods_in

# A Wednesday.
NOW = datetime(2026, 11, 25, 16, 30, tzinfo=UTC)

YESTERDAY = ("day", "2026-11-24", "2026-11-25")
THE_DAY_BEFORE = ("day", "2026-11-23", "2026-11-24")
LAST_WEEK = ("week", "2026-11-16", "2026-11-23")
LAST_MONTH = ("month", "2026-10-01", "2026-11-01")
LAST_YEAR = ("year", "2025-01-01", "2026-01-01")
THE_SEVENTH_OF_MAY = ("day", "2026-05-07", "2026-05-08")
MARCH = ("month", "2026-03-01", "2026-04-01")


def told(text: str, now: datetime = NOW) -> list[tuple[str, str, str]]:
    return [(one.unit, f"{one.start:%Y-%m-%d}", f"{one.end:%Y-%m-%d}") for one in periods_in(text, now)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("what broke yesterday", YESTERDAY, id="English: yesterday"),
        pytest.param("the talk of the day before yesterday", THE_DAY_BEFORE, id="English: the day before yesterday"),
        pytest.param("What did we decide TODAY?", ("day", "2026-11-25", "2026-11-26"), id="English: today"),
        pytest.param("what was decided last week", LAST_WEEK, id="English: last week"),
        pytest.param("what did we ship last month", LAST_MONTH, id="English: last month"),
        pytest.param("what did we ship last year", LAST_YEAR, id="English: last year"),
        pytest.param("two weeks ago", ("week", "2026-11-09", "2026-11-16"), id="English: two weeks ago"),
        pytest.param("3 days ago", ("day", "2026-11-22", "2026-11-23"), id="English: days ago"),
        pytest.param("a month ago", LAST_MONTH, id="English: a month ago"),
        pytest.param("14 months ago", ("month", "2025-09-01", "2025-10-01"), id="English: months ago"),
        pytest.param("the outage on Wednesday", ("day", "2026-11-18", "2026-11-19"), id="English: weekday, not today"),
        pytest.param("last tuesday", YESTERDAY, id="English: last Tuesday"),
        pytest.param("on May 7th, 2025", ("day", "2025-05-07", "2025-05-08"), id="English: month and day"),
        pytest.param("on the 7th of May", THE_SEVENTH_OF_MAY, id="English: day and month"),
        pytest.param("on 7 Dec", ("day", "2025-12-07", "2025-12-08"), id="English: a day still to come is last year's"),
        pytest.param("what happened in March", MARCH, id="English: month"),
        pytest.param("since december", ("month", "2025-12-01", "2026-01-01"), id="English: a month still to come"),
        pytest.param("in March 2024", ("month", "2024-03-01", "2024-04-01"), id="English: month and year"),
        pytest.param("what did we plan in 2024", ("year", "2024-01-01", "2025-01-01"), id="English: year"),
        pytest.param("deploy of 2026-05-07", THE_SEVENTH_OF_MAY, id="ISO day"),
        pytest.param("deploys of 2026-03", MARCH, id="ISO month"),
        pytest.param("2026-03-32", MARCH, id="ISO day that March has not: March"),
        pytest.param("Was war gestern los?", YESTERDAY, id="German: yesterday"),
        pytest.param("vorgestern", THE_DAY_BEFORE, id="German: the day before yesterday"),
        pytest.param("in der letzten Sitzung, letzte Woche", LAST_WEEK, id="German: last week"),
        pytest.param("vor drei Tagen", ("day", "2026-11-22", "2026-11-23"), id="German: days ago"),
        pytest.param("vor einem Monat", LAST_MONTH, id="German: a month ago"),
        pytest.param("am 7. Mai", THE_SEVENTH_OF_MAY, id="German: day"),
        pytest.param("im März", MARCH, id="German: month"),
        pytest.param("im Jahr 2025", LAST_YEAR, id="German: year"),
        pytest.param("am Dienstag", YESTERDAY, id="German: weekday"),
        pytest.param("что сломалось вчера", YESTERDAY, id="Russian: yesterday"),
        pytest.param("позавчера", THE_DAY_BEFORE, id="Russian: the day before yesterday"),
        pytest.param("на прошлой неделе", LAST_WEEK, id="Russian: last week"),
        pytest.param("3 дня назад", ("day", "2026-11-22", "2026-11-23"), id="Russian: days ago"),
        pytest.param("месяц назад", LAST_MONTH, id="Russian: a month ago"),
        pytest.param("7 мая", THE_SEVENTH_OF_MAY, id="Russian: day"),
        pytest.param("в марте", MARCH, id="Russian: month"),
        pytest.param("во вторник", YESTERDAY, id="Russian: weekday"),
        pytest.param("昨日のデプロイ", YESTERDAY, id="Japanese: yesterday"),
        pytest.param("先週の会議で決めたこと", LAST_WEEK, id="Japanese: last week"),
        pytest.param("去年の障害", LAST_YEAR, id="Japanese: last year"),
        pytest.param("3日前の変更", ("day", "2026-11-22", "2026-11-23"), id="Japanese: days ago"),
        pytest.param("5月7日の障害", THE_SEVENTH_OF_MAY, id="Japanese: day"),
        pytest.param("2026年5月7日の障害", THE_SEVENTH_OF_MAY, id="Japanese: day of a year"),
        pytest.param("昨天为什么失败", YESTERDAY, id="Chinese: yesterday"),
        pytest.param("上周决定了什么", LAST_WEEK, id="Chinese: last week"),
        pytest.param("上个月上线了什么", LAST_MONTH, id="Chinese: last month"),
        pytest.param("3个月前", ("month", "2026-08-01", "2026-09-01"), id="Chinese: months ago"),
        pytest.param("5月7号的故障", THE_SEVENTH_OF_MAY, id="Chinese: day"),
        pytest.param("2026年3月的故障", MARCH, id="Chinese: month of a year"),
        pytest.param("2025年的故障", LAST_YEAR, id="Chinese: year"),
    ],
)
def test_a_period_is_read(text: str, expected: tuple[str, str, str]) -> None:
    assert told(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("half a year ago", id="half a year ago is no year"),
        pytest.param("it may fail and mar the surface", id="may and mar are words"),
        pytest.param("on the 31st of June", id="a day that June has not"),
        pytest.param("2026-13-01", id="a thirteenth month"),
        pytest.param("0000-01-01", id="a year before the first"),
        pytest.param("port 5433 and version 3.12.1", id="numbers"),
        pytest.param("HTTP 2024 errors", id="a number like a year"),
        pytest.param("which port does the database use", id="no time at all"),
    ],
)
def test_what_names_no_period_is_not_read_as_one(text: str) -> None:
    assert told(text) == []


def test_a_question_may_name_several_of_which_four_count() -> None:
    assert told("yesterday or in March 2024") == [("month", "2024-03-01", "2024-04-01"), YESTERDAY]
    assert len(periods_in("2026-01-01 2026-01-02 2026-01-03 2026-01-04 2026-01-05", NOW)) == 4


def test_yesterday_is_the_day_before_where_the_asker_is() -> None:
    # In Auckland it is already the 26th, thirteen hours ahead.
    there = NOW.astimezone(ZoneInfo("Pacific/Auckland"))
    [period] = periods_in("yesterday", there)
    assert period.start.astimezone(UTC) == datetime(2026, 11, 24, 11, tzinfo=UTC)
    assert period.end - period.start == timedelta(days=1)
    assert told("yesterday", there) == [("day", "2026-11-25", "2026-11-26")]


def near(period: Period, days: float) -> float:
    """The nearness of a moment so many days after the period's start (before it: negative)."""
    moment = period.start.timestamp() + 86_400 * days
    return float(period.nearness(np.array([moment]))[0])


@pytest.mark.parametrize(
    ("text", "days", "expected"),
    [
        pytest.param("yesterday", 0, 1, id="day: its beginning"),
        pytest.param("yesterday", 0.5, 1, id="day: noon"),
        pytest.param("yesterday", -1, 1, id="day: a day early still counts"),
        pytest.param("yesterday", 2, 1, id="day: a day late still counts"),
        pytest.param("yesterday", -3, 0.5 * np.exp(-3 / 2), id="day: three days early"),
        pytest.param("yesterday", 9, np.exp(-1), id="day: eight days late"),
        pytest.param("last week", 6.9, 1, id="week: Sunday"),
        pytest.param("last week", -2, 0.5 * np.exp(-1), id="week: two days early"),
        pytest.param("last week", 14, np.exp(-1), id="week: a week late"),
        pytest.param("in March", 30.9, 1, id="month: its last evening"),
        pytest.param("in March", -0.1, 0, id="month: before"),
        pytest.param("in March", 41, np.exp(-1), id="month: ten days late"),
        pytest.param("last year", 364, 1, id="year: inside"),
        pytest.param("last year", -1, 0, id="year: before"),
        pytest.param("last year", 375, np.exp(-1), id="year: ten days late"),
    ],
)
def test_what_lies_outside_a_period_counts_less_and_less(text: str, days: float, expected: float) -> None:
    [period] = periods_in(text, NOW)
    assert near(period, days) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("text", ["yesterday", "last week", "in March", "last year"])
def test_nearness_lies_in_0_to_1_and_never_rises_with_the_distance(text: str) -> None:
    [period] = periods_in(text, NOW)
    late = [near(period, days) for days in np.arange(0, 500, 0.25)]
    early = [near(period, -days) for days in np.arange(0, 500, 0.25)]
    for values in (late, early):
        assert all(0 <= value <= 1 for value in values)
        assert values == sorted(values, reverse=True)
