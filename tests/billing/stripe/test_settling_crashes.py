"""Settling an invoice of Stripe while the process dies at every commit and at every call, before and after it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from tortoise.backends.sqlite.client import SqliteClient, SqliteTransactionWrapper

from billing import ledger, reservations, settling_stripe
from billing.money_models import Reservation, ReservationState
from billing.rules.terms import InvoiceStatus
from billing.settling import Means, Occasion, settle
from billing.settling_sweep import settle_due
from billing.stripe.settle_gateway import SettleGateway

pytestmark = pytest.mark.nightly


VOUCHER, CASH = 300, 700


class Died(BaseException):
    """The process is gone: nothing catches it."""


class Deaths:
    """Counts commits, single writes and requests that write at Stripe, and dies at the chosen one."""

    def __init__(self, patch: pytest.MonkeyPatch, wire: Any) -> None:
        self.at = 0
        self.count = 0
        self.after = False
        patch.setattr(SqliteTransactionWrapper, "commit", self._dying(SqliteTransactionWrapper.commit))
        real = SqliteClient.execute_query
        patch.setattr(SqliteClient, "execute_query", self._dying(real, lambda given: "UPDATE" in given[1]))
        send = type(wire).handle_async_request
        patch.setattr(type(wire), "handle_async_request", self._dying(send, lambda given: _writes(given[1])))

    def _dying(
        self, real: Callable[..., Any], counts: Callable[[Any], bool] = lambda given: True
    ) -> Callable[..., Any]:
        async def dying(*given: Any, **more: Any) -> Any:
            if not counts(given) or isinstance(given[0], SqliteTransactionWrapper) != (
                "commit" in real.__name__
            ):
                return await real(*given, **more)
            self.count += 1
            dies = self.count == self.at
            if dies and not self.after:
                raise Died
            answer = await real(*given, **more)
            if dies:
                raise Died
            return answer

        return dying

    def arm(self, at: int, *, after: bool) -> None:
        """Die at the n-th from now on."""
        self.at, self.after, self.count = at, after, 0


def _writes(request: httpx.Request) -> bool:
    return request.method == "POST"


async def _survives(world: Any, means: Means, wallet: Any, deaths: Deaths, *, after: bool) -> int:
    """Let each settling die at another place and the sweep come after it; return at how many places it died."""
    died = 0
    while True:
        stripe_id = world.create_invoice(VOUCHER + CASH)
        await world.deliver()
        await wallet.voucher(world.account, VOUCHER)
        await wallet.cash(world.account, CASH)
        deaths.arm(died + 1, after=after)
        try:
            await settle(world.account.id, occasion=Occasion(), means=means)
            finished = True
        except Died:
            finished = False
        deaths.arm(0, after=False)
        if not finished:
            world.clock.advance(timedelta(minutes=10))
            await settle_due(means)
        await _in_order(world, wallet, stripe_id)
        if finished:
            return died
        died += 1


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


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch, world: Any) -> Deaths:
    """Armed by the test."""
    return Deaths(monkeypatch, world.wire)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_it_reports_each_reservation_once_wherever_it_dies(world, wallet, means, deaths, after):
    """One payment record per reservation, all of it booked, nothing left behind after the sweep."""
    assert await _survives(world, means, wallet, deaths, after=after) == 10


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_it_pays_out_of_band_once_wherever_it_dies(world, wallet, means, deaths, after):
    """The same without payment records."""
    assert means.stripe is not None
    means.stripe.payment_records = False
    world.simulator.payments.records_enabled = False
    assert await _survives(world, means, wallet, deaths, after=after) == 6


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
        await _survives(world, means, wallet, deaths, after=True)
