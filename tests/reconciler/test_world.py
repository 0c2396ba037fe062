"""A pass reads the servers that are not as they should be, and no others."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.rules.terms import HoldCause
from reconciler import restore_record, world
from reconciler.models import Hold, Observation, Server
from reconciler.restore_record import Owner
from reconciler.rules.terms import Lane, Power, StepKind, StepState
from reconciler.rules.world import OpenStep

NOW = datetime(2026, 11, 20, tzinfo=UTC)
TAKEN = [("power", "", "RUNNING"), ("backups", "", "open")]


@pytest.fixture
def server_of(debtor, factory, clock):
    """Makes a server with holds, a record and a reading as asked."""

    async def make(*, hold=False, taken=(), power=None, **given):
        _, _, (server,) = await debtor()
        await Server.filter(id=server.id).update(**given)
        if hold:
            await factory.hold(server, locks_account=True)
        owner = Owner(site="demo", server_id=server.id)
        await restore_record.take(owner, list(taken), step_id=1, at=clock.now())
        if power is not None:
            await factory.observation(server, power=power)
        return server

    return make


async def loaded(stand):
    """Return the ids of the servers that a pass would read, and the access it would change."""
    fleet = await world.load(stand.actions.inventory, stand.clock.now())
    return {view.id for view in fleet.servers}, {
        (view.account_id, view.wanted_closed) for view in fleet.access
    }


@pytest.mark.parametrize(
    ("given", "gap"),
    [
        ({}, False),
        ({"hold": True}, True),
        ({"hold": True, "taken": TAKEN, "power": Power.STOPPED}, False),
        ({"hold": True, "taken": TAKEN, "power": Power.UNKNOWN}, False),
        ({"hold": True, "taken": TAKEN, "power": Power.RUNNING}, True),
        ({"hold": True, "taken": TAKEN[:1], "power": Power.STOPPED}, True),
        ({"taken": TAKEN}, True),
        ({"taken": TAKEN[1:]}, True),
        ({"taken": TAKEN, "retired_at": NOW}, False),
        ({"start_wanted_at": NOW}, True),
    ],
)
async def test_reads_a_server_where_something_is_to_be_done(stand, server_of, given, gap):
    """In step with its holds it costs nothing; drift, leftovers and wishes are found."""
    server = await server_of(**given)

    servers, _ = await loaded(stand)

    assert servers == ({server.id} if gap else set())


async def test_reads_no_hold_beyond_its_end(lite, server_of, clock):
    """An expired hold asks for nothing, and what it took is given back."""
    server = await server_of(hold=True, taken=TAKEN, power=Power.STOPPED)
    await Hold.all().update(expires_at=clock.now())

    fleet = await world.load(lite.actions.inventory, clock.now())

    assert [(view.id, view.holds) for view in fleet.servers] == [(server.id, ())]


async def test_shows_access_that_is_to_be_closed_or_opened(stand, server_of, clock):
    """Wanted and not closed, closed and not wanted; what is as it should be is left out."""
    closing = await server_of(hold=True)
    opening = await server_of()
    settled = await server_of(hold=True)
    for server in (opening, settled):
        owner = Owner(site="demo", account_id=server.account_id)
        await restore_record.take(owner, [("role", "", "Customer")], step_id=1, at=clock.now())

    _, access = await loaded(stand)

    assert access == {(closing.account_id, True), (opening.account_id, False)}


async def test_shows_access_while_a_step_on_it_is_open(lite, server_of, factory, clock):
    """The servers of an account wait for its access to be closed, so the plan has to see that it is under way."""
    server = await server_of(hold=True)
    owner = Owner(site="demo", account_id=server.account_id)
    await restore_record.take(owner, [("role", "", "Customer")], step_id=1, at=clock.now())
    await factory.step(server, server_id=None, kind=StepKind.CLOSE_ACCESS)

    fleet = await world.load(lite.actions.inventory, clock.now())

    assert [(view.open_step, view.wanted_closed) for view in fleet.access] == [
        (OpenStep(kind=StepKind.CLOSE_ACCESS, unknown=False, since=clock.now()), True)
    ]


async def test_leaves_access_alone_where_no_pool_can_be_called_by_the_account(lite, debtor, factory):
    """An external id that no pool can have: nobody has a login there, and nothing breaks."""
    _, _, (server,) = await debtor(external_id="anna@example.org")
    await factory.hold(server, locks_account=True)

    _, access = await loaded(lite)

    assert access == set()


async def test_tells_what_is_under_way_and_what_waits(lite, server_of, factory, clock):
    """Open steps, waits that are not over, and whether the last stop was done."""
    server = await server_of(hold=True, taken=TAKEN[:1], power=Power.RUNNING)
    later = clock.now() + timedelta(minutes=1)
    await factory.step(server, state=StepState.DONE)
    await factory.step(server, kind=StepKind.LOCK_BACKUPS, state=StepState.FAILED, retry_at=later)
    await factory.step(
        server, kind=StepKind.START, state=StepState.VOID, lane=Lane.RESTORE, retry_at=clock.now()
    )
    await factory.step(server, kind=StepKind.UNLOCK_BACKUPS, state=StepState.UNKNOWN, lane=Lane.RESTORE)

    (view,) = (await world.load(lite.actions.inventory, clock.now())).servers

    assert view.open_step == OpenStep(kind=StepKind.UNLOCK_BACKUPS, unknown=True, since=clock.now())
    assert view.stop_done
    assert dict(view.retry_at) == {StepKind.LOCK_BACKUPS: later}


async def test_carries_more_servers_than_a_statement_can(lite, server_of, monkeypatch):
    """Ids are cut into lists that one statement takes."""
    monkeypatch.setattr("reconciler.chunks.MAX_IDS", 2)
    made = {(await server_of(hold=True)).id for _ in range(5)}

    servers, access = await loaded(lite)

    assert (servers, len(access)) == (made, 5)


async def test_shows_every_hold_with_its_cause(lite, server_of, factory, clock):
    """The plan needs all of them: payment lifts one."""
    server = await server_of(hold=True, power=Power.RUNNING)
    await factory.hold(server, cause=HoldCause.ABUSE)

    (view,) = (await world.load(lite.actions.inventory, clock.now())).servers

    assert {hold.cause for hold in view.holds} == {HoldCause.BILLING, HoldCause.ABUSE}
    assert view.observed.power is Power.RUNNING
    assert await Observation.all().count() == 1
