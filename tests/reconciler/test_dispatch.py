"""Jobs carry out what was let through, and every step that they commit gets an outcome."""

import asyncio
from datetime import timedelta

import pytest
from tortoise.exceptions import OperationalError
from tortoise.expressions import F

from billing.models import Account, AuditEntry
from reconciler import dispatch, outcomes, restore_record
from reconciler.inventory import InventoryError
from reconciler.models import Hold, RestorePart, Run, Step
from reconciler.rules import plan as planning
from reconciler.rules.terms import Lane, StepKind, StepState
from reconciler.runs.request import RunRefusedError

NODES = ("node1", "node2")


def step_of(server, kind, **given):
    """Return a planned step on a server."""
    values = {
        "kind": kind,
        "account_id": server.account_id,
        "server_id": server.id,
        "site": "demo",
        "node": "node1",
        "reason": "because",
        "facts_version": 2,
    }
    return planning.Step(**(values | given))


@pytest.fixture
def held(debtor, factory):
    """Makes an account with held servers; returns the servers."""

    async def make(servers=1):
        _, _, rows = await debtor(servers)
        for row in rows:
            await factory.hold(row)
        # As a pass leaves it: the holds follow the newest facts.
        await Account.all().update(settled_version=F("facts_version"))
        return rows

    return make


@pytest.fixture
def taken(debtor, platform, clock):
    """Makes an account whose stopped servers are to be given back; returns the servers."""

    async def make(servers=1):
        _, _, rows = await debtor(servers)
        for row in rows:
            guest = platform.guests[row.guest]
            guest.power, guest.onboot, guest.protection = "stopped", False, True
            owner = restore_record.Owner(site="demo", server_id=row.id)
            found = [("power", "", "RUNNING"), ("onboot", "", "true"), ("protection", "", "false")]
            await restore_record.take(owner, found, step_id=1, at=clock.now())
        return rows

    return make


async def carry_out(stand, steps):
    """Submit steps and wait for their jobs."""
    started = stand.dispatcher.submit(steps, "d" * 64)
    await stand.dispatcher.idle()
    return started


async def until(holds):
    """Return when what is asked of the database is so."""
    while not await holds():  # noqa: ASYNC110 - a row has no event
        await asyncio.sleep(0.01)


async def states():
    """Return the states of all steps, oldest first."""
    return [row.state for row in await Step.all().order_by("id")]


async def test_reads_deeply_before_it_restricts(stand, held, platform):
    """What is committed as `expect` was read in the same job, and the run is kept with its steps."""
    (server,) = await held()

    await carry_out(stand, [step_of(server, StepKind.STOP)])

    assert platform.runs == ["observe", "stop_guests"]
    (step,) = await Step.all().prefetch_related("run")
    assert (step.state, step.expect["power"], step.run.action) == (StepState.DONE, "running", "stop_guests")
    assert step.run.verified_gone
    assert step.run.finished_at is not None


async def test_starts_nothing_that_the_guard_held_back(lite, held, platform):
    """Not even a reading: who holds it back may be away because the facts are."""
    (server,) = await held()

    await carry_out(lite, [step_of(server, StepKind.STOP).hold_back("PAUSED", "paused by ida")])

    assert (platform.runs, await states()) == ([], [])


async def test_gives_back_without_reading_first(lite, taken, platform):
    """A restore needs no observation of its own: one run."""
    (server,) = await taken()

    await carry_out(lite, [step_of(server, StepKind.START)])

    assert platform.runs == ["start_guests"]
    assert platform.guests[server.guest].power == "running"
    assert not await RestorePart.filter(closed_at=None).exists()


async def test_runs_one_job_for_each_node_and_lane(lite, held, taken):
    """Never two jobs on a node and lane; another node or lane does not wait."""
    stops, starts = await held(3), await taken(1)
    steps = [
        step_of(stops[0], StepKind.STOP),
        step_of(stops[1], StepKind.STOP),
        step_of(stops[2], StepKind.STOP, node="node2"),
        step_of(starts[0], StepKind.START),
    ]

    assert lite.dispatcher.submit(steps, "") == 3
    assert lite.dispatcher.submit(steps, "") == 0
    await lite.dispatcher.idle()


