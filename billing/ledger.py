"""The ledger: every movement of money, in double entry, booked once per fact.

The only writer of its three tables. Decides nothing: who may book what is settled before it is called. The database has
the last word: its triggers keep the balances and refuse what would overdraw a purse, mix currencies or change the past.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tortoise.connection import get_connection
from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from billing.accounts import note_fact
from billing.models import Account
from billing.money_models import LedgerAccount, LedgerKind, LedgerTransaction, LedgerTransfer, TransactionKind
from billing.refusal import Problem, RefusalCode, RefusalError, refusal
from billing.rules.money import Money
from billing.rules.words import phrase

#: The ledger accounts of a customer; all others are the house's, one of each per currency.
PURSES = frozenset(
    {LedgerKind.BALANCE, LedgerKind.VOUCHER, LedgerKind.BALANCE_RESERVED, LedgerKind.VOUCHER_RESERVED}
)
#: What brought money in and can turn out not to have. Vouchers are not among them: their money is never taken.
REVERSIBLE = frozenset(
    {
        TransactionKind.TOP_UP,
        TransactionKind.PAYMENT_RECORDED,
        TransactionKind.CREDIT_GRANTED,
        TransactionKind.CARD_CHARGED,
        TransactionKind.OVERPAID,
    }
)
#: The database's name for the rule that a purse never goes below zero.
_COVERED = "ledger_account_covered"
_CHUNK = 5_000

#: What names a fact for ever: where it is known, such as `stripe_payment`, and its id there.
Fact = tuple[str, str]
Ids = Mapping[LedgerKind, int]


@dataclass(frozen=True, kw_only=True)
class Move:
    """One amount, in minor units and more than 0, that leaves `debit` and reaches `credit`."""

    debit: LedgerKind
    credit: LedgerKind
    amount: int


@dataclass(frozen=True, kw_only=True)
class Purses:
    """What a customer has with us, in minor units of one currency; reserved is what is on its way to an invoice."""

    currency: str
    balance: int = 0
    voucher: int = 0
    balance_reserved: int = 0
    voucher_reserved: int = 0


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one transaction came to, in minor units; negative where money left, or was taken back."""

    #: By how much it changed what the customer has with us.
    purses: int
    #: What of it went to invoices.
    invoices: int


@dataclass(frozen=True, kw_only=True)
class Reversal:
    """What became of taking a transaction back, in minor units.

    `taken` came out of the customer's purses; for the `shortfall` the customer owes us anew.
    """

    transaction: LedgerTransaction
    taken: int
    shortfall: int


class InsufficientFundsError(RefusalError):
    """A purse has less than what should leave it; nothing was booked."""

    def __init__(self, purse: LedgerKind, missing: Money) -> None:
        super().__init__(
            Problem(
                code=RefusalCode.INSUFFICIENT_FUNDS, message=phrase("%(amount)s are missing.", amount=missing)
            )
        )
        self.purse = purse
        self.missing = missing


class FactMismatchError(RefusalError):
    """This fact was booked before, but with other amounts or for another account; nothing was booked."""

    def __init__(self, fact: Fact) -> None:
        message = f"{fact[0]} {fact[1]} was booked before, with other amounts or for another account"
        super().__init__(Problem(code=RefusalCode.CONFLICT, message=message))


async def lock(account_id: int) -> str:
    """Make everybody else who moves this account's money wait until the transaction ends; return its currency.

    Within a transaction it comes before the lock of any other row that a booking of the account depends on, so that
    nobody waits in a circle. Raise `LookupError` when there is no such account.
    """
    account = (
        await Account.filter(id=account_id).select_for_update(no_key=True).only("id", "currency").first()
    )
    if account is None:
        raise LookupError(f"there is no account {account_id}")
    return account.currency


async def book(
    kind: TransactionKind,
    account_id: int,
    moves: Sequence[Move],
    *,
    fact: Fact,
    at: datetime,
    actor: str,
    description: str,
    invoice_id: int | None = None,
    voucher_id: int | None = None,
    reverses_id: int | None = None,
) -> LedgerTransaction | None:
    """Book one fact of an account in its currency, in the order of the moves, and tell the reconciler of it.

    Return None, and change nothing, when this fact was booked before. Raise `InsufficientFundsError` or
    `FactMismatchError` without any effect, so that the caller's transaction can go on. The account's row stays locked
    until that ends: two bookings of one customer wait for each other, those of two customers never do.
    """
    if not moves or any(move.amount <= 0 for move in moves):
        raise ValueError("a booking needs moves, each of more than 0 minor units")
    async with in_transaction():
        currency = await lock(account_id)
        ids = await _slots(account_id, currency)
        row = LedgerTransaction(
            account_id=account_id,
            kind=kind,
            at=at,
            actor=actor,
            description=description,
            source=fact[0],
            source_id=fact[1],
            invoice_id=invoice_id,
            voucher_id=voucher_id,
            reverses_id=reverses_id,
        )
        if await _booked_before(row, moves, ids):
            return None
        try:
            async with in_transaction():
                await _write(row, moves, ids)
        except IntegrityError as error:
            if _COVERED in str(error):
                raise await _insufficient(account_id, currency, moves) from error
            # Somebody booked the same fact for another account in the meantime.
            if await _booked_before(row, moves, ids):
                return None
            raise
        await note_fact(account_id, now=at)
    return row


