"""Random histories of the ledger and of vouchers against a small model that knows nothing of databases.

The model is three dictionaries. After every step the purses, the house's sums and the proof must agree with it.
"""

import asyncio
import random
import shutil
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from api.database import open_database
from billing import ledger, vouchers
from billing.ledger import FactMismatchError, InsufficientFundsError, Move
from billing.models import Account
from billing.money_models import (
    LedgerAccount,
    LedgerKind,
    LedgerTransaction,
    LedgerTransfer,
    TransactionKind,
    Voucher,
)
from billing.refusal import RefusalCode, RefusalError
from billing.rules.money import Money
from billing.rules.voucher_codes import new_code
from billing.vouchers import PER_ACCOUNT, Batch, TooManyGuessesError

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

K, T = LedgerKind, TransactionKind
START = datetime(2026, 11, 20, 9, tzinfo=UTC)
CURRENCIES = ("EUR", "EUR", "JPY")
OWN = (K.BALANCE, K.VOUCHER, K.BALANCE_RESERVED, K.VOUCHER_RESERVED)
#: Facts and the ways that their money goes.
SHAPES: tuple[tuple[TransactionKind, tuple[tuple[LedgerKind, LedgerKind], ...]], ...] = (
    (T.PAYMENT_RECORDED, ((K.BANK, K.BALANCE),)),
    (T.TOP_UP, ((K.STRIPE, K.BALANCE),)),
    (T.CREDIT_GRANTED, ((K.CREDIT_GRANTED, K.BALANCE),)),
    (T.CARD_CHARGED, ((K.STRIPE, K.INVOICES_PAID),)),
    (T.OVERPAID, ((K.STRIPE, K.BALANCE), (K.STRIPE, K.INVOICES_PAID))),
    (T.INVOICE_PAID, ((K.VOUCHER, K.INVOICES_PAID), (K.BALANCE, K.INVOICES_PAID))),
    (T.INVOICE_PAID, ((K.BALANCE_RESERVED, K.INVOICES_PAID),)),
    (T.INVOICE_PAID, ((K.VOUCHER_RESERVED, K.INVOICES_PAID),)),
    (T.RESERVED, ((K.VOUCHER, K.VOUCHER_RESERVED), (K.BALANCE, K.BALANCE_RESERVED))),
    (T.RESERVATION_FREED, ((K.BALANCE_RESERVED, K.BALANCE),)),
    (T.RESERVATION_FREED, ((K.VOUCHER_RESERVED, K.VOUCHER),)),
    (T.REFUNDED, ((K.BALANCE, K.BANK),)),
)
INCOMING = {T.PAYMENT_RECORDED, T.TOP_UP, T.CREDIT_GRANTED, T.CARD_CHARGED, T.OVERPAID}
Way = tuple[LedgerKind, LedgerKind, int]

few = st.integers(0, 2)
facts = st.integers(0, 30).map(lambda number: ("fact", str(number)))
amounts = st.one_of(st.integers(1, 40), st.just(10**12))


class Model:
    """What should be: who has what where, which fact moved what, which voucher is worth what."""

    def __init__(self) -> None:
        self.money: Counter[tuple[Any, LedgerKind]] = Counter()
        self.facts: dict[tuple[str, str], tuple[int, TransactionKind, list[Way]]] = {}
        self.taken_back: dict[tuple[str, str], tuple[str, str]] = {}
        self.vouchers: list[dict[str, Any]] = []
        self.guesses: dict[int, list[datetime]] = {0: [], 1: [], 2: []}

    def place(self, who: int, kind: LedgerKind) -> tuple[Any, LedgerKind]:
        return (who if kind in OWN else CURRENCIES[who], kind)

    def book(self, who: int, kind: TransactionKind, ways: list[Way], fact: tuple[str, str]) -> str:
        known = self.facts.get(fact)
        if known is not None:
            return (
                "known"
                if (known[0], known[1], Counter(known[2])) == (who, kind, Counter(ways))
                else "mismatch"
            )
        after = self.money.copy()
        for debit, credit, amount in ways:
            after[self.place(who, debit)] -= amount
            after[self.place(who, credit)] += amount
            if any(after[(who, purse)] < 0 for purse in OWN):
                return "insufficient"
        self.money = after
        self.facts[fact] = (who, kind, ways)
        return "booked"

    def reverse(
        self, original: tuple[str, str], fact: tuple[str, str], *, from_purses: bool
    ) -> tuple[str, int]:
        who, kind, ways = self.facts[original]
        if kind not in INCOMING:
            return "refused", 0
        if original in self.taken_back:
            return ("known" if self.taken_back[original] == fact else "refused"), 0
        has, taken, back = self.money.copy(), 0, []
        for debit, credit, amount in reversed(ways):
            part = min(amount, has[(who, credit)]) if credit in OWN and from_purses else 0
            has[(who, credit)] -= part
            taken += part
            back += [(credit, debit, part)] if part else []
            back += [(K.INVOICES_PAID, debit, amount - part)] if amount > part else []
        answer = self.book(who, T.REVERSED, back, fact)
        if answer == "booked":
            self.taken_back[original] = fact
        # The name of one reversal is no name for another.
        return ("mismatch", 0) if answer == "known" else (answer, taken if answer == "booked" else 0)

    def redeem(self, index: int, who: int, now: datetime) -> str:
        voucher = self.vouchers[index]
        if self.closed(who, now):
            return "closed"
        if voucher["ended"]:
            return "VOUCHER_USED" if voucher["ended"] == "redeemed" else "VOUCHER_EXPIRED"
        if voucher["expires_at"] is not None and voucher["expires_at"] <= now:
            return "VOUCHER_EXPIRED"
        if voucher["currency"] != CURRENCIES[who]:
            return "CURRENCY_MISMATCH"
        voucher["ended"] = "redeemed"
        ways = [(K.VOUCHERS_ISSUED, K.VOUCHER, voucher["value"])]
        return self.book(who, T.VOUCHER_REDEEMED, ways, ("voucher", str(index + 1)))

    def closed(self, who: int, now: datetime) -> bool:
        recent = [at for at in self.guesses[who] if at > now - PER_ACCOUNT.within]
        return len(recent) >= PER_ACCOUNT.most


