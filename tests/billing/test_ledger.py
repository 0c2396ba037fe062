"""The ledger: double entry, each fact once, nothing overdrawn, nothing taken back twice, on both databases."""

from typing import Any

import pytest
from tortoise.connection import get_connection
from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from billing import ledger
from billing.ledger import FactMismatchError, InsufficientFundsError, Move, Purses
from billing.models import Account
from billing.money_models import LedgerAccount, LedgerKind, LedgerTransaction, LedgerTransfer, TransactionKind
from billing.refusal import RefusalCode, RefusalError
from billing.rules.money import Money

K = LedgerKind
pytestmark = pytest.mark.usefixtures("database")


class Books:
    """Books facts of one account at a standing clock."""

    def __init__(self, account: Account, now: Any) -> None:
        self.account = account
        self.now = now

    async def book(
        self, kind: TransactionKind, *moves: tuple[LedgerKind, LedgerKind, int], fact: str, **more: Any
    ) -> LedgerTransaction | None:
        return await ledger.book(
            kind,
            self.account.id,
            [Move(debit=debit, credit=credit, amount=amount) for debit, credit, amount in moves],
            fact=("test", fact),
            at=self.now,
            actor="anna",
            description=fact,
            **more,
        )

    async def paid(self, amount: int, fact: str = "paid") -> LedgerTransaction:
        booked = await self.book(TransactionKind.PAYMENT_RECORDED, (K.BANK, K.BALANCE, amount), fact=fact)
        assert booked is not None
        return booked

    async def spent(self, amount: int, fact: str = "spent") -> LedgerTransaction | None:
        return await self.book(TransactionKind.INVOICE_PAID, (K.BALANCE, K.INVOICES_PAID, amount), fact=fact)

    async def reverse(self, transaction_id: int, fact: str = "back", **more: Any) -> ledger.Reversal | None:
        return await ledger.reverse(
            transaction_id, fact=("test", fact), at=self.now, actor="anna", description="taken back", **more
        )

    async def purses(self) -> Purses:
        return (await ledger.purses([self.account.id]))[self.account.id]


@pytest.fixture
async def books(database: str, factory: Any, clock: Any) -> Books:
    """The books of a customer in euros who has nothing yet."""
    return Books(await factory.account(), clock.now())


async def _house(kind: LedgerKind, currency: str = "EUR") -> int:
    """What a house account adds up to."""
    account = await LedgerAccount.get(kind=kind, currency=currency, account_id=None)
    credits_ = await LedgerTransfer.filter(credit_id=account.id).values_list("amount", flat=True)
    debits = await LedgerTransfer.filter(debit_id=account.id).values_list("amount", flat=True)
    return sum(credits_) - sum(debits)


async def test_it_moves_an_amount_from_one_account_to_another(books):
    """The purse has what the bank gave, and what was spent is with the invoices."""
    await books.paid(1000)
    await books.spent(300)
    assert await books.purses() == Purses(currency="EUR", balance=700)
    assert (await _house(K.BANK), await _house(K.INVOICES_PAID)) == (-1000, 300)
    assert await ledger.proven() == []


async def test_it_books_a_fact_once_and_tells_the_reconciler_once(books):
    """The account's facts move with the money, in the same transaction; a replay or a refusal moves neither."""
    before = (await Account.get()).facts_version
    await books.paid(1000)
    moved = await Account.get()
    assert moved.facts_version == before + 1
    assert moved.next_change_at == books.now
    assert await books.book(TransactionKind.PAYMENT_RECORDED, (K.BANK, K.BALANCE, 1000), fact="paid") is None
    with pytest.raises(InsufficientFundsError):
        await books.spent(1001)
    assert (await Account.get()).facts_version == before + 1
    assert (await books.purses()).balance == 1000
    assert await LedgerTransaction.all().count() == await LedgerTransfer.all().count() == 1


@pytest.mark.parametrize(
    ("kind", "move"),
    [
        (TransactionKind.PAYMENT_RECORDED, (K.BANK, K.BALANCE, 999)),
        (TransactionKind.PAYMENT_RECORDED, (K.STRIPE, K.BALANCE, 1000)),
        (TransactionKind.TOP_UP, (K.BANK, K.BALANCE, 1000)),
    ],
)
async def test_it_refuses_a_known_fact_with_another_content(books, kind, move):
    """Another amount, other accounts or another kind under the same name is a contradiction, not a replay."""
    await books.paid(1000)
    with pytest.raises(FactMismatchError):
        await books.book(kind, move, fact="paid")
    assert (await books.purses()).balance == 1000


