"""Random histories of invoices at Stripe and purses here: paid, credited, void, refunded and disputed, told late.

After every step our books add up and agree with what Stripe says; at the end, telling everything again changes nothing.
"""

import random
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from billing import adjustments, ledger
from billing.models import Invoice
from billing.money_models import InvoicePart, LedgerTransaction, PartSource, Reservation, TransactionKind
from billing.reservations import OPEN
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling import Means, Occasion, settle
from billing.settling_sweep import settle_due
from billing.stripe.settle_gateway import SettleGateway
from simulators.stripe.errors import ApiError

STEPS = 25
AMOUNTS = [100, 300, 500, 1000]
PURSES = (PartSource.VOUCHER, PartSource.BALANCE)


@pytest.fixture
def means(world: Any, policies: Any) -> Means:
    """With Stripe, without cards of ours."""
    return Means(clock=world.clock, policies=policies, stripe=SettleGateway(world.gateway))


class History:
    """What happens, and the news of it that was not told yet."""

    def __init__(self, world: Any, wallet: Any, seed: int) -> None:
        self.world, self.wallet, self.rng = world, wallet, random.Random(seed)
        self.invoices: list[str] = []
        self.disputes: list[str] = []
        self.waiting: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []

    async def step(self) -> None:
        """Let one thing happen; what Stripe refuses does not."""
        rng, stripe = self.rng, self.world.simulator
        amount = rng.choice(AMOUNTS)
        what = rng.choice(
            [
                "invoice",
                "voucher",
                "cash",
                "pay",
                "outside",
                "void",
                "credit",
                "refund",
                "dispute",
                "close",
                "close",
            ]
        )
        if what == "voucher":
            await self.wallet.voucher(self.world.account, amount)
        elif what == "cash":
            await self.wallet.cash(self.world.account, amount)
        elif what == "invoice" or not self.invoices:
            self.invoices.append(self.world.create_invoice(amount))
        else:
            invoice = rng.choice(self.invoices)
            with suppress(ApiError, LookupError):
                match what:
                    case "pay":
                        stripe.pay_invoice(invoice)
                    case "outside":
                        stripe.pay_invoice(invoice, out_of_band=True)
                    case "void":
                        stripe.void_invoice(invoice)
                    case "credit":
                        stripe.credit(invoice, amount)
                    case "refund":
                        stripe.refund(invoice)
                    case "dispute":
                        self.disputes.append(stripe.open_dispute(invoice)["id"])
                    case "close" if self.disputes:
                        stripe.close_dispute(self.disputes.pop(), won=rng.random() < 0.5)
        self.waiting += self.world.news()

    async def tell(self, *, everything: bool = False) -> None:
        """Tell some of the news, or all, in any order and some of it twice."""
        self.rng.shuffle(self.waiting)
        count = len(self.waiting) if everything else self.rng.randint(0, len(self.waiting))
        now, self.waiting = self.waiting[:count], self.waiting[count:]
        self.told += now
        await self.world.deliver([*now, *self.rng.sample(self.told, min(2, len(self.told)))])

    async def rest(self, means: Means) -> None:
        """Settle, and hear of what that caused, until nothing moves."""
        for _ in range(4):
            self.world.clock.advance(timedelta(minutes=10))
            await settle_due(means)
            self.waiting += self.world.news()
            await self.tell(everything=True)


async def _books(world: Any) -> list[str]:
    """Return what must never be, however little was told yet."""
    found = await ledger.proven()
    for row in await Invoice.all():
        sources = PURSES if row.origin is InvoiceOrigin.STRIPE else tuple(PartSource)
        parts = InvoicePart.filter(invoice_id=row.id, source__in=sources)
        if sum(await parts.values_list("amount", flat=True)) > row.total:
            found.append(f"invoice {row.id} took more than its total")
    open_money = sum(await Reservation.filter(state__in=OPEN).values_list("amount", flat=True))
    held = (await ledger.purses([world.account.id]))[world.account.id]
    if held.balance_reserved + held.voucher_reserved != open_money:
        found.append("what is reserved is not what reservations say")
    return found


async def _agrees(world: Any) -> list[str]:
    """Return where the mirror is not as Stripe says, once everything was told."""
    found = []
    for row in await Invoice.filter(origin=InvoiceOrigin.STRIPE):
        there = world.simulator.get("invoice", str(row.stripe_invoice_id))
        if (row.status.lower(), row.status is InvoiceStatus.OPEN and row.amount_due) != (
            there["status"],
            there["status"] == "open" and there["amount_remaining"],
        ):
            found.append(f"{row.stripe_invoice_id}: {row.status} {row.amount_due}, there {there['status']}")
    lost = [one for one in world.simulator.store.oldest_first("dispute") if one["status"] == "lost"]
    refunds = world.simulator.store.oldest_first("refund")
    booked = await LedgerTransaction.filter(kind=TransactionKind.REFUNDED).count()
    if booked > len(lost) + len(refunds):
        found.append(f"{booked} losses for {len(lost)} lost disputes and {len(refunds)} refunds")
    if await Reservation.filter(state__in=OPEN).exclude(invoice_id__in=await _open()).exists():
        found.append("money is kept for an invoice that takes none")
    return found


async def _open() -> list[int]:
    rows: Any = await Invoice.filter(status=InvoiceStatus.OPEN).values_list("id", flat=True)
    return list(rows)


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(4, 60))]
)
async def test_it_agrees_with_stripe_whatever_happens(
    world: Any, wallet: Any, means: Means, seed: int
) -> None:
    """Partial payments from purses among payments, credit notes, refunds, voids and disputes there."""
    assert await lived(world, wallet, means, seed) == []


async def lived(world: Any, wallet: Any, means: Means, seed: int) -> list[str]:
    """Live one history to its end; return the first things that were wrong."""
    history = History(world, wallet, seed)
    for _ in range(STEPS):
        await history.step()
        await history.tell()
        await settle(world.account.id, occasion=Occasion(), means=means)
        if found := await _books(world):
            return found
    await history.rest(means)
    if found := await _books(world) + await _agrees(world):
        return found
    before = (await wallet.holds(world.account), await LedgerTransaction.all().count())
    await world.deliver(history.rng.sample(history.told, len(history.told)))
    await settle_due(means)
    after = (await wallet.holds(world.account), await LedgerTransaction.all().count())
    return [] if after == before else [f"told again: {after} after {before}"]


@pytest.mark.parametrize("seed", [1, 6])
async def test_it_would_see_a_loss_that_counts_twice(
    world: Any, wallet: Any, means: Means, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A loss that is not known by its fact is booked with each piece of news about it."""
    lose = adjustments.lose

    async def forgets(loss: adjustments.Loss) -> bool:
        return False

    async def careless(loss: adjustments.Loss, **given: Any) -> bool:
        return await lose(replace(loss, fact=("careless", str(uuid4()))), **given)

    monkeypatch.setattr(adjustments, "known", forgets)
    monkeypatch.setattr(adjustments, "lose", careless)
    assert await lived(world, wallet, means, seed) != []
