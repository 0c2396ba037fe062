"""One process of the race for charges: `top-up` the same wishes, `invoice` the same invoices, or do it `naively`.

Run as a program with the database's URL, the simulator's, what to do, how many rounds, and a number of its own; waits
for a line on standard input, so that all begin at once.
"""

import asyncio
import sys
from datetime import UTC, datetime
from uuid import uuid4

from api.database import open_database
from billing import charges
from billing.charge_rows import InvoiceCharge, TopUp
from billing.clock import ManualClock
from billing.models import Account, Invoice
from billing.money_models import Card, Charge
from billing.rules.money import Money
from billing.stripe.card_gateway import CardGateway, ChargeRequest
from billing.stripe.gateway import StripeGateway

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
AMOUNT = Money(2000, "EUR")
KEY = "sk_test_race"


async def _naively(gateway: CardGateway, account: Account, card: Card, key: str) -> None:
    """Look whether it was done, charge, write it down."""
    if await Charge.exists(occasion=key):
        return
    request = ChargeRequest(
        key=str(uuid4()),
        customer_id=str(account.stripe_customer_id),
        payment_method_id=card.stripe_payment_method_id,
        amount=AMOUNT.minor,
        currency=AMOUNT.currency,
        on_session=True,
        description="naive",
    )
    payment = await gateway.charge(request)
    await Charge.create(
        account_id=account.id, card_id=card.id, card_version=1, amount=AMOUNT.minor, currency="EUR", on_session=True,
        occasion=key, idempotency_key=request.key, state="SUCCEEDED", stripe_payment_intent_id=payment,
        created_at=NOW, updated_at=NOW,
    )  # fmt: skip


async def _round(what: str, gateway: CardGateway, number: int, mine: str) -> None:
    clock = ManualClock(NOW)
    account, card = await Account.get(), await Card.get()
    if what == "top-up":
        wanted = TopUp(account_id=account.id, amount=AMOUNT, idempotency_key=f"round-{number}", actor="ada")
        await charges.top_up(gateway, clock, wanted)
    elif what == "naively":
        await _naively(gateway, account, card, f"round-{number}")
    else:
        invoice = (await Invoice.all().order_by("id").offset(number).limit(1))[0]
        asked = InvoiceCharge(
            invoice_id=invoice.id, card_id=card.id, amount=500, occasion=f"fact:{mine}", actor="system"
        )
        await charges.charge_for_invoice(gateway, clock, asked)


async def _main(url: str, stripe_url: str, what: str, rounds: str, mine: str) -> None:
    gateway = StripeGateway(KEY, api_base=stripe_url)
    async with open_database(url):
        await Account.first()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for number in range(int(rounds)):
            await _round(what, CardGateway(gateway), number, mine)
    await gateway.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
