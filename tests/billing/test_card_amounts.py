"""What a card is asked for when Stripe does not take exactly what is owed."""

from typing import Any

import pytest

from billing import charge_rows, ledger
from billing.charge_rows import InvoiceCharge, NotAskedError
from billing.charges import Outcome
from billing.models import Invoice
from billing.money_models import InvoicePart, PartSource
from billing.rules.terms import InvoiceStatus
from billing.settling import Means, Occasion, settle
from billing.stripe.card_gateway import PaymentReading, PaymentState


@pytest.mark.parametrize(
    ("currency", "due", "left"),
    [
        ("KWD", 12_345, 0),
        ("KWD", 9, 9),
        ("EUR", 100_000_049, 50),
        ("EUR", 49, 49),
        ("EUR", 50, 0),
        ("JPY", 99_999_999, 0),
    ],
)
async def test_it_asks_for_as_much_as_a_card_can_be_charged(
    sqlite_database: str, clock: Any, policies: Any, factory: Any, currency: str, due: int, left: int
) -> None:
    """What is below the steps in which cards are charged is let off once a card has paid the rest; nothing else is."""
    account = await factory.account(currency=currency)
    await factory.card(account)
    invoice = await factory.invoice(account, total=due, amount_due=due, currency=currency)

    async def ask(wanted: InvoiceCharge) -> Outcome:
        try:
            charge = await charge_rows.intend_for_invoice(wanted, now=clock.now())
        except NotAskedError as error:
            return Outcome(charge=None, not_asked=error.why)
        payment = PaymentReading(
            id="pi_1", customer_id=None, state=PaymentState.SUCCEEDED, amount_received=charge.amount,
            currency=currency, payment_method_id=None, decline_code=None, advice_code=None,
            charge_key=charge.idempotency_key, client_secret=None,
        )  # fmt: skip
        return Outcome(charge=await charge_rows.apply(charge, payment, now=clock.now()))

    await settle(account.id, occasion=Occasion(), means=Means(clock=clock, policies=policies, ask_card=ask))
    found = await Invoice.get(id=invoice.id)
    assert (found.amount_due, found.status is InvoiceStatus.PAID) == (left, left == 0)
    parts = InvoicePart.filter(invoice_id=invoice.id, source=PartSource.WRITE_OFF)
    assert await parts.values_list("amount", flat=True) == ([5] if due == 12_345 else [])
    assert await ledger.proven() == []
