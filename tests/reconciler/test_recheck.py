"""The last look before a guest is touched voids every step that is not wanted any more."""

from datetime import timedelta

import pytest

from billing import overrides
from billing.accounts import note_fact
from billing.models import EventState
from billing.overrides import Authority, Placement
from billing.rules.terms import HoldCause, OverrideKind
from reconciler import pause, recheck, safety
from reconciler.guard_models import SafeModeKind
from reconciler.models import Hold, ReconcilerState, Server
from reconciler.rules.terms import StepKind


@pytest.fixture
def wanted(factory):
    """Makes a held server of a Stripe customer and a step on it that is wanted."""

    async def make(kind=StepKind.STOP, **given):
        account = await factory.account(stripe_customer_id="cus_1")
        server = await factory.server(account)
        if kind.restricts:
            await factory.hold(server, locks_account=True)
        server_id = None if kind in {StepKind.CLOSE_ACCESS, StepKind.OPEN_ACCESS} else server.id
        return server, await factory.step(server, kind=kind, server_id=server_id, **given)

    return make


@pytest.fixture
def is_void(clock):
    """Tells whether a step is void now."""

    async def ask(step):
        return step.id in await recheck.void([step], clock.now())

    return ask


RESTRICTING = [StepKind.STOP, StepKind.LOCK_BACKUPS, StepKind.CLOSE_ACCESS]
UNDOING = [StepKind.START, StepKind.UNLOCK_BACKUPS, StepKind.OPEN_ACCESS]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("kind", RESTRICTING + UNDOING)
async def test_lets_a_wanted_step_pass(wanted, is_void, kind):
    """Nothing changed: the step goes on."""
    _, step = await wanted(kind)

    assert not await is_void(step)


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("kind", RESTRICTING)
@pytest.mark.parametrize(
    "event",
    [
        "payment",
        "event waits",
        "event given up",
        "dispute",
        "lifted",
        "paused",
        "safe mode",
        "stranger",
        "override",
    ],
)
async def test_voids_a_restriction(wanted, is_void, factory, clock, kind, event):
    """Each of them is reason enough to leave the guest alone."""
    server, step = await wanted(kind)
    match event:
        case "payment":
            await note_fact(server.account_id, now=clock.now())
        case "event waits":
            await factory.stripe_event(stripe_customer_id="cus_1")
        case "event given up":
            await factory.stripe_event(stripe_customer_id="cus_1", state=EventState.DEAD)
        case "dispute":
            await factory.stripe_event(type="charge.dispute.created")
        case "lifted":
            await Hold.all().update(lifted_at=clock.now(), lifted_by="anna")
        case "paused":
            await pause.pause(reason="maintenance", actor="ida", now=clock.now())
        case "safe mode":
            await ReconcilerState.filter(id=1).update(safe_mode_since=clock.now())
        case "stranger":
            await _stranger(clock)
        case "override":
            asked = Placement(
                account_id=server.account_id,
                kind=OverrideKind.FREEZE,
                reason="in talks",
                expires_at=clock.now() + timedelta(days=1),
            )
            await overrides.place(asked, actor="anna", authority=Authority.ADMIN, now=clock.now())

    assert await is_void(step)


async def _stranger(clock):
    """Let another platform answer for the site, and nothing else be in doubt."""
    now = clock.now()
    await safety.enter(SafeModeKind.IDENTITY, "another answers", scope="demo", since=now, now=now)
    await ReconcilerState.filter(id=1).update(safe_mode_since=None)


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("kind", UNDOING)
async def test_voids_no_restore_for_any_of_that(wanted, is_void, factory, clock, kind):
    """Facts, events, pause and safe mode stop nothing that is given back."""
    server, step = await wanted(kind)
    await note_fact(server.account_id, now=clock.now())
    await factory.stripe_event(stripe_customer_id="cus_1")
    await pause.pause(reason="maintenance", actor="ida", now=clock.now())
    await _stranger(clock)
    await ReconcilerState.filter(id=1).update(safe_mode_since=clock.now())

    assert not await is_void(step)


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(
    ("kind", "hold"),
    [
        (StepKind.START, {"cause": HoldCause.ABUSE, "locks_backups": False}),
        (StepKind.UNLOCK_BACKUPS, {"cause": HoldCause.ADMIN, "stops_server": False}),
        (StepKind.OPEN_ACCESS, {"locks_account": True}),
    ],
)
async def test_voids_a_restore_that_a_new_hold_forbids(wanted, is_void, factory, kind, hold):
    """A hold that came meanwhile keeps what it asks for."""
    server, step = await wanted(kind)
    await factory.hold(server, **hold)

    assert await is_void(step)


@pytest.mark.usefixtures("sqlite_database")
async def test_lets_an_expired_hold_stop_nobody(wanted, is_void, clock):
    """A hold beyond its end asks for nothing."""
    _, step = await wanted()
    await Hold.all().update(expires_at=clock.now())

    assert await is_void(step)


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("kind", [StepKind.STOP, StepKind.START])
async def test_voids_everything_on_a_retired_server(wanted, is_void, clock, kind):
    """Nothing is done to a guest that is not ours any more."""
    server, step = await wanted(kind)
    await Server.filter(id=server.id).update(retired_at=clock.now())

    assert await is_void(step)


@pytest.mark.usefixtures("sqlite_database")
async def test_forgets_events_after_a_day(wanted, is_void, factory, clock):
    """An event that nobody could settle in 24 h restricts the restricting no longer, as in the guard."""
    _, step = await wanted()
    await factory.stripe_event(stripe_customer_id="cus_1", received_at=clock.now() - timedelta(hours=24))

    assert not await is_void(step)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("spared", ["free", "exempt"])
async def test_opens_access_beside_a_server_that_billing_must_not_touch(
    wanted, is_void, factory, clock, spared
):
    """Access stays open, and is opened again, while a server there is free or exempt."""
    server, close = await wanted(StepKind.CLOSE_ACCESS)
    other = await factory.server(await server.account, free=spared == "free")
    if spared == "exempt":
        await factory.override(await server.account, server_id=other.id)
    assert await is_void(close)

    await type(close).filter(id=close.id).update(kind=StepKind.OPEN_ACCESS)
    assert not await is_void(await type(close).get(id=close.id))


@pytest.mark.usefixtures("sqlite_database")
async def test_asks_the_database_for_nothing_without_steps(clock):
    """Observing runs renew their permit too."""
    assert await recheck.void([], clock.now()) == frozenset()
