"""What an invoice shows: its lines with servers and rates, and who paid what with which card."""

from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from billing.money_models import InvoiceLine, InvoicePart, PartSource
from billing.rules.terms import InvoiceOrigin, InvoiceStatus

pytestmark = pytest.mark.usefixtures("sqlite_database")

QUERY = """query($id: ID!) { invoice(id: $id) { payable
  lines { description server { externalId } sku hours unitPrice { amount } amount { amount } }
  payments { source amount { amount } card { last4 usable } } } }"""


async def _asked(door: Any, invoice: Any, role: Role = Role.SUPPORT, account: Any = None) -> dict[str, Any]:
    of = account.external_id if account else None
    data = await door.data(role, QUERY, {"id": ids.global_id("Invoice", invoice.id)}, account=of)
    shown: dict[str, Any] = data["invoice"]
    return shown


async def _part(invoice: Any, source: PartSource, amount: int, **given: Any) -> None:
    given = {"at": invoice.issued_at, "source_id": f"{source}-{amount}"} | given
    await InvoicePart.create(invoice=invoice, source=source, amount=amount, **given)


async def test_an_invoice_of_ours_shows_its_lines(door: Any, factory: Any) -> None:
    """It names server, size, hours and rate; a server that went to somebody else is named by the text alone."""
    account = await factory.account()
    mine, gone = await factory.server(account), await factory.server()
    invoice = await factory.invoice(account)
    line = {"invoice": invoice, "sku": "small", "seconds": 5000, "rate": 684_932, "amount": 1}
    await InvoiceLine.create(**line, server_id=mine.id, description="web (small)")
    await InvoiceLine.create(**line, server_id=gone.id, description="mail (small)")
    first, second = (await _asked(door, invoice, Role.CUSTOMER, account))["lines"]
    assert first == {
        "description": "web (small)", "server": {"externalId": mine.external_id}, "sku": "small",
        "hours": "1.3889", "unitPrice": {"amount": "0.00684932"}, "amount": {"amount": "0.01"},
    }  # fmt: skip
    assert (second["description"], second["server"]) == ("mail (small)", None)


async def test_an_invoice_of_ours_shows_what_paid_it(door: Any, factory: Any) -> None:
    """It names purses and the card, a removed one too, oldest first."""
    account = await factory.account()
    card = await factory.card(account, last4="4444", removed_at=door.clock.now())
    invoice = await factory.invoice(account)
    later = invoice.issued_at + timedelta(hours=1)
    await _part(invoice, PartSource.CARD, 300, card_id=card.id, at=later)
    await _part(invoice, PartSource.VOUCHER, 200)
    assert (await _asked(door, invoice))["payments"] == [
        {"source": "VOUCHER", "amount": {"amount": "2.00"}, "card": None},
        {"source": "CARD", "amount": {"amount": "3.00"}, "card": {"last4": "4444", "usable": False}},
    ]


@pytest.mark.parametrize(
    ("outside", "from_purses", "shown"),
    [
        (200, [200], [("BALANCE", "2.00")]),
        (500, [200], [("BALANCE", "2.00"), ("OUT_OF_BAND", "3.00")]),
        # Stripe does not list it yet: its list is shown, and nothing twice.
        (100, [200], [("OUT_OF_BAND", "1.00")]),
        (500, [], [("OUT_OF_BAND", "5.00")]),
    ],
)
async def test_money_of_a_purse_takes_the_place_of_money_from_outside_stripe(
    door: Any, factory: Any, outside: int, from_purses: list[int], shown: list[tuple[str, str]]
) -> None:
    """It shows each amount once, by the purse that paid it where that is known."""
    account = await factory.account()
    at = door.clock.now().isoformat()
    payments = [
        {"source": "STRIPE", "amount": 700, "at": at}, {"source": "OUT_OF_BAND", "amount": outside, "at": at}
    ]  # fmt: skip
    invoice = await factory.invoice(account, origin=InvoiceOrigin.STRIPE, total=1200, payments=payments)
    for amount in from_purses:
        await _part(invoice, PartSource.BALANCE, amount, at=door.clock.now())
    told = (await _asked(door, invoice))["payments"]
    assert sorted((one["source"], one["amount"]["amount"]) for one in told) == sorted(
        [*shown, ("STRIPE", "7.00")]
    )


async def test_a_charge_of_ours_names_its_card_on_an_invoice_of_stripe(door: Any, factory: Any) -> None:
    """It tells our card from one that Stripe charged by itself; a charge that failed paid nothing."""
    account = await factory.account()
    ours, refused = await factory.card(account, last4="1111"), await factory.card(account, last4="2222")
    at = door.clock.now().isoformat()
    payments = [{"source": "STRIPE", "amount": amount, "at": at} for amount in (700, 500)]
    invoice = await factory.invoice(account, origin=InvoiceOrigin.STRIPE, total=1200, payments=payments)
    paid = {"invoice_id": invoice.id, "amount": 500}
    await factory.charge(refused, **paid, state="FAILED")
    await factory.charge(ours, **paid, state="SUCCEEDED", stripe_payment_intent_id="pi_1")
    told = [(one["source"], one["card"]) for one in (await _asked(door, invoice))["payments"]]
    assert told == [("STRIPE", None), ("CARD", {"last4": "1111", "usable": True})]


@pytest.mark.parametrize(
    ("given", "payable"),
    [
        ({}, True),
        ({"status": InvoiceStatus.PAID, "amount_due": 0}, False),
        ({"status": InvoiceStatus.VOID, "amount_due": 0}, False),
        ({"status": InvoiceStatus.UNCOLLECTIBLE, "amount_due": 0}, False),
        ({"currency": "USD"}, False),
        # Stripe is off here: its invoices cannot be paid through us.
        ({"origin": InvoiceOrigin.STRIPE}, False),
    ],
)
async def test_it_tells_whether_an_invoice_may_be_paid_here(
    door: Any, factory: Any, given: dict[str, Any], payable: bool
) -> None:
    """It may while it is open, in the account's currency, and something can take the money."""
    invoice = await factory.invoice(await factory.account(), **given)
    assert (await _asked(door, invoice))["payable"] is payable
