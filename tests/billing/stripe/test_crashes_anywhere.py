"""A whole turn of settling that dies anywhere: purses, set-aside money, Stripe's invoice and a card, then the sweep.

The places are found by running, not by a list: every statement, every commit and every request.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from billing import charges, ledger, reservations, settling
from billing.charge_rows import UNFINISHED
from billing.models import Invoice
from billing.money_models import Charge, InvoicePart, Reservation
from billing.settling import Means, Occasion, settle
from billing.settling_sweep import settle_due
from billing.stripe.settle_gateway import SettleGateway

VOUCHER, CASH = 300, 1400
#: Of ours, paid by both purses; of Stripe, paid by the balance; of ours, left to the card.
PURSES, AT_STRIPE, CARD = 700, 1000, 1500


@pytest.fixture
def means(world: Any, policies: Any, card_gateway: Any) -> Means:
    """With Stripe and with cards."""
    ask = partial(charges.charge_for_invoice, card_gateway, world.clock)
    return Means(clock=world.clock, policies=policies, stripe=SettleGateway(world.gateway), ask_card=ask)


async def owe(world: Any, factory: Any, wallet: Any) -> list[int]:
    """Let three invoices be open, and the purses hold what pays two of them; return the invoices."""
    stripe_id = world.create_invoice(AT_STRIPE)
    await world.deliver()
    await wallet.voucher(world.account, VOUCHER)
    await wallet.cash(world.account, CASH)
    first, last = [
        await factory.invoice(world.account, total=total, amount_due=total) for total in (PURSES, CARD)
    ]
    return [first.id, (await world.invoice(stripe_id)).id, last.id]


async def recover(world: Any, means: Means, card_gateway: Any) -> None:
    """What the sweeps of a later process do."""
    for _ in range(2):
        world.clock.advance(timedelta(minutes=10))
        await charges.finish_charges(card_gateway, world.clock)
        await settle_due(means)
        await world.deliver()


async def wrong(world: Any, invoices: list[int]) -> list[str]:
    """Return everything that is not exact."""
    found = [
        f"invoice {row.id} is {row.status}"
        for row in await Invoice.filter(id__in=invoices, status__not="PAID")
    ]
    held = (await ledger.purses([world.account.id]))[world.account.id]
    if held != ledger.Purses(currency="EUR"):
        found.append(f"left in the purses: {held}")
    if await Reservation.filter(state__in=reservations.OPEN).exists():
        found.append("a reservation is left behind")
    if await Charge.filter(state__in=UNFINISHED).exists():
        found.append("a charge is left behind")
    for invoice in await Invoice.filter(id__in=invoices):
        parts = sum(await InvoicePart.filter(invoice_id=invoice.id).values_list("amount", flat=True))
        if parts != invoice.total:
            found.append(f"{parts} paid of {invoice.total}")
    every = world.simulator.store.oldest_first("payment_intent")
    keys = [one["metadata"]["abeyance_charge"] for one in every if "abeyance_charge" in one["metadata"]]
    if len(keys) != len(set(keys)):
        found.append("an intent was charged twice")
    overpaid = [one["id"] for one in world.simulator.store.oldest_first("invoice") if one["amount_overpaid"]]
    return found + [f"{ident} is overpaid" for ident in overpaid] + await ledger.proven()


async def search(
    deaths: Any, world: Any, means: Means, card_gateway: Any, owing: Any, *, every: int
) -> list[str]:
    """Die at one place after the other; return what was wrong after the sweeps, and where."""
    found = []
    for place in deaths.places(every=every):
        invoices = await owing()
        deaths.arm(place)
        with suppress(deaths.Died):
            await settle(world.account.id, occasion=Occasion(), means=means)
        deaths.disarm()
        await recover(world, means, card_gateway)
        found += [
            f"{place} {'after' if deaths.after else 'before'}: {one}" for one in await wrong(world, invoices)
        ]
        if found:
            break
    return found


@pytest.mark.parametrize(
    "every", [29, pytest.param(1, marks=[pytest.mark.nightly, pytest.mark.timeout(900)])], ids=["some", "all"]
)
async def test_it_ends_exactly_wherever_it_dies(
    deaths: Any,
    world: Any,
    means: Means,
    card_gateway: Any,
    save_card: Any,
    factory: Any,
    wallet: Any,
    every: int,
) -> None:
    """Each invoice is paid once and whole, each intent charged once, and nothing is left behind."""
    await save_card(world)
    owing = partial(owe, world, factory, wallet)
    assert await search(deaths, world, means, card_gateway, owing, every=every) == []
    assert {"commit", "request", "execute_query", "execute_insert"} <= deaths.reached


@asynccontextmanager
async def _no_transaction() -> AsyncIterator[None]:
    yield


async def test_it_would_be_noticed_if_a_share_were_no_transaction(
    deaths: Any,
    world: Any,
    means: Means,
    card_gateway: Any,
    save_card: Any,
    factory: Any,
    wallet: Any,
    monkeypatch: Any,
) -> None:
    """Booked without its part, money is gone: the search above finds it."""
    await save_card(world)
    monkeypatch.setattr(settling, "in_transaction", _no_transaction)
    owing = partial(owe, world, factory, wallet)
    found = await search(deaths, world, means, card_gateway, owing, every=3)
    assert any("paid of 700" in one for one in found), found
