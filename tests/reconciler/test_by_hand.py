"""By hand one may look and give back, and nothing else."""

import pytest

from billing.models import Account, AuditEntry
from billing.refusal import RefusalError
from billing.rules.terms import HoldCause
from reconciler import restore_record
from reconciler.by_hand import ByHand
from reconciler.models import Observation, Run, Server, Step
from reconciler.rules.terms import Lane, RunState, StepKind, StepState


@pytest.fixture
def by_hand(lite, clock):
    """What carries out wishes by hand."""
    return ByHand(clock=clock, actions=lite.actions, wake=lite._wake)


@pytest.fixture
def taken(factory, clock):
    """Writes down that a step of ours changed these parts of a server."""

    async def take(server, *parts):
        step = await factory.step(server, state=StepState.DONE)
        owner = restore_record.Owner(site=server.site, server_id=server.id)
        await restore_record.take(
            owner, [(part, "", found) for part, found in parts], step_id=step.id, at=clock.now()
        )

    return take


async def test_knows_no_action_that_restricts(by_hand):
    """Looking and giving back are all that can be asked for."""
    assert by_hand.allowed() == {"observe", "start_guests", "unlock_backups", "open_access"}


async def test_reads_a_guest_and_keeps_the_run(by_hand, debtor, factory, clock):
    """The reading becomes the observation, and the run is on record with who asked."""
    _, _, (server,) = await debtor()
    await factory.observation(server, node="node1")

    run_id = await by_hand.observe(server.id, actor="ida")
    await by_hand.idle()

    run = await Run.get(id=run_id)
    assert (run.state, run.requested_by, run.lane) == (RunState.FINISHED, "ida", Lane.OBSERVE)
    assert (await Observation.get(server_id=server.id)).deep_at == clock.now()


@pytest.mark.parametrize(
    "flaw", [{"guest": None}, {"site_node": None}, {"site": "nowhere"}, {"site_node": "node9"}]
)
async def test_refuses_to_read_what_cannot_be_read(by_hand, debtor, flaw):
    """A clear refusal, and no run."""
    _, _, (server,) = await debtor()
    await Server.filter(id=server.id).update(**flaw)

    with pytest.raises(RefusalError):
        await by_hand.observe(server.id, actor="ida")
    assert not await Run.all().exists()


async def test_refuses_a_second_reading_of_a_node_at_once(by_hand, debtor, clock):
    """One observation by hand a node."""
    _, _, (server,) = await debtor()
    await Run.create(
        tag="t",
        action="observe",
        site="demo",
        node="node1",
        lane=Lane.OBSERVE,
        plan_digest="",
        requested_by="ida",
        started_at=clock.now(),
    )

    with pytest.raises(RefusalError):
        await by_hand.observe(server.id, actor="ida")


async def test_lets_a_restore_be_tried_again_at_once(by_hand, lite, debtor, factory, taken, clock):
    """The waits of the undoing steps are over and the loop is woken; what is under way stays as it is."""
    account, _, (server,) = await debtor()
    await taken(server, ("power", "RUNNING"))
    for kind, state in ((StepKind.START, StepState.FAILED), (StepKind.STOP, StepState.FAILED)):
        await factory.step(server, kind=kind, state=state, retry_at=clock.now())

    await by_hand.give_back("start_guests", server.id, reason="asked on the phone", actor="ida")

    waits = {step.kind: step.retry_at for step in await Step.exclude(state=StepState.DONE)}
    assert waits == {StepKind.START: None, StepKind.STOP: clock.now()}
    assert lite.woken == 1
    assert (await Account.get(id=account.id)).next_change_at == clock.now()
    assert await AuditEntry.filter(kind="action.requested", actor="ida").count() == 1


@pytest.mark.parametrize(
    ("action", "hold"),
    [
        ("start_guests", {"locks_backups": False}),
        ("unlock_backups", {"stops_server": False}),
        ("open_access", {"stops_server": False, "locks_backups": False, "locks_account": True}),
    ],
)
async def test_gives_nothing_back_that_a_hold_asks_for(by_hand, lite, debtor, factory, action, hold):
    """Lifting the hold is another decision."""
    _, _, (server,) = await debtor()
    await factory.hold(server, **hold)

    with pytest.raises(RefusalError, match="a hold of cause BILLING keeps it so: paying what is overdue"):
        await by_hand.give_back(action, server.id, reason="please", actor="ida")
    assert lite.woken == 0


async def test_gives_back_beside_a_hold_that_asks_for_something_else(by_hand, lite, debtor, factory, taken):
    """A lock of backups does not forbid a start."""
    _, _, (server,) = await debtor()
    await factory.hold(server, cause=HoldCause.ADMIN, stops_server=False)
    await taken(server, ("power", "RUNNING"))

    await by_hand.give_back("start_guests", server.id, reason="please", actor="ida")

    assert lite.woken == 1


@pytest.mark.parametrize("action", ["start_guests", "unlock_backups", "open_access"])
async def test_refuses_to_give_back_what_is_not_on_record(by_hand, lite, debtor, taken, action):
    """Nothing would follow, so nobody is told that it was asked for; what is on record is another part."""
    _, _, (server,) = await debtor()
    await taken(server, ("backups", "") if action == "start_guests" else ("power", "RUNNING"))

    with pytest.raises(RefusalError, match="there is no record of"):
        await by_hand.give_back(action, server.id, reason="please", actor="ida")
    assert (lite.woken, await AuditEntry.filter(kind="action.requested").count()) == (0, 0)


async def test_refuses_to_give_back_on_a_site_that_the_inventory_does_not_have(by_hand, lite, debtor, taken):
    """Nothing could be done there; the answer says how to mend it."""
    _, _, (server,) = await debtor()
    await Server.filter(id=server.id).update(site="renamed")
    server.site = "renamed"
    await taken(server, ("power", "RUNNING"))

    with pytest.raises(RefusalError, match="the inventory has no site renamed"):
        await by_hand.give_back("start_guests", server.id, reason="please", actor="ida")
    assert lite.woken == 0


async def test_starts_what_its_owner_wants_started_without_a_record(by_hand, lite, debtor, clock):
    """A wish of `serverPowerSet` is planned without a record, so its wait can be ended too."""
    _, _, (server,) = await debtor()
    await Server.filter(id=server.id).update(start_wanted_at=clock.now())

    await by_hand.give_back("start_guests", server.id, reason="please", actor="ida")

    assert lite.woken == 1
