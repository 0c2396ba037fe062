"""When an invoice is overdue."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.due import counts_from, end_of_day, local_day, overdue_at, zone_of

T = datetime(2026, 11, 20, 12, tzinfo=UTC)
ZONES = sorted(available_timezones() - {"localtime"})


@pytest.mark.parametrize(
    ("day", "zone", "end"),
    [
        (date(2026, 11, 20), "UTC", datetime(2026, 11, 21, tzinfo=UTC)),
        (date(2026, 11, 20), "Europe/Berlin", datetime(2026, 11, 20, 23, tzinfo=UTC)),
        (date(2026, 7, 20), "Europe/Berlin", datetime(2026, 7, 20, 22, tzinfo=UTC)),
        (date(2026, 11, 20), "Pacific/Kiritimati", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        (date(2026, 11, 20), "America/Los_Angeles", datetime(2026, 11, 21, 8, tzinfo=UTC)),
        # A day of 23 hours and one of 25.
        (date(2026, 3, 29), "Europe/Berlin", datetime(2026, 3, 29, 22, tzinfo=UTC)),
        (date(2026, 10, 25), "Europe/Berlin", datetime(2026, 10, 25, 23, tzinfo=UTC)),
        # Midnight itself is skipped: the next day begins at one o'clock.
        (date(2018, 11, 3), "America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),
        # Midnight comes twice: the first of them ends the day.
        (date(2026, 10, 31), "America/Havana", datetime(2026, 11, 1, 4, tzinfo=UTC)),
        # The clocks jump from 23:30 to 0:30.
        (date(1919, 3, 30), "America/Toronto", datetime(1919, 3, 31, 4, 30, tzinfo=UTC)),
        # A whole day is skipped.
        (date(2011, 12, 29), "Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ],
)
def test_it_ends_the_local_day(day: date, zone: str, end: datetime) -> None:
    """The first instant of the following local day, whatever the clocks do that night."""
    assert end_of_day(day, zone) == end
    assert overdue_at(due_on=day, zone=zone) == end


@given(day=st.dates(date(1971, 1, 1), date(2037, 1, 1)), zone=st.sampled_from(ZONES))
def test_it_ends_every_day_of_every_zone_exactly(day: date, zone: str) -> None:
    """From its end on no clock shows the day any more; a second before, none shows a later one."""
    end = end_of_day(day, zone)
    assert end.astimezone(ZoneInfo(zone)).date() > day
    assert (end - timedelta(seconds=1)).astimezone(ZoneInfo(zone)).date() <= day


def test_it_counts_from_the_first_attempt_where_there_is_no_due_date() -> None:
    """Later attempts, in any order, never move it; none at all is not overdue."""
    attempts = [T + timedelta(days=3), T, T + timedelta(days=5)]
    assert overdue_at(due_on=None, zone="UTC", unsuccessful_attempts=attempts) == T
    assert overdue_at(due_on=None, zone="UTC", unsuccessful_attempts=[*attempts, T + timedelta(days=7)]) == T
    assert overdue_at(due_on=None, zone="UTC") is None


def test_it_holds_to_the_due_date_whatever_was_attempted() -> None:
    """A failed attempt before the due date makes nothing overdue."""
    found = overdue_at(due_on=date(2026, 11, 30), zone="UTC", unsuccessful_attempts=[T])
    assert found == datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("UTC", date(2026, 11, 20)),
        ("Pacific/Auckland", date(2026, 11, 21)),
        ("Pacific/Niue", date(2026, 11, 20)),
    ],
)
def test_it_finds_the_day_of_an_instant(zone: str, day: date) -> None:
    """Stripe names an instant; the customer knows a day."""
    assert local_day(T, zone) == day


def test_it_counts_from_the_later_of_overdue_and_seen() -> None:
    """A late discovery or a reopening starts the counting then."""
    assert counts_from(T, T - timedelta(days=1)) == T
    assert counts_from(T, T + timedelta(days=1)) == T + timedelta(days=1)


def test_it_refuses_naive_instants_and_unknown_zones() -> None:
    """Both are mistakes of a program, and told as such."""
    naive = T.replace(tzinfo=None)
    for wrong in (
        lambda: local_day(naive, "UTC"),
        lambda: overdue_at(due_on=None, zone="UTC", unsuccessful_attempts=[naive]),
        lambda: counts_from(naive, T),
    ):
        with pytest.raises(ValueError, match="aware"):
            wrong()
    for name in ("Mars/Olympus", "", "../etc/passwd", "Europe/"):
        with pytest.raises(ValueError, match="no time zone; use an IANA name"):
            zone_of(name)