async def test_it_refuses_a_known_fact_for_another_account(books, factory):
    """One bank transfer pays one customer."""
    await books.paid(1000)
    other = Books(await factory.account(), books.now)
    with pytest.raises(FactMismatchError):
        await other.book(TransactionKind.PAYMENT_RECORDED, (K.BANK, K.BALANCE, 1000), fact="paid")
    assert (await other.purses()).balance == 0


async def test_it_overdraws_no_purse_and_leaves_the_callers_transaction_usable(books):
    """What is refused has no effect at all, also of its earlier moves; what the caller did besides stays."""
    await books.paid(1000)
    async with in_transaction():
        with pytest.raises(InsufficientFundsError) as refused:
            await books.book(
                TransactionKind.INVOICE_PAID,
                (K.BALANCE, K.INVOICES_PAID, 600),
                (K.BALANCE, K.INVOICES_PAID, 600),
                fact="too much",
            )
        await books.spent(1000, "all of it")
    assert refused.value.missing == Money(200, "EUR")
    assert refused.value.purse is K.BALANCE
    assert refused.value.problems[0].code is RefusalCode.INSUFFICIENT_FUNDS
    assert await books.purses() == Purses(currency="EUR")
    assert await LedgerTransaction.filter(source_id="too much").exists() is False
    assert await ledger.proven() == []


async def test_it_undoes_everything_with_the_callers_transaction(books):
    """A booking is part of the fact that it books."""

    async def crashes() -> None:
        async with in_transaction():
            await books.paid(1000)
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        await crashes()
    assert await books.purses() == Purses(currency="EUR")
    assert await LedgerTransaction.all().count() == 0


async def test_it_passes_money_through_a_purse_within_one_booking(books):
    """The order of the moves counts: what comes in first can go out again."""
    booked = await books.book(
        TransactionKind.CARD_CHARGED,
        (K.STRIPE, K.BALANCE, 500),
        (K.BALANCE, K.INVOICES_PAID, 500),
        fact="charge",
    )
    assert booked is not None
    assert await books.purses() == Purses(currency="EUR")
    with pytest.raises(InsufficientFundsError):
        await books.book(
            TransactionKind.CARD_CHARGED,
            (K.BALANCE, K.INVOICES_PAID, 500),
            (K.STRIPE, K.BALANCE, 500),
            fact="the wrong way round",
        )


async def test_it_sets_money_aside_and_gives_it_back(books):
    """Reserved money is not to be had twice; freed it is all there again."""
    await books.paid(1000)
    await books.book(TransactionKind.RESERVED, (K.BALANCE, K.BALANCE_RESERVED, 800), fact="reserve")
    assert await books.purses() == Purses(currency="EUR", balance=200, balance_reserved=800)
    with pytest.raises(InsufficientFundsError):
        await books.spent(201)
    await books.book(TransactionKind.RESERVATION_FREED, (K.BALANCE_RESERVED, K.BALANCE, 800), fact="free")
    assert await books.purses() == Purses(currency="EUR", balance=1000)


async def test_it_tells_what_a_transaction_changed_for_the_customer(books):
    """Money in, money out to an invoice, and a reservation that changed nothing."""
    paid = await books.paid(1000)
    reserved = await books.book(
        TransactionKind.RESERVED, (K.BALANCE, K.BALANCE_RESERVED, 800), fact="reserve"
    )
    spent = await books.book(
        TransactionKind.INVOICE_PAID, (K.BALANCE_RESERVED, K.INVOICES_PAID, 800), fact="pay"
    )
    found = await ledger.effects([paid.id, reserved.id, spent.id])
    assert {ident: effect.purses for ident, effect in found.items()} == {
        paid.id: 1000,
        reserved.id: 0,
        spent.id: -800,
    }
    assert {ident: effect.invoices for ident, effect in found.items()} == {
        paid.id: 0,
        reserved.id: 0,
        spent.id: 800,
    }


async def test_it_keeps_customers_and_currencies_apart(books, factory):
    """Each customer has purses of their own, in their own currency; nothing has to be asked for one by one."""
    await books.paid(1000)
    yen = Books(await factory.account(currency="JPY"), books.now)
    await yen.paid(7, "yen")
    nobody = await factory.account()
    found = await ledger.purses([books.account.id, yen.account.id, nobody.id, 999])
    assert found == {
        books.account.id: Purses(currency="EUR", balance=1000),
        yen.account.id: Purses(currency="JPY", balance=7),
        nobody.id: Purses(currency="EUR"),
    }
    assert await _house(K.BANK, "JPY") == -7


