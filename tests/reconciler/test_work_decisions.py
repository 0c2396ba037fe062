"""Decisions of people about what waits for them."""

from typing import Any

import pytest

from billing import work_queue
from billing.clock import ManualClock
from billing.models import Account, AuditEntry, EventState, StripeEvent, WorkItem, WorkState
from billing.refusal import RefusalCode, RefusalError
from reconciler import work_decisions
from reconciler.models import Step
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
