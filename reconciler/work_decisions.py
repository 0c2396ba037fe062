"""What a person decided about a work item: try again, seen, or not worth it.

Owns what "try again" means for each kind of trouble; opening and closing items on their own is `billing.work_queue`'s.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from tortoise.expressions import Q
from tortoise.transactions import in_transaction

from billing import charge_rows, issuing, notices_again, reservations, troubles
from billing.accounts import note_fact
from billing.audit import record
from billing.models import EventState, StripeEvent, WorkItem, WorkState
from billing.refusal import RefusalCode, refusal, required_reason
from reconciler import outgoing_delivery, retrying
from reconciler.models import Server


async def acknowledge(item_id: int, *, reason: str, actor: str, now: datetime) -> WorkItem:
    """Note that somebody looks at it; it stays in the queue until its reason is gone."""
    return await _decide(item_id, WorkState.ACKNOWLEDGED, reason=reason, actor=actor, now=now)


async def dismiss(item_id: int, *, reason: str, actor: str, now: datetime) -> WorkItem:
    """Close it; the same trouble opens a new one if it comes again."""
    return await _decide(item_id, WorkState.RESOLVED, reason=reason, actor=actor, now=now)


async def retry(item_id: int, *, reason: str, actor: str, now: datetime) -> WorkItem:
    """Let what failed be tried again at once, and close it; if it fails again, it is in the queue again.

    What was found by looking stays, as seen, until it is not found any more.

    Refused where nothing can be tried again: the kind has nothing of the sort, or it has settled itself meanwhile.
    """
    return await _decide(item_id, WorkState.RESOLVED, reason=reason, actor=actor, now=now, again=True)


async def _decide(
    item_id: int, state: WorkState, *, reason: str, actor: str, now: datetime, again: bool = False
) -> WorkItem:
    told = required_reason(reason)
    resolved = {"resolved_at": now, "resolved_by": actor, "resolution": told}
    async with in_transaction():
        standing = WorkItem.filter(id=item_id).exclude(state=WorkState.RESOLVED)
        if again and await standing.filter(kind__in=_FOUND_BY_LOOKING).exists():
            state = WorkState.ACKNOWLEDGED
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
    act = _AGAIN.get(item.kind)
    if act is None:
        raise refusal(
            RefusalCode.CONFLICT,
            f"nothing can be tried again for {item.kind}: acknowledge it, or dismiss it when it is dealt with",
            "resolution",
        )
    if not await act(item, now):
        raise refusal(
            RefusalCode.CONFLICT,
            "nothing of it waits to be tried again: acknowledge it, or dismiss it when it is dealt with",
            "resolution",
        )
    if item.account_id is not None:
        await note_fact(item.account_id, now=now)


async def _event(item: WorkItem, now: datetime) -> int:
    dead = StripeEvent.filter(event_id=_named(item), state=EventState.DEAD)
    return await dead.update(state=EventState.PENDING, attempts=0, next_attempt_at=now, processed_at=None)


async def _steps(item: WorkItem, now: datetime) -> int:
    """Let the steps of its server, or of its account's access, wait no longer; the next pass reads and judges anew."""
    if item.server_id is None:
        await retrying.wait_no_longer(Q(server_id=None, account_id=item.account_id))
    else:
        await retrying.wait_no_longer(retrying.of_server(await Server.get(id=item.server_id)))
    return 1


async def _notices(item: WorkItem, now: datetime) -> int:
    return await notices_again.send_again(item.account_id, now=now)


async def _webhooks(item: WorkItem, now: datetime) -> int:
    return await outgoing_delivery.send_again(_named(item), now=now)


async def _reservation(item: WorkItem, now: datetime) -> int:
    return await reservations.look_now(int(_named(item)), now)


async def _charge(item: WorkItem, now: datetime) -> int:
    return await charge_rows.look_now(int(_named(item)), now=now)


async def _invoice(item: WorkItem, now: datetime) -> int:
    return item.account_id is not None and await issuing.try_now(item.account_id, now)


def _named(item: WorkItem) -> str:
    """Return what an item is about: its key after the kind."""
    return item.dedupe_key.partition(":")[2]


#: Kinds that `billing.troubles` opens, and closes when they are over.
_FOUND_BY_LOOKING = (troubles.CHARGE, troubles.RESERVATION)
#: How each kind is tried again; returns whether there was anything to try.
_AGAIN: Mapping[str, Callable[[WorkItem, datetime], Awaitable[int]]] = {
    "stripe.event_dead": _event,
    "stripe.charge_unclear": _charge,
    troubles.CHARGE: _charge,
    troubles.RESERVATION: _reservation,
    "invoice_not_issued": _invoice,
    "notice_refused": _notices,
    outgoing_delivery.WORK_ITEM: _webhooks,
    "step_failed": _steps,
    "restore_delayed": _steps,
    "guest_replaced": _steps,
}
