"""What is read from Stripe wakes the money of those whom it is about."""

from collections.abc import AsyncIterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from api.money_turns import MoneyTurns
from api.stripe_turns import StripeTurns
from billing import ledger
from billing.ledger import Move
from billing.models import Account, Invoice, StripeEvent
from billing.money_models import LedgerKind, TransactionKind
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling import Means
from billing.stripe import inbox
from billing.stripe.gateway import StripeGateway
from reconciler import safety
from reconciler.guard_models import SafeModeCause, SafeModeKind
from reconciler.models import ReconcilerState
from reconciler.rules.terms import Mode
from simulators import stripe

pytestmark = pytest.mark.usefixtures("sqlite_database")
KEY = "sk_test_canary_8d1f"
POLICIES = {"standard": Policy(name="standard", stages=())}


class Scene:
    """The turns that read a simulated Stripe, and the money's beside them."""

    def __init__(self, clock: Any, world: stripe.Account, gateway: StripeGateway | None) -> None:
        async def mode() -> Mode:
            return Mode.APPLY

        self.clock, self.world, self.passes = clock, world, 0
        means = Means(clock=clock, policies=POLICIES)
        self.money = MoneyTurns(clock=clock, means=lambda: means, cards=None, mode=mode, wake=self.wake)
        self.turns = StripeTurns(clock=clock, gateway=gateway, account=None, money=self.money, wake=self.wake)

    def wake(self) -> None:
        """Count the passes that are asked for."""
        self.passes += 1

    async def owing(self, factory: Any) -> Account:
        """A customer with money on the balance and an invoice of ours that was not settled yet."""
        customer = self.world.create_customer(email="ada@example.org", name="Ada")["id"]
        account: Account = await factory.account(stripe_customer_id=customer)
        await factory.invoice(account)
        move = Move(debit=LedgerKind.BANK, credit=LedgerKind.BALANCE, amount=500)
        told = {"at": self.clock.now(), "actor": "anna", "description": "test"}
        fact = ("test", str(account.id))
        await ledger.book(TransactionKind.PAYMENT_RECORDED, account.id, [move], fact=fact, **told)
        return account

    def invoiced(self, account: Account) -> str:
        """Something happens at Stripe that names the customer."""
        due = self.clock.now() + timedelta(days=14)
        made = self.world.create_invoice(str(account.stripe_customer_id), 900, "eur", due_date=due)
        return str(made["id"])

    async def hears(self, account: Account) -> None:
        """A webhook that names the customer arrives."""
        self.invoiced(account)
        for event in self.world.store.kinds["event"].values():
            await inbox.store(event, source="webhook", now=self.clock.now())


@pytest.fixture
async def scene(clock: Any) -> AsyncIterator[Scene]:
    """A Stripe that answers."""
    world = stripe.Account(clock, Random(7), api_key=KEY)
    async with stripe.serve(world) as url:
        gateway = StripeGateway(KEY, api_base=url, retries=0)
        yield Scene(clock, world, gateway)
        await gateway.close()


async def settled() -> dict[int, InvoiceStatus]:
    """Where the invoices of ours are."""
    rows = await Invoice.filter(origin=InvoiceOrigin.USAGE)
    return {row.account_id: row.status for row in rows}


async def test_it_lets_settle_whom_events_were_about(scene, factory):
    """Those, and nobody else; the reconciler is woken as well."""
    other = await scene.owing(factory)
    scene.world.store.kinds["event"].clear()
    mine = await scene.owing(factory)
    await scene.hears(mine)
    await scene.turns.process_inbox()
    assert scene.passes > 0
    await scene.money.settle_touched()
    assert await settled() == {mine.id: InvoiceStatus.PAID, other.id: InvoiceStatus.OPEN}


async def test_it_lets_settle_whom_the_sweep_found_news_about(scene, factory, clock):
    """Events that no webhook brought."""
    await scene.turns.sweep()
    mine = await scene.owing(factory)
    clock.advance(timedelta(minutes=5))
    scene.invoiced(mine)
    await scene.turns.sweep()
    await scene.money.settle_touched()
    assert await settled() == {mine.id: InvoiceStatus.PAID}


async def test_it_lets_settle_a_customer_that_was_named_anew(scene, factory):
    """What is open of them is read, and settled."""
    mine = await scene.owing(factory)
    await scene.turns.adopt(mine.id, str(mine.stripe_customer_id))
    await scene.money.settle_touched()
    assert await settled() == {mine.id: InvoiceStatus.PAID}


async def test_it_lets_settle_an_account_of_which_stripe_says_something_new(scene, factory, clock):
    """Asked because it would be restricted; an equal answer settles nothing."""
    mine = await scene.owing(factory)
    await scene.turns.refetch(mine)
    assert not scene.money.settling._woken.is_set()
    scene.invoiced(mine)
    await scene.turns.sweep()
    await Invoice.filter(origin=InvoiceOrigin.STRIPE).update(overdue_seen_at=clock.now())
    scene.money.settling._woken.clear()
    scene.money._touched.clear()
    scene.world.pay_invoice(str((await Invoice.get(origin=InvoiceOrigin.STRIPE)).stripe_invoice_id))
    await scene.turns.refetch(mine)
    await scene.money.settle_touched()
    assert await settled() == {mine.id: InvoiceStatus.PAID}


async def test_it_does_nothing_while_stripe_is_off(clock, factory):
    """No error, nothing woken."""
    scene = Scene(clock, stripe.Account(clock, Random(7), api_key=KEY), None)
    account = await factory.account()
    assert await scene.turns.process_inbox() is None
    await scene.turns.sweep()
    await scene.turns.refetch(account)
    await scene.turns.adopt(account.id, "cus_1")
    assert (scene.passes, await StripeEvent.all().count()) == (0, 0)


async def test_another_stripe_account_restricts_nobody_until_the_right_one_was_read(scene: Scene) -> None:
    """It is doubt about everything that Stripe told; a sweep of the right account ends it."""
    right = scene.turns.account
    scene.turns.account = "acct_another"
    await scene.turns.sweep()
    await scene.turns.process_inbox()
    assert (await ReconcilerState.get(id=1)).safe_mode_since is not None
    await safety.review(frozenset(), stripe=True, now=scene.clock.now())
    assert (await SafeModeCause.get()).ended_at is None

    scene.clock.advance(timedelta(seconds=1))
    scene.turns.account = right
    await scene.turns.sweep()
    await safety.review(frozenset(), stripe=True, now=scene.clock.now())

    assert (await SafeModeCause.get()).kind is SafeModeKind.IDENTITY
    assert (await ReconcilerState.get(id=1)).safe_mode_since is None
