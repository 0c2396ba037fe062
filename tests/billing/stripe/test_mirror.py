"""Every kind of event ends in the mirror that Stripe's own state calls for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.models import Account, AuditEntry, Invoice, Subscription, WorkItem
from billing.money_models import LedgerTransaction, TransactionKind
from billing.rules.terms import InvoiceStatus


async def test_it_mirrors_an_open_invoice_with_its_due_day_in_the_accounts_zone(each_world: Any) -> None:
    """22:30 UTC is the next day in Berlin already, and the debt begins when that day has ended there."""
    due = datetime(2026, 12, 1, 23, 30, tzinfo=UTC)
    key = each_world.create_invoice(1999, due_date=due)
    await each_world.deliver()
    row = await each_world.invoice(key)
    assert (row.status, row.total, row.amount_due, row.currency) == (InvoiceStatus.OPEN, 1999, 1999, "EUR")
    assert (row.due_on.isoformat(), row.due_zone) == ("2026-12-02", "Europe/Berlin")
    assert row.overdue_at == datetime(2026, 12, 2, 23, tzinfo=UTC)
    assert row.overdue_seen_at is None
    assert row.account_id == each_world.account.id
    assert [line["amount"] for line in row.lines] == [1999]


async def test_it_keeps_the_zone_in_which_it_first_saw_an_invoice(world: Any) -> None:
    """Moving house does not move a due date that was agreed on."""
    key = world.create_invoice()
    await world.deliver()
    before = (await world.invoice(key)).overdue_at
    await Account.filter(id=world.account.id).update(time_zone="Pacific/Auckland")
    world.simulator.credit(key, 100)
    await world.deliver()
    row = await world.invoice(key)
    assert (row.amount_due, row.due_zone, row.overdue_at) == (900, "Europe/Berlin", before)


async def test_it_never_counts_a_draft_as_debt(world: Any) -> None:
    """A draft is known, and owed is nothing."""
    key = world.create_invoice(finalize=False)
    await world.deliver()
    row = await world.invoice(key)
    assert (row.status, row.amount_due, row.overdue_seen_at) == (InvoiceStatus.DRAFT, 0, None)


async def test_it_voids_a_draft_that_was_deleted(world: Any) -> None:
    """The row stays and is of no more concern."""
    key = world.create_invoice(finalize=False)
    await world.deliver()
    world.simulator.invoices.delete(key)
    assert (await world.deliver()).dead == 0
    assert (await world.invoice(key)).status is InvoiceStatus.VOID


async def test_it_closes_a_paid_invoice(each_world: Any) -> None:
    """Paid by card: nothing due, the payment listed, the moment kept."""
    key = each_world.create_invoice(1000)
    await each_world.deliver()
    each_world.simulator.pay_invoice(key)
    await each_world.deliver()
    row = await each_world.invoice(key)
    assert (row.status, row.amount_paid, row.amount_due) == (InvoiceStatus.PAID, 1000, 0)
    assert row.paid_at == each_world.clock.now()
    assert row.payments == [{"source": "STRIPE", "amount": 1000, "at": each_world.clock.now().isoformat()}]


async def test_it_lists_a_payment_out_of_band(world: Any) -> None:
    """Marked as paid at Stripe: no payment object, and yet paid."""
    key = world.create_invoice(1000)
    world.simulator.pay_invoice(key, out_of_band=True)
    await world.deliver()
    row = await world.invoice(key)
    assert (row.status, row.payments[0]["source"], row.payments[0]["amount"]) == (
        InvoiceStatus.PAID,
        "OUT_OF_BAND",
        1000,
    )


async def test_it_counts_what_a_payment_record_paid_in_part(world: Any) -> None:
    """The rest stays due."""
    key = world.create_invoice(1000)
    world.simulator.report_payment(key, 400)
    await world.deliver()
    row = await world.invoice(key)
    assert (row.status, row.amount_paid, row.amount_due) == (InvoiceStatus.OPEN, 400, 600)


async def test_it_takes_credit_notes_off_what_is_due(world: Any) -> None:
    """A credit note and its voiding, each from the event of the note alone."""
    key = world.create_invoice(1000)
    await world.deliver()
    note = world.simulator.credit(key, 300)["id"]
    await world.deliver([event for event in world.news() if event["type"].startswith("credit_note.")])
    assert (await world.invoice(key)).amount_due == 700
    world.simulator.void_credit_note(note)
    await world.deliver([event for event in world.news() if event["type"].startswith("credit_note.")])
    assert (await world.invoice(key)).amount_due == 1000


@pytest.mark.parametrize(
    ("act", "status"),
    [("void_invoice", InvoiceStatus.VOID), ("mark_uncollectible", InvoiceStatus.UNCOLLECTIBLE)],
)
async def test_it_closes_what_was_voided_or_given_up(world: Any, act: str, status: InvoiceStatus) -> None:
    """Closed as debt at once, also when it was overdue."""
    key = world.create_invoice()
    world.clock.advance(timedelta(days=5))
    await world.deliver()
    assert (await world.invoice(key)).overdue_seen_at == world.clock.now()
    getattr(world.simulator, act)(key)
    await world.deliver()
    row = await world.invoice(key)
    assert (row.status, row.amount_due, row.overdue_seen_at) == (status, 0, None)


async def test_it_dates_the_debt_of_a_charged_invoice_from_its_first_failed_attempt(each_world: Any) -> None:
    """Not attempted is not overdue; Stripe's own retries move neither the date nor the moment it was seen."""
    key = each_world.charged_invoice()
    await each_world.deliver()
    row = await each_world.invoice(key)
    assert (row.due_on, row.overdue_at) == (None, None)
    each_world.clock.advance(timedelta(hours=3))
    failed_at = each_world.clock.now()
    each_world.simulator.fail_payment(key)
    await each_world.deliver()
    for _ in range(2):
        each_world.clock.advance(timedelta(days=3))
        each_world.simulator.fail_payment(key)
        await each_world.deliver()
    row = await each_world.invoice(key)
    assert (row.overdue_at, row.overdue_seen_at) == (failed_at, failed_at)


