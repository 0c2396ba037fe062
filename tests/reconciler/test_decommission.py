"""Decommissioning is approved by two persons after a delivered final warning, and ends in a task for people."""

from datetime import timedelta

import pytest

from billing.accounts import note_fact
from billing.approval_models import Approval
from billing.approvals import Voter
from billing.models import AuditEntry, Episode, Invoice, Notice, WorkItem
from billing.refusal import RefusalCode, RefusalError
from billing.rules.approvals import ApprovalState, SecondPerson
from billing.rules.terms import NoticeState, OverrideKind, Stage
from reconciler import decommission
from reconciler.subjects import load

ANNA, BEN = (Voter(actor=f"admin:{name}", person=name) for name in ("anna", "ben"))
DAY = timedelta(days=1)


async def vote(stand, account, voter, rule=None):
    return await decommission.vote(
        account.id,
        voter,
        reason="no answer for months",
        rule=rule or SecondPerson(),
        policies=stand.policies,
        now=stand.clock.now(),
    )


async def refused(stand, account, voter=ANNA):
    with pytest.raises(RefusalError) as told:
        await vote(stand, account, voter)
    return told.value.problems[0]


async def review(stand, account):
    subjects = await load([account.id], stand.policies, stand.clock.now())
    return decommission.review(subjects[0], stand.clock.now())


@pytest.fixture
def reviewed(lite, delinquent, factory):
    """Makes an account that has just been admitted to the last stage; its final warning is on its way."""

    async def make():
        account, invoice, servers = await delinquent()
        now = lite.clock.now()
        began = now - 100 * DAY
        await Invoice.filter(id=invoice.id).update(overdue_at=began, overdue_seen_at=began)
        await Notice.filter(account_id=account.id).update(created_at=began, delivered_at=began)
        await Episode.filter(account_id=account.id).update(
            started_at=began, admitted=Stage.DECOMMISSION_REVIEW, admitted_at=now
        )
        await note_fact(account.id, now=now)
        await lite.turn()
        return account, invoice, servers

    return make


@pytest.fixture
def approvable(lite, reviewed):
    """Makes an account whose final warning was delivered long enough ago."""

    async def make():
        account, invoice, servers = await reviewed()
        await lite.settle()
        lite.clock.advance(14 * DAY)
        await lite.settle()
        return account, invoice, servers

    return make


async def test_asks_people_and_does_nothing_else(lite, approvable, platform):
    """Two votes open a task that names the servers; nothing is asked of any guest."""
    account, _, (server,) = await approvable()
    before = list(platform.done)

    assert (await vote(lite, account, ANNA)).state is ApprovalState.PENDING
    assert not await WorkItem.filter(kind="decommission").exists()
    assert (await vote(lite, account, BEN)).state is ApprovalState.GIVEN
    await lite.settle()

    item = await WorkItem.get(kind="decommission")
    assert (item.state, server.external_id in item.detail) == ("OPEN", True)
    assert (await AuditEntry.get(kind="decommission.approved")).account_id == account.id
    assert platform.done == before
    assert (await refused(lite, account)).message == "two persons have approved that already"


async def test_waits_until_the_final_warning_was_delivered_for_long_enough(lite, reviewed):
    """Not while it is on its way, not a second too soon; a warning of another stage is none."""
    account, _, _ = await reviewed()
    assert (await refused(lite, account)).message == "the final warning was not delivered yet"
    assert (await review(lite, account)).warned_at is None

    await lite.settle()
    delivered = lite.clock.now()
    found = await review(lite, account)
    assert (found.warned_at, found.approvable_at) == (delivered, delivered + 14 * DAY)
    lite.clock.advance(14 * DAY - timedelta(seconds=1))
    problem = await refused(lite, account)
    assert (problem.code, problem.path) == (RefusalCode.CONFLICT, ("accountId",))
    assert "it can be approved from 2026-12-04" in problem.message
    lite.clock.advance(timedelta(seconds=1))

    assert (await vote(lite, account, ANNA)).state is ApprovalState.PENDING


