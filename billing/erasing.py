"""The right to be forgotten: what was kept about a person beside the accounts themselves, emptied in one transaction.

The only one that empties what other modules wrote. Facts that the ladder and the books rest on stay: which notice was
delivered when, which event was applied, what was booked; with them nobody is named.
"""

from dataclasses import dataclass
from datetime import datetime

from tortoise.expressions import Q
from tortoise.transactions import in_transaction

from billing import audit_seal
from billing.models import Account, EventState, Notice, StripeEvent, WorkItem, WorkState
from billing.rules.terms import NoticeState

ERASED = "(erased)"


@dataclass(frozen=True, kw_only=True)
class Erased:
    """How much was emptied, and how much is still needed and has to be erased by another call."""

    audit_rows: int
    letters: int
    events: int
    work_items: int
    #: Letters on their way, events not applied yet, work items that are open.
    left: int


async def erase(external_id: str, *, reason: str, actor: str, now: datetime) -> Erased:
    """Empty everything that names the person behind an account; refuses an unknown account and an empty reason.

    Letters lose recipient, subject and text, Stripe's events their content, closed work items their words, the audit
    trail what `audit_seal.erase` takes; nothing of that is ever read again to decide something.
    """
    async with in_transaction():
        audit_rows = await audit_seal.erase(external_id, reason=reason, actor=actor, now=now)
        account = await Account.get(external_id=external_id)
        letters = Notice.filter(account_id=account.id)
        events = StripeEvent.filter(stripe_customer_id=account.stripe_customer_id or "")
        items = WorkItem.filter(account_id=account.id)
        on_their_way, waiting = Q(state=NoticeState.PENDING), Q(state=EventState.PENDING)
        is_open = ~Q(state=WorkState.RESOLVED)
        return Erased(
            audit_rows=audit_rows,
            letters=await letters.filter(~on_their_way, ~Q(body=ERASED)).update(
                recipient=None, subject=ERASED, body=ERASED, error=None
            ),
            events=await events.filter(~waiting).update(payload={}, error=None),
            work_items=await items.filter(~is_open, ~Q(detail=ERASED)).update(
                title=ERASED, detail=ERASED, resolution=ERASED
            ),
            left=await letters.filter(on_their_way).count()
            + await events.filter(waiting).count()
            + await items.filter(is_open).count(),
        )
