"""Disputes, refunds and forgiving of invoices of Stripe, against the simulated account."""

from datetime import timedelta
from typing import Any

import pytest

from billing import ledger
from billing.adjustments import issue_drafts
from billing.forgiving import forgive
from billing.models import Account, AuditEntry, Invoice, Notice
from billing.money_back import BankPayment, record_payment
from billing.money_models import LedgerKind, LedgerTransfer, TransactionKind
from billing.notice_recheck import still_asks
from billing.refusal import RefusalCode, RefusalError
from billing.rules.money import Money
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling import Means, Occasion, settle
from billing.settling_sweep import settle_due
from billing.stripe.settle_gateway import SettleGateway
from simulators.stripe.outage import Trouble


@pytest.fixture
def means(world: Any, policies: Any) -> Means:
    """With Stripe, without cards."""
    return Means(clock=world.clock, policies=policies, stripe=SettleGateway(world.gateway))


async def adjustments() -> list[Invoice]:
    """The invoices over money that was taken back."""
    return await Invoice.filter(origin=InvoiceOrigin.ADJUSTMENT).order_by("id")


async def paid_invoice(world: Any, amount: int = 1000) -> str:
    """An invoice that a card has paid."""
    stripe_id = world.charged_invoice(amount)
    world.simulator.pay_invoice(stripe_id)
    await world.deliver()
    return str(stripe_id)


async def test_it_makes_one_invoice_over_a_lost_dispute(world, wallet, means):
    """Over the whole amount, with its own grace, however often the events come; the balance pays its part."""
    stripe_id = await paid_invoice(world)
    await wallet.cash(world.account, 300)
    await wallet.voucher(world.account, 900)
    dispute = world.simulator.open_dispute(stripe_id, amount=800)
    await world.deliver()
    assert (await world.invoice(stripe_id)).disputed_amount == 800
    world.simulator.close_dispute(dispute["id"], won=False)
    news = world.news()
    await world.deliver(news)
    await world.deliver(news[::-1])
    await settle_due(means)
    [invoice] = await adjustments()
    assert (invoice.status, invoice.total, invoice.amount_due) == (InvoiceStatus.OPEN, 800, 500)
    assert invoice.overdue_at == world.clock.now() + timedelta(hours=72)
    assert (await world.invoice(stripe_id)).status is InvoiceStatus.PAID
    assert (await world.invoice(stripe_id)).disputed_amount == 0
    assert await wallet.holds(world.account) == ledger.Purses(currency="EUR", voucher=900)
    await settle_due(means)
    assert len(await adjustments()) == 1
    assert await ledger.proven() == []


async def test_it_owes_nothing_after_a_dispute_that_was_won(world, means):
    """All is as before."""
    stripe_id = await paid_invoice(world)
    dispute = world.simulator.open_dispute(stripe_id)
    world.simulator.close_dispute(dispute["id"], won=True)
    await world.deliver()
    await settle_due(means)
    assert await adjustments() == []


async def test_it_keeps_the_debt_of_a_refund_closed(world, means):
    """The published default: the draft is dropped."""
    stripe_id = await paid_invoice(world)
    world.simulator.refund(stripe_id, 400)
    await world.deliver()
    assert [row.status for row in await adjustments()] == [InvoiceStatus.DRAFT]
    await settle_due(means)
    assert [row.status for row in await adjustments()] == [InvoiceStatus.VOID]


async def test_it_owes_a_refund_again_where_the_policy_says_so(world, means):
    """Once for each refund, over what was given back."""
    await Account.filter(id=world.account.id).update(policy="reopening")
    stripe_id = await paid_invoice(world)
    for amount in (400, 100):
        world.simulator.refund(stripe_id, amount)
        await world.deliver()
        await settle_due(means)
    assert [(row.status, row.amount_due) for row in await adjustments()] == [
        (InvoiceStatus.OPEN, 400),
        (InvoiceStatus.OPEN, 100),
    ]


@pytest.mark.parametrize("forgives", [False, True])
async def test_it_calls_off_what_a_refund_would_have_owed_again(world, wallet, means, forgives):
    """The bank sent the refund of an invoice of Stripe back to us; what was forgiven of it is no loss any more."""
    await Account.filter(id=world.account.id).update(policy="reopening")
    stripe_id = await paid_invoice(world)
    world.simulator.refund(stripe_id, 400)
    await world.deliver()
    await settle_due(means)
    [invoice] = await adjustments()
    if forgives:
        await forgive(invoice.id, reason="sorry", actor="anna", means=means)
    refund = next(iter(world.simulator.store.kinds["refund"]))
    world.simulator.money_back.fail_refund(refund)
    for _ in range(2):
        await world.deliver()
        await settle_due(means)
    [invoice] = await adjustments()
    assert (invoice.status, invoice.amount_due) == (
        InvoiceStatus.PAID if forgives else InvoiceStatus.VOID,
        0,
    )
    moved = LedgerTransfer.filter(transaction__kind=TransactionKind.REVERSED).select_related("credit")
    kind = LedgerKind.WRITTEN_OFF if forgives else LedgerKind.INVOICES_PAID
    assert [(row.credit.kind, row.amount) for row in await moved] == [(kind, 400)]
    assert await ledger.proven() == []


