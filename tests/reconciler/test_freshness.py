"""Facts are fresh only when everything that could speak for the customer was read."""

from datetime import timedelta

import pytest

from billing.accounts import note_fact
from billing.charges import Outcome
from billing.models import Account, EventState, Invoice, Notice, StripeMirror
from billing.money_models import Card, Charge, ChargeState, LedgerKind, Reservation, ReservationState
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling import Means
from billing.settling_sweep import settle_due
from reconciler.freshness import Freshness
from reconciler.models import ReconcilerState

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


async def _charging(factory, account, now, **given):
    card = await Card.create(
        account=account, stripe_payment_method_id="pm_1", fingerprint="x", brand="visa", last4="4242",
        exp_month=12, exp_year=2030, added_at=now,
    )  # fmt: skip
    invoice = await Invoice.get(account_id=account.id)
    values = {
        "account": account, "card": card, "card_version": 1, "amount": 500, "currency": "EUR",
        "invoice_id": invoice.id, "on_session": False, "occasion": "schedule:1", "idempotency_key": "key",
        "stripe_payment_intent_id": "pi_1", "next_look_at": now,
        "created_at": now, "updated_at": now,
    }  # fmt: skip
    return await Charge.create(**(values | given))


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"state": ChargeState.INTENDED}, "PAYMENT_PENDING"),
        ({"state": ChargeState.PROCESSING}, "PAYMENT_PENDING"),
        ({"state": ChargeState.FAILED}, None),
        # What its customer has to do, or began, shields in another way.
        ({"state": ChargeState.REQUIRES_ACTION}, None),
        ({"state": ChargeState.PROCESSING, "on_session": True}, None),
    ],
)
async def test_waits_for_the_end_of_a_charge_of_ours(customer, judged, factory, clock, given, code):
    """For a day: until then nobody knows whether the debt is paid."""
    account = await customer()
    await _charging(factory, account, clock.now(), **given)

    assert await judged(account) == code
    clock.advance(timedelta(hours=24))
    await _read_again(account, clock.now())

    assert await judged(account) is None


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "PAYMENT_PENDING"),
        ({"state": ReservationState.REPORTED}, "PAYMENT_PENDING"),
        ({"state": ReservationState.BOOKED}, None),
        ({"set_aside": True}, None),
    ],
)
async def test_waits_for_purse_money_on_its_way(customer, judged, clock, given, code):
    """For a day; what is only set aside may lie there for years."""
    account, now = await customer(), clock.now()
    invoice = await Invoice.get(account_id=account.id)
    values = {
        "account_id": account.id, "invoice": invoice, "purse": LedgerKind.BALANCE, "amount": 100,
        "idempotency_key": "key", "created_at": now, "updated_at": now,
    }  # fmt: skip
    await Reservation.create(**(values | given))

    assert await judged(account) == code
    clock.advance(timedelta(hours=24))
    await _read_again(account, clock.now())

    assert await judged(account) is None


async def test_waits_for_a_card_that_is_about_to_be_charged(customer, judged, factory, clock):
    """Nobody with a good card is told that a payment is overdue before that card was asked; an hour at most."""
    account, now = await customer(), clock.now()
    await Invoice.filter(account_id=account.id).update(overdue_at=now)
    asked = await _charging(factory, account, now - timedelta(days=1), state=ChargeState.FAILED)

    assert await judged(account) == "CARD_DUE"
    clock.advance(timedelta(hours=1))
    await _read_again(account, clock.now())
    assert await judged(account) is None
    clock.advance(timedelta(days=3, hours=-1))
    await _read_again(account, clock.now())
    assert await judged(account) == "CARD_DUE"
    await _another(asked, clock.now())
    assert await judged(account) is None


async def _another(charge, now, state=ChargeState.FAILED):
    """The card was asked again just now."""
    values = {
        name: getattr(charge, name)
        for name in (
            "account_id",
            "card_id",
            "card_version",
            "amount",
            "currency",
            "invoice_id",
            "on_session",
        )
    }
    return await Charge.create(
        **values, occasion="schedule:2", idempotency_key="other", state=state, stripe_payment_intent_id="pi_2",
        created_at=now, updated_at=now,
    )  # fmt: skip


async def _read_again(account, now):
    """The sweep, the customer and the invoice, as of now."""
    await StripeMirror.filter(id=1).update(last_full_sweep_at=now)
    await Account.filter(id=account.id).update(stripe_fetched_at=now)
    await Invoice.filter(account_id=account.id).update(fetched_at=now)


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


@pytest.mark.parametrize(("answer", "told"), [(ChargeState.SUCCEEDED, 0), (ChargeState.FAILED, 1)])
async def test_tells_nobody_of_a_debt_that_their_card_pays_at_once(
    customer, make_stand, policies, factory, clock, answer, told
):
    """The pass that sees the invoice overdue waits for the card; only a card that was refused makes it a debt."""
    account = await customer()
    await ReconcilerState.filter(id=1).update(first_apply_at=clock.now())
    await Invoice.filter(account_id=account.id).update(
        origin=InvoiceOrigin.USAGE, stripe_invoice_id=None, fetched_at=None,
        overdue_at=clock.now(), overdue_seen_at=None,
    )  # fmt: skip
    await Account.filter(id=account.id).update(next_change_at=clock.now())
    earlier = await _charging(
        factory, account, clock.now() - timedelta(days=1), state=ChargeState.FAILED, decline_code="x"
    )

    async def bank(wanted):
        charge = await _another(earlier, clock.now(), state=answer)
        if answer is ChargeState.SUCCEEDED:
            await Invoice.filter(id=wanted.invoice_id).update(status=InvoiceStatus.PAID, amount_due=0)
        await note_fact(account.id, now=clock.now())
        return Outcome(charge=charge)

    stand = make_stand(freshness=Freshness(stripe=True, facts_max_age=AGE))
    seen = await stand.turn()

    assert seen.newly_overdue == 1
    assert [step.held_back_by for step in seen.plan.steps] == ["CARD_DUE"]
    await settle_due(Means(clock=clock, policies=policies, stripe=None, ask_card=bank))
    await stand.turn()

    assert await Charge.all().count() == 2
    assert await Notice.filter(account_id=account.id).count() == told
    await stand.dispatcher.aclose()
