"""The plan lists whom the stop of an account leaves out, for as long as the account is stopped or about to be."""

from datetime import timedelta

import pytest

from billing.models import Account, Episode
from billing.rules.terms import Stage
from reconciler import passed_over, subjects
from reconciler.rules.terms import Deployment, StepState

DAY = timedelta(days=1)


@pytest.fixture
def listed(policies, clock):
    """Lists whom the stop of some accounts leaves out, by their external ids; by default nobody climbs."""

    async def go(*climbing):
        found = await subjects.load([account.id for account in climbing], policies, clock.now())
        return await passed_over.load(found, policies=policies, now=clock.now())

    return go


@pytest.mark.usefixtures("database")
async def test_lists_free_and_exempt_servers_of_a_stopped_account(delinquent, factory, clock, listed):
    """With the stage, where they are, and until when; the longest of several exemptions counts."""
    account, _, _ = await delinquent()
    free = await factory.server(account, free=True, site="other")
    exempt, endless = await factory.server(account), await factory.server(account, free=False)
    for days in (9, 3):
        await factory.override(account, server_id=exempt.id, expires_at=clock.now() + days * DAY)
    for until in (None, clock.now() + DAY):
        await factory.override(account, server_id=endless.id, expires_at=until)

    found = await listed()

    assert [(one.server_id, one.account_id, one.site, one.free, one.until) for one in found] == [
        (free.id, account.id, "other", True, None),
        (exempt.id, account.id, "demo", False, clock.now() + 9 * DAY),
        (endless.id, account.id, "demo", False, None),
    ]
    assert {one.stage for one in found} == {Stage.SUSPENDED}


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(
    "given",
    [
        {"retired_at": True},
        {"missing_since": True},
        {"guest": None},
        {"deployment": Deployment.IN_PROGRESS},
    ],
)
async def test_lists_nothing_that_could_not_be_stopped(delinquent, factory, clock, listed, given):
    """Neither what is gone nor what is not there yet."""
    account, _, _ = await delinquent()
    await factory.server(
        account, free=True, **{key: clock.now() if at is True else at for key, at in given.items()}
    )

    assert await listed() == ()


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(
    "changes",
    [
        {"admitted": Stage.FINAL_NOTICE},
        {"ended": True},
        {"server_id": 7},
        {"granted": "LOCK_BACKUPS"},
    ],
)
async def test_lists_nobody_whose_account_is_not_stopped(delinquent, factory, clock, listed, changes):
    """A milder stage, a debt that was paid, a single server that climbs alone, a policy that came to stop since."""
    account, _, _ = await delinquent()
    await factory.server(account, free=True)
    values = {"ended_at": clock.now()} if "ended" in changes else changes
    await Episode.filter(account_id=account.id).update(**values)

    assert await listed() == ()


@pytest.mark.usefixtures("sqlite_database")
async def test_lists_them_before_the_account_is_stopped(delinquent, factory, clock, listed):
    """Of whom the plan would stop next, whatever holds that back; once each."""
    account, _, _ = await delinquent()
    server = await factory.server(account, free=True)
    await Episode.filter(account_id=account.id).update(admitted=Stage.FINAL_NOTICE)
    other, _, _ = await delinquent()
    stopped = await factory.server(other, free=True)

    assert [one.server_id for one in await listed(account, other)] == [server.id, stopped.id]
    await Episode.filter(account_id=account.id).update(admitted=Stage.PAST_DUE)
    assert [one.server_id for one in await listed(account)] == [stopped.id]


@pytest.mark.usefixtures("sqlite_database")
async def test_a_policy_that_is_gone_is_the_standard_one(delinquent, factory, listed):
    """As everywhere."""
    account, _, _ = await delinquent()
    await Account.filter(id=account.id).update(policy="gone")
    await factory.server(account, free=True)

    assert len(await listed()) == 1


async def test_the_plan_keeps_them_listed_and_does_nothing_to_them(lite, delinquent, factory, platform):
    """While the others are stopped and afterwards; with the last of them paid for, they are gone from it."""
    account, invoice, (server,) = await delinquent()
    free = await factory.server(account, free=True)
    platform.guests[free.guest] = type(platform.guests[server.guest])(marker=f"hwaddr:{free.id}")
    await lite.settle()

    assert [
        (step.state, step.server_id, step.held_back_by, step.held_back_reason)
        for step in lite.last.plan.steps
    ] == [(StepState.SKIPPED, free.id, "FREE", "it is free of charge and takes no billing hold")]
    assert [platform.guests[one.guest].power for one in (server, free)] == ["stopped", "running"]
    await lite.pay(invoice)
    await lite.settle()
    assert lite.last.plan.steps == ()
