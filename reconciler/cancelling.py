"""Runs that a person wants to end before their time.

Owns the wish and its obeying; the run itself ends its play, never a task of the hypervisor. A restore is not ended:
nothing may keep from a customer what is theirs.
"""

import asyncio
from datetime import datetime
from typing import Protocol

import structlog
from tortoise.transactions import in_transaction

from billing.audit import record
from billing.refusal import RefusalCode, refusal, required_reason
from reconciler.models import Run
from reconciler.rules.terms import Lane, RunState

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0


class Cancellable(Protocol):
    """A run that can be told to stop."""

    @property
    def run_id(self) -> str:
        """The tag of its row."""
        ...

    def cancel(self) -> None:
        """Order it to stop; repeating it does nothing."""
        ...


async def want(run_id: int, *, reason: str, actor: str, now: datetime) -> Run:
    """Record that a run is to end; the process that attends to it obeys within seconds. Again: no change.

    Refused for a run that is over, and for one that gives something back.
    """
    told = required_reason(reason)
    async with in_transaction():
        run = await Run.get_or_none(id=run_id)
        if run is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such run", "runId")
        if run.lane is Lane.RESTORE:
            raise refusal(
                RefusalCode.CONFLICT, "this run gives something back, and that is never cancelled", "runId"
            )
        running = Run.filter(id=run_id, state=RunState.RUNNING)
        if await running.filter(cancel_wanted_at=None).update(cancel_wanted_at=now):
            await record("run.cancel_wanted", ("Run", run_id), at=now, actor=actor, reason=told)
        elif not await running.exists():
            raise refusal(RefusalCode.CONFLICT, "the run is over already", "runId")
    return await Run.get(id=run_id)


async def obey(handle: Cancellable, *, seconds: float = LOOK_SECONDS) -> None:
    """Cancel a run once that is wanted; look every so many seconds, until cancelled oneself."""
    while True:
        await asyncio.sleep(seconds)
        try:
            wanted = await Run.exists(tag=handle.run_id, cancel_wanted_at__isnull=False)
        except Exception as problem:  # noqa: BLE001 - a database that is away answers the next time
            log.warning("run.not_looked_up", problem=type(problem).__name__)
            continue
        if wanted:
            handle.cancel()
            return
