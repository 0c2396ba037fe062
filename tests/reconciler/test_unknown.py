"""Steps of unknown outcome are judged by what is read back, and by nothing else."""

from datetime import timedelta

import pytest

from reconciler import outcomes, restore_record, unknown
from reconciler.backoff import Backoff
from reconciler.models import Observation, RestorePart, Run, Step
from reconciler.readings import Reading
from reconciler.rules.outcome import Outcome
from reconciler.rules.terms import Lane, Power, RunState, StepKind, StepState
from reconciler.unknown import Settling

pytestmark = pytest.mark.usefixtures("sqlite_database")

EXPECT = {"power": "running", "onboot": True, "protection": False, "digest": "aa"}
UNTOUCHED = Reading(power=Power.RUNNING, onboot=True, protection=False, digest="aa")
HALF = Reading(power=Power.RUNNING, onboot=False, protection=True, digest="bb")
DONE = Reading(power=Power.STOPPED, onboot=False, protection=True, digest="bb")
SLOW = Settling(task=timedelta(seconds=150), shows_tasks=False)
QUICK = Settling(task=timedelta(seconds=150), shows_tasks=True)


@pytest.fixture
def stopping(factory, clock):
    """Makes a stop of unknown outcome with what it took on record."""

    async def make(**given):
        server = await factory.server()
        await factory.observation(server)
        step = await factory.step(server, **({"state": StepState.UNKNOWN, "expect": EXPECT} | given))
        await restore_record.take(
            outcomes.owner_of(step), [("power", "", "RUNNING")], step_id=step.id, at=clock.now()
        )
        return step

    return make


@pytest.fixture
def judge(clock):
    """Judges a step by a reading, this many seconds after its dispatch; returns the row."""

    async def go(step, reading, *, after, settling=SLOW):
        clock.advance(timedelta(seconds=after))
        found = {} if reading is None else {step.id: reading}
        await unknown.judge([step], found, backoff=Backoff(), settling=settling, now=clock.now())
        return await Step.get(id=step.id)

    return go


async def test_takes_a_change_that_is_read_back_for_done(stopping, judge):
    """However young the step: what is read as it should be is done."""
    row = await judge(await stopping(), DONE, after=0)

    assert (row.state, row.outcome) == (StepState.DONE, Outcome.CHANGED)
    assert await RestorePart.filter(closed_at=None).exists()
    assert (await Observation.get()).power is Power.STOPPED


@pytest.mark.parametrize(("after", "state"), [(149, StepState.UNKNOWN), (150, StepState.VOID)])
async def test_takes_an_untouched_guest_for_not_begun_once_nothing_can_be_at_work(
    stopping, judge, after, state
):
    """A task of ours may still act until its time is over; then nothing was done, and nothing is on record."""
    row = await judge(await stopping(), UNTOUCHED, after=after)

    assert row.state is state
    assert await RestorePart.filter(closed_at=None).exists() is (state is StepState.UNKNOWN)


@pytest.mark.parametrize(("after", "state"), [(14, StepState.UNKNOWN), (15, StepState.VOID)])
async def test_judges_soon_where_the_platform_shows_its_tasks(stopping, judge, after, state):
    """A quiet guest on such a platform has no task of ours: a restore does not wait for a shutdown's grace."""
    row = await judge(await stopping(), UNTOUCHED, after=after, settling=QUICK)

    assert row.state is state


async def test_waits_for_a_task_that_is_shown(stopping, judge):
    """A busy guest is given the whole time."""
    busy = Reading(power=Power.RUNNING, onboot=False, protection=True, busy="task: vzshutdown")

    assert (await judge(await stopping(), busy, after=149, settling=QUICK)).state is StepState.UNKNOWN
    row = await Step.get()
    assert (await judge(row, busy, after=1, settling=QUICK)).state is StepState.FAILED


async def test_never_calls_a_busy_guest_untouched(stopping, judge):
    """What still works on the guest may be ours, so what we took stays on record."""
    busy = Reading(power=Power.RUNNING, onboot=True, protection=False, digest="aa", busy="task: vzshutdown")

    row = await judge(await stopping(), busy, after=500)

    assert row.state is StepState.FAILED
    assert await RestorePart.filter(closed_at=None).exists()


async def test_tries_again_what_is_read_half_way(stopping, judge, clock):
    """Half way is neither done nor untouched: planned anew, with everything kept on record."""
    row = await judge(await stopping(), HALF, after=150)

    assert (row.state, row.outcome) == (StepState.FAILED, Outcome.FAILED)
    assert row.retry_at == clock.now() + timedelta(seconds=20)
    assert await RestorePart.filter(closed_at=None).exists()


async def test_assumes_nothing_from_silence(stopping, judge):
    """A guest that could not be read stays unknown for as long as it takes."""
    row = await judge(await stopping(), None, after=999_999)

    assert row.state is StepState.UNKNOWN


async def test_tries_an_undoing_step_again_that_did_nothing(stopping, judge, clock):
    """A restore is never taken for not needed because the guest is as it was."""
    step = await stopping(kind=StepKind.START, lane=Lane.RESTORE, expect={"power": "running"})

    row = await judge(step, Reading(power=Power.STOPPED), after=15, settling=QUICK)

    assert (row.state, row.retry_at) == (StepState.FAILED, clock.now() + timedelta(seconds=5))
    assert await RestorePart.filter(closed_at=None).exists()


async def test_makes_unknown_what_an_earlier_life_had_dispatched(stopping, factory, clock):
    """After a start: open runs are lost and their steps unknown; what could not be ended is not called gone."""
    values = {"action": "stop_guests", "site": "demo", "lane": Lane.RESTRICT, "plan_digest": ""}
    ended = await Run.create(tag="a", node="n1", requested_by="x", started_at=clock.now(), **values)
    alive = await Run.create(tag="b", node="n2", requested_by="x", started_at=clock.now(), **values)
    step = await stopping(state=StepState.DISPATCHED, run_id=ended.id)

    assert await unknown.mark_lost(clock.now(), alive={"b"}) == 1

    assert (await Step.get(id=step.id)).state is StepState.UNKNOWN
    rows = {run.id: (run.state, run.verified_gone) for run in await Run.all()}
    assert rows == {ended.id: (RunState.LOST, True), alive.id: (RunState.LOST, False)}
