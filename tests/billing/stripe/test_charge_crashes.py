"""Charging while the process dies at every statement, every commit and every request to Stripe."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from billing import charges, ledger
from billing.charge_rows import LEASE, UNFINISHED, InvoiceCharge, TopUp
from billing.models import Invoice
from billing.money_models import Charge, InvoicePart
from billing.rules.money import Money


async def _recover(world: Any, card_gateway: Any) -> None:
    """What the sweeps of a later process do."""
    for _ in range(2):
        world.clock.advance(LEASE + timedelta(minutes=1))
        await charges.finish_charges(card_gateway, world.clock)


async def _holds(world: Any, made: int) -> None:
    """At most one payment per intent, and every cent that arrived is booked once."""
    every = world.simulator.store.oldest_first("payment_intent")
    keys = [payment["metadata"]["abeyance_charge"] for payment in every]
    assert len(keys) == len(set(keys)) <= made
    arrived = sum(payment["amount_received"] for payment in every)
    purses = (await ledger.purses([world.account.id]))[world.account.id]
    parts = sum(part.amount for part in await InvoicePart.all())
    assert purses.balance + parts == arrived
    assert await Charge.filter(state__in=UNFINISHED).count() == 0
    assert await ledger.proven() == []


async def _survives(
    world: Any, card_gateway: Any, deaths: Any, act: Callable[[int], Any], *, every: int
) -> None:
    for made, place in enumerate(deaths.places(every=every), start=1):
        deaths.arm(place)
        with suppress(deaths.Died):
            await act(made)
        deaths.disarm()
        await _recover(world, card_gateway)
        await _holds(world, made)
    assert {"commit", "request", "execute_query", "execute_insert"} <= deaths.reached


several = pytest.mark.parametrize(
    "every", [23, pytest.param(1, marks=[pytest.mark.nightly, pytest.mark.timeout(900)])], ids=["some", "all"]
)


@several
async def test_it_survives_dying_anywhere_in_a_top_up(
    world: Any, save_card: Any, card_gateway: Any, deaths: Any, every: int
) -> None:
    """The customer is charged at most once per wish, and has the money for it."""
    card = await save_card(world)

    async def act(number: int) -> None:
        wanted = TopUp(
            account_id=world.account.id, amount=Money(2000, "EUR"), idempotency_key=f"wish-{number}",
            card_id=card.id, actor="ada",
        )  # fmt: skip
        await charges.top_up(card_gateway, world.clock, wanted)

    await _survives(world, card_gateway, deaths, act, every=every)


@several
async def test_it_survives_dying_anywhere_in_an_invoices_charge(
    each_world: Any, save_card: Any, card_gateway: Any, factory: Any, deaths: Any, every: int
) -> None:
    """No invoice is paid twice by one intent; one that was not charged stays open."""
    card = await save_card(each_world)

    async def act(number: int) -> None:
        at, deaths.at = deaths.at, 0  # its making is no place to die at
        invoice = await factory.invoice(each_world.account, number=f"A-{number}")
        deaths.arm(at)
        wanted = InvoiceCharge(
            invoice_id=invoice.id, card_id=card.id, amount=500, occasion="schedule:1", actor="system"
        )
        await charges.charge_for_invoice(card_gateway, each_world.clock, wanted)

    await _survives(each_world, card_gateway, deaths, act, every=every)
    for invoice in await Invoice.all():
        assert invoice.amount_paid == sum(part.amount for part in await InvoicePart.filter(invoice=invoice))
