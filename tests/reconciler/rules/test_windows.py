"""Windows are told on the local clock, and the next opening is known."""

from datetime import UTC, date, datetime, timedelta

import pytest

from billing.rules.policy import Window, Windows
from reconciler.rules.windows import in_window, opens_at

NEW_YORK = "America/New_York"


def span(*days: int, opens: int = 9 * 60, closes: int = 16 * 60) -> Window:
    """Return a window on these days of the week."""
    return Window(days=frozenset(days), from_minute=opens, to_minute=closes)


@pytest.mark.parametrize(
    ("seconds", "inside"), [(-1, False), (0, True), (7 * 3600 - 1, True), (7 * 3600, False)]
)
def test_tells_a_window_in_the_accounts_zone(build, seconds, inside):
    """Friday 09:00 to 16:00 in Zurich is 08:00 to 15:00 UTC in November; the end is outside."""
    windows = Windows(zone=None, allow=(span(4),))
    opening = build.now.replace(hour=8)

    assert in_window(windows, opening + timedelta(seconds=seconds), "Europe/Zurich") is inside


def test_closes_every_window_on_a_holiday(build):
    """A holiday is told in the same zone as the window."""
    always = Windows(
        zone="UTC", allow=(span(*range(7), opens=0, closes=1440),), holidays=frozenset({build.now.date()})
    )

    assert not in_window(always, build.now, "UTC")
    assert opens_at(always, build.now, "UTC") == datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "opening"),
    [
        (datetime(2026, 11, 20, 9, tzinfo=UTC), datetime(2026, 11, 23, 8, tzinfo=UTC)),  # a Friday
        (datetime(2026, 11, 23, 8, tzinfo=UTC), datetime(2026, 11, 23, 8, tzinfo=UTC)),
        (datetime(2026, 11, 23, 15, tzinfo=UTC), datetime(2026, 11, 24, 8, tzinfo=UTC)),
        (datetime(2026, 12, 24, 9, tzinfo=UTC), datetime(2026, 12, 28, 8, tzinfo=UTC)),
    ],
)
def test_opens_on_the_next_working_morning(now, opening):
    """Weekends and holidays are skipped, and within a window it is open now."""
    windows = Windows(
        zone="Europe/Berlin", allow=(span(0, 1, 2, 3),), holidays=frozenset({date(2026, 12, 24)})
    )

    assert opens_at(windows, now, "UTC") == opening


def test_opens_with_the_first_minute_that_the_clocks_have():
    """Where 02:30 is skipped, a window from 02:30 opens at 03:00 daylight time."""
    windows = Windows(zone=NEW_YORK, allow=(span(6, opens=150, closes=300),))

    opening = opens_at(windows, datetime(2027, 3, 14, 5, tzinfo=UTC), "UTC")

    assert opening == datetime(2027, 3, 14, 7, tzinfo=UTC)
    assert in_window(windows, opening, "UTC")
    assert not in_window(windows, opening - timedelta(minutes=1), "UTC")


def test_never_opens_without_a_window():
    """A policy that allows no time has no opening."""
    assert opens_at(Windows(zone="UTC", allow=()), datetime(2026, 11, 20, tzinfo=UTC), "UTC") is None