@pytest.mark.parametrize("moves", [[], [(K.BANK, K.BALANCE, 0)], [(K.BANK, K.BALANCE, -5)]])
async def test_it_books_no_emptiness(books, moves):
    """A booking without a positive amount, or for an account that does not exist, is a mistake of the caller."""
    with pytest.raises(ValueError, match="more than 0"):
        await books.book(TransactionKind.TOP_UP, *moves, fact="nothing")
    with pytest.raises(LookupError):
        await Books(Account(id=999), books.now).paid(5)


@pytest.mark.parametrize(
    ("kind", "debit", "credit"),
    [
        (TransactionKind.TOP_UP, K.STRIPE, K.VOUCHER),
        (TransactionKind.CREDIT_GRANTED, K.CREDIT_GRANTED, K.VOUCHER),
        (TransactionKind.TOP_UP, K.VOUCHERS_ISSUED, K.BALANCE),
        (TransactionKind.RESERVED, K.BALANCE, K.VOUCHER_RESERVED),
    ],
)
async def test_it_never_mixes_voucher_money_with_cash(books, kind, debit, credit):
    """The voucher purse is filled by vouchers alone, and voucher money never becomes cash: the database says so."""
    await books.paid(1000)
    with pytest.raises(IntegrityError, match="never mix"):
        await books.book(kind, (debit, credit, 10), fact="mixed")
    assert await books.purses() == Purses(currency="EUR", balance=1000)


async def test_it_keeps_the_currency_of_an_account_with_money(books):
    """A change of currency would make the purses unreachable."""
    await books.paid(1000)
    with pytest.raises(IntegrityError, match="currency"):
        await Account.filter(id=books.account.id).update(currency="USD")


class TestReversing:
    """Taking back what brought money in."""

    async def test_it_takes_back_what_the_purse_still_has(self, books):
        """All there: nothing is owed, and the bank's account is right again."""
        paid = await books.paid(1000)
        reversal = await books.reverse(paid.id)
        assert (reversal.taken, reversal.shortfall) == (1000, 0)
        assert reversal.transaction.reverses_id == paid.id
        assert await books.purses() == Purses(currency="EUR")
        assert await _house(K.BANK) == 0

    async def test_it_reports_what_was_spent_already(self, books):
        """The purse ends at zero, the rest comes back out of the invoices and is owed anew."""
        paid = await books.paid(1000)
        await books.spent(700)
        reversal = await books.reverse(paid.id)
        assert (reversal.taken, reversal.shortfall) == (300, 700)
        assert await books.purses() == Purses(currency="EUR")
        assert (await _house(K.BANK), await _house(K.INVOICES_PAID)) == (0, 0)
        assert await ledger.proven() == []

    async def test_it_leaves_the_purses_alone_when_told_so(self, books):
        """Then the whole amount is owed anew, and the purse may pay for that."""
        paid = await books.paid(1000)
        reversal = await books.reverse(paid.id, from_purses=False)
        assert (reversal.taken, reversal.shortfall) == (0, 1000)
        assert (await books.purses()).balance == 1000
        assert await _house(K.BANK) == 0

    async def test_it_leaves_money_that_is_on_its_way(self, books):
        """What is reserved for an invoice is not pulled from under it."""
        paid = await books.paid(1000)
        await books.book(TransactionKind.RESERVED, (K.BALANCE, K.BALANCE_RESERVED, 800), fact="reserve")
        reversal = await books.reverse(paid.id)
        assert (reversal.taken, reversal.shortfall) == (200, 800)
        assert await books.purses() == Purses(currency="EUR", balance_reserved=800)

    async def test_it_takes_back_a_charge_that_paid_an_invoice_at_once(self, books):
        """Nothing of it was ever in a purse, so all of it is owed anew."""
        charged = await books.book(
            TransactionKind.CARD_CHARGED, (K.STRIPE, K.INVOICES_PAID, 500), fact="charge"
        )
        reversal = await books.reverse(charged.id)
        assert (reversal.taken, reversal.shortfall) == (0, 500)
        assert await _house(K.STRIPE) == 0

    async def test_it_happens_once(self, books):
        """The same fact again answers None; another one is refused; nothing moves."""
        paid = await books.paid(1000)
        await books.paid(500, "another")
        await books.reverse(paid.id)
        assert await books.reverse(paid.id) is None
        with pytest.raises(RefusalError) as refused:
            await books.reverse(paid.id, fact="again")
        assert refused.value.problems[0].code is RefusalCode.CONFLICT
        assert (await books.purses()).balance == 500

    async def test_it_is_one_fact_for_one_transaction(self, books):
        """The name of one reversal is no name for the next one."""
        first, second = await books.paid(500), await books.paid(500, "another")
        await books.reverse(first.id)
        with pytest.raises(FactMismatchError):
            await books.reverse(second.id)
        assert (await books.purses()).balance == 500

    async def test_it_reaches_only_what_brought_money_in(self, books):
        """Voucher money is never taken, a payment of an invoice never undone, a reversal never reversed."""
        voucher = await books.book(
            TransactionKind.VOUCHER_REDEEMED, (K.VOUCHERS_ISSUED, K.VOUCHER, 500), fact="v", voucher_id=1
        )
        paid = await books.paid(1000)
        spent = await books.spent(100)
        reversal = await books.reverse(paid.id)
        for transaction in (voucher, spent, reversal.transaction):
            with pytest.raises(RefusalError) as refused:
                await books.reverse(transaction.id, fact="no")
            assert refused.value.problems[0].code is RefusalCode.INVALID
        with pytest.raises(RefusalError) as refused:
            await books.reverse(999, fact="no")
        assert refused.value.problems[0].code is RefusalCode.NOT_FOUND
        assert (await books.purses()).voucher == 500

    async def test_it_leaves_what_only_went_from_purse_to_purse(self, books):
        """Reserved money that came back brought nothing in, whatever the entry is called."""
        await books.paid(1000)
        await books.book(TransactionKind.RESERVED, (K.BALANCE, K.BALANCE_RESERVED, 800), fact="reserve")
        back = await books.book(TransactionKind.OVERPAID, (K.BALANCE_RESERVED, K.BALANCE, 800), fact="over")
        with pytest.raises(RefusalError) as refused:
            await books.reverse(back.id)
        assert refused.value.problems[0].code is RefusalCode.INVALID
        assert await books.purses() == Purses(currency="EUR", balance=1000)


