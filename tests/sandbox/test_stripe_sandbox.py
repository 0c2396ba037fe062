"""Cards, charges, invoices, purse money and money back against a sandbox of Stripe; see the README beside this file."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
import stripe

from billing import adjustments, cards, charges, ledger
from billing.charge_rows import InvoiceCharge, TopUp
from billing.clock import SystemClock
from billing.forgiving import forgive
from billing.models import Account, Invoice, WorkItem
from billing.money_models import Card, ChargeState, LedgerKind, Reservation, TransactionKind
from billing.refusal import RefusalCode, RefusalError
from billing.rules.cards import NotAsked
from billing.rules.money import Money
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling import Means, Occasion, settle
from billing.stripe.card_gateway import CardGateway
from billing.stripe.contested import refresh_contested
from billing.stripe.gateway import API_VERSION, StripeGateway, is_live_key
from billing.stripe.refresh import refresh_invoice
from billing.stripe.settle_gateway import SettleGateway

KEY = os.environ.get("ABEYANCE_TEST_STRIPE_KEY", "")
#: Null: Stripe itself. A nightly test lets these tests run against the simulator, so that they cannot rot unseen.
BASE = os.environ.get("ABEYANCE_TEST_STRIPE_API_BASE") or None

# Never required: nobody has to own an account at Stripe to work on the product.
pytestmark = [
    pytest.mark.skipif(
        not KEY, reason="set ABEYANCE_TEST_STRIPE_KEY to a test-mode key to run against Stripe"
    ),
]


@dataclass(kw_only=True)
class Sandbox:
    """An account of ours whose customer lives on a test clock."""

    clock: SystemClock
    sdk: stripe.StripeClient
    gateway: CardGateway
    account: Account
    customer: str
    #: Null: this Stripe has none.
    test_clock: str | None
    now: datetime

    async def save(self, card: str = "pm_card_visa", **given: Any) -> Card:
        """Save a test card as the portal does."""
        setup = await cards.begin_setup(self.gateway, self.clock, self.account.id, actor="ada")
        await self.sdk.v1.setup_intents.confirm_async(setup.id, {"payment_method": card})
        return await cards.add(
            self.gateway, self.clock, self.account.id, setup_intent_id=setup.id, actor="ada", **given
        )

    async def advance(self, by: timedelta) -> None:
        """Move the customer's clock and wait until Stripe has done what became due."""
        if self.test_clock is None:
            pytest.skip("the simulator has no test clocks")
        self.now += by
        clocks, mine = self.sdk.v1.test_helpers.test_clocks, self.test_clock
        await clocks.advance_async(mine, {"frozen_time": int(self.now.timestamp())})

        async def arrived() -> bool:
            return (await clocks.retrieve_async(mine)).status == "ready"

        await until("the test clock arrives", arrived)

    async def invoice(self, amount: int, **params: Any) -> Invoice:
        """A finalized invoice of Stripe, mirrored."""
        asked: Any = {"customer": self.customer, "currency": "eur", **params}
        made = await self.sdk.v1.invoices.create_async(asked)
        item: Any = {"customer": self.customer, "invoice": made.id, "amount": amount, "currency": "eur"}
        await self.sdk.v1.invoice_items.create_async(item)
        await self.sdk.v1.invoices.finalize_invoice_async(str(made.id), {})
        return await self.mirrored(str(made.id))

    async def mirrored(self, key: str) -> Invoice:
        """The row of an invoice, read just now."""
        await refresh_invoice(self.gateway.gateway, self.clock, key)
        return await Invoice.get(stripe_invoice_id=key)

    async def balance(self) -> int:
        """What is on the balance."""
        return (await ledger.purses([self.account.id]))[self.account.id].balance

    async def fill(self, amount: int) -> None:
        """Let a transfer become balance."""
        move = ledger.Move(debit=LedgerKind.BANK, credit=LedgerKind.BALANCE, amount=amount)
        told: Any = {"at": self.clock.now(), "actor": "anna", "description": "transfer"}
        fact = ("test", f"{self.customer}:{amount}")
        await ledger.book(TransactionKind.PAYMENT_RECORDED, self.account.id, [move], fact=fact, **told)

    async def topped_up(self, card: str = "pm_card_visa") -> str:
        """Put twenty euros on the balance; the payment's id at Stripe."""
        await self.save(card)
        outcome = await charges.top_up(self.gateway, self.clock, self.wish(card))
        assert outcome.state is ChargeState.SUCCEEDED
        assert outcome.charge is not None
        return str(outcome.charge.stripe_payment_intent_id)

    def wish(self, key: str, **given: Any) -> TopUp:
        """Twenty euros."""
        # Stripe keeps keys for a day: another run must not be answered with what happened in this one.
        unique = f"{self.customer}:{key}"
        return TopUp(
            account_id=self.account.id,
            amount=Money(2000, "EUR"),
            idempotency_key=unique,
            actor="ada",
            **given,
        )


