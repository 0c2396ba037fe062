"""What became of dispatched steps: their rows, the restore record, the observation, work items, the audit trail.

The only writer of a step after its dispatch. Each target is one transaction; what was not read back is never done.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from tortoise.transactions import in_transaction

from billing import audit, work_queue
from reconciler import readings, restore_record
from reconciler.backoff import Backoff
from reconciler.models import Server, Step
from reconciler.observe import note_deep
from reconciler.readings import Reading
from reconciler.restore_record import BACKUP_PARTS, POWER_PARTS, ROLE_PARTS, Owner
from reconciler.rules.outcome import Outcome, StepFate, TargetReport, step_fate
from reconciler.rules.terms import Lane, StepKind, StepState

ACTOR = "system:reconciler"
#: The words with which an undoing play reports a part that somebody else changed since.
LEFT_ALONE = "left alone"
#: Tries in a row after which a person is told that something could not be given back yet.
TRIES_UNTIL_TOLD = 5
#: A person is told as well when it is not known for this long whether something was given back.
UNKNOWN_UNTIL_TOLD = timedelta(minutes=10)
#: Stops of the same guest within a day, with nothing given back between them, after which a person is told.
STOPS_UNTIL_TOLD = 3
_DAY = timedelta(days=1)

_GIVEN_BACK = {
    StepKind.START: POWER_PARTS,
    StepKind.UNLOCK_BACKUPS: BACKUP_PARTS,
    StepKind.OPEN_ACCESS: ROLE_PARTS,
}


def owner_of(step: Step) -> Owner:
    """Return whose restore record a step belongs to."""
    if step.server_id is not None:
        return Owner(site=step.site, server_id=step.server_id)
    return Owner(site=step.site, account_id=step.account_id)


async def record(step: Step, report: TargetReport, *, backoff: Backoff, at: datetime) -> StepFate:
    """Write down how a step ended and return its fate; a step that was concluded meanwhile is left alone."""
    report = _believable(step, report)
    fate = step_fate(report.outcome, report.retry)
    state = {
        StepFate.DONE: StepState.DONE,
        StepFate.PLAN_AGAIN: StepState.VOID if report.outcome is Outcome.REFUSED else StepState.FAILED,
        StepFate.FAILED: StepState.FAILED,
        StepFate.OBSERVE_FIRST: StepState.UNKNOWN,
    }[fate]
    retry_at = None
    if fate in {StepFate.PLAN_AGAIN, StepFate.FAILED}:
        retry_at = at + backoff.wait(step.lane, fate, step.attempt)
    async with in_transaction():
        if not await _conclude(step, state, report, retry_at, at):
            return fate
        if report.after is not None:
            await note_step(step, Reading.of(report.after), at)
        if state is StepState.DONE:
            await _given_back(step, report, at)
        if report.outcome is Outcome.UNCHANGED and step.kind.restricts:
            role = Reading.of(report.after).role if report.after is not None else None
            await restore_record.leave_to_others(step.id, role=role, at=at)
        if report.outcome is Outcome.REFUSED and step.kind.restricts:
            await restore_record.close_taken_by(step.id, because="did_nothing", at=at)
        await _tell(step, fate, report, at)
    return fate


def _believable(step: Step, report: TargetReport) -> TargetReport:
    """Return the report, as unknown where it claims what its own reading denies."""
    if report.outcome not in {Outcome.CHANGED, Outcome.UNCHANGED} or report.after is None:
        return report
    left_alone = LEFT_ALONE in report.message
    if left_alone or not readings.contradicts(step.kind, step.expect, Reading.of(report.after)):
        return report
    told = f"reported as {report.outcome.lower()}, and read back otherwise"
    return replace(report, outcome=Outcome.UNKNOWN, message=told)


async def _conclude(
    step: Step, state: StepState, report: TargetReport, retry_at: datetime | None, at: datetime
) -> bool:
    ended = None if state is StepState.UNKNOWN else at
    moved = await Step.filter(id=step.id, state__in=[StepState.DISPATCHED, StepState.UNKNOWN]).update(
        state=state,
        outcome=report.outcome,
        message=report.message,
        before=dict(report.before) if report.before is not None else None,
        after=dict(report.after) if report.after is not None else None,
        finished_at=ended,
        retry_at=retry_at,
    )
    if moved and state is StepState.DONE:
        same = Step.filter(
            server_id=step.server_id, account_id=step.account_id, site=step.site, kind=step.kind
        )
        await same.filter(retry_at__isnull=False).update(retry_at=None)
    return bool(moved)


async def note_step(step: Step, reading: Reading, at: datetime) -> None:
    """Let a read-back from the right node be the server's observation; access has none."""
    if step.server_id is not None:
        await note_deep(step.server_id, reading, at)


