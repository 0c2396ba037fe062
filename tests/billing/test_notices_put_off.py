"""Notices that wait: a person hears of them in time, and no broken address holds the others up."""

from datetime import timedelta

from billing.models import Account, Invoice, Notice, WorkItem, WorkState
from billing.notice_request import NoticeRequest
from billing.notices import queue, queue_staff
from billing.rules.terms import NoticeState, Stage


async def _request(account: Account) -> NoticeRequest:
    return NoticeRequest(
        account=account,
        template="payment_overdue",
        stage=Stage.PAST_DUE,
        dedupe_key="k",
        invoices=await Invoice.filter(account_id=account.id),
    )


async def test_it_tells_a_person_of_a_notice_that_was_put_off_three_times(overdue, clock, turn, postbox):
    """It is tried on, asked about once, and the item closes when it has arrived."""
    postbox.replies[overdue.email] = "451 greylisted"
    notice = await queue(await _request(overdue), now=clock.now())
    seen = []
    for _ in range(4):
        await turn()
        seen.append(await WorkItem.all().count())
        clock.advance(timedelta(minutes=20))
    assert seen == [0, 0, 1, 1]
    item = await WorkItem.get()
    assert (item.kind, item.account_id, item.state) == ("notice_refused", overdue.id, WorkState.OPEN)
    assert "451 greylisted" in item.detail
    assert (await Notice.get(id=notice.id)).state is NoticeState.PENDING
    postbox.replies.clear()
    assert await turn() == 1
    assert (await WorkItem.get()).state is WorkState.RESOLVED


async def test_it_resolves_the_trouble_with_staffs_channel_too(overdue, clock, turn):
    """A message to staff has no account, and its item closes all the same."""
    await queue_staff("x", "y", dedupe_key="s", now=clock.now())
    turn.staff.down = True
    for _ in range(3):
        await turn()
        clock.advance(timedelta(minutes=20))
    assert (await WorkItem.get()).state is WorkState.OPEN
    turn.staff.down = False
    assert await turn() == 1
    assert (await WorkItem.get()).state is WorkState.RESOLVED


async def test_it_reaches_the_good_address_beside_a_broken_one(overdue, clock, turn, postbox):
    """Naming an address that no letter can carry keeps nobody from being told."""
    await Account.filter(id=overdue.id).update(billing_emails=["a..b@example.org", "ü@example.org"])
    notice = await queue(await _request(await Account.get(id=overdue.id)), now=clock.now())
    assert await turn() == 1
    assert (await Notice.get(id=notice.id)).recipient == overdue.email
