"""Questions about the invoices of many accounts."""

from datetime import timedelta
from typing import Any

from billing.invoices import disputed_amounts, note_overdue, open_invoices, with_uncollectible
from billing.models import Invoice
from billing.rules.facts import InvoiceFact
from billing.rules.terms import InvoiceOrigin, InvoiceStatus


async def test_it_gives_each_account_its_open_invoices(database: str, clock: Any, factory: Any) -> None:
    """Of every origin, with something left to pay; in the order of their ids; nothing for others."""
    first, second, third = [await factory.account() for _ in range(3)]
    one = await factory.invoice(first, amount_due=300, amount_paid=700, disputed_amount=100)
    two = await factory.invoice(first, origin=InvoiceOrigin.STRIPE)
    await factory.invoice(first, status=InvoiceStatus.PAID, amount_due=0)
    await factory.invoice(first, amount_due=0)
    await factory.invoice(second)
    await factory.invoice(third, status=InvoiceStatus.UNCOLLECTIBLE, amount_due=0)
    found = await open_invoices([first.id, third.id], now=clock.now())
    assert list(found) == [first.id]
    assert [fact.id for fact in found[first.id]] == [one.id, two.id]
    assert found[first.id][0] == InvoiceFact(
        id=one.id,
        currency="EUR",
        amount_due=300,
        amount_paid=700,
        disputed_amount=100,
        overdue_at=one.overdue_at,
        counts_from=one.overdue_at,
    )


async def test_it_counts_from_the_later_of_overdue_and_seen(database: str, clock: Any, factory: Any) -> None:
    """Seen late, it counts late; not overdue yet, it counts from nothing; the last second included."""
    account = await factory.account()
    now = clock.now()
    await factory.invoice(
        account, overdue_at=now - timedelta(days=9), overdue_seen_at=now - timedelta(days=2)
    )
    await factory.invoice(account, overdue_at=now + timedelta(seconds=1), overdue_seen_at=None)
    await factory.invoice(account, overdue_at=now, overdue_seen_at=None)
    await factory.invoice(account, overdue_at=None, overdue_seen_at=None)
    facts = (await open_invoices([account.id], now=now))[account.id]
    assert [fact.counts_from for fact in facts] == [now - timedelta(days=2), None, now, None]


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
    facts = {fact.id: fact for fact in (await open_invoices([account.id], now=clock.now()))[account.id]}
    assert facts[row.id].counts_from == seen_at


async def test_it_sums_what_disputes_contest(database: str, factory: Any) -> None:
    """Paid invoices too, since at Stripe a disputed invoice stays paid."""
    account, other = await factory.account(), await factory.account()
    await factory.invoice(account, status=InvoiceStatus.PAID, amount_due=0, disputed_amount=300)
    await factory.invoice(account, disputed_amount=50)
    await factory.invoice(other)
    assert await disputed_amounts([account.id, other.id]) == {account.id: 350}


async def test_it_knows_who_has_an_uncollectible_invoice(database: str, factory: Any) -> None:
    """It is no debt and still blocks new deployments."""
    account, other = await factory.account(), await factory.account()
    for _ in range(2):
        await factory.invoice(account, status=InvoiceStatus.UNCOLLECTIBLE, amount_due=0)
    await factory.invoice(other)
    assert await with_uncollectible([account.id, other.id]) == {account.id}


async def test_it_answers_for_more_accounts_than_one_statement_takes(
    sqlite_database: str, clock: Any, factory: Any
) -> None:
    """Asked about a hundred thousand at once."""
    account = await factory.account()
    await factory.invoice(account)
    assert list(await open_invoices(range(100_000), now=clock.now())) == [account.id]
    assert await open_invoices([], now=clock.now()) == {}
