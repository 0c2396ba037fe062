"""What became of a step is written down once, with everything that follows from it."""

from datetime import timedelta

import pytest

from billing.models import AuditEntry, WorkItem, WorkState
from reconciler import outcomes, restore_record
from reconciler.backoff import Backoff
from reconciler.models import Observation, RestorePart, Server, Step
from reconciler.rules.outcome import Outcome, Retry, StepFate, TargetReport
from reconciler.rules.terms import Lane, Power, StepKind, StepState

STOPPED = {"power": "stopped", "onboot": False, "protection": True, "node": "node1"}


@pytest.fixture
def stopping(factory, clock):
    """Makes a dispatched stop with what it took on record."""

    async def make(**given):
        server = await factory.server()
        await factory.observation(server)
        step = await factory.step(server, **given)
        parts = [("power", "", "RUNNING"), ("onboot", "", "true")]
        await restore_record.take(outcomes.owner_of(step), parts, step_id=step.id, at=clock.now())
        return step

    return make


@pytest.fixture
def record(clock):
    """Writes an outcome down."""

    async def write(step, outcome, retry=None, after=None, message=""):
        report = TargetReport(id="-", outcome=outcome, retry=retry, after=after, message=message)
        return await outcomes.record(step, report, backoff=Backoff(), at=clock.now())

    return write


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(
    ("outcome", "retry", "fate", "state", "waits", "kept"),
    [
        (Outcome.CHANGED, None, StepFate.DONE, StepState.DONE, None, True),
        (Outcome.UNCHANGED, None, StepFate.DONE, StepState.DONE, None, True),
        (Outcome.REFUSED, Retry.LATER, StepFate.PLAN_AGAIN, StepState.VOID, timedelta(seconds=20), False),
        (Outcome.REFUSED, Retry.NEVER, StepFate.FAILED, StepState.FAILED, timedelta(hours=6), False),
        (Outcome.REFUSED, None, StepFate.FAILED, StepState.FAILED, timedelta(hours=6), False),
        (Outcome.FAILED, Retry.LATER, StepFate.PLAN_AGAIN, StepState.FAILED, timedelta(seconds=20), True),
        (Outcome.FAILED, Retry.NEVER, StepFate.FAILED, StepState.FAILED, timedelta(hours=6), True),
        (Outcome.FAILED, None, StepFate.FAILED, StepState.FAILED, timedelta(hours=6), True),
        (Outcome.UNKNOWN, None, StepFate.OBSERVE_FIRST, StepState.UNKNOWN, None, True),
    ],
)
async def test_concludes_a_stop(stopping, record, clock, outcome, retry, fate, state, waits, kept):
    """Each outcome has its state and its wait; only a refusal proves that nothing was taken."""
    step = await stopping()

    assert await record(step, outcome, retry, STOPPED if fate is StepFate.DONE else None) is fate

    row = await Step.get(id=step.id)
    assert (row.state, row.outcome) == (state, outcome)
    assert row.retry_at == (clock.now() + waits if waits else None)
    assert (row.finished_at is None) is (state is StepState.UNKNOWN)
    assert await RestorePart.filter(closed_at=None).exists() is kept
    assert await WorkItem.filter(kind="step_failed").exists() is (fate is StepFate.FAILED)
    assert await AuditEntry.filter(kind=f"step.{fate.lower()}").count() == 1


@pytest.mark.usefixtures("sqlite_database")
async def test_believes_no_report_against_its_own_reading(stopping, record):
    """A play that says "changed" and reads the guest running has stopped nothing: unknown."""
    step = await stopping()

    assert await record(step, Outcome.CHANGED, after={"power": "running"}) is StepFate.OBSERVE_FIRST
    assert (await Step.get(id=step.id)).state is StepState.UNKNOWN


@pytest.mark.usefixtures("database")
async def test_writes_an_end_once(stopping, record):
    """A step that was concluded meanwhile keeps its first end."""
    step = await stopping()
    await record(step, Outcome.CHANGED, after=STOPPED)

    await record(step, Outcome.FAILED)

    assert (await Step.get(id=step.id)).state is StepState.DONE
    assert not await WorkItem.all().exists()