async def test_it_dates_the_debt_from_an_attempt_that_waits_for_the_customer(world: Any) -> None:
    """The bank asked for its customer: overdue, without any failed charge."""
    key = world.charged_invoice()
    world.simulator.require_action(key)
    await world.deliver()
    assert (await world.invoice(key)).overdue_at == world.clock.now()


async def test_it_dates_the_debt_from_an_attempt_without_any_card(world: Any) -> None:
    """Stripe counts it as an attempt though nothing was charged."""
    key = world.create_invoice(collection_method="charge_automatically")
    await world.deliver()
    row = await world.invoice(key)
    assert row.overdue_at == world.clock.now()
    assert row.next_attempt_at == world.clock.now() + timedelta(days=3)


async def test_it_counts_a_reopened_invoice_anew(world: Any) -> None:
    """Paid and owed again: the debt counts from the moment it was seen again."""
    key = world.create_invoice()
    world.clock.advance(timedelta(days=3))
    await world.deliver()
    first = (await world.invoice(key)).overdue_seen_at
    note = world.simulator.credit(key, 1000)
    await world.deliver()
    assert (await world.invoice(key)).overdue_seen_at is None
    world.clock.advance(timedelta(days=2))
    stored = world.simulator.store.get("invoice", key)
    with world.simulator.store.change(stored, "invoice.updated"):
        stored |= {"status": "open", "amount_remaining": 1000}
    assert note["status"] == "issued"
    await world.deliver()
    row = await world.invoice(key)
    assert row.overdue_seen_at == world.clock.now() != first
    assert row.overdue_at == first - timedelta(days=3) + timedelta(days=1, hours=14)


async def test_it_keeps_a_refunded_invoice_closed(world: Any) -> None:
    """A refund gives money back: a fact of the books that opens no debt."""
    key = world.create_invoice()
    world.simulator.pay_invoice(key)
    await world.deliver()
    world.simulator.refund(key)
    result = await world.deliver()
    row = await world.invoice(key)
    assert (row.status, row.amount_due) == (InvoiceStatus.PAID, 0)
    assert (result.done, result.dead) == (2, 0)
    assert not await Invoice.filter(amount_due__gt=0).exists()
    assert await LedgerTransaction.filter(kind=TransactionKind.REFUNDED).count() == 1


