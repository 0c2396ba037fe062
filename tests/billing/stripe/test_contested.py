"""Disputes and refunds of payments that we charged ourselves, against the simulated account."""

from typing import Any

import pytest

from billing import charges, invoice_parts, ledger
from billing.charge_rows import TopUp
from billing.invoice_parts import OutsidePayment
from billing.models import Account, Invoice, WorkItem, WorkState
from billing.money_back import take_back
from billing.money_models import (
    Card,
    Charge,
    ChargeState,
    LedgerKind,
    LedgerTransaction,
    LedgerTransfer,
    PartSource,
    TransactionKind,
)
from billing.refusal import RefusalCode, RefusalError
from billing.rules.money import Money
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling import Means
from billing.settling_sweep import settle_due
from simulators.stripe.cards import REQUIRES_ACTION


@pytest.fixture
def means(world: Any, policies: Any) -> Means:
    """Stripe's invoices are not settled here."""
    return Means(clock=world.clock, policies=policies)


async def charged(world: Any, amount: int, invoice: Invoice | None = None) -> str:
    """A card of the customer was charged by us; the id of the charge at Stripe."""
    made = await world.gateway.client.v1.payment_intents.create_async(
        {"amount": amount, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
    )
    now = world.clock.now()
    card = await Card.create(
        account=world.account, stripe_payment_method_id=f"pm_{made.id}", fingerprint=made.id, brand="visa",
        last4="4242", exp_month=1, exp_year=2030, added_at=now,
    )  # fmt: skip
    await Charge.create(
        account=world.account, card=card, card_version=1, amount=amount, currency="EUR", on_session=True,
        occasion="test", idempotency_key=made.id, state=ChargeState.SUCCEEDED, created_at=now, updated_at=now,
        stripe_payment_intent_id=made.id, invoice_id=invoice.id if invoice else None,
    )  # fmt: skip
    payment = OutsidePayment(
        account_id=world.account.id, amount=amount, invoice_id=invoice.id if invoice else None,
        origin=LedgerKind.STRIPE, kind=TransactionKind.CARD_CHARGED, fact=("stripe_payment", made.id),
        source=PartSource.CARD, card_id=card.id, description="Payment by card",
    )  # fmt: skip
    await invoice_parts.take(payment, actor="stripe", now=now)
    world.news()
    return str(made.latest_charge)


async def owed(world: Any) -> list[int]:
    """What is owed anew."""
    rows = Invoice.filter(origin=InvoiceOrigin.ADJUSTMENT, status=InvoiceStatus.OPEN).order_by("id")
    return [row.amount_due for row in await rows]


async def test_it_follows_a_dispute_of_an_invoice_of_ours(world, factory, means):
    """Contested while it is open; lost, owed anew, once, however often it is told."""
    invoice = await factory.invoice(world.account, total=500, amount_due=500)
    charge = await charged(world, 500, invoice)
    dispute = world.simulator.money_back.open_dispute(charge)["id"]
    await world.deliver()
    assert (await Invoice.get(id=invoice.id)).disputed_amount == 500
    world.simulator.close_dispute(dispute, won=False)
    news = world.news()
    for events in (news, news[::-1]):
        await world.deliver(events)
        await settle_due(means)
    after = await Invoice.get(id=invoice.id)
    assert (after.status, after.disputed_amount) == (InvoiceStatus.PAID, 0)
    assert await owed(world) == [500]
    assert await ledger.proven() == []


async def test_it_adds_up_the_disputes_of_several_payments(world, factory):
    """Of one invoice: the end of one leaves the other open."""
    invoice = await factory.invoice(world.account, total=500, amount_due=500)
    first, second = [await charged(world, part, invoice) for part in (200, 300)]
    over = world.simulator.money_back.open_dispute(first)["id"]
    await world.deliver()
    world.simulator.money_back.open_dispute(second)
    await world.deliver()
    assert (await Invoice.get(id=invoice.id)).disputed_amount == 500
    world.simulator.close_dispute(over, won=True)
    await world.deliver()
    assert (await Invoice.get(id=invoice.id)).disputed_amount == 300


async def test_it_owes_a_disputed_top_up_anew(world, wallet, means):
    """The balance pays what it has of it."""
    dispute = world.simulator.money_back.open_dispute(await charged(world, 500))["id"]
    world.simulator.close_dispute(dispute, won=False)
    await world.deliver()
    await settle_due(means)
    assert (await owed(world), (await wallet.holds(world.account)).balance) == ([], 0)
    assert await Invoice.exists(origin=InvoiceOrigin.ADJUSTMENT, status=InvoiceStatus.PAID)


async def test_it_takes_a_refunded_top_up_off_the_balance(world, wallet, means):
    """As far as it is there and came from this payment; what was spent stays settled."""
    charge = await charged(world, 500)
    await wallet.cash(world.account, 100)
    for amount in (200, 300):
        world.simulator.money_back.refund({"charge": charge, "amount": amount})
        await world.deliver()
        await settle_due(means)
    assert (await wallet.holds(world.account)).balance == 100
    assert await owed(world) == []
    assert await ledger.proven() == []


async def test_it_books_a_refund_back_that_the_bank_did_not_take(world, wallet, means):
    """The balance has it again, once; a later refund of the same payment finds what the payment had put there."""
    charge = await charged(world, 500)
    await wallet.cash(world.account, 100)
    refund = world.simulator.money_back.refund({"charge": charge, "amount": 300})["id"]
    await world.deliver()
    assert (await wallet.holds(world.account)).balance == 300
    world.simulator.money_back.fail_refund(refund)
    news = world.news()
    for events in (news, news[::-1]):
        await world.deliver(events)
        await settle_due(means)
    assert (await wallet.holds(world.account)).balance == 600
    world.simulator.money_back.refund({"charge": charge, "amount": 500})
    await world.deliver()
    await settle_due(means)
    assert (await wallet.holds(world.account)).balance == 100
    assert await owed(world) == []
    assert await ledger.proven() == []


async def test_it_owes_nothing_for_a_refund_that_came_back(world, factory, wallet, means):
    """Under a policy that reopens debt: what was paid of it meanwhile is on the balance, the rest is void."""
    await Account.filter(id=world.account.id).update(policy="reopening")
    invoice = await factory.invoice(world.account, total=500, amount_due=500)
    refund = world.simulator.money_back.refund({"charge": await charged(world, 500, invoice)})["id"]
    await world.deliver()
    await wallet.cash(world.account, 200)
    await settle_due(means)
    assert (await owed(world), (await wallet.holds(world.account)).balance) == ([300], 0)
    world.simulator.money_back.fail_refund(refund)
    await world.deliver()
    await settle_due(means)
    assert (await owed(world), (await wallet.holds(world.account)).balance) == ([], 200)
    adjustment = await Invoice.get(origin=InvoiceOrigin.ADJUSTMENT)
    assert (adjustment.status, adjustment.amount_due, adjustment.amount_paid) == (InvoiceStatus.VOID, 0, 200)
    assert await _house(LedgerKind.STRIPE) == 500
    assert await _house(LedgerKind.INVOICES_PAID) == -500
    assert await ledger.proven() == []


async def _house(kind: LedgerKind) -> int:
    """What left an account of the house, less what reached it."""
    out = await LedgerTransfer.filter(debit__kind=kind).values_list("amount", flat=True)
    into = await LedgerTransfer.filter(credit__kind=kind).values_list("amount", flat=True)
    return sum(out) - sum(into)  # type: ignore[arg-type]


async def test_it_ignores_what_is_none_of_ours(world):
    """A charge that somebody else made in the same Stripe account."""
    made = await world.gateway.client.v1.payment_intents.create_async(
        {"amount": 500, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
    )
    world.simulator.money_back.refund({"payment_intent": made.id})
    await world.deliver()
    assert await Invoice.all().count() == 0


async def entry_of(world: Any) -> int:
    """The ledger entry that the card's payment brought."""
    return (await LedgerTransaction.get(account_id=world.account.id, source="stripe_payment")).id


async def taken_back(world: Any, means: Means) -> None:
    """Staff take the card's payment back in the ledger, which sends nothing."""
    await take_back(await entry_of(world), reason="a mistake", actor="anna", means=means)


@pytest.mark.parametrize("lost", [False, True])
async def test_it_takes_nothing_more_after_staff_took_the_entry_back(world, wallet, means, lost):
    """Who reverses a payment and then refunds the card at Stripe, or loses its dispute, took the money once."""
    charge = await charged(world, 500)
    await wallet.cash(world.account, 500)
    await taken_back(world, means)
    assert (await wallet.holds(world.account)).balance == 500
    if lost:
        dispute = world.simulator.money_back.open_dispute(charge)["id"]
        world.simulator.close_dispute(dispute, won=False)
    else:
        world.simulator.money_back.refund({"charge": charge})
    await world.deliver()
    await settle_due(means)
    assert ((await wallet.holds(world.account)).balance, await owed(world)) == (500, [])
    assert await _house(LedgerKind.STRIPE) == 0
    assert await ledger.proven() == []


async def test_it_lets_staff_take_nothing_back_that_stripe_gave_back(world, wallet, means):
    """Until the bank has sent the refund back to us: then all of it is there again."""
    charge = await charged(world, 500)
    await wallet.cash(world.account, 500)
    refund = world.simulator.money_back.refund({"charge": charge, "amount": 200})["id"]
    await world.deliver()
    with pytest.raises(RefusalError) as refused:
        await taken_back(world, means)
    assert refused.value.problems[0].code is RefusalCode.CONFLICT
    assert (await wallet.holds(world.account)).balance == 800
    world.simulator.money_back.fail_refund(refund)
    await world.deliver()
    await taken_back(world, means)
    assert ((await wallet.holds(world.account)).balance, await owed(world)) == (500, [])


async def test_it_tells_staff_of_a_dispute_and_of_its_end(world, means):
    """Stripe waits for an answer until a day that nobody else tells them of."""
    charge = await charged(world, 500)
    dispute = world.simulator.money_back.open_dispute(charge)["id"]
    await world.deliver()
    [item] = await WorkItem.all()
    assert (item.kind, item.account_id) == ("stripe.dispute", world.account.id)
    assert dispute in item.detail
    world.simulator.close_dispute(dispute, won=False)
    await world.deliver()
    items = await WorkItem.all().order_by("id")
    assert [(one.kind, one.state) for one in items] == [
        ("stripe.dispute", WorkState.RESOLVED),
        ("stripe.dispute_lost", WorkState.OPEN),
    ]


@pytest.mark.parametrize("first", ["refund", "payment"])
async def test_it_follows_a_refund_whichever_it_hears_of_first(
    world: Any, save_card: Any, card_gateway: Any, wallet: Any, first: str
) -> None:
    """A customer confirms a payment and is refunded at Stripe: both count, in whatever order they are told."""
    await save_card(world)
    world.simulator.answer_next(REQUIRES_ACTION)
    wish = TopUp(account_id=world.account.id, amount=Money(500, "EUR"), idempotency_key="k", actor="ada")
    await charges.top_up(card_gateway, world.clock, wish)
    [payment] = world.simulator.store.oldest_first("payment_intent")
    world.simulator.authenticate(payment["id"])
    world.simulator.money_back.refund({"payment_intent": payment["id"], "amount": 200})
    events = world.news()
    about = [one for one in events if one["type"].startswith(("refund.", "charge.refund"))]
    rest = [one for one in events if one not in about]
    for some in (about, rest) if first == "refund" else (rest, about):
        await world.deliver(some)
    assert (await wallet.holds(world.account)).balance == 300
    assert await ledger.proven() == []
