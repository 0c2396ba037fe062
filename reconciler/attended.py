"""A run that somebody attends to: its row, the permit that is renewed while it lasts, and its verdict written down.

The only writer of runs, beside those of a lost life. Decides nothing: which action on whom is its caller's word.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from billing.clock import Clock
from reconciler import recheck
from reconciler.actions import Actions
from reconciler.commit import ACTOR, Target
from reconciler.models import Run, Step
from reconciler.runs.execution import RunHandle, RunVerdict
from reconciler.runs.request import Depth, RunRefusedError

log = structlog.get_logger(__name__)

PERMIT_SECONDS = 1.0
#: Between attempts at writing something down while the database is away; the last one repeats.
WAITS = (0.2, 1.0, 5.0, 15.0)
#: Tries at keeping the row of a run that has begun, before the run is ended again.
ROW_TRIES = 4


@dataclass(frozen=True, kw_only=True)
class Errand:
    """What is run where, on the listed targets. `steps` are the committed ones that the run carries out."""

    action: str
    target: Target
    guests: Sequence[Mapping[str, object]]
    digest: str
    steps: Sequence[Step] = ()
    depth: Depth | None = None


@dataclass(kw_only=True)
class Attendant:
    """Runs errands. `pause` waits that many seconds."""

    clock: Clock
    actions: Actions
    permit_seconds: float = PERMIT_SECONDS
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    #: Set when the process ends: nothing is begun any more, and nothing waits for a database that is away.
    closing: bool = field(default=False, init=False)

    async def run(self, errand: Errand) -> RunVerdict:
        """Run an errand to its verdict and keep its row.

        Raises `RunRefusedError`, `InventoryError` or `OSError` when nothing could be started.
        """
        if self.closing:
            raise RunRefusedError("the process is ending")
        target = errand.target
        handle = await self.actions.start(
            errand.action, target.site, nodes=(target.node,), guests=errand.guests, depth=errand.depth
        )
        row = Run(
            tag=handle.run_id,
            action=errand.action,
            site=target.site,
            node=target.node,
            lane=target.lane,
            plan_digest=errand.digest,
            requested_by=ACTOR,
            started_at=self.clock.now(),
        )
        renewal = asyncio.create_task(self._renew(handle, errand.steps))
        try:
            await self.written(lambda: _keep(row, errand.steps), "run.begun", tries=ROW_TRIES)
            verdict = await handle.wait()
        except Exception:
            # Without its row nobody would know of the run: it is ended before anything else.
            handle.cancel()
            await handle.wait()
            raise
        finally:
            renewal.cancel()
        await self.written(lambda: _conclude(row, verdict), "run.ended")
        return verdict

    async def written(self, write: Callable[[], Awaitable[object]], what: str, *, tries: int = 0) -> None:
        """Write something down, again and again while the database does not take it; after `tries` raise (0: never).

        Whatever a driver raises is a reason to try again: what a run did is not lost for it.
        """
        attempt = 0
        while True:
            try:
                await write()
                return
            except Exception as problem:
                attempt += 1
                if self.closing or attempt == tries:
                    raise
                log.warning("not_written", what=what, attempt=attempt, problem=type(problem).__name__)
            await self.pause(WAITS[min(attempt, len(WAITS)) - 1])

    async def _renew(self, handle: RunHandle, steps: Sequence[Step]) -> None:
        """Renew the permit while the run lasts; when the facts cannot be read it ages, and the play stops acting."""
        while True:
            try:
                gone = await recheck.void(steps, self.clock.now())
                handle.permit(void=[step_name(step_id) for step_id in gone])
            except Exception as problem:  # noqa: BLE001 - whatever it is, the permit is not renewed: that is safe
                log.warning("permit.not_renewed", problem=type(problem).__name__)
            await asyncio.sleep(self.permit_seconds)


def step_name(step_id: int) -> str:
    """Return how a step is named to a play."""
    return f"step-{step_id}"


async def _keep(row: Run, steps: Sequence[Step]) -> None:
    if not await Run.exists(tag=row.tag):
        await row.save(force_create=True)
    row.id = (await Run.get(tag=row.tag)).id
    await Step.filter(id__in=[step.id for step in steps]).update(run_id=row.id)


async def _conclude(row: Run, verdict: RunVerdict) -> None:
    await Run.filter(tag=row.tag).update(
        state=verdict.state,
        finished_at=verdict.finished_at,
        verified_gone=verdict.verified_gone,
        log=verdict.log,
        problem=verdict.problem,
    )
