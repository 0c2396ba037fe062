"""Facts are fresh only when everything that could speak for the customer was read."""

from datetime import timedelta

import pytest

from billing.models import Account, EventState, StripeMirror
from billing.rules.terms import InvoiceOrigin
from reconciler.freshness import Freshness

pytestmark = pytest.mark.usefixtures("sqlite_database")
AGE = timedelta(minutes=15)


@pytest.fixture
def customer(factory, clock):
    """Makes a Stripe customer with an overdue invoice, all of it read just now."""

    async def make():
        now = clock.now()
        await StripeMirror.filter(id=1).update(last_full_sweep_at=now, problem=None)
        account = await factory.account(stripe_customer_id="cus_1", stripe_fetched_at=now)
        await factory.invoice(account, origin=InvoiceOrigin.STRIPE, fetched_at=now)
        return account

    return make


@pytest.fixture
def judged(clock):
    """Returns the code that an account is stale for; None when it is fresh."""

    async def ask(account, *, stripe=True):
        found = await Freshness(stripe=stripe, facts_max_age=AGE).stale([account.id], clock.now())
        return found[account.id][0] if account.id in found else None

    return ask


async def test_is_fresh_when_everything_was_read(customer, judged):
    """Customer, overdue invoices, a sweep, and no event that waits."""
    assert await judged(await customer()) is None


@pytest.mark.parametrize(("age", "code"), [(AGE, None), (AGE + timedelta(seconds=1), "FACTS_STALE")])
async def test_ages_to_the_second(customer, judged, clock, age, code):
    """A reading counts for its age and not a second longer."""
    account = await customer()
    clock.advance(age)

    assert await judged(account) == code


@pytest.mark.parametrize(("age", "code"), [(60, "FACTS_STALE"), (61, "SWEEP_STALE")])
async def test_needs_a_sweep_within_the_hour(customer, judged, clock, age, code):
    """Missed webhooks are found by the sweep, so without one nothing is certain."""
    account = await customer()
    clock.advance(timedelta(minutes=age))

    assert await judged(account) == code


async def _never_fetched(factory, account, now):
    await Account.filter(id=account.id).update(stripe_fetched_at=None)


async def _invoice_never_fetched(factory, account, now):
    await factory.invoice(account, origin=InvoiceOrigin.STRIPE, fetched_at=None)


async def _no_sweep(factory, account, now):
    await StripeMirror.filter(id=1).update(last_full_sweep_at=None)


async def _problem(factory, account, now):
    await StripeMirror.filter(id=1).update(problem="another Stripe account")


async def _waiting(factory, account, now):
    await factory.stripe_event(stripe_customer_id="cus_1")


async def _given_up(factory, account, now):
    await factory.stripe_event(stripe_customer_id="cus_1", state=EventState.DEAD)


async def _whose(factory, account, now):
    await factory.stripe_event(type="charge.dispute.created")


@pytest.mark.parametrize(
    ("happens", "code"),
    [
        (_never_fetched, "FACTS_STALE"),
        (_invoice_never_fetched, "FACTS_STALE"),
        (_no_sweep, "SWEEP_STALE"),
        (_problem, "STRIPE_PROBLEM"),
        (_waiting, "EVENTS_PENDING"),
        (_given_up, "EVENTS_PENDING"),
        (_whose, "EVENTS_PENDING"),
    ],
)
async def test_is_stale(customer, judged, factory, clock, happens, code):
    """Whatever was not read or is not settled keeps from restricting."""
    account = await customer()
    await happens(factory, account, clock.now())

    assert await judged(account) == code


async def test_asks_no_stripe_where_there_is_none(factory, judged):
    """Without Stripe, and for accounts that are no customer of it, only our own books count."""
    account = await factory.account()

    assert await judged(account, stripe=False) is None


async def test_shields_an_account_without_a_customer_by_the_sweep_alone(customer, factory, judged, clock):
    """It has no events and nothing to read again."""
    await customer()
    account = await factory.account()
    await factory.stripe_event(stripe_customer_id="cus_1")

    assert await judged(account) is None
    clock.advance(timedelta(hours=2))
    assert await judged(account) == "SWEEP_STALE"
