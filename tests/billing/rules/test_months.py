"""The months of an account, and the day its invoices are due on."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.due import end_of_day, local_day
from billing.rules.months import due_day, end_of, following, month_of, start_of

#: Summer time in both halves of the world, none, half hours, quarter hours, and a clock that changes at midnight.
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Santiago",
    "UTC",
)
FIRST, LAST = date(2024, 1, 1), date(2032, 12, 31)
DAYS = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]


@pytest.mark.parametrize("zone", ZONES)
def test_it_tiles_the_years_with_months(zone: str) -> None:
    """Every day from 2024 to 2032 lies whole in the one month that it is of; no month leaves a second out."""
    bounds = [end_of_day(day, zone) for day in [FIRST - timedelta(days=1), *DAYS]]
    for day, (begins, ends) in zip(DAYS, pairwise(bounds), strict=True):
        month = day.replace(day=1)
        assert start_of(month, zone) <= begins < ends <= end_of(month, zone)
        assert {month_of(begins, zone), month_of(ends - timedelta(microseconds=1), zone)} == {month}
        assert (begins == start_of(month, zone)) == (day.day == 1)
        assert (ends == end_of(month, zone)) == ((day + timedelta(days=1)).day == 1)


@pytest.mark.parametrize(
    ("month", "zone", "hours"),
    [
        (date(2026, 2, 1), "UTC", 28 * 24),
        (date(2028, 2, 1), "Europe/Berlin", 29 * 24),
        (date(2026, 3, 1), "Europe/Berlin", 31 * 24 - 1),
        (date(2026, 10, 1), "Europe/Berlin", 31 * 24 + 1),
        (date(2026, 4, 1), "Australia/Lord_Howe", 30 * 24 + 0.5),
        (date(2026, 9, 1), "America/Santiago", 30 * 24 - 1),
    ],
)
def test_it_knows_how_long_a_month_really_is(month: date, zone: str, hours: float) -> None:
    """An hour less in spring, one more in autumn, half an hour on Lord Howe, a leap day."""
    assert end_of(month, zone) - start_of(month, zone) == timedelta(hours=hours)


def test_it_goes_from_december_to_january() -> None:
    """The year follows."""
    assert following(date(2026, 12, 1)) == date(2027, 1, 1)
    assert following(date(2028, 1, 31)) == date(2028, 2, 1)


def test_it_refuses_a_naive_instant() -> None:
    """A month of nobody's clock is no month."""
    with pytest.raises(ValueError, match="aware"):
        month_of(datetime(2026, 11, 1), "UTC")  # noqa: DTZ001


@pytest.mark.parametrize(
    ("issued", "term", "zone", "due"),
    [
        (datetime(2026, 11, 1, tzinfo=UTC), timedelta(days=14), "UTC", date(2026, 11, 15)),
        # 0:00 of the first, there; the clocks change on the 29th and take nothing away.
        (datetime(2026, 3, 20, 23, tzinfo=UTC), timedelta(days=14), "Europe/Berlin", date(2026, 4, 4)),
        (datetime(2026, 10, 31, 22, 59, tzinfo=UTC), timedelta(days=14), "Europe/Berlin", date(2026, 11, 14)),
        (datetime(2028, 2, 15, tzinfo=UTC), timedelta(days=14), "UTC", date(2028, 2, 29)),
        (datetime(2026, 11, 1, 23, tzinfo=UTC), timedelta(hours=36), "UTC", date(2026, 11, 3)),
        (datetime(2026, 11, 1, 9, tzinfo=UTC), timedelta(seconds=2), "UTC", date(2026, 11, 1)),
    ],
)
def test_it_is_due_after_the_term(issued: datetime, term: timedelta, zone: str, due: date) -> None:
    """Whole days are days of the account's calendar; the rest is time."""
    assert due_day(issued, term, zone) == due


@given(
    issued=st.datetimes(datetime(2024, 1, 1), datetime(2032, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    days=st.integers(0, 90),
    rest=st.timedeltas(timedelta(0), timedelta(hours=23, minutes=59)),
    zone=st.sampled_from(ZONES),
)
def test_it_always_leaves_the_whole_term(issued: datetime, days: int, rest: timedelta, zone: str) -> None:
    """By the clock on the wall, nobody is overdue before the term has passed, nor more than a day later."""
    due = due_day(issued, timedelta(days=days) + rest, zone)
    local = issued.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    overdue = end_of_day(due, zone).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    spare = overdue - local - timedelta(days=days) - rest
    change = timedelta(hours=1)  # what the clocks may give or take that night
    assert -change <= spare <= timedelta(days=1) + change
    if not rest:
        assert due == local_day(issued, zone) + timedelta(days=days)
