"""When accounts may be suspended: the windows and holidays of a policy, on the local clock.

Pure. Owns being inside and the next opening; a window is told in the policy's zone or in the account's own.
"""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from billing.rules.policy import Window, Windows

#: How far ahead an opening is looked for; windows that stay shut for longer have none.
_LONGEST_SHUT = timedelta(days=400)


def in_window(windows: Windows, now: datetime, account_zone: str) -> bool:
    """Return whether `now` lies in one of the allowed spans, told in the policy's zone or the account's."""
    local = now.astimezone(ZoneInfo(windows.zone or account_zone))
    if local.date() in windows.holidays:
        return False
    minute = local.hour * 60 + local.minute
    return any(
        local.weekday() in window.days and window.from_minute <= minute < window.to_minute
        for window in windows.allow
    )


def opens_at(windows: Windows, now: datetime, account_zone: str) -> datetime | None:
    """Return the first instant from `now` on that lies inside (aware UTC); null when none does for over a year.

    Where the clocks skip a window's beginning, it opens with the first minute that exists.
    """
    if in_window(windows, now, account_zone):
        return now
    zone = ZoneInfo(windows.zone or account_zone)
    today = now.astimezone(zone).date()
    for days in range(_LONGEST_SHUT.days):
        day = today + timedelta(days=days)
        if day in windows.holidays:
            continue
        openings = (
            _opening(window, datetime.combine(day, time.min, tzinfo=zone))
            for window in windows.allow
            if day.weekday() in window.days
        )
        later = [at for at in openings if at > now and in_window(windows, at, account_zone)]
        if later:
            return min(later)
    return None


def _opening(window: Window, midnight: datetime) -> datetime:
    """Return when a window of this local day begins, in UTC; a skipped minute becomes the first one after the gap."""
    hour, minute = divmod(window.from_minute, 60)
    wall = midnight.replace(hour=hour, minute=minute)
    late, early = wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)
    while late - early > timedelta(minutes=1):  # only within a gap: the wanted instant lies between
        middle = early + timedelta(minutes=(late - early) // timedelta(minutes=2))
        if middle.astimezone(midnight.tzinfo).replace(tzinfo=None) >= wall.replace(tzinfo=None):
            late = middle
        else:
            early = middle
    return late
