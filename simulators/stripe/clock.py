"""The simulator's time: a clock given from outside plus an offset that only moves forward.

Owns the offset. It never sleeps and never speeds time up: what waits for an hour waits until
somebody advances the clock by an hour or the hour has passed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Anything that tells the time as an aware datetime."""

    def now(self) -> datetime:
        """The present instant, aware."""
        ...


class SystemClock:
    """The clock of the machine, in UTC."""

    def now(self) -> datetime:
        """The present instant in UTC."""
        return datetime.now(UTC)


class MovableClock:
    """A base clock with an offset; Stripe's instants are whole seconds since 1970."""

    def __init__(self, base: Clock) -> None:
        self.base = base
        self.offset = timedelta(0)

    def now(self) -> datetime:
        """The simulated instant."""
        return self.base.now() + self.offset

    def timestamp(self) -> float:
        """The simulated instant in seconds since 1970, with its fraction."""
        return self.now().timestamp()

    def move(self, seconds: float) -> None:
        """Move the simulated instant forward; refuses to go back (ValueError)."""
        if seconds < 0:
            raise ValueError(f"the clock only moves forward, not by {seconds} s")
        self.offset += timedelta(seconds=seconds)
