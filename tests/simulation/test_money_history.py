"""Random histories of one account's money through the real database, against a small model of its own.

After every step the purses and invoices are those of the model, the books add up, no purse is below zero, what is
settled stays settled, and nothing that is known already changes anything when it is told again, in whatever order.
Servers run at prices that change; each month's end issues what their hours come to, and no late news changes it.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from api.database import open_database
from billing import adjustments, invoice_parts, issuing, ledger, settling, usage
from billing.adjustments import Loss, LossKind
from billing.clock import ManualClock
from billing.forgiving import forgive
from billing.invoice_parts import OutsidePayment
from billing.ledger import Move
from billing.models import Account, Invoice
from billing.money_back import BankPayment, grant_credit, record_payment, take_back
from billing.money_models import InvoicePart, LedgerKind, PartSource, TransactionKind, UsageInterval, Voucher
from billing.prices import NewPrice, set_price
from billing.refusal import RefusalError
from billing.rules.money import Money
from billing.rules.months import end_of
from billing.rules.policy import BillingPolicy, Policy
from billing.rules.settlement import Payable, Purses, Settlement, settlement
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling import Means, Occasion, settle
from reconciler import metering
from reconciler.models import Server
from reconciler.rules.terms import Deployment, GuestKind

nightly = pytest.mark.nightly
HISTORIES = int(os.environ.get("ABEYANCE_HISTORIES", "12"))
START = datetime(2026, 11, 20, 9, tzinfo=UTC)
#: Before the end of a year, before a change of the clocks, before a leap day.
STARTS = (START, datetime(2027, 3, 20, 9, tzinfo=UTC), datetime(2028, 2, 10, 9, tzinfo=UTC))
ZONE = "Europe/Berlin"
#: The rates of two sizes, in millionths of a cent an hour; 0 costs nothing.
SKUS, RATES = ("small", "large"), (684_932, 33_333_333, 1_000_000, 0)
HOUR = timedelta(hours=1)
POLICIES = {
    "standard": Policy(name="standard", stages=()),
    "whole": Policy(name="whole", stages=(), billing=BillingPolicy(partial_from_purses=False)),
}
amounts = st.sampled_from([1, 50, 100, 100, 250, 1000])


@dataclass
class Owed:
    """One invoice as the model sees it."""

    total: int
    due: int
    adjustment: bool = False
    voucher_aside: int = 0
    balance_aside: int = 0


@dataclass
class Run:
    """One span of one server at one rate as the model sees it."""

    server: int
    rate: int
    began: datetime
    ended: datetime | None = None


def first_of_month(instant: datetime, later: int) -> datetime:
    """Midnight of the first, where the customer lives, of the month of an instant or of a later one."""
    local = instant.astimezone(ZoneInfo(ZONE))
    year, month = divmod(local.year * 12 + local.month - 1 + later, 12)
    return datetime(year, month + 1, 1, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)


@dataclass
class Model:
    """What should be: written without a look at the product."""

    whole: bool
    #: When the month that is invoiced next began; null: nothing ever cost anything.
    month: datetime | None = None
    prices: list[tuple[str, datetime, int]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    voucher: int = 0
    balance: int = 0
    owed: list[Owed] = field(default_factory=list)

    def settle(self) -> None:
        """Smallest total first; vouchers, then cash; what takes no part keeps it aside until all is there."""
        for one in self.owed:
            if not one.due:
                self.put_back(one)
        for one in sorted(self.owed, key=lambda one: one.total):
            missing = one.due - one.voucher_aside - one.balance_aside
            vouchers = 0 if one.adjustment else min(self.voucher, missing)
            cash = min(self.balance, missing - vouchers)
            self.voucher -= vouchers
            self.balance -= cash
            if self.whole and vouchers + cash < missing:
                one.voucher_aside += vouchers
                one.balance_aside += cash
            else:
                one.due = one.voucher_aside = one.balance_aside = 0
                if vouchers + cash < missing:
                    one.due = missing - vouchers - cash

    def price_at(self, sku: str, at: datetime) -> int:
        """The last price that had begun by then; without one nothing is charged."""
        begun = [(since, rate) for name, since, rate in self.prices if name == sku and since <= at]
        return max(begun)[1] if begun else 0

    def end_months(self, now: datetime) -> None:
        """Bill every month that is over: per server and rate its seconds, rounded half up once."""
        while self.month is not None and (end := first_of_month(self.month, 1)) <= now:
            seconds: dict[tuple[int, int], int] = {}
            for run in self.runs:
                span = min(run.ended or end, end) - max(run.began, self.month)
                key = (run.server, run.rate)
                seconds[key] = seconds.get(key, 0) + max(0, int(span.total_seconds()))
            exact = [Fraction(rate * time, 3_600 * 10**6) for (_, rate), time in seconds.items()]
            total = sum(floor(cents + Fraction(1, 2)) for cents in exact)
            if total:
                self.owed.append(Owed(total=total, due=total))
            self.month = end

    def runs_at(self, server: int, rate: int, at: datetime) -> None:
        """From an instant on a server runs at this rate (0: not at all); what is billed stands."""
        if self.month is None:
            self.month = first_of_month(at, 0) if rate else None
        since = max(at, self.month or at)
        for run in self.runs:
            if run.server == server and run.ended is None:
                since = run.ended = max(since, run.began)
        earlier = [run.ended for run in self.runs if run.server == server and run.ended]
        if rate:
            self.runs.append(Run(server=server, rate=rate, began=max([since, *earlier])))

    def put_back(self, one: Owed) -> None:
        """What was kept aside for what is closed is free again."""
        self.voucher += one.voucher_aside
        self.balance += one.balance_aside
        one.voucher_aside = one.balance_aside = 0


class MoneyHistory(RuleBasedStateMachine):
    """Facts about the money of one account, each told once or again."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        file = Path(self.folder.name) / "history.db"
        shutil.copyfile(self.template, file)
        self.runner = asyncio.Runner()
        self.database = open_database(f"sqlite://{file}")
        self.runner.run(self.database.__aenter__())
        self.clock = ManualClock(START)
        self.servers: list[int] = []
        self.means = Means(clock=self.clock, policies=POLICIES)
        self.number = 0
        #: Every fact so far, ready to be told again.
        self.facts: list[Callable[[], Awaitable[object]]] = []
        self.reversible: list[tuple[int, int, int]] = []
        #: Transfers by their entries, as they are told, with the amount; and those that were taken back.
        self.transfers: dict[int, tuple[Callable[[], Awaitable[object]], int, int | None]] = {}
        self.taken_back: list[tuple[Callable[[], Awaitable[object]], int]] = []
        self.settled: set[int] = set()

    def teardown(self) -> None:
        """Close the database."""
        self.runner.run(self.database.__aexit__(None, None, None))
        self.runner.close()
        self.folder.cleanup()

    @initialize(whole=st.booleans(), start=st.sampled_from(STARTS))
    def begin(self, whole: bool, start: datetime) -> None:
        """An account by one of two policies, some day before something happens to the calendar."""
        self.clock.advance(start - START)
        self.model = Model(whole=whole)
        policy = "whole" if whole else "standard"
        self.account = self.runner.run(
            Account.create(
                external_id="c", name="C", currency="EUR", policy=policy, time_zone=ZONE, created_at=START
            )
        )
        for sku, rate in zip(SKUS, RATES, strict=False):
            self.price(sku, rate)
            self.deploy(sku)

    # -- servers and time

    @rule(hours=st.sampled_from([1, 5, 100, 480, 744, 1700]), seconds=st.integers(0, 3_599))
    def pass_time(self, hours: int, seconds: int) -> None:
        """Up to more than two months, all at once; then the months that are over are invoiced, and not again."""
        self.clock.advance(hours * HOUR + timedelta(seconds=seconds))
        self.runner.run(issuing.issue_due(self.clock, POLICIES))
        self.model.end_months(self.clock.now())
        again = self.runner.run(issuing.issue_due(self.clock, POLICIES))
        assert again.invoice_ids == ()

    @rule(sku=st.sampled_from(SKUS), rate=st.sampled_from(RATES))
    def price(self, sku: str, rate: int) -> None:
        """From now on; whatever runs goes on at what it was deployed for."""
        self.pass_time(0, 1)
        asked = NewPrice(sku=sku, currency="EUR", rate=rate)
        self.runner.run(set_price(asked, actor="anna", now=self.clock.now()))
        self.model.prices.append((sku, self.clock.now(), rate))

    @rule(sku=st.sampled_from(SKUS))
    def deploy(self, sku: str) -> None:
        """A server of some size, at the price of now."""
        now, number = self.clock.now(), self._next()
        told = {
            "account_id": self.account.id, "external_id": f"s-{number}", "name": f"web-{number}", "site": "demo",
            "kind": GuestKind.LXC, "sku": sku, "deployment": Deployment.SUCCEEDED, "deployed_at": now,
            "joined_at": now, "created_at": now,
        }  # fmt: skip

        async def deployed() -> int:
            async with in_transaction():
                server = await Server.create(**await metering.priced(Server(), told, at=now))
                await metering.follow(server.id, at=now, now=now)
                return server.id

        ident = self.runner.run(deployed())
        self.servers.append(ident)
        self.model.runs_at(ident, self.model.price_at(sku, now), now)

    @precondition(lambda self: self.servers)
    @rule(data=st.data(), sku=st.sampled_from(SKUS), late=st.sampled_from([0, 7, 900]))
    def resize(self, data: st.DataObject, sku: str, late: int) -> None:
        """At the price of the moment, which may be told late."""
        ident = data.draw(st.sampled_from(self.servers))
        server: Any = self.runner.run(_awaited(Server.get(id=ident)))
        at = max(self.clock.now() - late * HOUR, server.resized_at or server.deployed_at)
        if server.sku != sku:
            self._change(server, {"sku": sku}, at)
            self.model.runs_at(ident, self.model.price_at(sku, at), at)

    @precondition(lambda self: self.servers)
    @rule(data=st.data(), late=st.sampled_from([0, 7, 900]))
    def retire(self, data: st.DataObject, late: int) -> None:
        """Told late at times: what is invoiced stands."""
        ident = data.draw(st.sampled_from(self.servers))
        self.servers.remove(ident)
        at = self.clock.now() - late * HOUR
        server: Any = self.runner.run(_awaited(Server.get(id=ident)))
        self._change(server, {"retired_at": at}, at)
        self.model.runs_at(ident, 0, at)

    def _change(self, server: Server, told: dict[str, Any], at: datetime) -> None:
        """Change a server as its owner's platform tells it."""

        async def changed() -> None:
            async with in_transaction():
                values = await metering.priced(server, told, at=at)
                await Server.filter(id=server.id).update(**values)
                await metering.follow(server.id, at=at, now=self.clock.now())

        self.runner.run(changed())

    # -- facts

    @rule(total=amounts)
    def issue(self, total: int) -> None:
        """An invoice of ours."""
        self.runner.run(
            Invoice.create(
                account=self.account, origin=InvoiceOrigin.USAGE, status=InvoiceStatus.OPEN, currency="EUR",
                total=total, amount_due=total, issued_at=START,
            )
        )  # fmt: skip
        self.model.owed.append(Owed(total=total, due=total))

    @rule(amount=amounts, data=st.data())
    def transfer(self, amount: int, data: st.DataObject) -> None:
        """Money by bank, which may name an invoice."""
        self._payment(amount, data.draw(st.sampled_from([None, *self._open()])))

    @rule(amount=amounts)
    def voucher(self, amount: int) -> None:
        """A redeemed voucher."""
        number = self._next()

        async def make() -> int:
            voucher = await Voucher.create(
                code_hash=f"{number:064d}", value=amount, currency="EUR", issued_by="anna", issued_at=START,
                redeemed_at=START, redeemed_by=self.account,
            )  # fmt: skip
            return voucher.id

        ident = self.runner.run(make())

        async def fill() -> object:
            return await ledger.book(
                TransactionKind.VOUCHER_REDEEMED,
                self.account.id,
                [Move(debit=LedgerKind.VOUCHERS_ISSUED, credit=LedgerKind.VOUCHER, amount=amount)],
                fact=("voucher", str(ident)), at=START, actor="ada", description="voucher", voucher_id=ident,
            )  # fmt: skip

        self._tell(fill)
        self.model.voucher += amount

    @rule(amount=amounts)
    def credit(self, amount: int) -> None:
        """Money of the house."""
        key = f"k{self._next()}"

        async def grant() -> object:
            return await grant_credit(
                self.account.id, Money(amount, "EUR"), reason="sorry", key=key, actor="anna", means=self.means
            )

        booked: Any = self._tell(grant)
        self.model.balance += amount
        self.model.settle()
        self.reversible.append((booked.id, amount, amount))

    @rule(amount=amounts, data=st.data())
    def card(self, amount: int, data: st.DataObject) -> None:
        """A card paid; what it paid for may be settled by then."""
        place = data.draw(st.sampled_from([None, *range(len(self.model.owed))]))
        number = self._next()
        rows = self._rows()
        payment = OutsidePayment(
            account_id=self.account.id, amount=amount, invoice_id=None if place is None else rows[place].id,
            origin=LedgerKind.STRIPE, kind=TransactionKind.CARD_CHARGED, fact=("stripe_payment", f"pi_{number}"),
            source=PartSource.CARD, description="card",
        )  # fmt: skip

        async def paid() -> object:
            return await invoice_parts.take(payment, actor="stripe", now=START)

        self._tell(paid)
        self._arrived(amount, place)

    @rule(amount=amounts)
    def lost_dispute(self, amount: int) -> None:
        """The bank took money back."""
        self._lost(amount, LossKind.DISPUTE)
        self.model.owed.append(Owed(total=amount, due=amount, adjustment=True))

    @rule(amount=amounts)
    def refund(self, amount: int) -> None:
        """Money was given back; by default the debt stays closed."""
        self._lost(amount, LossKind.REFUND)

    @precondition(lambda self: self.reversible)
    @rule(data=st.data())
    def reverse(self, data: st.DataObject) -> None:
        """Staff take an entry back."""
        entry = data.draw(st.sampled_from(self.reversible))
        self.reversible.remove(entry)
        ident, amount, to_balance = entry

        async def back() -> object:
            return await take_back(ident, reason="returned", actor="anna", means=self.means)

        if to_balance == amount <= self.model.balance:
            self.model.balance -= amount
        else:
            self.model.owed.append(Owed(total=amount, due=amount, adjustment=True))
        self._tell(back)
        if ident in self.transfers:
            # Told again it would count again: that is what `anew` is for.
            record, amount, place = self.transfers[ident]
            self.facts.remove(record)
            self.taken_back += [(record, amount)] if place is None else []

    @precondition(lambda self: self.taken_back)
    @rule(data=st.data())
    def anew(self, data: st.DataObject) -> None:
        """A transfer that was taken back by mistake is recorded once more."""
        told = data.draw(st.sampled_from(self.taken_back))
        self.taken_back.remove(told)
        self._transferred(*told, None)

    @precondition(lambda self: self._open())
    @rule(data=st.data())
    def forgiven(self, data: st.DataObject) -> None:
        """Staff write off what is left."""
        place = data.draw(st.sampled_from(self._open()))
        ident = self._rows()[place].id
        self.runner.run(forgive(ident, reason="sorry", actor="anna", means=self.means))
        self.model.owed[place].due = 0
        self.model.put_back(self.model.owed[place])

    @precondition(lambda self: self.facts)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """Any facts that are known, told once more in any order."""
        for fact in data.draw(st.lists(st.sampled_from(self.facts), max_size=6)):
            with suppress(RefusalError):  # "recorded before" is an answer
                self.runner.run(_awaited(fact()))

    # -- what must hold

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        """After settling; twice, since the second time finds nothing to do."""
        if not hasattr(self, "model"):
            return
        for _ in range(2):
            self.runner.run(adjustments.issue_drafts(self.clock, POLICIES))
            done = self.runner.run(settle(self.account.id, occasion=Occasion(), means=self.means))
        assert done.steps == 0
        self.model.settle()
        purses = self.runner.run(ledger.purses([self.account.id]))[self.account.id]
        rows = self._rows()
        assert [(row.total, row.amount_due) for row in rows] == [
            (one.total, one.due) for one in self.model.owed
        ]
        assert (purses.voucher, purses.balance) == (self.model.voucher, self.model.balance)
        assert purses.voucher_reserved == sum(one.voucher_aside for one in self.model.owed)
        assert purses.balance_reserved == sum(one.balance_aside for one in self.model.owed)
        assert self.runner.run(ledger.proven()) == []
        self._months_stand(rows)
        paid = {row.id for row in rows if row.status is InvoiceStatus.PAID}
        assert self.settled <= paid
        self.settled = paid
        for row in rows:
            assert (row.status is InvoiceStatus.PAID) == (row.amount_due == 0)
            parts = self.runner.run(_awaited(InvoicePart.filter(invoice_id=row.id)))
            assert sum(part.amount for part in parts) == row.total - row.amount_due

    def _months_stand(self, rows: list[Invoice]) -> None:
        """What was issued follows from the usage to the cent, now as then, under numbers without a gap."""
        series: dict[str, list[int]] = {}
        for row in rows:
            if row.period_start is not None:
                lines = self.runner.run(issuing.recompute(row))
                assert sum(line.amount for line in lines) == row.total
            if row.number:
                year, _, number = row.number.partition("-")
                series.setdefault(year, []).append(int(number))
        for numbers in series.values():
            assert sorted(numbers) == list(range(1, len(numbers) + 1))

    # -- telling

    def _payment(self, amount: int, place: int | None) -> None:
        reference = f"RF {self._next()}"
        asked = BankPayment(
            account_id=self.account.id, amount=Money(amount, "EUR"), reference=reference,
            received_at=START - timedelta(hours=1), invoice_id=None if place is None else self._rows()[place].id,
        )  # fmt: skip

        async def record() -> object:
            return await record_payment(asked, actor="anna", means=self.means)

        self._transferred(record, amount, place)

    def _transferred(self, record: Callable[[], Awaitable[object]], amount: int, place: int | None) -> None:
        taken: Any = self._tell(record)
        self._arrived(amount, place)
        self.model.settle()
        self.reversible.append((taken.transaction.id, amount, taken.to_balance))
        self.transfers[taken.transaction.id] = (record, amount, place)

    def _arrived(self, amount: int, place: int | None) -> None:
        due = self.model.owed[place].due if place is not None else 0
        paid = min(amount, due)
        if place is not None:
            self.model.owed[place].due -= paid
        self.model.balance += amount - paid
        for one in self.model.owed:
            if 0 < one.due <= one.voucher_aside + one.balance_aside:
                # What was kept aside is enough by now: vouchers first, the rest is free.
                vouchers = min(one.voucher_aside, one.due)
                one.voucher_aside -= vouchers
                one.balance_aside -= one.due - vouchers
                one.due = 0
                self.model.put_back(one)

    def _lost(self, amount: int, kind: LossKind) -> None:
        loss = Loss(
            kind=kind,
            account_id=self.account.id,
            amount=amount,
            fact=(f"stripe_{kind}", f"{self._next()}"),
            description=kind.value,
        )

        async def lose() -> object:
            async with in_transaction():
                await invoice_parts.hold(self.account.id)
                return await adjustments.lose(loss, actor="stripe", now=START)

        self._tell(lose)

    def _tell(self, fact: Callable[[], Awaitable[object]]) -> object:
        self.facts.append(fact)
        return self.runner.run(_awaited(fact()))

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _rows(self) -> list[Invoice]:
        rows = Invoice.filter(account_id=self.account.id).exclude(status=InvoiceStatus.VOID)
        issued = rows.exclude(status=InvoiceStatus.DRAFT).order_by("id")
        return list(self.runner.run(_awaited(issued)))

    def _open(self) -> list[int]:
        return [place for place, one in enumerate(self.model.owed) if one.due]


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


