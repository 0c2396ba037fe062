"""Four processes at one invoice and one purse: nothing is paid twice, nothing is lost; the naive way is caught."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from billing import ledger, vouchers
from billing.models import Account, Invoice
from billing.money_models import InvoicePart
from billing.rules.money import Money
from billing.rules.terms import InvoiceStatus
from billing.vouchers import Batch

ROUNDS = 200
NAIVE_ROUNDS = 40
CARD, TRANSFER, VOUCHER = 400, 300, 500
TOP_UP = 100

nightly = pytest.mark.nightly

Orders = Callable[[int, int], list[dict[str, Any]]]


async def race(
    racers: Any, factory: Any, account: Account, totals: list[int], brings: int, orders: Orders
) -> list[str]:
    """Each round all four go for a new invoice; return what was not exact."""
    wrong, held = [], 0
    for number, total in enumerate(totals):
        invoice = await factory.invoice(account, total=total, amount_due=total)
        said = racers.round([{"account": account.id, **order} for order in orders(number, invoice.id)])
        faults = [answer for answer in said if answer != "yes"]
        found = await Invoice.get(id=invoice.id)
        parts = sum(await InvoicePart.filter(invoice_id=invoice.id).values_list("amount", flat=True))
        purses = (await ledger.purses([account.id]))[account.id]
        holds = purses.voucher + purses.balance
        exact = held + brings - total
        if faults or found.status is not InvoiceStatus.PAID or parts != total or holds != exact:
            wrong.append(f"{number}: {found.status} {parts} of {total}, {holds} for {exact}, {faults}")
            await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.VOID, amount_due=0)
        held = holds
    return wrong


@pytest.mark.parametrize("rounds", [20, pytest.param(ROUNDS, marks=nightly)])
async def test_it_settles_an_invoice_once_from_webhook_sweep_admin_and_voucher(
    racers, factory, clock, rounds
):
    """Whoever comes first: the invoice is paid exactly, each payment counts once, the rest is in the purses."""
    account = await factory.account()
    codes = await _codes(rounds, clock.now())

    def orders(number: int, invoice: int) -> list[dict[str, Any]]:
        return [
            {"way": "webhook", "invoice": invoice, "amount": CARD, "fact": f"pi_{number}"},
            {"way": "sweep"},
            {"way": "admin", "invoice": invoice, "amount": TRANSFER, "fact": f"RF {number}"},
            {"way": "voucher", "code": codes[number]},
        ]

    brings = CARD + TRANSFER + VOUCHER
    # Too much and too little in turn, so that the purses are neither always empty nor always enough.
    totals = [brings - 200, brings + 200] * (rounds // 2)
    assert await race(racers, factory, account, totals, brings, orders) == []
    assert await ledger.proven() == []


@pytest.mark.parametrize("rounds", [10, pytest.param(ROUNDS, marks=nightly)])
async def test_it_tops_up_against_settling(racers, factory, rounds):
    """Two fill the balance while two spend it; the money of both ends where it belongs."""
    account = await factory.account()
    careful = _topping("sweep", "top_up")
    assert await race(racers, factory, account, [2 * TOP_UP] * rounds, 2 * TOP_UP, careful) == []
    assert await ledger.proven() == []


@nightly
async def test_it_catches_naive_settling(racers, factory):
    """Read, think, write: the same race finds invoices that are paid twice or not at all."""
    account = await factory.account()
    naive = _topping("sweep_naively", "top_up_naively")
    assert await race(racers, factory, account, [2 * TOP_UP] * NAIVE_ROUNDS, 2 * TOP_UP, naive) != []


def _topping(sweep: str, top_up: str) -> Orders:
    def orders(number: int, invoice: int) -> list[dict[str, Any]]:
        return [
            {"way": top_up, "invoice": invoice, "amount": TOP_UP, "fact": f"{number}a"},
            {"way": sweep, "invoice": invoice},
            {"way": top_up, "invoice": invoice, "amount": TOP_UP, "fact": f"{number}b"},
            {"way": sweep, "invoice": invoice},
        ]

    return orders


async def _codes(count: int, now: Any) -> list[str]:
    batch = Batch(count=count, value=Money(VOUCHER, "EUR"))
    below = random.Random(5).randrange
    return [one.code for one in await vouchers.issue(batch, random_below=below, actor="anna", now=now)]
