"""Two persons suspend without waiting: past notices and windows, and past nothing else."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing import overrides
from billing.approval_models import Approval
from billing.approvals import Voter
from billing.models import Episode, Override
from billing.overrides import Authority, Placement
from billing.refusal import RefusalCode, RefusalError
from billing.rules.approvals import ApprovalState, SecondPerson
from billing.rules.policy import Window, Windows
from billing.rules.terms import OverrideKind, Stage
from reconciler import pause, suspend_now
from reconciler.models import ReconcilerState

ANNA, BEN = (Voter(actor=f"admin:{name}", person=name) for name in ("anna", "ben"))
DAY = timedelta(days=1)


async def vote(stand, account, voter, rule=None):
    return await suspend_now.vote(
        account.id,
        voter,
        reason="card fraud",
        rule=rule or SecondPerson(),
        policies=stand.policies,
        now=stand.clock.now(),
    )


async def decide(stand, account):
    await vote(stand, account, ANNA)
    return await vote(stand, account, BEN)


async def stage(account):
    return (await Episode.get(account_id=account.id, ended_at=None)).admitted


async def place(stand, account, kind):
    return await overrides.place(
        Placement(account_id=account.id, kind=kind, reason="r", expires_at=stand.clock.now() + DAY),
        actor="admin:carl",
        authority=Authority.ADMIN,
        now=stand.clock.now(),
    )


async def test_stops_the_servers_at_once_and_gives_them_back_on_payment(stand, debtor, platform):
    """In the first hour of the debt, with no window open; the payment brings everything back."""
    account, invoice, (server,) = await debtor()
    standard = stand.policies["standard"]
    never = Windows(zone="UTC", allow=(Window(days=frozenset({0}), from_minute=0, to_minute=1),))
    stand.policies["standard"] = replace(standard, windows=never)
    await stand.settle()
    assert await stage(account) is Stage.PAST_DUE

    given = await decide(stand, account)
    await stand.settle()

    assert given.state is ApprovalState.GIVEN
    assert (await Override.get()).placed_by == "admin:anna and admin:ben"
    assert await stage(account) is Stage.SUSPENDED
    assert platform.guests[server.guest].power == "stopped"

    await stand.pay(invoice)
    await stand.settle()
    assert platform.guests[server.guest].power == "running"
    assert not await Episode.filter(ended_at=None).exists()


async def test_does_nothing_on_one_vote(lite, debtor):
    """One person's wish waits for another one's."""
    account, _, _ = await debtor()
    await lite.settle()

    await vote(lite, account, ANNA)
    await lite.settle()

    assert await stage(account) is Stage.PAST_DUE
    assert not await Override.exists()


async def test_takes_one_vote_and_a_day_where_that_is_the_rule(lite, debtor):
    """The pass carries out what nobody objected to."""
    account, _, _ = await debtor()
    await lite.settle()
    rule = lite.passes.second_person = SecondPerson(wait=DAY)

    await vote(lite, account, ANNA, rule)
    lite.clock.advance(DAY - timedelta(seconds=1))
    await lite.settle()
    assert await stage(account) is Stage.PAST_DUE
    lite.clock.advance(timedelta(seconds=1))
    await lite.settle()

    assert await stage(account) is Stage.SUSPENDED


async def test_needs_overdue_debt(lite, factory, debtor):
    """Neither an account in order nor one that was paid meanwhile; what waited for a second person is void."""
    for account in (await factory.account(), None):
        with pytest.raises(RefusalError) as refused:
            await suspend_now.vote(
                account.id if account else 99,
                ANNA,
                reason="r",
                rule=SecondPerson(),
                policies=lite.policies,
                now=lite.clock.now(),
            )
        code = RefusalCode.CONFLICT if account else RefusalCode.NOT_FOUND
        assert refused.value.problems[0].code is code
    debtor_account, invoice, _ = await debtor()
    await lite.settle()
    await vote(lite, debtor_account, ANNA)

    await lite.pay(invoice)
    with pytest.raises(RefusalError):
        await vote(lite, debtor_account, BEN)
    await lite.settle()

    assert (await Approval.get()).state is ApprovalState.VOID
    with pytest.raises(RefusalError):
        await vote(lite, debtor_account, BEN)


async def test_is_decided_once(lite, debtor):
    """What two persons have decided needs no third vote."""
    account, _, _ = await debtor()
    await lite.settle()
    await decide(lite, account)

    with pytest.raises(RefusalError) as refused:
        await vote(lite, account, ANNA)

    assert refused.value.problems[0].code is RefusalCode.CONFLICT


@pytest.mark.parametrize("kind", [OverrideKind.EXEMPT, OverrideKind.EXTEND_GRACE])
async def test_ends_for_good_with_a_mercy_of_staff(lite, debtor, platform, kind):
    """The servers come back, and when the mercy ends it does not act again."""
    account, _, (server,) = await debtor()
    await lite.settle()
    await decide(lite, account)
    await lite.settle()
    assert platform.guests[server.guest].power == "stopped"
    lite.clock.advance(timedelta(minutes=1))

    await place(lite, account, kind)
    await lite.settle()
    assert platform.guests[server.guest].power == "running"
    lite.clock.advance(DAY + timedelta(minutes=1))
    await lite.settle()

    assert (await stage(account)).rank <= Stage.PAST_DUE.rank
    assert platform.guests[server.guest].power == "running"


async def test_waits_for_a_freeze(lite, debtor):
    """A freeze is stronger while it lasts; the decision stands when it ends."""
    account, _, _ = await debtor()
    await lite.settle()
    await place(lite, account, OverrideKind.FREEZE)
    await decide(lite, account)
    await lite.settle()
    assert await stage(account) is Stage.PAST_DUE

    lite.clock.advance(DAY)
    await lite.settle()

    assert await stage(account) is Stage.SUSPENDED


@pytest.mark.parametrize("check", ["paused", "safe mode", "breaker"])
async def test_goes_past_no_other_check(lite, debtor, check):
    """Two persons decide about one account, not about the brakes of the fleet."""
    account, _, _ = await debtor()
    await lite.settle()
    now = lite.clock.now()
    if check == "paused":
        await pause.pause(reason="r", actor="admin:anna", now=now)
    elif check == "safe mode":
        await ReconcilerState.filter(id=1).update(safe_mode_since=now, safe_mode_reason="restored")
    else:
        await ReconcilerState.filter(id=1).update(breaker_open_at=now, breaker_reason="too many")

    await decide(lite, account)
    await lite.settle()

    assert await stage(account) is Stage.PAST_DUE