def _search(sqlite_url: str, *, histories: int, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    machine = type("Money", (MoneyHistory,), {"template": Path(sqlite_url.removeprefix("sqlite://"))})
    quick = settings(
        max_examples=histories,
        phases=phases,
        database=None,
        derandomize=len(phases) == 1,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(machine, settings=quick)


@pytest.mark.parametrize("histories", [3, pytest.param(HISTORIES, marks=nightly)], ids=["some", "many"])
def test_it_keeps_to_the_model_in_any_history(sqlite_url: str, histories: int) -> None:
    """Usage, prices, months; payments, vouchers, refunds, disputes, credits, reversals; told again, in any order."""
    _search(sqlite_url, histories=histories)


def _cash_first(payables: Iterable[Payable], purses: Purses) -> Settlement:
    return settlement(payables, Purses(balance=purses.balance) if purses.balance else purses)


@nightly
def test_it_would_see_another_order_of_the_purses(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is not the product's own rule: cash before vouchers is found."""
    monkeypatch.setattr(settling, "settlement", _cash_first)
    with pytest.raises(AssertionError):
        _search(sqlite_url, histories=100, phases=(Phase.generate,))


@nightly
def test_it_would_see_a_payment_that_counts_twice(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the name of its fact a payment that is told again is booked again."""
    take = invoice_parts.take

    async def careless(payment: OutsidePayment, **given: Any) -> Any:
        return await take(replace(payment, fact=("careless", str(uuid4()))), **given)

    monkeypatch.setattr(invoice_parts, "take", careless)
    with pytest.raises(AssertionError):
        _search(sqlite_url, histories=100, phases=(Phase.generate,))


@nightly
def test_it_would_see_late_news_that_change_an_invoiced_month(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interval that is closed where the news says, however long ago, takes hours off an invoice that is out.

    The database refuses it as well.
    """

    async def careless(present: UsageInterval, because: usage.Ended, since: datetime) -> None:
        end = max(since, present.started_at)
        await UsageInterval.filter(id=present.id).update(ended_at=end, ended_because=because)

    monkeypatch.setattr(usage, "_close", careless)
    with pytest.raises((AssertionError, IntegrityError)):
        _search(sqlite_url, histories=400, phases=(Phase.generate,))


@nightly
def test_it_would_see_months_that_end_elsewhere(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invoice up to midnight in London takes an hour of the next month from a customer in Berlin."""
    monkeypatch.setattr(issuing, "end_of", lambda month, zone: end_of(month, "Europe/London"))
    with pytest.raises(AssertionError):
        _search(sqlite_url, histories=100, phases=(Phase.generate,))
