"""Billing holds follow the standing, and come only on servers that may be held."""

from datetime import timedelta

import pytest

from billing.accounts import note_fact
from billing.models import Account, Notice, Subscription
from billing.rules.terms import NoticeState, Stage
from reconciler import standing, subjects
from reconciler.models import Hold, Server
from reconciler.rules.terms import Mode

DAY = timedelta(hours=24)


@pytest.fixture
def settle(policies, clock):
    """Reads and settles an account."""

    async def go(account, mode=Mode.APPLY):
        own = await subjects.load([account.id], policies, clock.now())
        assert await standing.settle(own, mode=mode, now=clock.now())

    return go


async def held(server):
    """Return the stage that holds a server for money; None when nothing does."""
    hold = await Hold.get_or_none(server_id=server.id, cause="BILLING", lifted_at=None)
    return hold.stage if hold else None


async def named(factory, account, server, clock, *, stage=Stage.SUSPENDED, delivered_at=None):
    """Queue a notice of the episode that names a server, delivered or not."""
    episode_id = (await Notice.filter(account_id=account.id).first()).episode_id
    await factory.notice(
        account,
        stage=stage,
        episode_id=episode_id,
        server_ids=[server.id],
        created_at=clock.now(),
        delivered_at=delivered_at,
        state=NoticeState.DELIVERED if delivered_at else NoticeState.PENDING,
    )


@pytest.mark.usefixtures("database")
async def test_holds_every_server_of_the_account(delinquent, settle):
    """The stage's effects come on all of them."""
    account, _, rows = await delinquent(servers=2)

    await settle(account)

    for server in rows:
        hold = await Hold.get(server_id=server.id)
        assert (hold.stops_server, hold.locks_backups, hold.locks_account) == (True, True, True)


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("spared", ["free", "missing"])
async def test_spares_servers_that_are_free_or_missing(delinquent, settle, clock, spared):
    """Neither takes a hold, and one that has it loses it."""
    account, _, (server, other) = await delinquent(servers=2)
    await settle(account)
    change = {"free": True} if spared == "free" else {"missing_since": clock.now()}
    await Server.filter(id=server.id).update(**change)

    await settle(account)

    assert (await held(server), await held(other)) == (None, Stage.SUSPENDED)


@pytest.mark.usefixtures("sqlite_database")
async def test_spares_an_exempt_server_and_looks_again_when_that_ends(delinquent, factory, settle, clock):
    """EXEMPT on one server lifts its hold alone; its end is not missed."""
    account, _, (server, other) = await delinquent(servers=2)
    await settle(account)
    ends = clock.now() + timedelta(hours=3)
    await factory.override(account, server_id=server.id, expires_at=ends)

    await settle(account)

    assert (await held(server), await held(other)) == (None, Stage.SUSPENDED)
    assert (await Account.get(id=account.id)).next_change_at <= ends


@pytest.mark.usefixtures("sqlite_database")
async def test_allows_backups_without_touching_a_hold(delinquent, factory, settle):
    """ALLOW_BACKUPS opens a gate and nothing else."""
    account, _, (server,) = await delinquent()
    await factory.override(account, kind="ALLOW_BACKUPS")

    await settle(account)

    assert (await Hold.get(server_id=server.id)).locks_backups


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(("after", "stage"), [(-1, None), (0, Stage.SUSPENDED), (1, Stage.SUSPENDED)])
async def test_holds_a_latecomer_a_day_after_it_was_named(delinquent, factory, settle, clock, after, stage):
    """A server registered to a suspended account: 24 h from the delivery of a notice that names it, to the second."""
    account, _, _ = await delinquent()
    await settle(account)
    late = await factory.server(account)
    await named(factory, account, late, clock, delivered_at=clock.now())
    clock.advance(DAY + timedelta(seconds=after))

    await settle(account)

    assert await held(late) is stage


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("flaw", ["not delivered", "before it joined", "no stage", "another server"])
async def test_does_not_hold_a_latecomer_that_was_not_warned(delinquent, factory, settle, clock, flaw):
    """Only a delivered notice of a stage counts, sent since the server came and naming it."""
    account, _, (first,) = await delinquent()
    await settle(account)
    late = await factory.server(
        account, joined_at=clock.now() + timedelta(seconds=flaw == "before it joined")
    )
    stage = None if flaw == "no stage" else Stage.SUSPENDED
    delivered_at = None if flaw == "not delivered" else clock.now()
    whom = first if flaw == "another server" else late
    await named(factory, account, whom, clock, stage=stage, delivered_at=delivered_at)
    clock.advance(2 * DAY)

    await settle(account)

    assert await held(late) is None


@pytest.mark.usefixtures("sqlite_database")
async def test_tells_of_a_latecomer_and_looks_again_in_time(delinquent, factory, settle, clock):
    """The notice that names it is queued at once, and its 24 h are waited for without any other fact."""
    account, _, _ = await delinquent()
    late = await factory.server(account)
    await settle(account)
    told = await Notice.all().order_by("-id").first()
    assert late.id in told.server_ids
    await Notice.filter(id=told.id).update(delivered_at=clock.now(), state=NoticeState.DELIVERED)

    await settle(account)

    assert (await Account.get(id=account.id)).next_change_at == clock.now() + DAY


@pytest.mark.usefixtures("database")
async def test_lifts_the_hold_of_a_retired_server(delinquent, settle, clock):
    """What is gone is held no more, whatever the account owes."""
    account, _, (server,) = await delinquent()
    await settle(account)
    await Server.filter(id=server.id).update(retired_at=clock.now())

    await settle(account)

    assert not await Hold.filter(lifted_at=None).exists()


@pytest.mark.usefixtures("sqlite_database")
async def test_only_gets_milder_outside_apply(delinquent, settle, policies, clock):
    """In `PLAN` a hold is lifted or shrinks; a new server gets none."""
    account, _, (server, other) = await delinquent(servers=2)
    await settle(account)
    await Hold.filter(server_id=other.id).delete()
    await Hold.filter(server_id=server.id).update(stops_server=False)

    await settle(account, Mode.PLAN)

    assert await held(other) is None
    assert not (await Hold.get(server_id=server.id)).stops_server


@pytest.mark.usefixtures("database")
async def test_keeps_the_account_s_hold_when_a_subscription_ends_too(delinquent, settle, clock, factory):
    """A server that becomes uncovered in a suspended account is not given back for that."""
    account, _, (server,) = await delinquent()
    await settle(account)
    await Server.filter(id=server.id).update(stripe_subscription_id="sub_1")
    await Subscription.create(
        stripe_subscription_id="sub_1",
        account_id=account.id,
        status="canceled",
        ended_at=clock.now(),
        fetched_at=clock.now(),
    )
    await note_fact(account.id, now=clock.now())

    for _ in range(2):
        await settle(await Account.get(id=account.id))

    assert await Hold.filter(server_id=server.id).count() == 1
    assert await held(server) is Stage.SUSPENDED


async def test_says_of_a_server_alone_that_it_stands_so_by_itself(factory, uncover, settle, sqlite_database):
    """Whoever asks why it is off does not read that its account is suspended, which owes nothing."""
    account = await factory.account()
    server = await factory.server(account)
    await uncover(server)

    await settle(await Account.get(id=account.id))

    hold = await Hold.get(server_id=server.id)
    assert hold.reason == "its subscription has ended; by itself it stands at SUSPENDED"
