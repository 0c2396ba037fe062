"""Questions about the invoices of many accounts."""

from datetime import timedelta
from typing import Any

from billing.invoices import note_overdue, with_uncollectible
from billing.models import Invoice
from billing.rules.terms import InvoiceStatus


async def test_it_notes_once_when_an_invoice_was_first_seen_overdue(
    database: str, clock: Any, factory: Any
) -> None:
    """After an outage of ours the debt counts from our return, and stays there."""
    account, other = await factory.account(), await factory.account()
    fell_due = clock.now() - timedelta(days=7)
    row = await factory.invoice(account, overdue_at=fell_due, overdue_seen_at=None)
    later = await factory.invoice(account, overdue_at=clock.now() + timedelta(days=1), overdue_seen_at=None)
    foreign = await factory.invoice(other, overdue_at=fell_due, overdue_seen_at=None)
    seen_at = clock.now()
    assert await note_overdue([account.id], now=seen_at) == 1
    clock.advance(timedelta(days=2))
    assert await note_overdue([account.id], now=clock.now()) == 1
    rows = {found.id: found.overdue_seen_at for found in await Invoice.all()}
    assert rows == {row.id: seen_at, later.id: clock.now(), foreign.id: None}


async def test_it_knows_who_has_an_uncollectible_invoice(database: str, factory: Any) -> None:
    """It is no debt and still blocks new deployments."""
    account, other = await factory.account(), await factory.account()
    for _ in range(2):
        await factory.invoice(account, status=InvoiceStatus.UNCOLLECTIBLE, amount_due=0)
    await factory.invoice(other)
    assert await with_uncollectible([account.id, other.id]) == {account.id}
