"""A customer who sends everything at once, to spend the same money twice: whatever comes first, the books are exact."""

import asyncio
import random
from typing import Any

import pytest

from api.graphql import ids
from billing import ledger, vouchers
from billing.models import Invoice
from billing.money_models import InvoicePart, LedgerTransaction, TransactionKind
from billing.rules.money import Money
from billing.vouchers import Batch

VALUE, TOP_UP, TOTAL = 700, 2000, 900


async def _ask(portal: Any, mutation: str, number: int, **given: Any) -> str:
    payload = await portal.do(mutation, {"idempotencyKey": f"key-{number}"} | given)
    return "done" if not payload["errors"] else str(payload["errors"][0]["code"])


async def _remove(portal: Any, card: str) -> str:
    payload = await portal.do("cardRemove", {"cardId": card})
    return "done" if not payload["errors"] else str(payload["errors"][0]["code"])


@pytest.mark.parametrize("seed", range(4))
async def test_money_is_spent_once_however_it_is_asked_for(portal: Any, factory: Any, seed: int) -> None:
    """One voucher under five keys, one top-up three times, two invoices that want the same purse, a card removed."""
    rng = random.Random(seed)
    card = (await portal.save())["card"]["id"]
    now = portal.door.clock.now()
    batch = Batch(count=1, value=Money(VALUE, "EUR"))
    code = (await vouchers.issue(batch, random_below=rng.randrange, actor="anna", now=now))[0].code
    owed = [await factory.invoice(portal.account, total=TOTAL, amount_due=TOTAL) for _ in range(2)]
    purses = ["VOUCHER", "BALANCE"]
    wishes = [
        *(_ask(portal, "voucherRedeem", number, code=code) for number in range(5)),
        *(_ask(portal, "balanceTopUp", 9, amount={"amount": "20.00", "currency": "EUR"}) for _ in range(3)),
        *(
            _ask(
                portal, "invoicePay", 20 + number, invoiceId=ids.global_id("Invoice", one.id), sources=sources
            )
            for number, (one, sources) in enumerate(
                [(one, way) for one in owed for way in (purses, ["CARD"])]
            )
        ),
        _remove(portal, card),
    ]
    rng.shuffle(wishes)
    said = await asyncio.gather(*wishes)
    assert "done" in said

    taken = sum(one["amount_received"] for one in portal.payments("succeeded"))
    held = (await ledger.purses([portal.account.id]))[portal.account.id]
    paid = sum(await InvoicePart.all().values_list("amount", flat=True))
    assert paid + held.voucher + held.balance == VALUE + taken
    for invoice in await Invoice.all():
        assert 0 <= invoice.amount_due == TOTAL - invoice.amount_paid
    assert await LedgerTransaction.filter(kind=TransactionKind.VOUCHER_REDEEMED).count() == 1
    assert await LedgerTransaction.filter(kind=TransactionKind.TOP_UP).count() <= 1
    assert await ledger.proven() == []