class TestProof:
    """The proof can fail: each line of it sees what the database's guards would have refused."""

    async def _execute(self, *statements: str) -> None:
        for statement in statements:
            await get_connection("default").execute_query(statement)

    async def _without(self, table: str, *triggers: str) -> None:
        on = f' ON "{table}"' if get_connection("default").capabilities.dialect == "postgres" else ""
        await self._execute(*(f'DROP TRIGGER "{name}"{on}' for name in triggers))

    async def test_it_sees_a_balance_that_is_not_the_sum(self, books):
        """Without the trigger that proves it, a balance could be written."""
        await books.paid(1000)
        with pytest.raises(IntegrityError, match="sum of its transfers"):
            await self._execute("UPDATE ledger_account SET balance = 2000 WHERE balance = 1000")
        await self._without("ledger_account", "ledger_account_balance_proven")
        await self._execute("UPDATE ledger_account SET balance = 2000 WHERE balance = 1000")
        [line] = await ledger.proven()
        assert line.endswith("holds 2000, its transfers add up to 1000")
        assert await ledger.proven(books.account.id) == [line]
        assert await ledger.proven(books.account.id + 1) == []

    async def test_it_sees_a_transfer_that_was_never_posted(self, books):
        """Without the trigger that posts it, money would move past the balances."""
        await self._without("ledger_transfer", "ledger_transfer_posted")
        await books.paid(1000)
        [line] = await ledger.proven()
        assert line.endswith("holds 0, its transfers add up to 1000")

    async def test_it_sees_a_transaction_without_a_transfer(self, books):
        """A fact that moved nothing is no booking."""
        await LedgerTransaction.create(
            account_id=books.account.id, kind=TransactionKind.TOP_UP, at=books.now, actor="x", description="x",
            source="x", source_id="x",
        )  # fmt: skip
        [line] = await ledger.proven()
        assert line.endswith("moved nothing")

    async def test_it_sees_a_transfer_between_currencies_or_customers(self, books, factory):
        """Both are refused; without the guards both are seen."""
        await books.paid(1000)
        yen = Books(await factory.account(currency="JPY"), books.now)
        await yen.paid(7, "yen")
        statement = (
            "INSERT INTO ledger_transfer (transaction_id, debit_id, credit_id, amount) SELECT t.id, d.id, c.id, 5 "
            "FROM ledger_transaction t, ledger_account d, ledger_account c WHERE t.source_id = 'paid' "
            "AND d.account_id = t.account_id AND d.kind = 'BALANCE' AND c.currency = 'JPY' AND c.kind = 'BALANCE'"
        )
        with pytest.raises(IntegrityError, match=r"one account|one currency"):
            await self._execute(statement)
        await self._without("ledger_transfer", "ledger_transfer_one_currency")
        with pytest.raises(IntegrityError, match="one account"):
            await self._execute(statement)
        await self._without("ledger_transfer", "ledger_transfer_of_one_customer")
        await self._execute(statement)
        found = await ledger.proven()
        assert any(line.endswith("adds up to -5 EUR") for line in found), found
        assert any(line.endswith(f"reaches a purse of account {yen.account.id}") for line in found), found
