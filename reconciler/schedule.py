"""The schedule: ticks at fixed spans that only wake. The one importer of APScheduler.

Owns the spans. Every job is short or skips itself while its last firing still runs; none decides anything.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC

import structlog
from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler

log = structlog.get_logger(__name__)
# It would tell every failed tick a second time, a tick cut short as a failure, and one that skips itself as a fault.
logging.getLogger("apscheduler.executors").setLevel(logging.CRITICAL)
logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)

Tick = Callable[[], Awaitable[None]]


class Schedule:
    """Calls each tick at its span, in UTC, however late: a missed firing is made up for once, never dropped."""

    def __init__(self, ticks: Mapping[str, tuple[float, Tick]]) -> None:
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._scheduler.add_listener(_log_failure, EVENT_JOB_ERROR)
        for name, (seconds, tick) in ticks.items():
            # The default grace of one second would drop every tick that comes a little late.
            self._scheduler.add_job(
                tick,
                "interval",
                seconds=seconds,
                id=name,
                misfire_grace_time=None,
                coalesce=True,
                max_instances=1,
            )

    def start(self) -> None:
        """Begin to tick; the first firing comes after one span."""
        self._scheduler.start()

    def stop(self) -> None:
        """Tick no more. Running ticks are cancelled, so every one of them can be cut short without harm."""
        self._scheduler.shutdown(wait=False)


def _log_failure(event: JobExecutionEvent) -> None:
    if isinstance(event.exception, asyncio.CancelledError):
        return  # cut short by `stop`
    log.error("tick.failed", tick=event.job_id, exc_info=event.exception)
