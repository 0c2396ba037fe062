"""What a person decided about a work item: try again, seen, or not worth it.

Owns what "try again" means for each kind of trouble; opening and closing items on their own is `billing.work_queue`'s.
"""

from datetime import datetime

from tortoise.transactions import in_transaction

from billing.accounts import note_fact
from billing.audit import record
from billing.models import EventState, StripeEvent, WorkItem, WorkState
from billing.refusal import RefusalCode, refusal, required_reason
from reconciler.models import Step
from reconciler.rules.terms import StepState

_DEAD_EVENT = "stripe.event_dead:"
_STEP_FAILED = "step_failed"


async def acknowledge(item_id: int, *, reason: str, actor: str, now: datetime) -> WorkItem:
    """Note that somebody looks at it; it stays in the queue until its reason is gone."""
    return await _decide(item_id, WorkState.ACKNOWLEDGED, reason=reason, actor=actor, now=now)


async def dismiss(item_id: int, *, reason: str, actor: str, now: datetime) -> WorkItem:
    """Close it; the same trouble opens a new one if it comes again."""
    return await _decide(item_id, WorkState.RESOLVED, reason=reason, actor=actor, now=now)


async def retry(item_id: int, *, reason: str, actor: str, now: datetime) -> WorkItem:
    """Close it and try again at once what failed: a given-up event is pending again, a failed step waits no longer."""
    return await _decide(item_id, WorkState.RESOLVED, reason=reason, actor=actor, now=now, again=True)


async def _decide(
    item_id: int, state: WorkState, *, reason: str, actor: str, now: datetime, again: bool = False
) -> WorkItem:
    told = required_reason(reason)
    resolved = {"resolved_at": now, "resolved_by": actor, "resolution": told}
    async with in_transaction():
        standing = WorkItem.filter(id=item_id).exclude(state=WorkState.RESOLVED)
        if not await standing.update(state=state, **(resolved if state is WorkState.RESOLVED else {})):
            known = await WorkItem.exists(id=item_id)
            code = RefusalCode.CONFLICT if known else RefusalCode.NOT_FOUND
            raise refusal(
                code, "the item is resolved already" if known else "there is no such item", "workItemId"
            )
        item = await WorkItem.get(id=item_id)
        if again:
            await _try_again(item, now)
        await record(
            "work.retried" if again else f"work.{state.lower()}",
            ("WorkItem", item.id),
            at=now,
            actor=actor,
            reason=told,
            account_id=item.account_id,
        )
    return item


async def _try_again(item: WorkItem, now: datetime) -> None:
    if item.dedupe_key.startswith(_DEAD_EVENT):
        dead = StripeEvent.filter(event_id=item.dedupe_key.removeprefix(_DEAD_EVENT), state=EventState.DEAD)
        await dead.update(state=EventState.PENDING, attempts=0, next_attempt_at=now, processed_at=None)
    elif item.kind == _STEP_FAILED:
        steps = Step.filter(account_id=item.account_id, server_id=item.server_id, state=StepState.FAILED)
        await steps.update(retry_at=None)
    if item.account_id is not None:
        await note_fact(item.account_id, now=now)
