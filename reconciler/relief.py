"""Why something is given back, as a letter tells it: because it is settled, or although something stays open.

Reads the invoices that the customer was told of; what is given back, and when that is told, is the caller's.
"""

from collections.abc import Sequence
from datetime import datetime

from tortoise.expressions import F, Q

from billing.models import Invoice
from billing.notice_content import ReliefReason
from billing.rules.facts import AccountFacts
from billing.rules.overrides import ends_at, strongest
from billing.rules.terms import InvoiceStatus, OverrideKind
from reconciler.subjects import Subject

_OF_OVERRIDE = {
    "extended_grace": (ReliefReason.EXTENDED, OverrideKind.EXTEND_GRACE),
    "exempt": (ReliefReason.EXEMPT, OverrideKind.EXEMPT),
}


def while_overdue(subject: Subject, now: datetime) -> tuple[ReliefReason, datetime | None]:
    """Return why a subject stands milder though it stays overdue, and until when that holds; null: not known."""
    reason, kind = _OF_OVERRIDE.get(subject.eligibility.reason_code, (ReliefReason.LESS, None))
    placed = strongest(subject.facts.overrides, kind, now) if kind else None
    return reason, ends_at(placed) if placed else None


async def at_the_end(subject: Subject, now: datetime) -> tuple[ReliefReason, Sequence[Invoice]]:
    """Return why an episode is over, and what nevertheless stays open of that which the customer was told of.

    Only an episode that leaves nothing open was settled.
    """
    if not isinstance(subject.facts, AccountFacts):
        # The next of its facts say that it is covered; only the server knows that it costs nothing any more.
        free = subject.server is not None and subject.server.free
        return (ReliefReason.FREE if free else ReliefReason.SETTLED), ()
    told_or_overdue = await _left(subject.facts, now)
    left = [invoice for invoice in told_or_overdue if invoice.amount_due]
    if subject.facts.free_plan:
        return ReliefReason.FREE, left
    if len(left) < len(told_or_overdue):
        return ReliefReason.UNCOLLECTED, left
    if any(invoice.disputed_amount > invoice.amount_paid for invoice in left):
        return ReliefReason.DISPUTED, left
    if any(invoice.overdue_at and invoice.overdue_at <= now for invoice in left):
        return ReliefReason.LITTLE_LEFT, left
    return (ReliefReason.NOT_DUE if left else ReliefReason.SETTLED), left


async def _left(facts: AccountFacts, now: datetime) -> Sequence[Invoice]:
    """Return what was not paid: of the invoices that were told of in this episode, and of those that are overdue.

    One that was given up as uncollectible is among them, with nothing due.
    """
    overdue = {one.id for one in facts.invoices if one.overdue_at and one.overdue_at <= now}
    told = frozenset[int]().union(*(notice.invoice_ids for notice in facts.notices if notice.stage))
    still_open = Q(status=InvoiceStatus.OPEN, amount_due__gt=0)
    given_up = Q(status=InvoiceStatus.UNCOLLECTIBLE, amount_paid__lt=F("total"))
    found = Invoice.filter(still_open | given_up, id__in=sorted(overdue | told))
    return await found.order_by("overdue_at", "id")
