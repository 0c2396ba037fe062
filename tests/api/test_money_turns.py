"""The money's turns: what they do in which mode, and what wakes them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from api.money_turns import MoneyTurns
from billing import ledger
from billing.charge_rows import InvoiceCharge
from billing.charges import Outcome
from billing.ledger import Move
from billing.models import Account, Invoice, Notice, WorkItem
from billing.money_models import (
    Card,
    Charge,
    LedgerKind,
    MeteredAccount,
    TransactionKind,
    UsageInterval,
    VoucherGuess,
)
from billing.rules.cards import NotAsked
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceStatus
from billing.settling import Means
from reconciler.rules.terms import Mode

pytestmark = pytest.mark.usefixtures("sqlite_database")
POLICIES = {"standard": Policy(name="standard", stages=())}
MONTH_END = datetime(2026, 11, 30, 23, tzinfo=UTC)


class Stage:
    """The turns, the mode that they ask for, how often they woke the reconciler and which cards they asked."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.mode = Mode.APPLY
        self.passes = 0
        self.asked: list[int] = []
        self.turns = MoneyTurns(
            clock=clock,
            means=lambda: Means(clock=clock, policies=POLICIES, ask_card=self._ask),
            cards=None,
            mode=self._mode,
            wake=self._wake,
        )

    async def _mode(self) -> Mode:
        return self.mode

    def _wake(self) -> None:
        self.passes += 1

    async def _ask(self, wanted: InvoiceCharge) -> Outcome:
        self.asked.append(wanted.card_id)
        return Outcome(charge=None, not_asked=NotAsked.TRIED)


@pytest.fixture
def stage(clock: Any) -> Stage:
    """Turns in mode `APPLY`."""
    return Stage(clock)


async def cash(account: Account, amount: int, clock: Any) -> None:
    """Money on the balance."""
    move = Move(debit=LedgerKind.BANK, credit=LedgerKind.BALANCE, amount=amount)
    told = {"at": clock.now(), "actor": "anna", "description": "test"}
    await ledger.book(
        TransactionKind.PAYMENT_RECORDED, account.id, [move], fact=("test", str(account.id)), **told
    )


async def used(account: Account, clock: Any) -> None:
    """A server ran in November, for 100 EUR."""
    since = datetime(2026, 11, 10, tzinfo=UTC)
    async with in_transaction():
        await MeteredAccount.create(
            account=account, month=since.date().replace(day=1), invoiced_until=since, due_at=MONTH_END
        )
        await UsageInterval.create(
            account=account, server_id=1, server_name="web", sku="small", currency="EUR", rate=100_000_000,
            started_at=since, ended_at=datetime(2026, 11, 14, 4, tzinfo=UTC), ended_because="retired",
        )  # fmt: skip
    clock.advance(MONTH_END - clock.now())


async def card(account: Account, clock: Any) -> Card:
    """A saved card."""
    return await Card.create(
        account=account, stripe_payment_method_id="pm_1", fingerprint="x", brand="visa", last4="4242",
        exp_month=12, exp_year=2030, added_at=clock.now(),
    )  # fmt: skip


async def test_it_issues_ended_months_and_settles_them(stage, factory, clock):
    """The invoice, then the purse, and the reconciler hears of both."""
    account = await factory.account()
    await cash(account, 3_000, clock)
    await used(account, clock)
    assert await stage.turns.issue() is None
    issued = await Invoice.get()
    assert (issued.total, issued.amount_due, stage.passes) == (10_000, 10_000, 1)
    await stage.turns.settle_touched()
    assert ((await Invoice.get()).amount_due, stage.passes) == (7_000, 2)


async def test_it_goes_on_at_once_while_there_are_more_months(stage, factory, clock, monkeypatch):
    """A full batch is followed by the next."""
    for _ in range(3):
        await used(await factory.account(), clock)
    monkeypatch.setattr("api.money_turns.BATCH", 2)
    assert await stage.turns.issue() == 0.0
    assert await stage.turns.issue() is None
    assert await Invoice.all().count() == 3


async def test_it_does_nothing_in_mode_off(stage, factory, clock):
    """No invoice, no money moved, no card asked; all of it happens after a switch."""
    stage.mode = Mode.OFF
    account = await factory.account()
    await cash(account, 100, clock)
    await card(account, clock)
    invoice = await factory.invoice(account)
    await used(account, clock)
    stage.turns.touched({account.id})
    for turn in (stage.turns.issue, stage.turns.settle_touched, stage.turns.sweep, stage.turns.once):
        await turn()
    assert [row.amount_due for row in await Invoice.all()] == [500]
    assert (stage.asked, stage.passes) == ([], 0)
    stage.mode = Mode.APPLY
    await stage.turns.once()
    assert await Invoice.all().count() == 2
    assert (await Invoice.get(id=invoice.id)).amount_due == 400
    assert stage.asked != []


