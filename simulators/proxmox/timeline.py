"""When things happen in the simulated cluster.

Owns the present instant, the scale of durations and the queue of what is still to happen. Nothing runs in the
background: whoever looks at the cluster first lets everything happen that is due, in order.
"""

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Protocol


class Clock(Protocol):
    """Tells the present instant as aware UTC; `billing.clock` has two of them."""

    def now(self) -> datetime:
        """Return the present instant, aware and in UTC."""
        ...


class Timeline:
    """Simulated time: the clock handed in, plus what was skipped by hand, with events in order.

    `time_scale` multiplies every duration of the simulator (0.01: a 60 s grace passes in 0.6 s of the clock).
    `publish` is called for each broadcast boundary that was crossed, with the state as it was then.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        time_scale: float,
        broadcast_seconds: float,
        publish: Callable[[datetime], None],
    ) -> None:
        if time_scale <= 0:
            raise ValueError(
                f"time_scale must be above 0, not {time_scale}: 1 is real time, 0.01 is a hundred times faster"
            )
        self._clock = clock
        self._scale = time_scale
        self._interval = timedelta(seconds=broadcast_seconds * time_scale)
        self._publish = publish
        self._skipped = timedelta(0)
        self._events: list[tuple[datetime, int, Callable[[], None]]] = []
        self._numbers = count()
        self._settling = False
        self.now = clock.now()
        self._next_broadcast = self.now + self._interval

    def scaled(self, seconds: float) -> timedelta:
        """Return how long a duration of the real system takes here."""
        return timedelta(seconds=seconds * self._scale)

    def after(self, seconds: float, happens: Callable[[], None]) -> None:
        """Let something happen `seconds` (unscaled) after the present instant."""
        heapq.heappush(self._events, (self.now + self.scaled(seconds), next(self._numbers), happens))

    def skip(self, seconds: float) -> None:
        """Jump forward by unscaled seconds of simulated time, letting everything happen on the way."""
        if seconds < 0:
            raise ValueError("time is only moved forward")
        self._skipped += self.scaled(seconds)
        self.settle()

    def settle(self) -> datetime:
        """Let everything happen that is due and return the present instant; during an event: that event's instant."""
        if self._settling:
            return self.now
        self._settling = True
        try:
            self._settle(max(self._clock.now() + self._skipped, self.now))
        finally:
            self._settling = False
        return self.now

    def _settle(self, present: datetime) -> None:
        while self._events and self._events[0][0] <= present:
            at, _, happens = heapq.heappop(self._events)
            self._broadcast_before(at)
            self.now = max(self.now, at)
            happens()
        self._broadcast_before(present)
        self.now = present

    def _broadcast_before(self, instant: datetime) -> None:
        """Publish once if a boundary lies between the last event and this instant: nothing changed in between."""
        if self._next_broadcast > instant:
            return
        if self._interval > timedelta(0):
            self._next_broadcast += ((instant - self._next_broadcast) // self._interval + 1) * self._interval
            self._publish(self._next_broadcast - self._interval)
        else:
            self._publish(instant)
