"""A month from its price to its invoice, unpaid, suspended for, paid by a card that is saved, and given back."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from api.models import Role
from api.runtime import Pace
from billing import ledger

START = datetime(2026, 11, 20, 9, tzinfo=UTC)
#: The end of November and of the day on which its invoice is due, in Zurich.
MONTH_END = datetime(2026, 11, 30, 23, tzinfo=UTC)
OVERDUE = datetime(2026, 12, 15, 23, tzinfo=UTC)
BRISK = Pace(tick=0.5, observe=15.0, sweep=1.0, scale=20.0)
INVOICES = """
query($id: String!) { account(externalId: $id) { invoices(first: 5) { edges { node {
  number origin status total { amount currency } amountDue { amount } dueOn
} } } } }
"""


class LeapingClock:
    """Runs like any clock and can be put forward; it is put forward while the product is down."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._ahead = timedelta()

    def now(self) -> datetime:
        """The present instant of the story."""
        return START + self._ahead + timedelta(seconds=time.monotonic() - self._began)

    def leap_to(self, instant: datetime) -> None:
        """Let it be `instant`."""
        self._ahead += instant - self.now()


async def invoices(tale: Any) -> list[tuple[str, str, str]]:
    """Return origin, state and what is due of each invoice, as the portal shows them."""
    found = await tale.scene.portal(Role.CUSTOMER).ask(INVOICES, {"id": "acct-story"})
    nodes = [edge["node"] for edge in found["account"]["invoices"]["edges"]]
    return [(node["origin"], node["status"], node["amountDue"]["amount"]) for node in nodes]


async def redeems(tale: Any, euros: str) -> None:
    """Let the customer redeem a voucher that staff issued."""
    batch = {"count": 1, "value": {"amount": euros, "currency": "EUR"}, "idempotencyKey": f"voucher-{euros}"}
    issued = await tale.scene.portal(Role.ADMIN).change("vouchersIssue", "VouchersIssueInput", batch, "codes")
    typed = {"code": issued["codes"][0].lower(), "idempotencyKey": f"redeem-{euros}"}
    await tale.scene.portal(Role.CUSTOMER).change(
        "voucherRedeem", "VoucherRedeemInput", typed, "account { id }"
    )


async def saves_card(tale: Any) -> None:
    """Let the customer enter a card in the browser and close it: only Stripe tells us of the card."""
    begun = await tale.scene.portal(Role.CUSTOMER).change(
        "cardSetupBegin", "CardSetupBeginInput", {}, "setupIntentId"
    )
    tale.world.stripe.save_card(begun["setupIntentId"])


async def test_a_month_is_billed_suspended_for_and_given_back_when_paid(theatre: Any) -> None:
    """By the product's own turns alone: nobody asks it to issue, to settle, to charge or to restore."""
    clock = LeapingClock()
    plot = theatre.plot(ladders=theatre.stops, pace=BRISK, clock=clock)
    async with theatre.world(plot) as world:
        async with theatre.opened(plot, world) as tale:
            tenth = {"sku": "small", "hourly": {"amount": "0.10", "currency": "EUR"}}
            await tale.scene.portal(Role.ADMIN).change("priceSet", "PriceSetInput", tenth, "price { sku }")
            await tale.begin(guests=(1101,))
            before = tale.essence()

        clock.leap_to(MONTH_END + timedelta(hours=1))
        async with theatre.opened(plot, world, tale) as tale:
            letter = "Your invoice 2026-000001: €25.40"
            await tale.until("the invoice arrives", lambda: letter in tale.letters())
            assert await invoices(tale) == [("USAGE", "OPEN", "25.40")]
            await redeems(tale, "10.00")

            async def partly_paid() -> bool:
                return await invoices(tale) == [("USAGE", "OPEN", "15.40")]

            await tale.until("the voucher pays its part", partly_paid)
            assert await tale.stage() == "CURRENT"

        clock.leap_to(OVERDUE + timedelta(minutes=1))
        async with theatre.opened(plot, world, tale) as tale:
            await tale.reaches("SUSPENDED", settled=True)
            assert tale.power(1101) == "stopped"
            assert await tale.held_back() == {}
            await saves_card(tale)
            await tale.reaches("CURRENT", settled=True)
            assert await invoices(tale) == [("USAGE", "PAID", "0.00")]
            await tale.until("everything is as it was", lambda: tale.essence() == before)
            assert (tale.asked(1101, "shutdown"), tale.asked(1101, "start")) == (1, 1)
            payments = world.stripe.store.oldest_first("payment_intent")
            assert [(one["amount_received"], one["status"]) for one in payments] == [(1540, "succeeded")]
            assert await ledger.proven() == []
