"""What is foreseen is what happens: the product walked on a moving clock reaches each stage when the forecast said."""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from billing.accounts import note_fact
from billing.approvals import Voter
from billing.models import Account, Episode, Notice, Subscription
from billing.rules.approvals import SecondPerson
from billing.rules.policy import GuardPolicy, Limit, Policy
from billing.rules.terms import OverrideKind, Stage
from reconciler import breaker, outlook
from reconciler.models import Admission, PlanSnapshot, ReconcilerState, Server
from reconciler.rules.terms import Mode

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MAX_AGE = timedelta(minutes=15)
APPLYING = {"demo": Mode.APPLY}
#: (account, server, from, to, instant)
Climbed = tuple[int, int | None, Stage, Stage, datetime]


def narrow(policies: Mapping[str, Policy]) -> dict[str, Policy]:
    """Return the policies with limits that a dozen accounts meet."""
    fleet = GuardPolicy(max_new_per_pass=Limit(count=1, percent=0), max_new_per_day=Limit(count=2, percent=0))
    own = GuardPolicy(max_new_per_pass=Limit(count=1, percent=0), max_new_per_day=Limit(count=1, percent=0))
    return {
        name: replace(policy, guard=fleet if name == "standard" else own) for name, policy in policies.items()
    }


async def population(factory: Any, debtor: Any, now: datetime, seed: int) -> None:
    """Make accounts in all sorts of trouble: some owe already, most will; some are held, one has no address."""
    dice = random.Random(seed)
    for number in range(14):
        zone = dice.choice(["Europe/Berlin", "America/New_York", "Asia/Tokyo"])
        policy = dice.choice(["standard", "standard", "considerate"])
        account = await factory.account(policy=policy, time_zone=zone, free_plan=number == 12)
        if number == 13:
            await Account.filter(id=account.id).update(email=None)
        for _ in range(dice.choice([1, 1, 2, 3])):
            at = now + dice.choice([-9, -1, 0, 1, 2, 6, 12]) * DAY + dice.choice([0, 0, 5]) * HOUR
            seen = at if at <= now else None
            await factory.invoice(
                account,
                total=400,
                amount_due=dice.choice([60, 400]),
                overdue_at=at,
                overdue_seen_at=seen,
                disputed_amount=dice.choice([0, 0, 0, 300]),
            )
        if dice.random() < 0.4:
            kind = dice.choice([OverrideKind.EXEMPT, OverrideKind.EXTEND_GRACE, OverrideKind.FREEZE])
            await factory.override(account, kind=kind, expires_at=now + dice.choice([2, 7, 20]) * DAY)
        await note_fact(account.id, now=now)
    for policy in ("standard", "considerate"):
        account, _, (server, _) = await debtor(2, policy=policy)
        await uncovered(account, server, now - DAY)


async def uncovered(account: Account, server: Server, ended_at: datetime) -> None:
    """Let the subscription of one server have ended."""
    name = f"sub_{account.id}"
    await Server.filter(id=server.id).update(stripe_subscription_id=name)
    await Subscription.create(
        stripe_subscription_id=name,
        account=account,
        status="canceled",
        ended_at=ended_at,
        fetched_at=ended_at,
    )


async def walked(stand: Any, until: datetime, marks: list[datetime]) -> set[Climbed]:
    """Let the product live until then, with every mail delivered at once; return every climb with its instant."""
    while stand.clock.now() <= until:
        for _ in range(40):
            result = await stand.turn()
            await stand.deliver()
            if not result.again and not await stand.due():
                break
        else:
            pytest.fail("the passes of one instant never come to rest")
        now = stand.clock.now()
        later = [at for at in (result.next_at, now + 24 * HOUR, *marks) if at is not None and at > now]
        stand.clock.advance(min(later) - now)
    servers = {row.id: row.server_id for row in await Episode.all()}
    return {
        (row.account_id, servers[row.episode_id], row.from_stage, row.to_stage, row.at)
        for row in await Admission.filter(at__lte=until)
    }


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(2, 12))]
)
async def test_the_product_reaches_each_stage_when_the_forecast_said(
    lite: Any, factory: Any, debtor: Any, seed: int
) -> None:
    """With limits, windows, overrides and delivered notices, to the instant, and nobody else climbs."""
    now = lite.clock.now()
    await population(factory, debtor, now, seed)
    lite.policies.update(narrow(lite.policies))
    await lite.watch.cycle()
    seen = await outlook.look(lite.policies, APPLYING, facts_max_age=MAX_AGE, now=now, days=25)
    foreseen = await seen.ahead()

    happened = await walked(lite, now + 25 * DAY, [row.at for row in foreseen])

    # What the breaker will hold is foreseen as that: nobody is there who would release it.
    assert {
        (row.account_id, row.server_id, row.from_stage, row.to_stage, row.at)
        for row in foreseen
        if row.waiting_for != "BREAKER"
    } == happened
    assert {row.to_stage for row in foreseen} >= {Stage.PAST_DUE, Stage.FINAL_NOTICE, Stage.SUSPENDED}
    assert {row.waiting_for for row in foreseen} >= {None, "BLAST_RADIUS"}
    assert any(row.server_id is not None for row in foreseen)


