"""One process of a race: reads an order per line, carries it out against the database, answers with a line.

The naive ways of doing the same are here too: read, check, write. They are what the races must be able to catch.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from api.database import open_database
from billing import invoice_parts, ledger, vouchers
from billing.clock import ManualClock
from billing.invoice_parts import OutsidePayment
from billing.models import Invoice
from billing.money_back import BankPayment, record_payment
from billing.money_models import (
    InvoicePart,
    LedgerAccount,
    LedgerKind,
    LedgerTransaction,
    LedgerTransfer,
    PartSource,
    TransactionKind,
    Voucher,
)
from billing.refusal import RefusalError
from billing.rules.money import Money
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceStatus
from billing.rules.voucher_codes import code_hash
from billing.settling import Means, Occasion, settle

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
MEANS = Means(clock=ManualClock(NOW), policies={"standard": Policy(name="standard", stages=())})
Order = dict[str, Any]


async def redeem(order: Order) -> None:
    await vouchers.redeem(order["code"], account_id=order["account"], address=None, actor="racer", now=NOW)


async def spend(order: Order) -> None:
    await ledger.book(
        TransactionKind.INVOICE_PAID,
        order["account"],
        [ledger.Move(debit=LedgerKind.VOUCHER, credit=LedgerKind.INVOICES_PAID, amount=order["amount"])],
        fact=("race", order["fact"]),
        at=NOW,
        actor="racer",
        description="spent",
    )


async def book_once(order: Order) -> None:
    booked = await ledger.book(
        TransactionKind.PAYMENT_RECORDED,
        order["account"],
        [ledger.Move(debit=LedgerKind.BANK, credit=LedgerKind.BALANCE, amount=order["amount"])],
        fact=("race", order["fact"]),
        at=NOW,
        actor="racer",
        description="paid",
    )
    if booked is None:
        raise Refused


async def redeem_naively(order: Order) -> None:
    voucher = await Voucher.get(code_hash=code_hash(order["code"].replace("-", "")))
    if voucher.redeemed_at is not None:
        raise Refused
    await _a_moment()
    await Voucher.filter(id=voucher.id).update(redeemed_at=NOW, redeemed_by_id=order["account"])
    await _move_naively(order["account"], LedgerKind.VOUCHERS_ISSUED, LedgerKind.VOUCHER, voucher.value)


async def spend_naively(order: Order) -> None:
    purse = await LedgerAccount.get(account_id=order["account"], kind=LedgerKind.VOUCHER)
    if (purse.balance or 0) < order["amount"]:
        raise Refused
    await _a_moment()
    await _move_naively(order["account"], LedgerKind.VOUCHER, LedgerKind.INVOICES_PAID, order["amount"])


async def book_once_naively(order: Order) -> None:
    if await LedgerTransaction.exists(description=order["fact"]):
        raise Refused
    await _a_moment()
    await _move_naively(
        order["account"], LedgerKind.BANK, LedgerKind.BALANCE, order["amount"], description=order["fact"]
    )


class Refused(Exception):  # noqa: N818 - an answer
    """The naive way says no."""


async def _a_moment() -> None:
    """What passes between a look and an act when a request also does something else."""
    await asyncio.sleep(0.002)


async def _move_naively(
    account_id: int, debit: LedgerKind, credit: LedgerKind, amount: int, *, description: str = "naive"
) -> None:
    slots = {row.kind: row.id for row in await LedgerAccount.all() if row.account_id in (account_id, None)}
    transaction = await LedgerTransaction.create(
        account_id=account_id,
        kind=TransactionKind.CREDIT_GRANTED,
        at=NOW,
        actor="naive",
        description=description,
        source="naive",
        source_id=f"{asyncio.get_running_loop().time()}-{id(object())}-{sys.argv[1]}",
    )
    await LedgerTransfer.create(
        transaction_id=transaction.id, debit_id=slots[debit], credit_id=slots[credit], amount=amount
    )


# -- invoices


async def sweep(order: Order) -> None:
    """Time has passed."""
    await settle(order["account"], occasion=Occasion(), means=MEANS)


async def webhook(order: Order) -> None:
    """Stripe says that a card has paid; every process may hear of it."""
    payment = OutsidePayment(
        account_id=order["account"], amount=order["amount"], invoice_id=order["invoice"],
        origin=LedgerKind.STRIPE, kind=TransactionKind.CARD_CHARGED, fact=("stripe_payment", order["fact"]),
        source=PartSource.CARD, description="Payment by card",
    )  # fmt: skip
    await invoice_parts.take(payment, actor="stripe", now=NOW)
    await sweep(order)


async def admin(order: Order) -> None:
    """A transfer arrived and names the invoice, if it is open still."""
    still_open = await Invoice.exists(id=order["invoice"], status=InvoiceStatus.OPEN)
    asked = BankPayment(
        account_id=order["account"],
        amount=Money(order["amount"], "EUR"),
        reference=order["fact"],
        received_at=NOW - timedelta(hours=1),
        invoice_id=order["invoice"] if still_open else None,
    )
    await record_payment(asked, actor="anna", means=MEANS)


async def voucher(order: Order) -> None:
    """A voucher is redeemed, and settles."""
    await vouchers.redeem(order["code"], account_id=order["account"], address=None, actor="ada", now=NOW)
    await sweep(order)


async def top_up(order: Order) -> None:
    """The balance is filled, and settles."""
    await _fill(order)
    await sweep(order)


async def top_up_naively(order: Order) -> None:
    """The balance is filled, and settles without care."""
    await _fill(order)
    await sweep_naively(order)


async def sweep_naively(order: Order) -> None:
    """Read what is due and what is there, think, write what should be now."""
    invoice = await Invoice.get(id=order["invoice"])
    balance = (await ledger.purses([order["account"]]))[order["account"]].balance
    amount = min(balance, invoice.amount_due)
    await asyncio.sleep(0.002)
    if amount <= 0:
        return
    name = f"{invoice.id}-{sys.argv[1]}-{asyncio.get_running_loop().time()}"
    moves = [ledger.Move(debit=LedgerKind.BALANCE, credit=LedgerKind.INVOICES_PAID, amount=amount)]
    await ledger.book(
        TransactionKind.INVOICE_PAID, order["account"], moves, fact=("naive", name), at=NOW,
        actor="naive", description="naive",
    )  # fmt: skip
    await InvoicePart.create(
        invoice_id=invoice.id, source=PartSource.BALANCE, source_id=name, amount=amount, at=NOW
    )
    left = invoice.amount_due - amount
    status = InvoiceStatus.OPEN if left else InvoiceStatus.PAID
    await Invoice.filter(id=invoice.id).update(amount_due=left, status=status)


async def _fill(order: Order) -> None:
    moves = [ledger.Move(debit=LedgerKind.BANK, credit=LedgerKind.BALANCE, amount=order["amount"])]
    await ledger.book(
        TransactionKind.PAYMENT_RECORDED, order["account"], moves, fact=("race", order["fact"]), at=NOW,
        actor="racer", description="paid",
    )  # fmt: skip


WAYS: dict[str, Callable[[Order], Awaitable[None]]] = {
    way.__name__: way
    for way in (
        *(redeem, spend, book_once, redeem_naively, spend_naively, book_once_naively),
        *(sweep, webhook, admin, voucher, top_up, top_up_naively, sweep_naively),
    )
}


async def _answer(order: Order) -> str:
    for _ in range(order.get("attempts", 1)):
        try:
            await WAYS[order["way"]](order)
        except (RefusalError, Refused):
            continue
        except Exception as fault:  # noqa: BLE001 - the race is told of every fault
            return f"fault: {type(fault).__name__}: {fault}"
        return "yes"
    return "no"


async def _serve(url: str) -> None:
    async with open_database(url):
        print("open", flush=True)
        while (order := json.loads(await asyncio.to_thread(sys.stdin.readline))) is not None:
            print(await _answer(order), flush=True)
    print("closed", flush=True)


if __name__ == "__main__":
    while line := sys.stdin.readline():
        asyncio.run(_serve(line.strip()))
