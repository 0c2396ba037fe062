"""A run is attended from its row to its verdict."""

import asyncio
from dataclasses import replace

import pytest
import structlog
from tortoise.expressions import F

from billing.models import Account
from reconciler import attended, recheck
from reconciler.attended import Attendant, Errand
from reconciler.commit import Target
from reconciler.models import Hold, Run
from reconciler.rules.outcome import Outcome
from reconciler.rules.terms import Lane, RunState, StepKind
from reconciler.runs.request import Depth, RunRefusedError

TARGET = Target("demo", "node1", Lane.RESTRICT)


@pytest.fixture
def attendant(lite, clock):
    """An attendant of runs on the platform in memory that never waits."""

    async def at_once(_):
        await asyncio.sleep(0)

    return Attendant(clock=clock, actions=lite.actions, permit_seconds=0.01, pause=at_once)


@pytest.fixture
def errand(debtor, factory):
    """Makes the stop of one held guest."""

    async def make():
        _, _, (server,) = await debtor()
        await factory.hold(server)
        await Account.all().update(settled_version=F("facts_version"))  # as a pass leaves it
        step = await factory.step(server, facts_version=2, expect={"power": "running"})
        guest = {
            "id": f"server-{server.id}",
            "kind": "lxc",
            "guest": server.guest,
            "node": "node1",
            "step": f"step-{step.id}",
            "expect": {"power": "running"},
        }
        return Errand(action="stop_guests", target=TARGET, guests=[guest], digest="", steps=[step])

    return make


async def test_passes_void_steps_to_the_play(attendant, errand, platform):
    """A hold that is lifted while the play runs: the guest is not touched."""
    asked = await errand()

    async def lifted(*_):
        await Hold.all().update(lifted_at=attendant.clock.now(), lifted_by="anna")

    platform.before = lifted
    verdict = await attendant.run(asked)

    assert [report.message for report in verdict.reports] == ["the step is void"]
    assert platform.done == []


@pytest.mark.parametrize(("lane", "ended"), [(Lane.RESTRICT, True), (Lane.RESTORE, False)])
async def test_ends_a_run_when_that_is_wanted(attendant, errand, lite, platform, lane, ended):
    """Guests not reached yet are left alone and of unknown end; what gives back goes on whatever its row says."""
    asked = await errand()
    asked = replace(asked, target=Target("demo", "node1", lane), guests=[*asked.guests, *asked.guests])
    asked = replace(asked, guests=[{**guest, "id": f"t-{n}"} for n, guest in enumerate(asked.guests)])

    async def wanted(*_):
        while not await Run.all().update(cancel_wanted_at=attendant.clock.now()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # until the run is on record
        (handle,) = lite.execution._handles
        while ended and not handle._cancelled:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

    platform.before = wanted
    verdict = await attendant.run(asked)

    assert (verdict.state is RunState.CANCELLED) is ended
    assert ([report.outcome for report in verdict.reports][1] is Outcome.UNKNOWN) is ended
    assert (await Run.get()).state is verdict.state


async def test_goes_on_renewing_after_a_moment_without_a_database(attendant, errand, platform, monkeypatch):
    """A permit that cannot be renewed ages; it is renewed again as soon as the facts can be read."""
    asked, genuine, failures = await errand(), recheck.void, [RuntimeError("driver"), OSError("away")]

    async def away(*arguments):
        if failures:
            raise failures.pop()
        return await genuine(*arguments)

    monkeypatch.setattr(recheck, "void", away)
    await attendant.run(asked)

    assert platform.count("stop_guests") == 1


async def test_gives_no_permit_while_the_facts_cannot_be_read(attendant, errand, platform, monkeypatch):
    """Without facts nothing is restricted: the play waits for a permit and gives up."""
    asked = await errand()

    async def away(*_):
        raise OSError("away")

    monkeypatch.setattr(recheck, "void", away)
    platform.patience = 0.3
    verdict = await attendant.run(asked)

    assert [report.message for report in verdict.reports] == ["the permit is too old"]
    assert platform.done == []


async def test_ends_a_run_whose_row_cannot_be_kept(attendant, errand, platform, monkeypatch):
    """A run that nobody would know of is ended at once."""
    asked = await errand()

    async def refuses(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(attended, "_keep", refuses)

    async def waits(*_):
        await asyncio.sleep(0.05)

    platform.before = waits
    with pytest.raises(RuntimeError):
        await attendant.run(asked)
    assert not await Run.all().exists()


async def test_keeps_the_row_although_its_first_writing_was_lost(attendant, errand, monkeypatch):
    """A commit whose answer was lost is not written twice."""
    asked, genuine, lost = await errand(), attended._keep, [True]

    async def answer_lost(row, steps):
        await genuine(row, steps)
        if lost:
            lost.pop()
            raise OSError("connection reset")

    monkeypatch.setattr(attended, "_keep", answer_lost)
    await attendant.run(asked)

    (row,) = await Run.all()
    assert (row.state, row.verified_gone) == (RunState.FINISHED, True)


async def test_begins_nothing_while_the_process_ends(attendant, errand, platform):
    """A process that ends starts no run."""
    attendant.closing = True

    with pytest.raises(RunRefusedError):
        await attendant.run(await errand())
    assert platform.runs == []


async def test_observes_without_a_step(attendant, errand):
    """An observation has its row too, and no step."""
    asked = await errand()
    guests = [{key: value for key, value in asked.guests[0].items() if key not in {"step", "expect"}}]

    verdict = await attendant.run(
        Errand(action="observe", target=TARGET, guests=guests, digest="", depth=Depth.DEEP)
    )

    assert verdict.reports[0].after["power"] == "running"
    assert (await Run.get()).action == "observe"
    assert asked.steps[0].kind is StepKind.STOP


async def test_takes_no_lost_database_for_a_run_that_was_not_started(
    attendant, errand, platform, monkeypatch
):
    """A run that had begun may have acted: an OSError of the database must not read like one of the start."""
    asked = await errand()

    async def away(*_):
        raise ConnectionRefusedError("the database is away")

    monkeypatch.setattr(attended, "_keep", away)
    with pytest.raises(attended.RunBrokeError):
        await attendant.run(asked)


async def test_logs_the_problem_of_a_run_once(attendant, errand, platform):
    """A full disk is in the log at once, and not again with every try."""
    asked = await errand()
    platform.began, platform.problem = False, "No space left on device"

    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await attendant.run(asked)

    told = [(line["event"], line["log_level"], line["problem"]) for line in logs if "problem" in line]
    assert told == [("run.problem", "error", "No space left on device")]


async def test_goes_on_when_a_report_is_not_taken(attendant, errand, platform):
    """Whatever the listener does with a report, the run keeps its verdict."""
    first, second = await errand(), await errand()

    async def breaks(_):
        raise RuntimeError("no")

    both = replace(
        first, guests=[*first.guests, *second.guests], steps=[*first.steps, *second.steps], told=breaks
    )
    verdict = await attendant.run(both)

    assert [report.outcome for report in verdict.reports] == [Outcome.CHANGED] * 2
