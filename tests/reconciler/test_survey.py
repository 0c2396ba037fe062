"""What a pass plans from is put together in a fixed number of statements."""

from datetime import timedelta

import pytest

from billing.models import Account, Episode, Subscription
from billing.rules.terms import Stage
from reconciler import subjects
from reconciler.models import Admission, ReconcilerState, Server
from reconciler.rules.terms import Mode
from reconciler.survey import Survey


@pytest.fixture
def surveyed(lite, policies, clock):
    """Reads accounts and surveys them."""

    async def go(*accounts):
        found = await subjects.load([account.id for account in accounts], policies, clock.now())
        survey = Survey(inventory=lite.actions.inventory, freshness=lite.freshness)
        view = await survey.world(found, Mode.APPLY, clock.now(), policies=policies)
        return view, await survey.circumstances(view, policies, clock.now())

    return go


async def admitted(account, clock, **given):
    """Record an admission to larger effects."""
    values = {
        "account_id": account.id,
        "episode_id": 1,
        "policy": account.policy,
        "from_stage": Stage.PAST_DUE,
        "to_stage": Stage.FINAL_NOTICE,
        "larger": True,
        "plan_digest": "",
        "at": clock.now(),
    }
    await Admission.create(**(values | given))


async def test_names_the_sites_that_a_climb_would_reach(surveyed, debtor, factory):
    """Live servers that are not free count; retired ones do not."""
    account, _, _ = await debtor()
    await factory.server(account, site="other")
    await factory.server(account, site="free", free=True)
    await factory.server(account, site="gone", retired_at=account.created_at)

    view, _ = await surveyed(account)

    assert view.climbs[0].sites == {"demo", "other"}


async def test_names_the_server_that_nobody_read_lately(surveyed, debtor, factory, clock):
    """Of those that the climb would reach: one that climbs alone waits for its own reading and for no other."""
    account, _, (read, unread) = await debtor(2)
    await factory.observation(read)
    for server in (read, unread):
        name = f"sub_{server.id}"
        await Server.filter(id=server.id).update(stripe_subscription_id=name)
        await Subscription.create(
            stripe_subscription_id=name, account_id=account.id, status="canceled",
            ended_at=clock.now(), fetched_at=clock.now(),
        )  # fmt: skip

    view, _ = await surveyed(account)

    told = f"server {unread.external_id} on site demo was never read"
    assert {climb.server_id: climb.unread for climb in view.climbs} == {
        None: told,
        read.id: None,
        unread.id: told,
    }


async def test_lets_who_became_eligible_first_go_first(surveyed, debtor, clock):
    """The age counts, and for an uncovered server the end of its subscription, not the account's own age."""
    clock.advance(timedelta(days=400))
    account, _, (server,) = await debtor()
    await Server.filter(id=server.id).update(stripe_subscription_id="sub_1")
    await Subscription.create(
        stripe_subscription_id="sub_1",
        account_id=account.id,
        status="canceled",
        ended_at=clock.now(),
        fetched_at=clock.now(),
    )

    view, _ = await surveyed(account)

    assert {climb.server_id: climb.eligible_since for climb in view.climbs} == {
        None: clock.now(),
        server.id: clock.now(),
    }


async def test_counts_the_fleet_for_a_climb_to_larger_effects(surveyed, delinquent, debtor, clock, policies):
    """Accounts with live servers, and those admitted to larger effects in the last 24 h, by policy and in all."""
    account, _, _ = await delinquent()
    await subjects.load([account.id], policies, clock.now())
    clock.advance(timedelta(days=3))
    considerate, _, _ = await debtor(policy="considerate")
    await debtor()
    for _ in range(2):
        await admitted(considerate, clock)
    await admitted(account, clock, larger=False)
    await admitted(account, clock, at=clock.now() - timedelta(hours=24))
    await Episode.all().update(admitted=Stage.FINAL_NOTICE)

    view, told = await surveyed(account)

    assert [climb.larger for climb in view.climbs] == [True]
    assert (told.fleet.accounts, told.fleet.admitted_today) == (3, 1)
    assert (told.policies["considerate"].accounts, told.policies["considerate"].admitted_today) == (1, 1)


async def test_tells_who_paused_and_why(surveyed, factory, clock):
    """The guard's words are those of the person."""
    await ReconcilerState.filter(id=1).update(
        paused_at=clock.now(), paused_by="ida", paused_reason="move", safe_mode_since=clock.now()
    )

    _, told = await surveyed(await factory.account())

    assert (told.paused, told.safe_mode) == ("paused by ida: move", "safe mode")


async def test_takes_the_statements_of_one_account_for_many(surveyed, debtor, monkeypatch):
    """No statement for each climb."""
    accounts = [(await debtor())[0] for _ in range(4)]
    executed, connection = [], Account._meta.db
    genuine = type(connection).execute_query

    async def counting(self, *arguments):
        executed.append(arguments)
        return await genuine(self, *arguments)

    monkeypatch.setattr(type(connection), "execute_query", counting)
    await surveyed(accounts[0])
    of_one = len(executed)
    executed.clear()
    view, _ = await surveyed(*accounts)

    assert len(view.climbs) == 4
    assert len(executed) == of_one
