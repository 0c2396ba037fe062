"""Decisions of people about what waits for them."""

from datetime import timedelta
from typing import Any

import pytest

from billing import work_queue
from billing.clock import ManualClock
from billing.models import Account, AuditEntry, EventState, Notice, StripeEvent, WorkItem, WorkState
from billing.money_models import MeteredAccount, Reservation
from billing.refusal import RefusalCode, RefusalError
from billing.rules.terms import NoticeState
from reconciler import work_decisions
from reconciler.models import Step
from reconciler.outgoing_models import OutgoingDelivery, OutgoingEvent
from reconciler.rules.terms import StepState

pytestmark = pytest.mark.usefixtures("sqlite_database")


async def _item(clock: ManualClock, kind: str = "other", key: str = "other:1", **of: Any) -> WorkItem:
    return await work_queue.open_item(kind, key, at=clock.now(), title="t", detail="d", **of)


async def _decide(decision: Any, item: WorkItem, clock: ManualClock) -> WorkItem:
    return await decision(item.id, reason="looked at", actor="support:ben", now=clock.now())  # type: ignore[no-any-return]


async def test_it_is_acknowledged_and_stays(clock: ManualClock) -> None:
    """It stays in the queue, marked as seen."""
    item = await _decide(work_decisions.acknowledge, await _item(clock), clock)
    assert (item.state, item.resolved_at) == (WorkState.ACKNOWLEDGED, None)
    assert (await AuditEntry.get()).kind == "work.acknowledged"


async def test_it_is_dismissed_and_may_come_again(clock: ManualClock) -> None:
    """It is closed with who and why; the same trouble opens a new item."""
    first = await _item(clock)
    item = await _decide(work_decisions.dismiss, first, clock)
    assert (item.state, item.resolved_by, item.resolution) == (WorkState.RESOLVED, "support:ben", "looked at")
    assert (await _item(clock)).id != first.id


async def test_a_given_up_event_is_pending_again(clock: ManualClock, factory: Any) -> None:
    """It is processed once more from its first attempt."""
    account = await factory.account()
    event = await factory.stripe_event(state=EventState.DEAD, attempts=10, processed_at=clock.now())
    item = await _item(
        clock, "stripe.event_dead", f"stripe.event_dead:{event.event_id}", account_id=account.id
    )
    await _decide(work_decisions.retry, item, clock)
    event = await StripeEvent.get(id=event.id)
    assert (event.state, event.attempts, event.processed_at) == (EventState.PENDING, 0, None)
    assert (await Account.get(id=account.id)).next_change_at == clock.now()


async def test_a_failed_step_waits_no_longer(clock: ManualClock, factory: Any) -> None:
    """It lets the next pass try again at once, on that server alone."""
    server, other = await factory.server(), await factory.server()
    for one in (server, other):
        await factory.step(one, state=StepState.FAILED, retry_at=clock.now())
    item = await _item(
        clock, "step_failed", "step:STOP:Server:1:demo", account_id=server.account_id, server_id=server.id
    )
    await _decide(work_decisions.retry, item, clock)
    assert (await Step.get(server_id=server.id)).retry_at is None
    assert (await Step.get(server_id=other.id)).retry_at is not None


async def _code(work: Any) -> RefusalCode:
    with pytest.raises(RefusalError) as refused:
        await work
    return refused.value.problems[0].code


async def test_a_refused_notice_is_sent_again(clock: ManualClock, factory: Any) -> None:
    """It waits to be sent once more; when nothing is left to send, that is said, and the item stays."""
    account = await factory.account()
    notice = await factory.notice(account, state=NoticeState.FAILED)
    key = f"notice_refused:{account.id}"
    item = await _item(clock, "notice_refused", key, account_id=account.id)
    await _decide(work_decisions.retry, item, clock)
    assert (await Notice.get(id=notice.id)).state is NoticeState.PENDING
    again = await _item(clock, "notice_refused", key, account_id=account.id)
    assert await _code(_decide(work_decisions.retry, again, clock)) is RefusalCode.CONFLICT
    assert (await WorkItem.get(id=again.id)).state is WorkState.OPEN


async def test_given_up_webhooks_are_sent_again(clock: ManualClock) -> None:
    """Those of that receiver alone."""
    event = await OutgoingEvent.create(
        type="standing.changed", at=clock.now(), account="x", stage="CURRENT", gives_back=True
    )
    given_up = {"state": "GIVEN_UP", "next_attempt_at": clock.now(), "finished_at": clock.now()}
    for receiver in ("one", "two"):
        await OutgoingDelivery.create(event=event, receiver=receiver, **given_up)
    item = await _item(clock, "webhook_failed", "webhook_failed:one")
    await _decide(work_decisions.retry, item, clock)
    assert [row.receiver for row in await OutgoingDelivery.filter(state="PENDING")] == ["one"]


async def test_an_invoice_is_issued_at_once(clock: ManualClock, factory: Any) -> None:
    """It does not wait for the next hour."""
    account = await factory.account()
    later = clock.now() + timedelta(hours=1)
    await MeteredAccount.create(account=account, month=clock.now(), invoiced_until=clock.now(), due_at=later)
    item = await _item(clock, "invoice_not_issued", f"invoice_not_issued:{account.id}", account_id=account.id)
    await _decide(work_decisions.retry, item, clock)
    assert (await MeteredAccount.get()).due_at == clock.now()


async def test_money_that_hangs_is_looked_at_and_stays_in_the_queue(clock: ManualClock, factory: Any) -> None:
    """It is marked as seen: only the end of the trouble closes it."""
    account = await factory.account()
    invoice = await factory.invoice(account, origin="STRIPE")
    later = clock.now() + timedelta(hours=1)
    row = await Reservation.create(
        account_id=account.id, invoice=invoice, purse="BALANCE", amount=1, idempotency_key="a", created_at=later,
        updated_at=later, next_look_at=later,
    )  # fmt: skip
    item = await _item(clock, "settling.stuck", f"settling.stuck:{row.id}", account_id=account.id)
    decided = await _decide(work_decisions.retry, item, clock)
    assert (decided.state, decided.resolved_at) == (WorkState.ACKNOWLEDGED, None)
    assert (await Reservation.get()).next_look_at == clock.now()


async def test_what_cannot_be_tried_again_says_so(clock: ManualClock, factory: Any) -> None:
    """A missing guest, an approval, a dispute: the item stays as it is, and the answer says what can be done."""
    for kind in ("server_missing", "approval", "stripe.dispute", "undo_skipped"):
        item = await _item(clock, kind, f"{kind}:1")
        assert await _code(_decide(work_decisions.retry, item, clock)) is RefusalCode.CONFLICT
        assert (await WorkItem.get(id=item.id)).state is WorkState.OPEN
    assert await AuditEntry.all().count() == 0


async def test_it_is_decided_once(clock: ManualClock) -> None:
    """It refuses an item that is resolved, one that never was, and an empty reason."""
    item = await _item(clock)
    await _decide(work_decisions.dismiss, item, clock)
    with pytest.raises(RefusalError) as refused:
        await _decide(work_decisions.retry, item, clock)
    assert refused.value.problems[0].code is RefusalCode.CONFLICT
    with pytest.raises(RefusalError) as refused:
        await work_decisions.dismiss(99, reason="x", actor="a", now=clock.now())
    assert refused.value.problems[0].code is RefusalCode.NOT_FOUND
    with pytest.raises(RefusalError) as refused:
        await work_decisions.dismiss(item.id, reason="", actor="a", now=clock.now())
    assert refused.value.problems[0].code is RefusalCode.REASON_REQUIRED