async def _book(
    account: Account, kind: TransactionKind, ways: list[Way], fact: tuple[str, str], now: datetime
) -> str:
    moves = [Move(debit=debit, credit=credit, amount=amount) for debit, credit, amount in ways]
    try:
        booked = await ledger.book(
            kind, account.id, moves, fact=fact, at=now, actor="model", description="model"
        )
    except InsufficientFundsError:
        return "insufficient"
    except FactMismatchError:
        return "mismatch"
    return "booked" if booked is not None else "known"


class LedgerHistory(RuleBasedStateMachine):
    """The real ledger on a database file of its own, beside the model."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.now = START
        self.random = random.Random(11)
        self.codes: list[str] = []
        self.folder = tempfile.mkdtemp(prefix="abeyance-model-")
        shutil.copyfile(self.template, f"{self.folder}/model.db")
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.accounts = self.runner.run(self._begin())

    async def _begin(self) -> list[Account]:
        await self.stack.enter_async_context(open_database(f"sqlite://{self.folder}/model.db"))
        return [
            await Account.create(external_id=f"c{who}", name="c", currency=currency, created_at=START)
            for who, currency in enumerate(CURRENCIES)
        ]

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    @rule(who=few, shape=st.sampled_from(SHAPES), amount=amounts, fact=facts)
    def book(self, who: int, shape: Any, amount: int, fact: tuple[str, str]) -> None:
        kind, ways = shape[0], [(*way, amount) for way in shape[1]]
        expected = self.model.book(who, kind, ways, fact)
        assert self.runner.run(_book(self.accounts[who], kind, ways, fact, self.now)) == expected

    @precondition(lambda self: any(source == "fact" for source, _id in self.model.facts))
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        fact = data.draw(st.sampled_from(sorted(fact for fact in self.model.facts if fact[0] == "fact")))
        who, kind, ways = self.model.facts[fact]
        if kind is not T.REVERSED:
            assert self.runner.run(_book(self.accounts[who], kind, ways, fact, self.now)) == "known"

    @precondition(lambda self: self.model.facts)
    @rule(data=st.data(), fact=facts, from_purses=st.booleans())
    def reverse(self, data: st.DataObject, fact: tuple[str, str], from_purses: bool) -> None:
        original = data.draw(st.sampled_from(sorted(self.model.facts)))
        expected = self.model.reverse(original, fact, from_purses=from_purses)
        assert self.runner.run(self._reverse(original, fact, from_purses=from_purses)) == expected

    async def _reverse(self, original: Any, fact: tuple[str, str], *, from_purses: bool) -> tuple[str, int]:
        transaction = await LedgerTransaction.get(source=original[0], source_id=original[1])
        try:
            done = await ledger.reverse(
                transaction.id, fact=fact, at=self.now, actor="m", description="m", from_purses=from_purses
            )
        except FactMismatchError:
            return "mismatch", 0
        except RefusalError:
            return "refused", 0
        if done is None:
            return "known", 0
        assert done.taken + done.shortfall == sum(way[2] for way in self.model.facts[original][2])
        return "booked", done.taken

    @rule(
        value=st.integers(1, 60),
        currency=st.sampled_from(("EUR", "JPY")),
        days=st.sampled_from((None, 1, 30)),
    )
    def issue(self, value: int, currency: str, days: int | None) -> None:
        expires_at = None if days is None else self.now + timedelta(days=days)
        batch = Batch(count=1, value=Money(value, currency), expires_at=expires_at)
        work = vouchers.issue(batch, random_below=self.random.randrange, actor="model", now=self.now)
        self.codes += [issued.code for issued in self.runner.run(work)]
        self.model.vouchers.append(
            {"value": value, "currency": currency, "expires_at": expires_at, "ended": None}
        )

    @precondition(lambda self: self.codes)
    @rule(who=few, data=st.data())
    def redeem(self, who: int, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.codes) - 1))
        expected = self.model.redeem(index, who, self.now)
        assert self.runner.run(self._redeem(self.codes[index], who)) == expected

    @rule(who=few)
    def guess(self, who: int) -> None:
        expected = "closed" if self.model.closed(who, self.now) else RefusalCode.VOUCHER_UNKNOWN
        assert self.runner.run(self._redeem(new_code(self.random.randrange), who)) == expected
        if expected != "closed":
            self.model.guesses[who].append(self.now)

    async def _redeem(self, code: str, who: int) -> str:
        try:
            await vouchers.redeem(
                code, account_id=self.accounts[who].id, address=None, actor="model", now=self.now
            )
        except TooManyGuessesError:
            return "closed"
        except RefusalError as refused:
            return refused.problems[0].code
        return "booked"

    @precondition(lambda self: self.codes)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.codes) - 1))
        if self.model.vouchers[index]["ended"] is None:
            self.model.vouchers[index]["ended"] = "revoked"
            self.runner.run(vouchers.revoke(index + 1, reason="model", actor="model", now=self.now))
        else:
            with pytest.raises(RefusalError):
                self.runner.run(vouchers.revoke(index + 1, reason="model", actor="model", now=self.now))

    @rule(by=st.sampled_from((timedelta(minutes=6), timedelta(hours=1), timedelta(days=2))))
    def wait(self, by: timedelta) -> None:
        self.now += by

    @invariant()
    def agrees_with_the_model(self) -> None:
        self.runner.run(self._agrees())

    async def _agrees(self) -> None:
        found = await ledger.purses([account.id for account in self.accounts])
        for who, account in enumerate(self.accounts):
            for kind in OWN:
                has = getattr(found[account.id], kind.value.lower())
                assert has == self.model.money[(who, kind)] >= 0, (who, kind)
        house = await LedgerAccount.filter(account_id__isnull=True)
        sums: Counter[tuple[str, LedgerKind]] = Counter()
        names = {row.id: (row.currency, row.kind) for row in house}
        for transfer in await LedgerTransfer.all():
            sums[names.get(transfer.debit_id, ("", K.BANK))] -= transfer.amount
            sums[names.get(transfer.credit_id, ("", K.BANK))] += transfer.amount
        assert {key: sums[key] for key in names.values()} == {
            key: self.model.money[key] for key in names.values()
        }
        assert sum(self.model.money.values()) == 0
        assert await ledger.proven() == []
        redeemed = await Voucher.filter(redeemed_at__isnull=False).count()
        assert redeemed == sum(voucher["ended"] == "redeemed" for voucher in self.model.vouchers)
        assert redeemed == await LedgerTransaction.filter(kind=T.VOUCHER_REDEEMED).count()
        assert await LedgerTransaction.all().count() == len(self.model.facts)


#: Random work is bounded by numbers, never by time.
HISTORIES = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(autouse=True)
def _template(request: pytest.FixtureRequest) -> None:
    LedgerHistory.template = request.getfixturevalue("_sqlite_template")


def test_it_agrees_with_a_small_model():
    """Whatever happens in whatever order: the same answers, the same purses, every sum zero, nothing below zero."""
    run_state_machine_as_test(LedgerHistory, settings=HISTORIES)


def test_it_would_notice_a_ledger_that_forgets(monkeypatch):
    """The comparison can fail: a booking that loses its second move is found."""
    write = ledger._write

    async def loses(row: Any, moves: Any, ids: Any) -> None:
        await write(row, moves[:1], ids)

    monkeypatch.setattr(ledger, "_write", loses)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(LedgerHistory, settings=settings(HISTORIES, phases=[Phase.generate]))


incoming = st.lists(st.tuples(few, st.sampled_from(SHAPES[:5]), st.integers(1, 40)), min_size=1, max_size=6)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=incoming, data=st.data())
def test_it_is_indifferent_to_replay_and_order(history, data):
    """Facts that bring money in end in the same purses, however they are shuffled and repeated."""
    named = [
        (who, shape, amount, ("fact", str(number))) for number, (who, shape, amount) in enumerate(history)
    ]
    shuffled = data.draw(st.permutations([*named, *data.draw(st.lists(st.sampled_from(named), max_size=6))]))
    ends = []
    for order in (named, shuffled):
        machine = LedgerHistory()
        try:
            for who, (kind, ways), amount, fact in order:
                moved = [(*way, amount) for way in ways]
                work = _book(machine.accounts[who], kind, moved, fact, START)
                assert machine.runner.run(work) == machine.model.book(who, kind, moved, fact)
            machine.agrees_with_the_model()
            ends.append(machine.runner.run(_all_purses(machine.accounts)))
        finally:
            machine.teardown()
    assert ends[0] == ends[1]


async def _all_purses(accounts: list[Account]) -> Any:
    return await ledger.purses([account.id for account in accounts])