async def reverse(
    transaction_id: int,
    *,
    fact: Fact,
    at: datetime,
    actor: str,
    description: str,
    from_purses: bool = True,
) -> Reversal | None:
    """Take back a transaction that brought money in; each can be taken back once, by one fact.

    What its purse no longer has, or nothing of it when `from_purses` is false, is taken from what invoices were paid
    with and reported as the shortfall: an invoice over it makes the customer pay it again. So the outside account is
    always right, and no purse goes below zero. Return None when this fact was booked before. Refuse a transaction that
    does not exist, did not bring money in, or was taken back by another fact.
    """
    async with in_transaction():
        original = await LedgerTransaction.get_or_none(id=transaction_id)
        if original is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such ledger entry", "entryId")
        if original.kind not in REVERSIBLE:
            told = f"{original.kind.value} cannot be taken back, only {', '.join(sorted(REVERSIBLE))}"
            raise refusal(RefusalCode.INVALID, told, "entryId")
        await lock(original.account_id)
        earlier = await LedgerTransaction.get_or_none(reverses_id=original.id)
        if earlier is not None:
            if (earlier.source, earlier.source_id) == fact:
                return None
            raise refusal(RefusalCode.CONFLICT, "the ledger entry has been taken back already", "entryId")
        moves, taken = await _backwards(original, from_purses=from_purses)
        booked = await book(
            TransactionKind.REVERSED,
            original.account_id,
            moves,
            fact=fact,
            at=at,
            actor=actor,
            description=description,
            invoice_id=original.invoice_id,
            reverses_id=original.id,
        )
        if booked is None:
            raise FactMismatchError(fact)
    return Reversal(transaction=booked, taken=taken, shortfall=sum(move.amount for move in moves) - taken)


async def purses(account_ids: Iterable[int]) -> Mapping[int, Purses]:
    """Return what each account has with us, in its currency; one that never had anything has nothing."""
    wanted = list(dict.fromkeys(account_ids))
    found: dict[int, Purses] = {}
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        currencies = await Account.filter(id__in=chunk).values_list("id", "currency")
        rows = await LedgerAccount.filter(account_id__in=chunk).values_list("account_id", "kind", "balance")
        held: dict[int, dict[str, int]] = {account_id: {} for account_id, _currency in currencies}
        for account_id, kind, balance in rows:
            held[account_id][kind.value.lower()] = balance
        found |= {
            account_id: Purses(currency=currency, **held[account_id]) for account_id, currency in currencies
        }
    return found


async def effects(transaction_ids: Iterable[int]) -> Mapping[int, Effect]:
    """Return what each transaction came to; a reservation comes to nothing."""
    wanted = list(dict.fromkeys(transaction_ids))
    purses, invoices = dict.fromkeys(wanted, 0), dict.fromkeys(wanted, 0)
    for start in range(0, len(wanted), _CHUNK):
        transfers = await LedgerTransfer.filter(
            transaction_id__in=wanted[start : start + _CHUNK]
        ).values_list("transaction_id", "amount", "debit__kind", "credit__kind")
        for transaction_id, amount, debit, credit in transfers:
            purses[transaction_id] += amount * ((credit in PURSES) - (debit in PURSES))
            paid = LedgerKind.INVOICES_PAID
            invoices[transaction_id] += amount * ((credit == paid) - (debit == paid))
    return {ident: Effect(purses=purses[ident], invoices=invoices[ident]) for ident in wanted}


async def proven(account_id: int | None = None) -> list[str]:
    """Recompute the ledger, of one account or as a whole, from its transfers; one line for each difference."""
    connection = get_connection("default")
    whose = "id IS NOT NULL" if account_id is None else f"account_id = {int(account_id)}"
    found: list[str] = []
    for form, query in _PROOFS.items():
        rows = await connection.execute_query_dict(query.replace("<whose>", whose))
        found += [form.format(**row) for row in rows]
    return found