async def test_starts_the_jobs_of_the_restore_lane_first(lite, held, taken, platform):
    """When both wait, what is given back begins first."""
    (stop,), (start,) = await held(), await taken()

    await carry_out(lite, [step_of(stop, StepKind.STOP), step_of(start, StepKind.START)])

    assert platform.runs.index("start_guests") < platform.runs.index("stop_guests")


async def test_wakes_the_loop_when_a_job_ends(lite, taken):
    """The next pass sees what was done, without waiting for a tick."""
    (server,) = await taken()

    await carry_out(lite, [step_of(server, StepKind.START)])
    await asyncio.sleep(0)

    assert lite.woken == 1


@pytest.mark.parametrize("what", ["nothing comes of it", "it breaks"])
async def test_lets_a_node_rest_after_a_job_of_which_nothing_came(lite, held, monkeypatch, what):
    """The same job at once would find the same: no spinning, and no other node suffers."""
    (server,) = await held()
    if what == "it breaks":

        async def breaks(*_):
            raise RuntimeError("out of order")

        monkeypatch.setattr(type(lite.dispatcher), "_prepare_restriction", breaks)
    # A fact that no pass has settled yet: nothing is committed.
    await Account.all().update(facts_version=F("facts_version") + 1)
    here, elsewhere = ([step_of(server, StepKind.STOP, node=node)] for node in NODES)

    lite.dispatcher.idle_job_seconds = 3600.0
    await carry_out(lite, here)
    assert lite.dispatcher.submit(here, "") == 0
    lite.dispatcher.idle_job_seconds = 0.02
    assert await carry_out(lite, elsewhere) == 1
    async with asyncio.timeout(60):
        while lite.dispatcher.submit(elsewhere, "") == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await lite.dispatcher.idle()


@pytest.mark.parametrize(
    "problem",
    [
        RunRefusedError("no such node"),
        OSError("no process can be made"),
        InventoryError("hosts.yml", "demo.site_token_file", "cannot be read", "mend it"),
    ],
)
async def test_writes_off_steps_whose_run_cannot_begin(lite, taken, problem):
    """A token that cannot be read leaves no step open: it is tried again with back-off."""
    (server,) = await taken()
    lite.execution.broken = problem

    await carry_out(lite, [step_of(server, StepKind.START)])

    (step,) = await Step.all()
    assert (step.state, step.retry_at) == (StepState.VOID, lite.clock.now() + timedelta(seconds=5))
    assert await RestorePart.filter(closed_at=None).count() == 3


async def test_gives_back_beside_a_target_that_no_run_takes(lite, taken, platform):
    """One server with an impossible marker keeps nobody else of its node stopped."""
    rows = await taken(3)
    await type(rows[1]).filter(id=rows[1].id).update(marker="{{ impossible }}")

    await carry_out(lite, [step_of(row, StepKind.START) for row in rows])

    assert [platform.guests[row.guest].power for row in rows] == ["running", "stopped", "running"]
    assert await states() == [StepState.DONE, StepState.VOID, StepState.DONE]


async def test_leaves_no_step_open_when_a_job_breaks(lite, taken, monkeypatch):
    """Whatever breaks between commit and verdict: the step is unknown, and so looked at."""
    (server,) = await taken()

    async def breaks(*_):
        raise RuntimeError("out of order")

    monkeypatch.setattr(type(lite.dispatcher._attendant), "run", breaks)
    await carry_out(lite, [step_of(server, StepKind.START)])

    assert await states() == [StepState.UNKNOWN]


async def test_believes_nothing_of_a_run_that_may_still_be_at_work(lite, taken, platform):
    """Reports of a run that could not be proven gone are unknown, however good they look."""
    (server,) = await taken()
    platform.verified_gone = False

    await carry_out(lite, [step_of(server, StepKind.START)])

    assert await states() == [StepState.UNKNOWN]
    assert await RestorePart.filter(closed_at=None).count() == 3


async def test_writes_an_outcome_down_when_the_database_is_back(lite, taken, monkeypatch):
    """A moment without a database loses no outcome."""
    (server,) = await taken()
    genuine, failures = outcomes.record, [OperationalError("away"), OSError("away"), RuntimeError("driver")]

    async def away(*arguments, **named):
        if failures:
            raise failures.pop()
        return await genuine(*arguments, **named)

    async def at_once(_):
        return None

    monkeypatch.setattr(outcomes, "record", away)
    lite.dispatcher._attendant.pause = at_once
    await carry_out(lite, [step_of(server, StepKind.START)])

    assert await states() == [StepState.DONE]


