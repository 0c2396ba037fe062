"""Money for tests: fills an account's purses as the facts that bring it do. Reached through the fixture `wallet`."""

from itertools import count
from typing import Any

from billing import ledger
from billing.clock import Clock
from billing.ledger import Move
from billing.models import Account
from billing.money_models import LedgerKind, LedgerTransaction, TransactionKind, Voucher


class Wallet:
    """Puts money into an account's purses, and tells what is in them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._facts = count(1)

    async def cash(self, account: Account, amount: int, fact: str | None = None) -> LedgerTransaction | None:
        """A transfer that becomes balance."""
        move = Move(debit=LedgerKind.BANK, credit=LedgerKind.BALANCE, amount=amount)
        return await self._book(account, TransactionKind.PAYMENT_RECORDED, move, fact)

    async def voucher(self, account: Account, amount: int) -> LedgerTransaction | None:
        """A redeemed voucher."""
        number, now = next(self._facts), self._clock.now()
        voucher = await Voucher.create(
            code_hash=f"{account.id:032d}{number:032d}", value=amount, currency=account.currency,
            issued_by="anna", issued_at=now, redeemed_at=now, redeemed_by=account,
        )  # fmt: skip
        move = Move(debit=LedgerKind.VOUCHERS_ISSUED, credit=LedgerKind.VOUCHER, amount=amount)
        kind = TransactionKind.VOUCHER_REDEEMED
        return await self._book(account, kind, move, f"voucher-{voucher.id}", voucher_id=voucher.id)

    async def holds(self, account: Account) -> ledger.Purses:
        """What is in the purses now."""
        return (await ledger.purses([account.id]))[account.id]

    async def _book(
        self, account: Account, kind: TransactionKind, move: Move, fact: str | None, **more: Any
    ) -> LedgerTransaction | None:
        named = ("test", fact or f"{account.id}-{next(self._facts)}")
        told = {"at": self._clock.now(), "actor": "anna", "description": "test"}
        return await ledger.book(kind, account.id, [move], fact=named, **told, **more)
