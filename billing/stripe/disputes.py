"""The disputes of payments towards invoices: since when each is open, and until when it was.

The one writer of that table, inside a transaction of the caller that holds the account. What a dispute takes from the
debt stands on the invoice; how long it shields is `billing.rules.disputes`' word.
"""

from collections.abc import Sequence
from datetime import datetime

from billing import audit
from billing.models import Dispute, Invoice
from billing.stripe.reading import MirroredDispute

ACTOR = "stripe"


async def keep(invoice: Invoice, found: Sequence[MirroredDispute], *, now: datetime) -> bool:
    """Write down what was read of the disputes of an invoice's payments; return whether anything was new.

    Stripe does not say when a dispute ended. It is over from the moment that was first read, because until then it did
    shield; one that nobody knew while it was open shielded nobody.
    """
    if not found:
        return False
    ids = [one.stripe_dispute_id for one in found]
    rows = {row.stripe_dispute_id: row for row in await Dispute.filter(stripe_dispute_id__in=ids)}
    return any([await _keep(invoice, one, rows.get(one.stripe_dispute_id), now=now) for one in found])


async def contested(invoice_id: int) -> int:
    """Return what open disputes contest of an invoice's payments, in minor units."""
    rows = Dispute.filter(invoice_id=invoice_id, closed_at=None)
    return sum(await rows.values_list("amount", flat=True))  # type: ignore[arg-type]


async def _keep(invoice: Invoice, one: MirroredDispute, row: Dispute | None, *, now: datetime) -> bool:
    closed_at = None
    if one.is_over:
        closed_at = (row.closed_at or max(now, one.opened_at)) if row else one.opened_at
    columns = {"amount": one.amount, "opened_at": one.opened_at, "closed_at": closed_at}
    before = {name: getattr(row, name) for name in columns} if row else None
    if before == columns:
        return False
    await Dispute.update_or_create(
        columns | {"account_id": invoice.account_id, "invoice_id": invoice.id},
        stripe_dispute_id=one.stripe_dispute_id,
    )
    await audit.record(
        "dispute.changed" if row else "dispute.mirrored",
        ("Invoice", invoice.id),
        at=now,
        actor=ACTOR,
        reason=f"{one.stripe_dispute_id} is {one.status} at Stripe",
        account_id=invoice.account_id,
        before=before,
        after=columns,
    )
    return True
