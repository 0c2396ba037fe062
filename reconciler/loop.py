"""The loop: woken by facts, ticks and finished jobs, it runs passes until nothing is left to do, and sleeps.

Owns when a pass runs. Wake-ups carry nothing: a lost, doubled or late one changes nothing but the delay.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from billing.clock import Clock
from reconciler.passes import PassResult

log = structlog.get_logger(__name__)

#: A pass that failed as a whole (the database is away) is tried again after this; ticks go on meanwhile.
AFTER_FAILURE_SECONDS = 5.0
#: Passes in a row without a pause, and the pause after them, in which others get a turn.
MAX_IN_A_ROW = 20
BREATHER_SECONDS = 1.0


@dataclass(kw_only=True)
class Loop:
    """Runs passes one after the other. `heard` is called with each result, for progress and metrics."""

    clock: Clock
    run_pass: Callable[[], Awaitable[PassResult]]
    heard: Callable[[PassResult], None] | None = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _alarm: asyncio.TimerHandle | None = None

    @property
    def woken(self) -> asyncio.Event:
        """Set while another pass is asked for."""
        return self._woken

    def wake(self) -> None:
        """Ask for a pass; returns at once."""
        self._woken.set()

    async def run(self) -> None:
        """Run passes whenever woken, until cancelled."""
        in_a_row = 0
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                result = await self.run_pass()
                if self.heard is not None:
                    self.heard(result)
            except Exception:
                log.exception("pass.failed")
                self._ring_in(AFTER_FAILURE_SECONDS)
                continue
            in_a_row = in_a_row + 1 if result.again else 0
            if not result.again:
                self._ring_at(result.next_at)
            elif in_a_row < MAX_IN_A_ROW:
                self.wake()
            else:
                in_a_row = 0
                self._ring_in(BREATHER_SECONDS)

    def _ring_at(self, instant: datetime | None) -> None:
        """Wake when time alone may change something."""
        if instant is not None:
            self._ring_in(max(0.05, (instant - self.clock.now()).total_seconds()))

    def _ring_in(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        # A day at most: a far instant is looked at again by the ticks long before.
        self._alarm = asyncio.get_running_loop().call_later(min(seconds, 86_400.0), self.wake)
