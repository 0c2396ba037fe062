"""Settling an invoice of Stripe while the process dies at every statement, commit and request, before and after it."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from billing import ledger, reservations, settling_stripe
from billing.money_models import Reservation, ReservationState
from billing.rules.terms import InvoiceStatus
from billing.settling import Means, Occasion, settle
from billing.settling_sweep import settle_due
from billing.stripe.settle_gateway import SettleGateway

VOUCHER, CASH = 300, 700


async def _survives(world: Any, means: Means, wallet: Any, deaths: Any, *, every: int) -> None:
    """Let each settling die at another place, found by running, and the sweep come after it."""
    for place in deaths.places(every=every):
        stripe_id = world.create_invoice(VOUCHER + CASH)
        await world.deliver()
        await wallet.voucher(world.account, VOUCHER)
        await wallet.cash(world.account, CASH)
        deaths.arm(place)
        with suppress(deaths.Died):
            await settle(world.account.id, occasion=Occasion(), means=means)
        deaths.disarm()
        world.clock.advance(timedelta(minutes=10))
        await settle_due(means)
        await _in_order(world, wallet, stripe_id)
    assert {"commit", "request", "execute_query", "execute_insert"} <= deaths.reached


async def _in_order(world: Any, wallet: Any, stripe_id: str) -> None:
    at_stripe = world.simulator.get("invoice", stripe_id)
    assert (at_stripe["status"], at_stripe["amount_overpaid"]) == ("paid", 0)
    assert (await world.invoice(stripe_id)).status is InvoiceStatus.PAID
    assert await wallet.holds(world.account) == ledger.Purses(currency="EUR")
    assert await Reservation.filter(state__in=reservations.OPEN).count() == 0
    records = world.simulator.store.kinds.get("payment_record", {})
    booked = await Reservation.filter(
        state=ReservationState.BOOKED, stripe_payment_record_id__not_isnull=True
    )
    assert set(records) == {row.stripe_payment_record_id for row in booked}
    assert await ledger.proven() == []


@pytest.fixture
def means(world: Any, policies: Any) -> Means:
    """With Stripe, without cards."""
    return Means(clock=world.clock, policies=policies, stripe=SettleGateway(world.gateway))


@pytest.mark.parametrize("out_of_band", [False, True], ids=["records", "out-of-band"])
@pytest.mark.parametrize(
    "every", [29, pytest.param(1, marks=[pytest.mark.nightly, pytest.mark.timeout(900)])], ids=["some", "all"]
)
async def test_it_tells_stripe_once_wherever_it_dies(world, wallet, means, deaths, out_of_band, every):
    """One payment record per reservation, or the whole at once; all of it booked, nothing left behind."""
    if out_of_band:
        means.stripe.payment_records = False
        world.simulator.payments.records_enabled = False
    await _survives(world, means, wallet, deaths, every=every)


@pytest.mark.nightly
async def test_it_would_report_twice_if_the_key_were_not_of_the_row(
    world, wallet, means, deaths, monkeypatch
):
    """Without the committed key a death after the report leaves a second record."""
    keys = iter(range(1000))
    assert means.stripe is not None
    real = means.stripe.report

    async def report(payment: Any) -> str:
        return await real(settling_stripe.ReportedPayment(**(vars(payment) | {"key": f"{next(keys)}"})))

    monkeypatch.setattr(means.stripe, "report", report)
    with pytest.raises(AssertionError):
        await _survives(world, means, wallet, deaths, every=3)