async def _given_back(step: Step, report: TargetReport, at: datetime) -> None:
    """Close the parts that an undoing step gave back, or found changed by somebody else and reported."""
    parts = _GIVEN_BACK.get(step.kind)
    if parts is None:
        return
    because = "changed_by_others" if LEFT_ALONE in report.message else "restored"
    await restore_record.close(owner_of(step), parts, because=because, at=at)
    if LEFT_ALONE in report.message:
        await work_queue.open_item(
            "undo_skipped",
            f"undo_skipped:{step.id}",
            at=at,
            title=f"Not everything was given back on site {step.site}",
            detail=f"{report.message}. Somebody else changed it since we took it; what they made of it stays.",
            account_id=step.account_id,
            server_id=step.server_id,
        )
    if step.kind is StepKind.START:
        await Server.filter(id=step.server_id).update(start_wanted_at=None)


async def _tell(step: Step, fate: StepFate, report: TargetReport, at: datetime) -> None:
    """One audit row for every end of a step; a person is asked where only a person can help."""
    subject = ("Server", step.server_id) if step.server_id is not None else ("Account", step.account_id)
    await audit.record(
        f"step.{fate.lower()}",
        subject,
        at=at,
        actor=ACTOR,
        reason=f"{step.kind}: {report.outcome.lower()}{': ' + report.message if report.message else ''}",
        account_id=step.account_id,
        before=_shown(report.before),
        after=_shown(report.after),
        facts_version=step.facts_version,
    )
    key = _work_key(step)
    if fate is StepFate.FAILED:
        await work_queue.open_item(
            "step_failed",
            key,
            at=at,
            title=f"{step.kind} failed on site {step.site}",
            detail=report.message,
            account_id=step.account_id,
            server_id=step.server_id,
        )
    elif fate is StepFate.DONE:
        await work_queue.resolve(key, at=at, by=ACTOR, resolution="it worked in the end")
        if step.kind in {StepKind.STOP, StepKind.START}:
            await _watch_for_flapping(step, at)
    elif step.lane is Lane.RESTORE and step.attempt >= TRIES_UNTIL_TOLD:
        # Failed with a word that later may help, or of unknown end: both leave the customer without what is theirs.
        await _tell_delayed(step, f"did not work {step.attempt} times; it is tried on", report.message, at)


async def _watch_for_flapping(step: Step, at: datetime) -> None:
    """Ask a person about a guest that comes back again and again although it is held; giving it back ends that."""
    key = f"server_flaps:{step.server_id}"
    if step.kind is StepKind.START:
        await work_queue.resolve(key, at=at, by=ACTOR, resolution="it was given back")
        return
    done = Step.filter(server_id=step.server_id, state=StepState.DONE)
    given_back = await done.filter(kind=StepKind.START).order_by("-id").first()
    stops = done.filter(kind=StepKind.STOP, outcome=Outcome.CHANGED, finished_at__gt=at - _DAY)
    times = await stops.filter(id__gt=given_back.id if given_back else 0).count()
    if times < STOPS_UNTIL_TOLD:
        return
    await work_queue.open_item(
        "server_flaps",
        key,
        at=at,
        title=f"A guest on site {step.site} keeps coming back",
        detail=f"it was stopped {times} times within a day, and something starts it again: high availability, a "
        "schedule, or somebody at the platform. It is stopped on while a hold asks for it.",
        account_id=step.account_id,
        server_id=step.server_id,
    )


async def tell_of_waiting(step: Step, at: datetime) -> None:
    """Ask a person about a restoring step whose end has been unknown for `UNKNOWN_UNTIL_TOLD`, once."""
    if step.lane is Lane.RESTORE and at - step.dispatched_at >= UNKNOWN_UNTIL_TOLD:
        minutes = int(UNKNOWN_UNTIL_TOLD.total_seconds() // 60)
        await _tell_delayed(step, f"has been of unknown end for {minutes} minutes", step.message or "", at)


async def _tell_delayed(step: Step, how: str, detail: str, at: datetime) -> None:
    await work_queue.open_item(
        "restore_delayed",
        _work_key(step),
        at=at,
        title=f"{step.kind} on site {step.site} {how}",
        detail=detail,
        account_id=step.account_id,
        server_id=step.server_id,
    )


def _work_key(step: Step) -> str:
    owner = f"Server:{step.server_id}" if step.server_id is not None else f"Account:{step.account_id}"
    return f"step:{step.kind}:{owner}:{step.site}"


def _shown(reading: Mapping[str, object] | None) -> Mapping[str, object] | None:
    return dict(reading) if reading is not None else None


def lane_of(kind: StepKind) -> Lane:
    """Return the queue that a kind of step belongs to."""
    return Lane.RESTRICT if kind.restricts else Lane.RESTORE
