"""Charging while the process dies at every statement, every commit and every request to Stripe."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.sqlite.client import SqliteClient, SqliteTransactionWrapper

from billing import charges, ledger
from billing.charge_rows import LEASE, UNFINISHED, InvoiceCharge, TopUp
from billing.models import Invoice
from billing.money_models import Charge, InvoicePart
from billing.rules.money import Money
from billing.stripe.gateway import StripeGateway

pytestmark = pytest.mark.nightly


_STATEMENTS = ("execute_insert", "execute_many", "execute_query", "execute_query_dict", "commit")


class Died(BaseException):
    """The process is gone: nothing catches it."""


class Failing:
    """Counts the wrapped calls and dies at the chosen one, before or after it."""

    def __init__(self, patch: pytest.MonkeyPatch, *, everywhere: bool) -> None:
        self.at, self.count, self.after, self.through = 0, 0, False, False
        names = _STATEMENTS if everywhere else ("commit",)
        for owner in (SqliteClient, SqliteTransactionWrapper, AsyncpgDBClient, TransactionWrapper):
            for name in names:
                if name in vars(owner):
                    patch.setattr(owner, name, self._wrapped(vars(owner)[name]))
        patch.setattr(StripeGateway, "ask", self._wrapped(StripeGateway.ask))

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        async def failing(*given: Any, **more: Any) -> Any:
            self.count += 1
            fails = self.count == self.at
            if fails and not self.after:
                for coroutine in given:
                    if hasattr(coroutine, "close") and hasattr(coroutine, "send"):
                        coroutine.close()
                raise Died("before")
            answer = await real(*given, **more)
            if fails:
                raise Died("after")
            return answer

        return failing

    def places(self) -> Iterator[bool]:
        """Arm one place after the other, before and after each call, until what ran gets through without dying."""
        for after in (False, True):
            self.at = 1
            while True:
                self.after, self.count = after, 0
                place = self.at
                yield after
                self.at = place + 1
                if self.through:
                    break
        self.at = 0

    def disarm(self) -> None:
        """Die no more until the next place."""
        self.through, self.at = self.count < self.at, 0


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
    world: Any, card_gateway: Any, failing: Failing, act: Callable[[int], Any], least: int
) -> None:
    made = 0
    for _ in failing.places():
        made += 1
        with suppress(Died):
            await act(made)
        failing.disarm()
        await _recover(world, card_gateway)
        await _holds(world, made)
    assert made >= least, "there are many places to die at"


@pytest.mark.slow
async def test_it_survives_dying_anywhere_in_a_top_up(
    world: Any, save_card: Any, card_gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The customer is charged at most once per wish, and has the money for it."""
    card = await save_card(world)

    async def act(number: int) -> None:
        wanted = TopUp(
            account_id=world.account.id, amount=Money(2000, "EUR"), idempotency_key=f"wish-{number}",
            card_id=card.id, actor="ada",
        )  # fmt: skip
        await charges.top_up(card_gateway, world.clock, wanted)

    await _survives(world, card_gateway, Failing(monkeypatch, everywhere=True), act, 60)


@pytest.mark.slow
async def test_it_survives_dying_at_commits_and_requests_of_an_invoices_charge(
    each_world: Any, save_card: Any, card_gateway: Any, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No invoice is paid twice by one intent; one that was not charged stays open."""
    card = await save_card(each_world)

    async def act(number: int) -> None:
        invoice = await factory.invoice(each_world.account, number=f"A-{number}")
        wanted = InvoiceCharge(
            invoice_id=invoice.id, card_id=card.id, amount=500, occasion="schedule:1", actor="system"
        )
        await charges.charge_for_invoice(card_gateway, each_world.clock, wanted)

    await _survives(each_world, card_gateway, Failing(monkeypatch, everywhere=False), act, 8)
    for invoice in await Invoice.all():
        assert invoice.amount_paid == sum(part.amount for part in await InvoicePart.filter(invoice=invoice))
