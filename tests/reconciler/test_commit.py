"""A step is committed with what it takes, or not at all."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing.accounts import note_fact
from billing.models import Account, AuditEntry
from billing.rules.terms import HoldCause
from reconciler import readings, recheck
from reconciler.commit import Commitment, Target, commit, obstacle
from reconciler.models import Hold, RestorePart, Server, Step
from reconciler.readings import Reading
from reconciler.rules import plan as planning
from reconciler.rules.outcome import Outcome, Retry, TargetReport
from reconciler.rules.terms import Lane, Power, StepKind, StepState

TARGET = Target("demo", "node1", Lane.RESTRICT)
RUNNING = Reading(power=Power.RUNNING, onboot=True, protection=False, digest="ab", marker="m1", node="node1")


@pytest.fixture
def held(database, factory, clock):
    """Makes a server with a billing hold, and the step that would stop it."""

    async def make():
        server = await factory.server()
        await factory.hold(server)
        step = planning.Step(
            kind=StepKind.STOP,
            account_id=server.account_id,
            server_id=server.id,
            site="demo",
            node="node1",
            reason="overdue",
            facts_version=1,
        )
        return server, step

    return make


def stopping(server, found=RUNNING):
    """Return what a stop is committed with."""
    return Commitment(
        action="stop_guests",
        expect=readings.expectation(StepKind.STOP, found),
        found=found,
        server=server,
    )


async def nothing_was_written():
    """Assert that no trace of a step is left."""
    assert not await Step.all().exists()
    assert not await RestorePart.all().exists()
    assert not await AuditEntry.filter(kind="step.dispatched").exists()


async def test_commits_the_step_with_what_it_is_about_to_take(held, clock):
    """Row, restore record, audit entry and creation mark in one."""
    server, step = await held()

    row = await commit(TARGET, step, "d" * 64, stopping(server), clock.now())

    assert row.state is StepState.DISPATCHED
    assert row.expect == {
        "power": "running",
        "onboot": True,
        "protection": False,
        "digest": "ab",
        "marker": "m1",
    }
    found = {part.part: part.found for part in await RestorePart.filter(server_id=server.id)}
    assert found == {"power": "RUNNING", "onboot": "true", "protection": "false"}
    assert await AuditEntry.filter(kind="step.dispatched").count() == 1
    assert (await Server.get(id=server.id)).marker == "m1"


@pytest.mark.parametrize("looked", [True, False])
async def test_commits_nothing_on_facts_that_have_moved(held, clock, monkeypatch, looked):
    """A payment, an override, a delivery between plan and dispatch: the step is planned anew, by two looks at it."""
    server, step = await held()
    if not looked:

        async def sees_nothing(steps, now):
            return frozenset()

        monkeypatch.setattr(recheck, "void", sees_nothing)
    await note_fact(server.account_id, now=clock.now())

    assert await commit(TARGET, step, "", stopping(server), clock.now()) is None
    await nothing_was_written()


@pytest.mark.parametrize("kind", [StepKind.STOP, StepKind.LOCK_BACKUPS])
async def test_commits_nothing_that_no_hold_asks_for(held, clock, kind):
    """The hold was lifted without a new fact of the account: nothing restricts on the word of a plan."""
    server, step = await held()
    await Hold.all().update(lifted_at=clock.now(), lifted_by="anna")

    assert await commit(TARGET, replace(step, kind=kind), "", stopping(server), clock.now()) is None
    await nothing_was_written()


async def test_commits_no_second_step_on_a_server(held, factory, clock):
    """One open step a server, dispatched or unknown: by the database, whoever asks."""
    server, step = await held()
    await factory.step(server, state=StepState.UNKNOWN)

    assert await commit(TARGET, step, "", stopping(server), clock.now()) is None
    assert await Step.all().count() == 1
    assert not await RestorePart.all().exists()


async def test_commits_a_restore_whatever_the_facts(held, clock):
    """Nothing delays what is given back: not even facts that move all the time."""
    server, step = await held()
    await Hold.all().update(lifted_at=clock.now(), lifted_by="anna")
    await note_fact(server.account_id, now=clock.now())
    start = replace(step, kind=StepKind.START)

    row = await commit(
        TARGET, start, "", Commitment(action="start_guests", expect={"power": "running"}), clock.now()
    )

    assert row.kind is StepKind.START


async def test_counts_the_tries_in_a_row(held, factory, clock):
    """The back-off grows with each try and begins anew after a success."""
    server, step = await held()
    for state, expected in (
        (StepState.FAILED, 1),
        (StepState.VOID, 2),
        (StepState.DONE, 3),
        (StepState.DONE, 1),
    ):
        row = await commit(TARGET, step, "", stopping(server), clock.now())
        assert row.attempt == expected
        await Step.filter(id=row.id).update(state=state)


async def test_rolls_back_when_the_guard_is_asked_and_says_no(held, clock, monkeypatch):
    """The last look is inside the transaction: without it a void step would stay committed."""
    server, step = await held()

    async def all_void(steps, now):
        return frozenset(one.id for one in steps)

    monkeypatch.setattr(recheck, "void", all_void)
    assert await commit(TARGET, step, "", stopping(server), clock.now()) is None
    await nothing_was_written()
    assert (await Account.get(id=server.account_id)).next_change_at is None


@pytest.mark.parametrize(
    ("reading", "report", "message", "retry"),
    [
        (None, None, "it was not read", Retry.LATER),
        (RUNNING, TargetReport(id="-", outcome=Outcome.UNKNOWN), "unknown", Retry.LATER),
        (
            RUNNING,
            TargetReport(id="-", outcome=Outcome.REFUSED, message="gone", retry=Retry.NEVER),
            "gone",
            Retry.NEVER,
        ),
        (replace(RUNNING, marker="m2"), None, "creation mark is m2 and was m1", Retry.NEVER),
        (replace(RUNNING, power=Power.UNKNOWN), None, "its power could not be read", Retry.LATER),
        (replace(RUNNING, busy="locked: backup"), None, "locked: backup", Retry.LATER),
    ],
)
def test_names_the_obstacle(reading, report, message, retry):
    """Unknown, another guest, busy: none of them is restricted, and each says why."""
    server = Server(marker="m1")
    if reading is not None and report is None:
        report = TargetReport(id="-", outcome=Outcome.UNCHANGED)

    found = obstacle(server, reading, report)

    assert found is not None
    assert message in found.message
    assert found.retry is retry


@pytest.mark.parametrize(
    ("known", "told", "stands"), [("a", "a", False), (None, "b", False), ("a", None, False), ("a", "b", True)]
)
def test_another_platform_is_an_obstacle_before_anything_else(known, told, stands):
    """Its guest is not taken for one that replaced ours, and access is bound as well."""
    report = TargetReport(id="-", outcome=Outcome.UNCHANGED)
    for server in (Server(marker="another mark" if stands else "m1"), None):
        found = obstacle(server, replace(RUNNING, identity=told), report, platform=known)
        assert (found is not None) is stands
        assert found is None or (found.retry, found.work_item) == (Retry.LATER, None)


def test_sees_no_obstacle_in_a_plain_reading():
    """A guest that was read, is quiet and is the one we know may be restricted."""
    assert obstacle(Server(marker="m1"), RUNNING, TargetReport(id="-", outcome=Outcome.UNCHANGED)) is None


async def test_lets_a_hold_of_another_cause_be_carried_out_while_money_moves(held, factory, clock):
    """An abuse hold does not wait for Stripe's events."""
    server, step = await held()
    await Account.filter(id=server.account_id).update(stripe_customer_id="cus_1")
    await factory.stripe_event(stripe_customer_id="cus_1")
    assert await commit(TARGET, step, "", stopping(server), clock.now()) is None

    await factory.hold(server, cause=HoldCause.ABUSE, expires_at=clock.now() + timedelta(days=1))

    assert await commit(TARGET, step, "", stopping(server), clock.now()) is not None