_PROOFS = {
    "purse {id} holds {balance}, its transfers add up to {total}": """
        SELECT * FROM (
            SELECT a.id, a.balance,
                   (SELECT COALESCE(SUM(amount), 0) FROM ledger_transfer WHERE credit_id = a.id)
                   - (SELECT COALESCE(SUM(amount), 0) FROM ledger_transfer WHERE debit_id = a.id) AS total
            FROM ledger_account a WHERE a.<whose> AND a.account_id IS NOT NULL
        ) purse WHERE balance <> total OR balance < 0""",
    "transaction {id} moved nothing": """
        SELECT t.id FROM ledger_transaction t
        WHERE t.<whose> AND NOT EXISTS (SELECT 1 FROM ledger_transfer f WHERE f.transaction_id = t.id)""",
    "transaction {id} adds up to {total} {currency}": """
        SELECT t.id, a.currency, SUM(CASE WHEN a.id = f.credit_id THEN f.amount ELSE -f.amount END) AS total
        FROM ledger_transaction t JOIN ledger_transfer f ON f.transaction_id = t.id
        JOIN ledger_account a ON a.id IN (f.debit_id, f.credit_id)
        WHERE t.<whose> GROUP BY t.id, a.currency
        HAVING SUM(CASE WHEN a.id = f.credit_id THEN f.amount ELSE -f.amount END) <> 0""",
    "transaction {id} reaches a purse of account {other}": """
        SELECT t.id, a.account_id AS other FROM ledger_transaction t JOIN ledger_transfer f ON f.transaction_id = t.id
        JOIN ledger_account a ON a.id IN (f.debit_id, f.credit_id)
        WHERE t.<whose> AND a.account_id <> t.account_id""",
}


async def _slots(account_id: int, currency: str) -> Ids:
    """Return the ids of the account's purses and of the house's accounts; open them with the first booking."""
    ids = await _known_slots(account_id, currency)
    if len(ids) < len(LedgerKind):
        # All at once and in one order: nobody waits in a circle for an account that somebody else is opening.
        lacking = [kind for kind in LedgerKind if kind not in ids]
        for kind in lacking:
            own = kind in PURSES
            row = LedgerAccount(
                account_id=account_id if own else None,
                kind=kind,
                currency=currency,
                balance=0 if own else None,
            )
            await LedgerAccount.bulk_create([row], ignore_conflicts=True)
        ids = await _known_slots(account_id, currency)
    return ids


async def _known_slots(account_id: int, currency: str) -> dict[LedgerKind, int]:
    own = await LedgerAccount.filter(account_id=account_id, currency=currency).values_list("kind", "id")
    house = await LedgerAccount.filter(account_id__isnull=True, currency=currency).values_list("kind", "id")
    return dict([*own, *house])


async def _write(row: LedgerTransaction, moves: Sequence[Move], ids: Ids) -> None:
    await row.save()
    for move in moves:
        await LedgerTransfer.create(
            transaction_id=row.id, debit_id=ids[move.debit], credit_id=ids[move.credit], amount=move.amount
        )


async def _booked_before(row: LedgerTransaction, moves: Sequence[Move], ids: Ids) -> bool:
    """Tell whether this very fact is booked; raise `FactMismatchError` when another is booked under its name."""
    known = await LedgerTransaction.get_or_none(source=row.source, source_id=row.source_id)
    if known is None:
        return False
    transfers = await LedgerTransfer.filter(transaction_id=known.id).values_list(
        "debit_id", "credit_id", "amount"
    )
    same = Counter(transfers) == Counter((ids[move.debit], ids[move.credit], move.amount) for move in moves)
    if not same or (known.account_id, known.kind) != (row.account_id, row.kind):
        raise FactMismatchError((row.source, row.source_id))
    return True


async def _insufficient(account_id: int, currency: str, moves: Sequence[Move]) -> InsufficientFundsError:
    left = await _balances(account_id, currency)
    for move in moves:
        left[move.debit] -= move.amount
        left[move.credit] += move.amount
        if move.debit in PURSES and left[move.debit] < 0:
            return InsufficientFundsError(move.debit, Money(-left[move.debit], currency))
    raise RuntimeError("the database refused a booking that its balances cover")


async def _balances(account_id: int, currency: str) -> Counter[LedgerKind]:
    rows = LedgerAccount.filter(account_id=account_id, currency=currency)
    return Counter(dict(await rows.values_list("kind", "balance")))


async def _backwards(original: LedgerTransaction, *, from_purses: bool) -> tuple[list[Move], int]:
    """Return the moves that undo the transaction, and how much of them leaves the customer's purses."""
    transfers = (
        await LedgerTransfer.filter(transaction_id=original.id)
        .order_by("-id")
        .prefetch_related("debit", "credit")
    )
    left = await _balances(original.account_id, transfers[0].debit.currency)
    moves: list[Move] = []
    taken = 0
    for transfer in transfers:
        source, target = transfer.credit.kind, transfer.debit.kind
        if target in PURSES:
            raise refusal(RefusalCode.INVALID, "money that came from a purse cannot be taken back", "entryId")
        have = left[source] if source in PURSES and from_purses else 0
        from_purse = min(transfer.amount, have)
        left[source] -= from_purse
        taken += from_purse
        rest_from = LedgerKind.INVOICES_PAID if source in PURSES else source
        parts = ((source, from_purse), (rest_from, transfer.amount - from_purse))
        moves += [Move(debit=debit, credit=target, amount=amount) for debit, amount in parts if amount > 0]
    return moves, taken
