"""One account of ours with its customer at a simulated Stripe, and what the mirror holds of them."""

from collections.abc import Awaitable, Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from billing import cards
from billing.clock import ManualClock
from billing.models import Account, AuditEntry, Dispute, Invoice, StripeEvent, Subscription, WorkItem
from billing.money_models import Card
from billing.stripe import inbox
from billing.stripe.card_gateway import CardGateway
from billing.stripe.gateway import StripeGateway
from billing.stripe.processing import Processed, process_due
from simulators.stripe import Account as Simulator


@dataclass(kw_only=True)
class World:
    """One account of ours, its customer at Stripe, and the way between."""

    clock: ManualClock
    simulator: Simulator
    wire: Any
    gateway: StripeGateway
    account: Account
    customer: str
    read: int = 0

    def news(self) -> list[dict[str, Any]]:
        """The events since the last call, oldest first."""
        every = list(self.simulator.store.kinds.get("event", {}).values())
        fresh, self.read = every[self.read :], len(every)
        return deepcopy(fresh)

    async def deliver(self, events: Sequence[dict[str, Any]] | None = None) -> Processed:
        """Store events as a webhook would (all new ones by default) and work the inbox off."""
        for event in self.news() if events is None else events:
            await inbox.store(event, source="webhook", now=self.clock.now())
        return await self.process()

    async def process(self, **given: Any) -> Processed:
        """Work the inbox off."""
        return await process_due(self.gateway, self.clock, **given)

    async def invoice(self, stripe_id: str) -> Invoice:
        """The mirrored row."""
        return await Invoice.get(stripe_invoice_id=stripe_id)

    async def facts_version(self) -> int:
        """The account's version of the facts."""
        return (await Account.get(id=self.account.id)).facts_version

    def create_invoice(self, amount: int = 1000, **given: Any) -> str:
        """An open invoice, by default one to be paid within a day; its id at Stripe."""
        if given.get("collection_method", "send_invoice") == "send_invoice":
            given.setdefault("due_date", self.clock.now() + timedelta(days=1))
        return str(self.simulator.create_invoice(self.customer, amount, **given)["id"])

    def charged_invoice(self, amount: int = 1000) -> str:
        """An open invoice that Stripe will charge by itself, and has not tried yet."""
        return self.create_invoice(amount, collection_method="charge_automatically", auto_advance=False)


async def make_world(
    clock: ManualClock, simulator: Simulator, wire: Any, gateway: StripeGateway, factory: Any
) -> World:
    """An account of ours with a customer at Stripe, and nothing owed."""
    customer = simulator.create_customer(email="customer@example.org", name="Ada")["id"]
    account = await factory.account(stripe_customer_id=customer)
    world = World(
        clock=clock, simulator=simulator, wire=wire, gateway=gateway, account=account, customer=customer
    )
    world.news()
    return world


@pytest_asyncio.fixture
async def each_world(
    database: str, clock: ManualClock, simulator: Simulator, wire: Any, gateway: StripeGateway, factory: Any
) -> World:
    """The world on SQLite and on PostgreSQL, for what a database could do otherwise."""
    return await make_world(clock, simulator, wire, gateway, factory)


@pytest_asyncio.fixture
async def world(
    sqlite_database: str,
    clock: ManualClock,
    simulator: Simulator,
    wire: Any,
    gateway: StripeGateway,
    factory: Any,
) -> World:
    """The world on SQLite."""
    return await make_world(clock, simulator, wire, gateway, factory)


SaveCard = Callable[..., Awaitable[Card]]


@pytest.fixture
def save_card(card_gateway: CardGateway) -> SaveCard:
    """Saves a test card as a customer at the portal does: begin, enter it in the browser, finish."""

    async def save(world: World, card: str = "pm_card_visa", **given: Any) -> Card:
        account = world.account.id
        setup = await cards.begin_setup(card_gateway, world.clock, account, actor="ada")
        world.simulator.save_card(setup.id, card)
        # Cards are told apart by their age.
        world.clock.advance(timedelta(seconds=1))
        return await cards.add(
            card_gateway, world.clock, account, setup_intent_id=setup.id, actor="ada", **given
        )

    return save


async def snapshot() -> dict[str, Any]:
    """Everything that the mirror holds, without what only tells when it was read."""
    invoices = await Invoice.all().order_by("stripe_invoice_id").values()
    subscriptions = await Subscription.all().order_by("stripe_subscription_id").values()
    disputes = (
        await Dispute.all().order_by("stripe_dispute_id").values("stripe_dispute_id", "amount", "opened_at")
    )
    accounts = await Account.all().order_by("id").values("id", "stripe_deleted")
    items = await WorkItem.all().order_by("dedupe_key").values("dedupe_key", "state")
    for row in (*invoices, *subscriptions):
        del row["fetched_at"], row["id"]
    return {
        "invoices": invoices,
        "disputes": disputes,
        "subscriptions": subscriptions,
        "accounts": accounts,
        "items": items,
    }


async def everything() -> dict[str, Any]:
    """Every row of the tables that Stripe's news can reach, to the last column."""
    tables = (Account, Invoice, Dispute, Subscription, StripeEvent, WorkItem, AuditEntry)
    return {table.__name__: await table.all().order_by("id").values() for table in tables}


@pytest.fixture(name="snapshot")
def _snapshot() -> Callable[[], Awaitable[dict[str, Any]]]:
    """What the mirror holds."""
    return snapshot


@pytest.fixture(name="everything")
def _everything() -> Callable[[], Awaitable[dict[str, Any]]]:
    """Every row of the tables that Stripe's news can reach."""
    return everything