@pytest.mark.usefixtures("sqlite_database")
async def test_in_plan_mode_it_walks_as_if_the_product_applied_from_now_on(
    make_stand: Any, debtor: Any
) -> None:
    """However old the debt, everybody begins with the first notice, and nothing of it is written or sent."""
    stand = make_stand(mode=Mode.PLAN)
    account, _, _ = await debtor()
    for _ in range(9):
        await stand.turn()
        stand.clock.advance(DAY)
    await stand.turn()
    now = stand.clock.now()

    seen = await outlook.look(stand.policies, APPLYING, facts_max_age=MAX_AGE, now=now, days=20)

    assert [(row.account_id, row.at - now, row.to_stage) for row in await seen.ahead()] == [
        (account.id, 0 * DAY, Stage.PAST_DUE),
        (account.id, 48 * HOUR, Stage.FINAL_NOTICE),
        (account.id, 72 * HOUR, Stage.SUSPENDED),
    ]
    assert not await Admission.all().exists()
    assert not await Notice.all().exists()


async def test_it_foresees_the_breaker_that_the_product_opens(lite: Any, debtor: Any) -> None:
    """To the instant; from then on nobody reaches larger effects before two persons have released them."""
    accounts = [(await debtor())[0] for _ in range(5)]
    now = lite.clock.now()
    lite.policies.update(narrow(lite.policies))
    await lite.watch.cycle()
    seen = await outlook.look(lite.policies, APPLYING, facts_max_age=MAX_AGE, now=now, days=5)
    foreseen = await seen.ahead()
    held = [row for row in foreseen if row.waiting_for == "BREAKER"]

    happened = await walked(lite, now + 5 * DAY, [row.at for row in foreseen])

    state = await ReconcilerState.get(id=1)
    assert state.breaker_open_at == min(row.at for row in held)
    assert {row.account_id for row in held} == {account.id for account in accounts}
    assert {stage for *_, stage, _ in happened} == {Stage.PAST_DUE}
    told = await outlook.look(lite.policies, APPLYING, facts_max_age=MAX_AGE, now=lite.clock.now(), days=5)
    assert {row.waiting_for for row in await told.ahead()} == {"BREAKER"}


async def test_it_foresees_nothing_of_the_breaker_for_whom_two_persons_released(
    lite: Any, debtor: Any
) -> None:
    """The release covers them; limits and time go on."""
    for _ in range(5):
        await debtor()
    lite.policies.update(narrow(lite.policies))
    await lite.settle()
    lite.clock.advance(72 * HOUR)
    await lite.turn()
    await lite.turn()
    digest = (await PlanSnapshot.all().order_by("-id").first()).digest
    for person in ("anna", "bert"):
        voter = Voter(person=person, actor=f"admin:{person}")
        await breaker.vote(digest, voter, reason="looked at", rule=SecondPerson(), now=lite.clock.now())

    seen = await outlook.look(lite.policies, APPLYING, facts_max_age=MAX_AGE, now=lite.clock.now(), days=3)

    assert {row.waiting_for for row in await seen.ahead()} <= {None, "BLAST_RADIUS"}


async def test_it_says_whom_a_silent_node_holds(lite: Any, debtor: Any, platform: Any) -> None:
    """As the guard says of them now; the others of the site reach each stage."""
    (near, _, _), (far, _, servers) = await debtor(), await debtor(2)
    platform.guests[servers[1].guest].node = "node2"
    await lite.watch.cycle()
    platform.silent = {"node2"}
    lite.clock.advance(16 * HOUR / 60)
    await lite.watch.cycle()

    seen = await outlook.look(lite.policies, APPLYING, facts_max_age=MAX_AGE, now=lite.clock.now(), days=6)

    assert {(row.account_id, row.to_stage): row.waiting_for for row in await seen.ahead()} == {
        (near.id, Stage.PAST_DUE): None,
        (near.id, Stage.FINAL_NOTICE): None,
        (near.id, Stage.SUSPENDED): None,
        (far.id, Stage.PAST_DUE): None,
        (far.id, Stage.FINAL_NOTICE): "OBSERVATION_STALE",
        (far.id, Stage.SUSPENDED): "OBSERVATION_STALE",
    }
