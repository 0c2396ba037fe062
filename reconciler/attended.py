"""A run that somebody attends to: its row, the permit that is renewed while it lasts, and its verdict written down.

The only writer of runs, beside those of a lost life. Decides nothing: which action on whom is its caller's word.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from billing.clock import Clock
from reconciler import cancelling, recheck
from reconciler.actions import Actions
from reconciler.commit import ACTOR, Target
from reconciler.models import Run, Step
from reconciler.problem_log import ProblemLog
from reconciler.rules.outcome import TargetReport
from reconciler.rules.terms import Lane
from reconciler.runs.execution import RunHandle, RunVerdict
from reconciler.runs.request import Depth, RunRefusedError

log = structlog.get_logger(__name__)

#: Takes one target's report while its run goes on.
Told = Callable[[TargetReport], Awaitable[object]]

PERMIT_SECONDS = 1.0
#: Between attempts at writing something down while the database is away; the last one repeats.
WAITS = (0.2, 1.0, 5.0, 15.0)
#: Tries at keeping the row of a run that has begun, before the run is ended again.
ROW_TRIES = 4


class RunBrokeError(Exception):
    """A run had begun and could not be kept on record; what it did is not known."""


@dataclass(frozen=True, kw_only=True)
class Errand:
    """What is run where, on the listed targets. `steps` are the committed ones that the run carries out.

    `told` is given each target's report as soon as it comes, as long as the run goes on and it is the only one.
    """

    action: str
    target: Target
    guests: Sequence[Mapping[str, object]]
    digest: str
    steps: Sequence[Step] = ()
    depth: Depth | None = None
    told: Told | None = None


@dataclass(kw_only=True)
class Attendant:
    """Runs errands. `pause` waits that many seconds."""

    clock: Clock
    actions: Actions
    permit_seconds: float = PERMIT_SECONDS
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    #: Set when the process ends: nothing is begun any more, and nothing waits for a database that is away.
    closing: bool = field(default=False, init=False)
    _problems: ProblemLog = field(default_factory=lambda: ProblemLog(event="run.problem"), init=False)

    async def run(self, errand: Errand) -> RunVerdict:
        """Run an errand to its verdict and keep its row.

        Raises `RunRefusedError`, `InventoryError` or `OSError` when nothing could be started, and nothing of these
        once something was.
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
        try:
            verdict = await self._attend(handle, row, errand)
            await self.written(lambda: _conclude(row, verdict), "run.ended")
        except OSError as problem:
            # To the caller an OSError means that nothing was started: a database that is away must not read so.
            raise RunBrokeError("the run could not be kept on record") from problem
        if not self.closing:
            self._problems.note(
                (errand.action, target),
                verdict.problem,
                run_id=handle.run_id,
                action=errand.action,
                site=target.site,
                node=target.node,
            )
        return verdict

    async def _attend(self, handle: RunHandle, row: Run, errand: Errand) -> RunVerdict:
        beside = [asyncio.create_task(self._renew(handle, errand.steps))]
        if row.lane is not Lane.RESTORE:
            beside.append(asyncio.create_task(cancelling.obey(handle, seconds=self.permit_seconds)))
        try:
            await self.written(lambda: _keep(row, errand.steps), "run.begun", tries=ROW_TRIES)
            # The row first: what is told about a step must find the step's run.
            if errand.told is not None:
                await _follow(handle, errand.told)
            return await handle.wait()
        except Exception:
            # Without its row nobody would know of the run: it is ended before anything else.
            handle.cancel()
            await handle.wait()
            raise
        finally:
            for task in beside:
                task.cancel()

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


async def _follow(handle: RunHandle, told: Told) -> None:
    """Pass reports on until the run is over; one of several about a target, or one left over then, is not passed on.

    Hearing never waits for telling: of two reports that came together, the first is known not to be the only one.
    """
    heard: Counter[str] = Counter()
    waiting: asyncio.Queue[TargetReport | None] = asyncio.Queue()
    over = asyncio.Event()

    async def tell() -> None:
        while (report := await waiting.get()) is not None and not over.is_set():
            if heard[report.id] != 1:
                continue
            try:
                await told(report)
            except Exception:
                log.exception("report.not_taken", target=report.id)

    telling = asyncio.create_task(tell())
    try:
        async for report in handle.reports():
            heard[report.id] += 1
            waiting.put_nowait(report)
    finally:
        over.set()
        waiting.put_nowait(None)
    await telling


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