async def test_it_drops_the_draft_of_a_refund_that_came_back(world, means):
    """Before the sweep had looked at it."""
    stripe_id = await paid_invoice(world)
    world.simulator.refund(stripe_id, 400)
    await world.deliver()
    world.simulator.money_back.fail_refund(next(iter(world.simulator.store.kinds["refund"])))
    await world.deliver()
    assert [row.status for row in await adjustments()] == [InvoiceStatus.VOID]


async def test_it_mails_what_is_owed_anew(world, wallet, means, clock):
    """With its number, amount and day; also when the balance has paid it by then."""
    stripe_id = await paid_invoice(world)
    await wallet.cash(world.account, 2000)
    dispute = world.simulator.open_dispute(stripe_id, amount=800)
    world.simulator.close_dispute(dispute["id"], won=False)
    await world.deliver()
    await settle_due(means)
    [invoice] = await adjustments()
    notice = await Notice.get(template="adjustment_issued")
    assert (notice.stage, notice.invoice_ids) == (None, [invoice.id])
    assert f"{invoice.number}: €8.00, due 23 November 2026" in notice.body
    assert await still_asks(notice, clock.now())
    await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.VOID)
    assert not await still_asks(notice, clock.now())


async def test_it_issues_a_draft_once(world, means):
    """The second turn finds nothing."""
    stripe_id = await paid_invoice(world)
    dispute = world.simulator.open_dispute(stripe_id)
    world.simulator.close_dispute(dispute["id"], won=False)
    await world.deliver()
    assert await issue_drafts(world.clock, means.policies) == {world.account.id}
    assert await issue_drafts(world.clock, means.policies) == set()


async def test_it_names_a_stripe_invoice_on_a_transfer(world, means):
    """The money is recorded here, and Stripe is told of it."""
    small = world.create_invoice(100)
    named = world.create_invoice(900)
    await world.deliver()
    invoice = await world.invoice(named)
    asked = BankPayment(
        account_id=world.account.id, amount=Money(950, "EUR"), reference="RF18",
        received_at=world.clock.now(), invoice_id=invoice.id,
    )  # fmt: skip
    await record_payment(asked, actor="anna", means=means)
    assert (await world.invoice(named)).status is InvoiceStatus.PAID
    assert (await world.invoice(small)).amount_due == 50


# -- forgiving


async def test_it_voids_an_invoice_of_stripe_on_which_nothing_was_paid(world, wallet, means):
    """At Stripe first; here it follows, with the reason."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    forgiven = await forgive((await world.invoice(stripe_id)).id, reason="sorry", actor="anna", means=means)
    assert (forgiven.status, forgiven.amount_due) == (InvoiceStatus.VOID, 0)
    assert world.simulator.get("invoice", stripe_id)["status"] == "void"
    assert await AuditEntry.exists(kind="invoice.forgiven", actor="anna", reason="sorry")


async def test_it_credits_the_rest_of_an_invoice_of_stripe_that_was_paid_in_part(world, wallet, means):
    """What was paid stays paid."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 400)
    await settle(world.account.id, occasion=Occasion(), means=means)
    forgiven = await forgive((await world.invoice(stripe_id)).id, reason="sorry", actor="anna", means=means)
    assert (forgiven.status, forgiven.amount_paid, forgiven.amount_due) == (InvoiceStatus.PAID, 400, 0)
    at_stripe = world.simulator.get("invoice", stripe_id)
    assert (at_stripe["status"], at_stripe["pre_payment_credit_notes_amount"]) == ("paid", 600)


async def test_it_changes_nothing_when_stripe_does_not_answer(world, means):
    """The refusal says so; the invoice is open on both sides."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    world.simulator.outage.begin(Trouble.UNAVAILABLE)
    with pytest.raises(RefusalError) as refused:
        await forgive((await world.invoice(stripe_id)).id, reason="sorry", actor="anna", means=means)
    assert refused.value.problems[0].code is RefusalCode.PROVIDER_UNAVAILABLE
    assert (await world.invoice(stripe_id)).amount_due == 1000
    assert world.simulator.get("invoice", stripe_id)["status"] == "open"


async def test_it_does_not_forgive_while_money_is_on_its_way(world, wallet, means):
    """Otherwise the customer would have paid what is forgiven."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 400)
    world.simulator.outage.begin(Trouble.UNAVAILABLE)
    await settle(world.account.id, occasion=Occasion(), means=means)
    world.simulator.outage.end()
    with pytest.raises(RefusalError) as refused:
        await forgive((await world.invoice(stripe_id)).id, reason="sorry", actor="anna", means=means)
    assert refused.value.problems[0].code is RefusalCode.CONFLICT


async def test_it_writes_off_an_invoice_of_ours(world, factory, wallet, means):
    """What was paid stays paid, and what was set aside is the customer's again."""
    await Account.filter(id=world.account.id).update(policy="whole")
    invoice = await factory.invoice(world.account, total=500, amount_due=500)
    await wallet.cash(world.account, 200)
    await settle(world.account.id, occasion=Occasion(), means=means)
    forgiven = await forgive(invoice.id, reason="sorry", actor="anna", means=means)
    assert (forgiven.status, forgiven.amount_paid, forgiven.amount_due) == (InvoiceStatus.PAID, 0, 0)
    assert await wallet.holds(world.account) == ledger.Purses(currency="EUR", balance=200)
    with pytest.raises(RefusalError) as refused:
        await forgive(invoice.id, reason="sorry", actor="anna", means=means)
    assert refused.value.problems[0].code is RefusalCode.INVOICE_NOT_OPEN
    assert await ledger.proven() == []