async def test_notes_a_step_as_unknown_whose_outcome_cannot_be_written(lite, taken, monkeypatch):
    """An outcome that the database refuses for good does not leave the step open for ever."""
    (server,) = await taken()
    genuine = outcomes.record

    async def refuses(step, report, **named):
        if report.outcome.value == "CHANGED":
            raise ValueError("cannot be written")
        return await genuine(step, report, **named)

    async def at_once(_):
        return None

    monkeypatch.setattr(outcomes, "record", refuses)
    lite.dispatcher._attendant.pause = at_once
    await carry_out(lite, [step_of(server, StepKind.START)])

    assert await states() == [StepState.UNKNOWN]


async def test_begins_nothing_any_more_while_it_closes(lite, held, platform):
    """A stop of the process ends the running play, and no further run begins after it."""
    rows = await held(2)

    async def closes(action, _):
        if action == "lock_backups" and not closing:
            closing.append(asyncio.create_task(lite.dispatcher.aclose()))
            await asyncio.sleep(0.02)

    closing = []
    platform.before = closes
    steps = [step_of(rows[0], StepKind.LOCK_BACKUPS), step_of(rows[1], StepKind.STOP)]
    lite.dispatcher.submit(steps, "")
    await lite.dispatcher.idle()
    await closing[0]

    assert "stop_guests" not in platform.runs
    assert lite.dispatcher.submit(steps, "") == 0
    assert await lite.open_steps() == []


async def test_gives_a_play_at_most_so_many_targets(lite, held, platform, monkeypatch):
    """The rest waits for the next job of the node."""
    monkeypatch.setattr(dispatch, "MAX_TARGETS", 2)
    rows = await held(3)

    await carry_out(lite, [step_of(row, StepKind.STOP) for row in rows])

    assert platform.count("stop_guests") == 2


async def test_gives_nothing_back_twice(lite, taken, platform):
    """A step planned before another job gave it back starts no run."""
    (server,) = await taken()
    step = step_of(server, StepKind.START)
    await carry_out(lite, [step])
    await asyncio.sleep(0.03)

    await carry_out(lite, [step])

    assert platform.runs == ["start_guests"]


async def test_keeps_a_trace_of_a_stop_that_was_not_begun(lite, held, platform):
    """A busy guest is written off with its reason and tried again later; nothing is on record as taken."""
    (server,) = await held()
    platform.guests[server.guest].busy = "locked: backup"

    await carry_out(lite, [step_of(server, StepKind.STOP)])

    (step,) = await Step.all()
    assert (step.state, step.message) == (StepState.VOID, "the platform is working on it (locked: backup)")
    assert not await RestorePart.all().exists()
    assert await AuditEntry.filter(kind="step.plan_again").count() == 1
    assert await Run.filter(lane=Lane.RESTRICT).count() == 1


async def test_writes_an_outcome_while_slower_guests_go_on(lite, held, platform):
    """A guest that is stopped already can be given back, although another of its job still shuts down."""
    quick, slow = await held(2)
    reached, goes_on = asyncio.Event(), asyncio.Event()

    async def waits(action, guest):
        if action == "stop_guests" and guest == slow.guest:
            reached.set()
            await goes_on.wait()

    platform.before = waits
    lite.dispatcher.submit([step_of(row, StepKind.STOP) for row in (quick, slow)], "")
    async with asyncio.timeout(60):
        await reached.wait()
        await until(lambda: Step.filter(server_id=quick.id, state=StepState.DONE).exists())
        while not lite.woken:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    meanwhile = dict(await Step.all().values_list("server_id", "state"))
    step = await Step.get(server_id=quick.id).prefetch_related("run")

    assert meanwhile == {quick.id: StepState.DONE, slow.id: StepState.DISPATCHED}
    assert step.run.action == "stop_guests"
    assert lite.woken == 1
    goes_on.set()
    await lite.dispatcher.idle()
    assert await states() == [StepState.DONE, StepState.DONE]
    assert await AuditEntry.filter(kind="step.done").count() == 2


