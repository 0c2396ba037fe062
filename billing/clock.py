"""The one source of time.

Everything that needs the present instant is handed a `Clock`; nothing else in the product asks the machine.
"""

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the present instant as aware UTC."""

    def now(self) -> datetime:
        """Return the present instant, aware and in UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the machine's present instant, aware and in UTC."""
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until it is moved; scenarios run on it."""

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("start must be an aware instant, such as datetime(2026, 1, 1, tzinfo=UTC)")
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """Return the instant that the clock was last moved to."""
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move forward by a duration and return the new instant; a negative one is refused."""
        if by < timedelta(0):
            raise ValueError("a clock is only moved forward")
        self._now += by
        return self._now