async def test_it_asks_no_card_by_itself_in_mode_plan(stage, factory, clock):
    """The purses pay what their owner put there for it; a card is another matter."""
    stage.mode = Mode.PLAN
    account = await factory.account()
    await cash(account, 100, clock)
    saved = await card(account, clock)
    await factory.invoice(account)
    await stage.turns.sweep()
    assert ((await Invoice.get()).amount_due, stage.asked) == (400, [])
    stage.mode = Mode.APPLY
    await stage.turns.sweep()
    assert stage.asked == [saved.id]


async def test_it_settles_whom_a_fact_was_about(stage, factory, clock):
    """At once, and nobody else; what could not be settled is tried again."""
    mine, other = await factory.account(), await factory.account()
    for account in (mine, other):
        await cash(account, 500, clock)
        await factory.invoice(account)
    stage.turns.touched({mine.id})
    await stage.turns.settle_touched()
    statuses = {row.account_id: row.status for row in await Invoice.all()}
    assert statuses == {mine.id: InvoiceStatus.PAID, other.id: InvoiceStatus.OPEN}


async def test_it_remembers_whom_a_fact_was_about_when_a_turn_fails(stage, factory, clock, monkeypatch):
    """A database that is away for a moment loses nothing."""
    account = await factory.account()
    await cash(account, 500, clock)
    await factory.invoice(account)
    stage.turns.touched({account.id})

    async def away(*_: Any, **__: Any) -> int:
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr("api.money_turns.settle_due", away)
        with pytest.raises(ConnectionError):
            await stage.turns.settle_touched()
    await stage.turns.settle_touched()
    assert (await Invoice.get()).status is InvoiceStatus.PAID


async def test_its_ticks_only_wake(stage, factory, clock):
    """Nothing is done by the tick itself, so a tick that comes late or twice costs nothing."""
    await used(await factory.account(), clock)
    ticks = stage.turns.ticks(sweep=300.0)
    assert {name: seconds for name, (seconds, _) in ticks.items()} == {
        "issuing": 3_600.0,
        "money": 300.0,
        "ahead": 3_600.0,
        "books": 86_400.0,
        "troubles": 600.0,
    }
    for _, tick in ticks.values():
        await tick()
    assert await Invoice.all().count() == 0
    assert [worker.name for worker in stage.turns.workers if worker._woken.is_set()] == [
        "issuing",
        "money",
        "ahead",
        "books",
        "troubles",
    ]


async def test_it_forgets_old_guesses_and_proves_the_ledger(stage, factory, clock, monkeypatch):
    """Once a day."""
    account = await factory.account()
    await VoucherGuess.create(account_id=account.id, at=datetime(2026, 1, 1, tzinfo=UTC))
    looked = []

    async def check(given: Any) -> list[str]:
        looked.append(given)
        return []

    monkeypatch.setattr("billing.books.check", check)
    await stage.turns.look_at_books()
    assert (await VoucherGuess.all().count(), looked) == (0, [clock])


@pytest.mark.parametrize(("mode", "told"), [(Mode.APPLY, 1), (Mode.PLAN, 0), (Mode.OFF, 0)])
async def test_it_tells_ahead_in_apply_alone(stage, factory, clock, mode, told):
    """Money that ends is told of once, and sent by the pass that follows; elsewhere nobody is told anything."""
    account = await factory.account()
    await used(account, clock)
    await UsageInterval.create(
        account=account, server_id=2, server_name="db", sku="small", currency="EUR", rate=1_000_000,
        started_at=clock.now(),
    )  # fmt: skip
    await cash(account, 5, clock)
    stage.mode = mode
    assert await stage.turns.tell_ahead() is None
    assert await stage.turns.tell_ahead() is None
    assert await Notice.filter(template="funds_low").count() == told
    assert stage.passes == told


async def test_one_turn_for_a_command_tells_ahead_too(stage, factory, clock):
    """After settling, so that what is told is what is left."""
    account = await factory.account()
    await used(account, clock)
    await UsageInterval.create(
        account=account, server_id=2, server_name="db", sku="small", currency="EUR", rate=1_000_000,
        started_at=clock.now(),
    )  # fmt: skip
    await cash(account, 10_005, clock)
    await stage.turns.once()
    assert (await Invoice.get()).status is InvoiceStatus.PAID
    assert await Notice.filter(template="funds_low").count() == 1


@pytest.mark.parametrize(("mode", "found"), [(Mode.OFF, 0), (Mode.PLAN, 1), (Mode.APPLY, 1)])
async def test_it_looks_for_troubles(stage, factory, clock, mode, found):
    """What hangs comes into the work queue, except in mode `OFF`."""
    stage.mode = mode
    card = await Card.create(
        account=await factory.account(), stripe_payment_method_id="pm_1", fingerprint="f", brand="visa", last4="4242",
        exp_month=12, exp_year=2030, added_at=clock.now(),
    )  # fmt: skip
    await Charge.create(
        account_id=card.account_id, card=card, card_version=1, amount=1, currency="EUR", on_session=False,
        occasion="o", idempotency_key="k", created_at=clock.now(), updated_at=clock.now(),
    )  # fmt: skip
    clock.advance(timedelta(days=2))
    assert await stage.turns.look_for_troubles() is None
    assert await WorkItem.filter(kind="charge_stuck").count() == found