async def test_gives_back_a_guest_while_the_job_that_stopped_it_goes_on(lite, held, platform, clock):
    """The lane of restores does not wait for the slowest guest of a restricting job."""
    quick, slow = await held(2)
    goes_on = asyncio.Event()

    async def waits(action, guest):
        if action == "stop_guests" and guest == slow.guest:
            await goes_on.wait()

    platform.before = waits
    lite.dispatcher.submit([step_of(row, StepKind.STOP) for row in (quick, slow)], "")
    async with asyncio.timeout(60):
        await until(lambda: Step.filter(server_id=quick.id, state=StepState.DONE).exists())
        await Hold.filter(server_id=quick.id).update(lifted_at=clock.now(), lifted_by="anna")
        lite.dispatcher.submit([step_of(quick, StepKind.START)], "")
        await until(
            lambda: Step.filter(server_id=quick.id, kind=StepKind.START, state=StepState.DONE).exists()
        )

    assert await Step.filter(server_id=slow.id, state=StepState.DISPATCHED).exists()
    goes_on.set()
    await lite.dispatcher.idle()


async def test_believes_no_guest_that_is_reported_twice(lite, held, platform):
    """Two reports that come together are not unique: the verdict, which is unknown, decides."""
    twice, other = await held(2)
    platform.twice = {twice.guest}

    await carry_out(lite, [step_of(row, StepKind.STOP) for row in (twice, other)])

    assert await states() == [StepState.UNKNOWN, StepState.DONE]


async def test_keeps_what_was_written_before_its_run_was_lost(lite, held, platform):
    """A guest that was reported while the run lived stays as it was read back; the others are unknown."""
    quick, slow = await held(2)

    async def is_lost(action, guest):
        if action == "stop_guests" and guest == slow.guest:
            async with asyncio.timeout(60):
                await until(lambda: Step.filter(server_id=quick.id, state=StepState.DONE).exists())
            platform.verified_gone = False

    platform.before = is_lost
    await carry_out(lite, [step_of(row, StepKind.STOP) for row in (quick, slow)])

    assert await states() == [StepState.DONE, StepState.UNKNOWN]


async def test_leaves_to_the_verdict_what_could_not_be_written_early(lite, held, platform, monkeypatch):
    """A database that is away while the run goes on costs no outcome."""
    rows = await held(2)
    genuine, failures = outcomes.record, [OSError("away")] * dispatch.OUTCOME_TRIES
    given_up = asyncio.Event()

    async def away(*arguments, **named):
        if failures:
            failure = failures.pop()
            if not failures:
                given_up.set()
            raise failure
        return await genuine(*arguments, **named)

    async def at_once(_):
        return None

    async def goes_on(action, guest):
        # A run that is over before it was tried leaves everything to the verdict.
        if action == "stop_guests" and guest == rows[1].guest:
            await given_up.wait()

    monkeypatch.setattr(outcomes, "record", away)
    lite.dispatcher._attendant.pause = at_once
    platform.before = goes_on
    await carry_out(lite, [step_of(row, StepKind.STOP) for row in rows])

    assert await states() == [StepState.DONE, StepState.DONE]


@pytest.mark.parametrize(("gone", "state"), [(True, StepState.VOID), (False, StepState.UNKNOWN)])
async def test_tries_again_what_a_run_never_began(lite, held, platform, gone, state):
    """A full disk: the supervisor says that no play was started, so nothing was done and nothing is unknown."""
    (server,) = await held()
    reads = lite.dispatcher._read

    async def then_full(*arguments):
        found = await reads(*arguments)
        platform.began, platform.verified_gone, platform.problem = False, gone, "No space left on device"
        return found

    lite.dispatcher._read = then_full
    await carry_out(lite, [step_of(server, StepKind.STOP)])

    (step,) = await Step.all()
    assert step.state is state
    assert ("No space left" in step.message) is gone
    assert await RestorePart.filter(closed_at=None).exists() is not gone


async def test_gives_a_play_fewer_stops_than_other_targets(lite, held, platform, monkeypatch):
    """A shutdown takes long, so a job of stops is kept short."""
    monkeypatch.setattr(dispatch, "MAX_STOPS", 1)
    rows = await held(2)

    await carry_out(lite, [step_of(row, kind) for row in rows for kind in (StepKind.LOCK_BACKUPS,)])
    await asyncio.sleep(0.03)
    await carry_out(lite, [step_of(row, StepKind.STOP) for row in rows])

    assert (platform.count("lock_backups"), platform.count("stop_guests")) == (2, 1)
