"""One process of a race: reads an order per line, carries it out against the database, answers with a line.

The naive ways of doing the same are here too: read, check, write. They are what the races must be able to catch.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from api.database import open_database
from billing import ledger, vouchers
from billing.money_models import (
    LedgerAccount,
    LedgerKind,
    LedgerTransaction,
    LedgerTransfer,
    TransactionKind,
    Voucher,
)
from billing.refusal import RefusalError
from billing.rules.voucher_codes import code_hash

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
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


WAYS: dict[str, Callable[[Order], Awaitable[None]]] = {
    way.__name__: way for way in (redeem, spend, book_once, redeem_naively, spend_naively, book_once_naively)
}


async def _answer(order: Order) -> str:
    for _ in range(order.get("attempts", 1)):
        try:
            await WAYS[order["way"]](order)
        except (RefusalError, Refused):
            continue
        except Exception as fault:  # noqa: BLE001 - the race is told of every fault
            return f"fault: {fault!r}"
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
