"""Accounts and uncovered servers are read with everything that decides their stage."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing.accounts import note_fact
from billing.models import Account, Episode, Notice, Subscription
from billing.rules.terms import NoticeState, Stage
from reconciler import standing, subjects
from reconciler.models import Hold, ReconcilerState, Server
from reconciler.rules.terms import Mode


@pytest.fixture
def uncovered(factory, clock):
    """Makes an account without a debt and a server whose subscription ended a moment ago."""

    async def make():
        account = await factory.account()
        server = await factory.server(account, stripe_subscription_id="sub_1")
        await Subscription.create(
            stripe_subscription_id="sub_1",
            account_id=account.id,
            status="canceled",
            ended_at=clock.now(),
            fetched_at=clock.now(),
        )
        return account, server

    return make


@pytest.fixture
def turn(policies, clock):
    """Settles an account and lets whoever may climb do so; returns its subjects."""

    async def go(account, rules=None):
        rules = rules or policies
        for _ in range(2):
            own = await subjects.load([account.id], rules, clock.now())
            await standing.settle(own, mode=Mode.APPLY, now=clock.now())
        own = await subjects.load([account.id], rules, clock.now())
        for one in own:
            await standing.admit(one, own, one.eligibility.stage, plan_digest="", now=clock.now())
        await Notice.filter(state="PENDING").update(state=NoticeState.DELIVERED, delivered_at=clock.now())
        return own

    return go


async def climb(account, turn, clock, days=8):
    """Let days pass with everything delivered."""
    for _ in range(days):
        await turn(account)
        clock.advance(timedelta(days=1))
    return await turn(account)


@pytest.mark.usefixtures("database")
async def test_lets_an_uncovered_server_climb_alone(uncovered, factory, turn, clock):
    """Its episode is its own: no other server and never the account is touched."""
    account, server = await uncovered()
    other = await factory.server(account)

    await climb(account, turn, clock)

    assert not await Episode.filter(server_id=None).exists()
    hold = await Hold.get(lifted_at=None)
    assert (hold.server_id, hold.stops_server, hold.locks_backups, hold.locks_account) == (
        server.id,
        True,
        True,
        False,
    )
    assert other.id != server.id


@pytest.mark.usefixtures("sqlite_database")
async def test_stops_an_uncovered_server_s_climb_at_retained(uncovered, turn, clock):
    """An ended subscription never leads to a decommission review."""
    account, server = await uncovered()

    await climb(account, turn, clock, days=8)
    clock.advance(timedelta(days=100))
    for _ in range(4):
        await turn(account)
        clock.advance(timedelta(days=15))

    assert (await Episode.get(server_id=server.id)).admitted is Stage.RETAINED


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("how", ["live subscription", "free"])
async def test_ends_when_the_server_is_covered_again(uncovered, turn, clock, how):
    """The episode ends, the hold is lifted and the customer told that it is back."""
    account, server = await uncovered()
    await climb(account, turn, clock)
    change = {"free": True} if how == "free" else {"stripe_subscription_id": "sub_2"}
    await Server.filter(id=server.id).update(**change)
    await note_fact(account.id, now=clock.now())

    await turn(account)

    assert (await Episode.get(server_id=server.id)).ended_at == clock.now()
    assert not await Hold.filter(lifted_at=None).exists()
    assert await Notice.filter(template="restored", server_id=server.id).count() == 1


@pytest.mark.usefixtures("sqlite_database")
async def test_tells_nobody_that_a_retired_server_is_back(uncovered, turn, clock):
    """A server that its owner deleted is not welcomed back."""
    account, server = await uncovered()
    await climb(account, turn, clock)
    await Server.filter(id=server.id).update(retired_at=clock.now())

    await turn(account)

    assert (await Episode.get(server_id=server.id)).ended_at == clock.now()
    assert not await Notice.filter(template="restored").exists()


@pytest.mark.usefixtures("sqlite_database")
async def test_ends_where_the_policy_ignores_ended_subscriptions(uncovered, turn, policies, clock):
    """A policy that changed to `ignore` gives back what the ladder had taken."""
    account, server = await uncovered()
    await climb(account, turn, clock)
    standard = policies["standard"]
    ignoring = replace(standard, billing=replace(standard.billing, subscription_end_climbs=False))

    await turn(account, {"standard": ignoring})

    assert (await Episode.get(server_id=server.id)).ended_at == clock.now()
    assert not await Hold.filter(lifted_at=None).exists()


@pytest.mark.usefixtures("sqlite_database")
async def test_reads_a_subscription_that_ends_later_as_covering(uncovered, policies, clock):
    """The end of the paid period counts, not the cancelling."""
    account, _ = await uncovered()
    await Subscription.all().update(ended_at=clock.now() + timedelta(seconds=1))

    assert [one.server for one in await subjects.load([account.id], policies, clock.now())] == [None]


@pytest.mark.usefixtures("sqlite_database")
async def test_falls_back_to_the_standard_policy(debtor, policies, clock):
    """An account whose policy is gone is judged by the one that always exists."""
    account, _, _ = await debtor(policy="gone")

    (subject,) = await subjects.load([account.id], policies, clock.now())

    assert subject.policy.name == "standard"


@pytest.mark.usefixtures("database")
async def test_reads_many_accounts_with_the_statements_of_one(debtor, policies, clock, monkeypatch):
    """The number of statements does not grow with the accounts."""
    accounts = [(await debtor())[0] for _ in range(4)]
    executed = []
    connection = Account._meta.db
    original = type(connection).execute_query

    async def counting(self, *arguments):
        executed.append(arguments)
        return await original(self, *arguments)

    monkeypatch.setattr(type(connection), "execute_query", counting)
    await subjects.load([accounts[0].id], policies, clock.now())
    of_one = len(executed)
    executed.clear()
    await subjects.load([account.id for account in accounts], policies, clock.now())

    assert len(executed) == of_one


@pytest.mark.usefixtures("sqlite_database")
async def test_voids_notices_from_before_a_long_time_outside_apply(delinquent, policies, clock):
    """What was sent before counts for staying and not for climbing."""
    account, _, _ = await delinquent()
    clock.advance(timedelta(days=30))
    await note_fact(account.id, now=clock.now())
    (before,) = await subjects.load([account.id], policies, clock.now())
    await ReconcilerState.filter(id=1).update(notices_void_before=clock.now())
    (after,) = await subjects.load([account.id], policies, clock.now())

    assert before.eligibility.stage is Stage.RETAINED
    assert after.eligibility.stage is Stage.SUSPENDED