@pytest.mark.parametrize("won", [True, False])
async def test_it_follows_a_dispute_from_opening_to_its_end(each_world: Any, *, won: bool) -> None:
    """Contested while it is open; staff are told of both ends, and a verdict leaves the invoice paid."""
    key = each_world.create_invoice(1000)
    each_world.simulator.pay_invoice(key)
    await each_world.deliver()
    dispute = each_world.simulator.open_dispute(key, amount=800)["id"]
    await each_world.deliver()
    row = await each_world.invoice(key)
    assert (row.status, row.disputed_amount) == (InvoiceStatus.PAID, 800)
    opened = await WorkItem.get(dedupe_key=f"stripe.dispute:{dispute}")
    assert (opened.state, opened.account_id) == ("OPEN", each_world.account.id)
    each_world.simulator.close_dispute(dispute, won=won)
    await each_world.deliver()
    row = await each_world.invoice(key)
    assert (row.status, row.disputed_amount) == (InvoiceStatus.PAID, 0)
    await opened.refresh_from_db()
    assert opened.state == "RESOLVED"
    assert await WorkItem.exists(dedupe_key=f"stripe.dispute_lost:{dispute}") is not won


async def test_it_flags_a_deleted_customer_and_asks_a_person(each_world: Any) -> None:
    """What is owed stays as it was; a person has to look."""
    key = each_world.create_invoice()
    await each_world.deliver()
    each_world.simulator.delete_customer(each_world.customer)
    await each_world.deliver()
    assert (await Account.get(id=each_world.account.id)).stripe_deleted is True
    assert (
        await WorkItem.filter(kind="stripe.customer_deleted", account_id=each_world.account.id).count() == 1
    )
    assert (await each_world.invoice(key)).status is InvoiceStatus.OPEN


async def test_it_ends_a_subscription_with_the_period_that_was_paid(each_world: Any) -> None:
    """Cancelled in the middle, it covers to the end of the period."""
    each_world.simulator.add_card(each_world.customer)
    made = each_world.simulator.create_subscription(each_world.customer, 500)
    await each_world.deliver()
    row = await Subscription.get(stripe_subscription_id=made["id"])
    assert (row.status, row.ended_at) == ("active", None)
    each_world.clock.advance(timedelta(days=4))
    each_world.simulator.end_subscription(made["id"])
    await each_world.deliver()
    await row.refresh_from_db()
    assert row.status == "canceled"
    assert row.ended_at == row.current_period_end > each_world.clock.now()


async def test_it_stores_an_invoice_in_another_currency_and_asks_a_person_once(world: Any) -> None:
    """Mirrored, since it is true; and a person is told, once, also after the item was dealt with."""
    key = world.create_invoice(1000, currency="usd")
    await world.deliver()
    await WorkItem.filter(kind="stripe.currency").update(
        state="RESOLVED", resolved_at=world.clock.now(), resolved_by="anna"
    )
    world.simulator.credit(key, 100)
    await world.deliver()
    assert (await world.invoice(key)).currency == "USD"
    assert await WorkItem.filter(kind="stripe.currency").count() == 1


@pytest.mark.parametrize("amount", [0, -500])
async def test_it_never_counts_nothing_or_less_as_debt(world: Any, amount: int) -> None:
    """A credit balance is not owed by the customer."""
    key = world.create_invoice(amount)
    world.clock.advance(timedelta(days=9))
    await world.deliver()
    row = await world.invoice(key)
    assert (row.total, row.amount_due, row.overdue_seen_at) == (amount, 0, None)


async def test_it_raises_the_version_once_and_audits_each_change(each_world: Any) -> None:
    """One audit row with what was before and after, the version that followed, and a look by the next pass."""
    key = each_world.create_invoice()
    await each_world.deliver()
    version = await each_world.facts_version()
    each_world.clock.advance(timedelta(minutes=1))
    each_world.simulator.pay_invoice(key)
    await each_world.deliver()
    account = await Account.get(id=each_world.account.id)
    assert account.facts_version == version + 1
    assert account.next_change_at == each_world.clock.now()
    entry = await AuditEntry.filter(kind="invoice.changed").order_by("-id").first()
    assert entry is not None
    assert '"status": "OPEN"' in str(entry.before)
    assert '"status": "PAID"' in str(entry.after)
    assert (entry.actor, entry.account_id, entry.facts_version) == ("stripe", account.id, version + 1)