async def test_is_for_the_last_stage_alone(lite, delinquent):
    """A suspended account is not decommissioned, however long ago it was warned."""
    account, _, _ = await delinquent()
    lite.clock.advance(20 * DAY)

    assert (await refused(lite, account)).code is RefusalCode.CONFLICT
    assert await review(lite, account) is None


async def test_a_failed_warning_is_none(lite, reviewed):
    """A refused mail has warned nobody."""
    account, _, _ = await reviewed()
    await Notice.filter(account_id=account.id, stage=Stage.DECOMMISSION_REVIEW).update(
        state=NoticeState.FAILED, error="refused"
    )
    lite.clock.advance(30 * DAY)

    assert (await refused(lite, account)).message == "the final warning was not delivered yet"


@pytest.mark.parametrize("given", [False, True])
async def test_a_payment_voids_it(lite, approvable, given):
    """Whether one person or two had voted; the task closes."""
    account, invoice, _ = await approvable()
    await vote(lite, account, ANNA)
    if given:
        await vote(lite, account, BEN)

    await lite.pay(invoice)
    await lite.settle()

    assert (await Approval.get()).state is ApprovalState.VOID
    assert not await WorkItem.filter(kind="decommission").exclude(state="RESOLVED").exists()


async def test_a_payment_in_part_voids_it_too(lite, approvable, factory):
    """The account stays at its stage, a new debt may even exceed what was paid: it has to be looked at again."""
    account, invoice, _ = await approvable()
    await vote(lite, account, ANNA)
    await vote(lite, account, BEN)
    await factory.invoice(account, total=900, amount_due=900)
    await lite.settle()
    assert (await Approval.get()).state is ApprovalState.GIVEN

    await Invoice.filter(id=invoice.id).update(amount_due=499, amount_paid=1)
    await note_fact(account.id, now=lite.clock.now())
    await lite.settle()

    assert (await Approval.get()).state is ApprovalState.VOID
    assert (await WorkItem.get(kind="decommission")).resolution == "some of the debt was paid"


async def test_a_vote_on_another_debt_joins_nobodys(lite, approvable):
    """What was paid between two votes makes the second one a first."""
    account, invoice, _ = await approvable()
    await vote(lite, account, ANNA)
    await Invoice.filter(id=invoice.id).update(amount_due=499, amount_paid=1)

    assert (await vote(lite, account, BEN)).state is ApprovalState.PENDING


async def test_a_fall_voids_it_although_nothing_was_paid(lite, approvable, factory):
    """Staff gave more time: the account has left the stage that asks."""
    account, _, _ = await approvable()
    await vote(lite, account, ANNA)
    await factory.override(account, kind=OverrideKind.EXTEND_GRACE, expires_at=lite.clock.now() + DAY)
    await note_fact(account.id, now=lite.clock.now())

    await lite.settle()

    assert (await Approval.get()).state is ApprovalState.VOID


@pytest.mark.parametrize("kind", [OverrideKind.EXEMPT, OverrideKind.EXTEND_GRACE, OverrideKind.FREEZE])
async def test_an_override_protects_from_it(lite, approvable, factory, kind):
    """While it lasts nobody approves, and the warning from before it counts no more."""
    account, _, _ = await approvable()
    await factory.override(account, kind=kind, expires_at=lite.clock.now() + DAY)
    await note_fact(account.id, now=lite.clock.now())
    await refused(lite, account)

    lite.clock.advance(DAY)

    assert (await refused(lite, account)).code is RefusalCode.CONFLICT


async def test_one_person_is_enough_after_the_delay_where_that_is_the_rule(lite, approvable):
    """The pass carries it out."""
    account, _, _ = await approvable()
    rule = lite.passes.second_person = SecondPerson(wait=DAY)
    await vote(lite, account, ANNA, rule)

    lite.clock.advance(DAY)
    await lite.settle()

    assert (await Approval.get()).state is ApprovalState.GIVEN
    assert await WorkItem.filter(kind="decommission").exists()
