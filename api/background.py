"""Work that goes on beside the requests: woken, run until nothing is left, and asleep again.

Owns the running of such work; what it does is given. A failure is logged and the work tried again, never dropped.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger(__name__)

#: A turn that failed is repeated after this, whether or not anything wakes it.
AFTER_FAILURE_SECONDS = 5.0


@dataclass(kw_only=True)
class Worker:
    """Calls `turn` whenever woken. A turn returns in how many seconds it wants another, or null for none."""

    name: str
    turn: Callable[[], Awaitable[float | None]]
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Ask for a turn; returns at once."""
        self._woken.set()

    async def run(self) -> None:
        """Take turns until cancelled."""
        again: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), again)
            self._woken.clear()
            try:
                again = await self.turn()
            except Exception:
                log.exception("worker.failed", worker=self.name)
                again = AFTER_FAILURE_SECONDS