@pytest.mark.usefixtures("sqlite_database")
async def test_lets_the_read_back_be_the_observation(stopping, record, clock):
    """What was read after the act is what the next plan starts from."""
    step = await stopping()
    clock.advance(timedelta(seconds=9))

    await record(step, Outcome.CHANGED, after=STOPPED)

    seen = await Observation.get(server_id=step.server_id)
    assert (seen.power, seen.observed_at, seen.onboot) == (Power.STOPPED, clock.now(), False)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("message", "because"),
    [("", "restored"), ("onboot is True since: left alone", "changed_by_others")],
)
async def test_closes_the_record_with_the_restore(stopping, record, message, because):
    """Given back, or found changed by somebody else and reported: the record is closed, the wish fulfilled."""
    step = await stopping(kind=StepKind.START, lane=Lane.RESTORE, expect={"power": "running"})
    await Server.filter(id=step.server_id).update(start_wanted_at=step.dispatched_at)

    await record(step, Outcome.CHANGED, after={"power": "running"}, message=message)

    assert {part.closed_because for part in await RestorePart.all()} == {because}
    assert (await Server.get(id=step.server_id)).start_wanted_at is None
    asked = [(item.kind, item.server_id) for item in await WorkItem.all()]
    assert asked == ([("undo_skipped", step.server_id)] if message else [])


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("retry", [Retry.LATER, Retry.NEVER, None])
async def test_keeps_the_record_of_a_restore_that_did_not_work(stopping, record, clock, retry):
    """It is tried again within seconds, whatever the platform said."""
    step = await stopping(kind=StepKind.START, lane=Lane.RESTORE)

    await record(step, Outcome.FAILED, retry)

    assert await RestorePart.filter(closed_at=None).count() == 2
    assert (await Step.get(id=step.id)).retry_at == clock.now() + timedelta(seconds=5)


@pytest.mark.usefixtures("sqlite_database")
async def test_tells_a_person_of_a_restore_that_keeps_failing(stopping, record):
    """Something taken and not given back does not stay unseen; the item closes when it worked."""
    for attempt in (4, 5):
        step = await stopping(kind=StepKind.START, lane=Lane.RESTORE, attempt=attempt)
        await record(step, Outcome.REFUSED, Retry.LATER, message="the node does not answer")
    (item,) = await WorkItem.filter(kind="restore_delayed")
    assert item.server_id == step.server_id

    await Step.filter(id=step.id).update(state=StepState.DISPATCHED)
    await record(step, Outcome.UNCHANGED, after={"power": "running"})

    assert (await WorkItem.get(id=item.id)).state is WorkState.RESOLVED


@pytest.mark.usefixtures("sqlite_database")
async def test_forgets_waits_once_it_worked(stopping, record, factory):
    """A success ends the back-off of the tries before it."""
    step = await stopping()
    server = await Server.get(id=step.server_id)
    await factory.step(server, state=StepState.FAILED, retry_at=step.dispatched_at + timedelta(hours=6))

    await record(step, Outcome.CHANGED, after=STOPPED)

    assert not await Step.filter(retry_at__isnull=False).exists()


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(
    ("outcome", "to_give_back"), [(Outcome.CHANGED, ("pbs:a",)), (Outcome.UNCHANGED, ())]
)
async def test_claims_no_backup_that_somebody_else_protected(factory, record, clock, outcome, to_give_back):
    """Unprotected at the dispatch and protected when the play came: theirs, so no undo takes it away."""
    server = await factory.server()
    await factory.observation(server)
    step = await factory.step(server, kind=StepKind.LOCK_BACKUPS, expect={"unprotected_backups": ["pbs:a"]})
    parts = [("backups", "", "open"), ("backup", "pbs:a", "false")]
    await restore_record.take(outcomes.owner_of(step), parts, step_id=step.id, at=clock.now())

    await record(step, outcome, after={"protected_backups": ["pbs:a"], "unprotected_backups": []})

    kept = (await restore_record.of_servers([server.id]))[server.id]
    assert (kept.backups_locked, kept.volumes) == (True, to_give_back)


@pytest.mark.usefixtures("sqlite_database")
async def test_tells_a_person_of_a_restore_that_keeps_being_unknown(stopping, record):
    """A try of which nothing is known gave nothing back either; restrictions wait in silence."""
    for lane, kind in ((Lane.RESTORE, StepKind.START), (Lane.RESTRICT, StepKind.STOP)):
        for attempt in (4, 5):
            step = await stopping(kind=kind, lane=lane, attempt=attempt)
            await record(step, Outcome.UNKNOWN)

    (item,) = await WorkItem.all()
    assert (item.kind, "START" in item.title) == ("restore_delayed", True)


@pytest.mark.usefixtures("sqlite_database")
async def test_tells_of_a_guest_that_keeps_coming_back(stopping, record, factory, clock):
    """Stopped three times within a day with nothing given back between: a person looks; given back, it is over."""
    step = await stopping()
    server = await Server.get(id=step.server_id)
    flaps = WorkItem.filter(kind="server_flaps", server_id=server.id, state=WorkState.OPEN)

    async def again(kind=StepKind.STOP):
        lane = Lane.RESTRICT if kind is StepKind.STOP else Lane.RESTORE
        return await record(await factory.step(server, kind=kind, lane=lane), Outcome.CHANGED)

    await record(step, Outcome.CHANGED)
    await again()
    clock.advance(timedelta(hours=24))
    await again()
    assert not await flaps.exists()
    await again(StepKind.START)
    for _ in range(2):
        await again()
    assert not await flaps.exists()
    await again()
    assert "3 times" in (await flaps.get()).detail
    await again(StepKind.START)
    assert not await flaps.exists()
