"""Steps of unknown outcome: observed again, and judged from what is read, before anything else touches their server.

Owns the verdict: done, proven to have done nothing, or left half way. Nothing is ever assumed from silence.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from reconciler import outcomes, readings
from reconciler.backoff import Backoff
from reconciler.models import Run, Step
from reconciler.readings import Reading
from reconciler.rules.outcome import Outcome, Retry, TargetReport
from reconciler.rules.terms import RunState, StepState

#: How long after its dispatch a task that a lost run started on the platform may still be at work.
DEFAULT_SETTLE = timedelta(minutes=5)


async def mark_lost(now: datetime) -> int:
    """After a start: runs without a verdict are lost and their steps unknown; return how many steps.

    Call it only when no process of an earlier life is left.
    """
    lost = await Run.filter(state=RunState.RUNNING).values_list("id", flat=True)
    await Run.filter(id__in=list(lost)).update(
        state=RunState.LOST, finished_at=now, problem="the process that had started it ended"
    )
    return await Step.filter(state=StepState.DISPATCHED).update(
        state=StepState.UNKNOWN, outcome=Outcome.UNKNOWN, message="the process that had dispatched it ended"
    )


async def judge(
    steps: list[Step],
    found: Mapping[int, Reading],
    *,
    backoff: Backoff,
    settle: timedelta = DEFAULT_SETTLE,
    now: datetime,
) -> int:
    """Conclude the unknown steps whose guests could be read; return how many. The others stay unknown."""
    concluded = 0
    for step in steps:
        reading = found.get(step.id)
        report = None if reading is None else _verdict(step, reading, settle=settle, now=now)
        if reading is None or report is None:
            continue
        await outcomes.record(step, report, backoff=backoff, at=now)
        await outcomes.note_step(step, reading, now)
        concluded += 1
    return concluded


def _verdict(step: Step, reading: Reading, *, settle: timedelta, now: datetime) -> TargetReport | None:
    """Return what a reading proves; null while a task of ours may still be at work."""
    if readings.shows_done(step.kind, step.expect, reading):
        return TargetReport(id="-", outcome=Outcome.CHANGED, message="read back after an unknown outcome")
    if now < step.dispatched_at + settle:
        return None
    if readings.shows_untouched(step.kind, step.expect, reading):
        return TargetReport(
            id="-",
            outcome=Outcome.REFUSED,
            retry=Retry.LATER,
            message="read back as it was: nothing was done",
        )
    return TargetReport(
        id="-", outcome=Outcome.FAILED, retry=Retry.LATER, message="read back half way: tried again"
    )
