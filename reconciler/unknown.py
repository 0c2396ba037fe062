"""Steps of unknown outcome: observed again, and judged from what is read, before anything else touches their server.

Owns the verdict: done, proven to have done nothing, or left half way. Nothing is ever assumed from silence.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler import outcomes, readings
from reconciler.backoff import Backoff
from reconciler.models import Run, Step
from reconciler.readings import Reading
from reconciler.rules.outcome import Outcome, Retry, TargetReport
from reconciler.rules.terms import RunState, StepKind, StepState

#: A call that a lost run had sent is done or refused after this, however long the task takes that it started.
CALL_SETTLE = timedelta(seconds=15)


@dataclass(frozen=True, kw_only=True)
class Settling:
    """How long after a dispatch something of ours may still be at work on a target."""

    #: For a shutdown or a start of which nothing can be seen but its end.
    task: timedelta
    #: Whether the platform shows the tasks that are at work on a guest (`busy`).
    shows_tasks: bool
    #: For a single call: configuration, protection, roles.
    call: timedelta = CALL_SETTLE

    def after(self, kind: StepKind, reading: Reading) -> timedelta:
        """Return how old the dispatch of this step has to be before its target is judged by this reading."""
        if kind not in {StepKind.STOP, StepKind.START}:
            return self.call
        return self.call if self.shows_tasks and reading.busy is None else self.task


async def mark_lost(now: datetime, *, alive: Collection[str] = ()) -> int:
    """After a start: runs without a verdict are lost and their steps unknown; return how many steps.

    `alive` are the tags of the runs of an earlier life of which something could not be ended; all others are gone.
    """
    gone = Run.filter(state=RunState.LOST, verified_gone=False).exclude(tag__in=list(alive))
    await Run.filter(state=RunState.RUNNING).update(
        state=RunState.LOST, finished_at=now, problem="the process that had started it ended"
    )
    await gone.update(verified_gone=True)
    return await Step.filter(state=StepState.DISPATCHED).update(
        state=StepState.UNKNOWN, outcome=Outcome.UNKNOWN, message="the process that had dispatched it ended"
    )


async def judge(
    steps: Sequence[Step],
    found: Mapping[int, Reading],
    *,
    backoff: Backoff,
    settling: Settling,
    now: datetime,
) -> int:
    """Conclude the unknown steps whose guests could be read; return how many. The others stay unknown."""
    concluded = 0
    for step in steps:
        reading = found.get(step.id)
        report = None if reading is None else _verdict(step, reading, settling, now)
        if reading is None or report is None:
            continue
        await outcomes.record(step, report, backoff=backoff, at=now)
        await outcomes.note_step(step, reading, now)
        concluded += 1
    return concluded


def _verdict(step: Step, reading: Reading, settling: Settling, now: datetime) -> TargetReport | None:
    """Return what a reading proves; null while a task of ours may still be at work."""
    if readings.shows_done(step.kind, step.expect, reading):
        return TargetReport(id="-", outcome=Outcome.CHANGED, message="read back after an unknown outcome")
    if now < step.dispatched_at + settling.after(step.kind, reading):
        return None
    if reading.busy is None and readings.shows_untouched(step.kind, step.expect, reading):
        return TargetReport(
            id="-",
            outcome=Outcome.REFUSED,
            retry=Retry.LATER,
            message="read back as it was: nothing was done",
        )
    return TargetReport(
        id="-", outcome=Outcome.FAILED, retry=Retry.LATER, message="read back half way: tried again"
    )