async def until(what: str, so: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what Stripe does in its own time, a minute at most."""
    for _ in range(60):
        if await so():
            return
        await asyncio.sleep(1)
    pytest.fail(f"waited in vain until {what}")


@pytest_asyncio.fixture
async def sandbox(sqlite_database: str, factory: Any) -> AsyncIterator[Sandbox]:
    """A fresh customer on a clock of its own; both are gone afterwards."""
    if is_live_key(KEY) or "_test_" not in KEY:
        pytest.fail("ABEYANCE_TEST_STRIPE_KEY is no key of test mode", pytrace=False)
    gateway = StripeGateway(KEY, api_base=BASE)
    sdk = stripe.StripeClient(
        KEY,
        stripe_version=API_VERSION,
        http_client=stripe.HTTPXClient(),
        base_addresses={"api": BASE} if BASE else None,
    )
    now, clocks = datetime.now(UTC).replace(microsecond=0), sdk.v1.test_helpers.test_clocks
    asked: Any = {"email": "ada@example.org"}
    if BASE is None:
        asked["test_clock"] = (await clocks.create_async({"frozen_time": int(now.timestamp())})).id
    customer = await sdk.v1.customers.create_async(asked)
    account = await factory.account(external_id=f"sandbox-{customer.id}", stripe_customer_id=customer.id)
    try:
        yield Sandbox(
            clock=SystemClock(), sdk=sdk, gateway=CardGateway(gateway), account=account, customer=customer.id,
            test_clock=asked.get("test_clock"), now=now,
        )  # fmt: skip
    finally:
        if BASE is None:
            await clocks.delete_async(asked["test_clock"])
        await gateway.close()


async def test_it_saves_cards_once_and_removes_them(sandbox: Sandbox) -> None:
    """Equal numbers have equal fingerprints; the default is Stripe's too; a removed card is nobody's."""
    first, second = await sandbox.save(), await sandbox.save("pm_card_mastercard", make_default=True)
    with pytest.raises(RefusalError) as caught:
        await sandbox.save()
    assert caught.value.problems[0].code is RefusalCode.CARD_DUPLICATE
    owner = await sandbox.gateway.gateway.fetch_customer(sandbox.customer)
    assert owner["invoice_settings"]["default_payment_method"] == second.stripe_payment_method_id
    listed = await sandbox.sdk.v1.payment_methods.list_async({"customer": sandbox.customer, "type": "card"})
    mine = {first.stripe_payment_method_id, second.stripe_payment_method_id}
    assert {method.id for method in listed.data} == mine

    async def no(account_id: int) -> bool:
        return False

    given = {"account_id": sandbox.account.id, "needs_card": no, "actor": "ada"}
    removed = await cards.remove(sandbox.gateway, sandbox.clock, second.id, **given)
    assert removed.detached_at is not None
    found = await sandbox.gateway.fetch_card(second.stripe_payment_method_id)
    assert found is not None
    assert found.customer_id is None


async def test_it_tops_up_once(sandbox: Sandbox) -> None:
    """The same request twice is one payment, and Stripe finds it under our key."""
    await sandbox.save()
    for _ in range(2):
        outcome = await charges.top_up(sandbox.gateway, sandbox.clock, sandbox.wish("one"))
        assert outcome.state is ChargeState.SUCCEEDED
    assert await sandbox.balance() == 2000
    assert outcome.charge is not None
    since = outcome.charge.created_at - timedelta(hours=1)
    found = await sandbox.gateway.find_payment(sandbox.customer, outcome.charge.idempotency_key, since=since)
    assert found is not None
    assert found.id == outcome.charge.stripe_payment_intent_id


@pytest.mark.parametrize(
    ("card", "code", "hard"),
    [
        ("pm_card_chargeCustomerFail", "generic_decline", False),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds", False),
        ("pm_card_visa_chargeDeclinedLostCard", "lost_card", True),
        ("pm_card_visa_chargeDeclinedStolenCard", "stolen_card", True),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", True),
    ],
)
async def test_it_reads_declines(sandbox: Sandbox, card: str, code: str, hard: bool) -> None:
    """Cards that fail at saving already are charged with a payment method that was never saved."""
    account, row = sandbox.account, await sandbox.save()
    await Card.filter(id=row.id).update(removed_at=sandbox.clock.now(), is_default=False)
    bad = await Card.create(
        account_id=account.id, stripe_payment_method_id=card, fingerprint=card, brand="visa", last4="0000",
        exp_month=12, exp_year=2034, added_at=sandbox.clock.now(),
    )  # fmt: skip
    outcome = await charges.top_up(sandbox.gateway, sandbox.clock, sandbox.wish("bad", card_id=bad.id))
    assert outcome.charge is not None
    assert (outcome.state, outcome.charge.decline_code, outcome.charge.hard_decline) == (
        ChargeState.FAILED,
        code,
        hard,
    )
    assert await sandbox.balance() == 0


@pytest.mark.parametrize("on_session", [True, False])
async def test_it_takes_authentication_for_a_task(sandbox: Sandbox, factory: Any, on_session: bool) -> None:
    """With a client secret for the portal; given up, it cannot succeed any more."""
    method = await sandbox.sdk.v1.payment_methods.attach_async(
        "pm_card_authenticationRequired", {"customer": sandbox.customer}
    )
    row = await Card.create(
        account_id=sandbox.account.id, stripe_payment_method_id=method.id, fingerprint="shy", brand="visa",
        last4="3184", exp_month=12, exp_year=2034, added_at=sandbox.clock.now(),
    )  # fmt: skip
    outcome = await charges.top_up(
        sandbox.gateway, sandbox.clock, sandbox.wish("shy", card_id=row.id, on_session=on_session)
    )
    assert outcome.state is ChargeState.REQUIRES_ACTION
    assert outcome.client_secret is not None
    assert outcome.charge is not None
    await sandbox.gateway.cancel(str(outcome.charge.stripe_payment_intent_id))
    await sandbox.gateway.cancel(str(outcome.charge.stripe_payment_intent_id))


async def test_it_pays_an_invoice_of_stripe_with_the_second_card(sandbox: Sandbox) -> None:
    """The first is refused; both attempts go through the one payment of the invoice."""
    poor, good = await sandbox.save("pm_card_chargeCustomerFail"), await sandbox.save()
    invoice = await sandbox.invoice(1500, collection_method="send_invoice", days_until_due=1)
    asked = {"invoice_id": invoice.id, "amount": 1500, "occasion": "schedule:1", "actor": "system"}
    first = await charges.charge_for_invoice(
        sandbox.gateway, sandbox.clock, InvoiceCharge(card_id=poor.id, **asked)
    )
    assert first.state is ChargeState.FAILED
    second = await charges.charge_for_invoice(
        sandbox.gateway, sandbox.clock, InvoiceCharge(card_id=good.id, **asked)
    )
    assert second.state is ChargeState.SUCCEEDED
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID


async def test_it_waits_while_stripe_collects(sandbox: Sandbox) -> None:
    """On a test clock: the failed first attempt makes the invoice overdue, and Stripe plans its next one."""
    card = await sandbox.save("pm_card_chargeCustomerFail")
    made = await sandbox.sdk.v1.invoices.create_async(
        {"customer": sandbox.customer, "currency": "eur", "auto_advance": True}
    )
    item: Any = {"customer": sandbox.customer, "invoice": made.id, "amount": 900, "currency": "eur"}
    await sandbox.sdk.v1.invoice_items.create_async(item)
    await sandbox.advance(timedelta(hours=2))
    await sandbox.advance(timedelta(hours=2))
    invoice = await sandbox.mirrored(str(made.id))
    assert invoice.status is InvoiceStatus.OPEN
    assert invoice.overdue_at is not None
    assert invoice.next_attempt_at is not None
    outcome = await charges.charge_for_invoice(
        sandbox.gateway,
        sandbox.clock,
        InvoiceCharge(
            invoice_id=invoice.id, card_id=card.id, amount=900, occasion="schedule:1", actor="system"
        ),
    )
    assert outcome.not_asked is NotAsked.STRIPE_COLLECTS


# -- purse money on invoices of Stripe


def means(sandbox: Sandbox) -> Means:
    """What settling works with; no card is asked."""
    policies = {"standard": Policy(name="standard", stages=())}
    return Means(clock=sandbox.clock, policies=policies, stripe=SettleGateway(sandbox.gateway.gateway))


async def test_it_pays_an_invoice_of_stripe_from_the_balance(sandbox: Sandbox) -> None:
    """A part by a payment record (or set aside, where the account has none), then the rest; booked once."""
    with_stripe = means(sandbox)
    assert with_stripe.stripe is not None
    invoice = await sandbox.invoice(1500, collection_method="send_invoice", days_until_due=1)
    await sandbox.fill(600)
    await settle(sandbox.account.id, occasion=Occasion(), means=with_stripe)
    part = 600 if with_stripe.stripe.payment_records else 0
    assert (await sandbox.mirrored(str(invoice.stripe_invoice_id))).amount_due == 1500 - part
    await sandbox.fill(900)
    await settle(sandbox.account.id, occasion=Occasion(), means=with_stripe)
    after = await sandbox.mirrored(str(invoice.stripe_invoice_id))
    assert (after.status, after.amount_due, await sandbox.balance()) == (InvoiceStatus.PAID, 0, 0)
    assert {str(row.state) for row in await Reservation.all()} == {"BOOKED"}
    assert await ledger.proven() == []


async def test_it_takes_credit_notes_off_and_forgives_the_rest(sandbox: Sandbox) -> None:
    """Somebody's credit note at Stripe, then our own over what remains of an invoice that was paid in part."""
    invoice = await sandbox.invoice(1500, collection_method="send_invoice", days_until_due=1)
    stripe_id = str(invoice.stripe_invoice_id)
    await sandbox.sdk.v1.credit_notes.create_async({"invoice": stripe_id, "amount": 500})
    assert (await sandbox.mirrored(stripe_id)).amount_due == 1000
    forgiven = await forgive(invoice.id, reason="goodwill", actor="anna", means=means(sandbox))
    assert (forgiven.status is InvoiceStatus.OPEN, forgiven.amount_due) == (False, 0)


# -- money back


async def test_it_follows_a_refund(sandbox: Sandbox) -> None:
    """It leaves the balance, once."""
    payment = await sandbox.topped_up()
    await sandbox.sdk.v1.refunds.create_async({"payment_intent": payment, "amount": 500})
    for _ in range(2):
        await refresh_contested(sandbox.gateway.gateway, sandbox.clock, payment)
        assert await sandbox.balance() == 1500
    assert await ledger.proven() == []


async def test_it_follows_a_dispute_to_its_loss(sandbox: Sandbox) -> None:
    """Staff are told; closed without evidence (docs.stripe.com/api/disputes/close) it is lost, and owed anew."""
    payment = await sandbox.topped_up("pm_card_createDispute")
    disputes = sandbox.sdk.v1.disputes

    async def status() -> str | None:
        found = (await disputes.list_async({"payment_intent": payment})).data
        return found[0].status if found else None

    async def opened() -> bool:
        return await status() == "needs_response"

    async def lost() -> bool:
        return await status() == "lost"

    await until("the dispute is opened", opened)
    await refresh_contested(sandbox.gateway.gateway, sandbox.clock, payment)
    assert await WorkItem.exists(kind="stripe.dispute")
    [dispute] = (await disputes.list_async({"payment_intent": payment})).data
    await disputes.close_async(dispute.id)
    await until("the dispute is lost", lost)
    await refresh_contested(sandbox.gateway.gateway, sandbox.clock, payment)
    await adjustments.issue_drafts(sandbox.clock, means(sandbox).policies)
    owed = await Invoice.get(origin=InvoiceOrigin.ADJUSTMENT)
    assert (owed.status, owed.total) == (InvoiceStatus.OPEN, 2000)
