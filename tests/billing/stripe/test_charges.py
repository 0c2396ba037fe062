"""Cards are charged once per intent, and money counts once Stripe says that it arrived."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from billing import charge_rows, charges, customer_tasks, ledger
from billing.charge_rows import LEASE, InvoiceCharge, TopUp
from billing.charges import CONFIRMABLE
from billing.customer_tasks import CustomerTask
from billing.models import Invoice, WorkItem
from billing.money_models import Card, Charge, ChargeState, InvoicePart, PartSource
from billing.refusal import RefusalCode, RefusalError
from billing.rules.cards import NotAsked
from billing.rules.money import Money
from billing.rules.terms import InvoiceStatus
from billing.stripe import inbox
from billing.stripe.processing import process_due
from simulators.stripe import Trouble
from simulators.stripe.cards import PROCESSING, REQUIRES_ACTION, declines

SOON = LEASE + timedelta(minutes=1)


def wish(world: Any, **given: Any) -> TopUp:
    """Twenty euros on the balance, with the customer there."""
    values: dict[str, Any] = {"amount": Money(2000, "EUR"), "idempotency_key": "key-1", "actor": "ada"}
    return TopUp(account_id=world.account.id, **(values | given))


async def balance(world: Any) -> int:
    """What is on the balance."""
    return (await ledger.purses([world.account.id]))[world.account.id].balance


async def tasks(world: Any) -> list[CustomerTask]:
    """What its customer is asked to do."""
    return (await customer_tasks.of_accounts([world.account.id], now=world.clock.now()))[world.account.id]


def payments(world: Any, *states: str) -> list[dict[str, Any]]:
    """The payments at Stripe, of these states or all."""
    every = world.simulator.store.oldest_first("payment_intent")
    return [one for one in every if not states or one["status"] in states]


def received(world: Any) -> int:
    """What Stripe took from cards for charges of ours."""
    ours = [one for one in payments(world, "succeeded") if "abeyance_charge" in one["metadata"]]
    return sum(one["amount_received"] for one in ours)


async def due(world: Any, factory: Any, **given: Any) -> Invoice:
    """An overdue invoice of ours over 5.00."""
    return await factory.invoice(world.account, **given)


def ask(invoice: Invoice, card: Card, occasion: str = "schedule:1", **given: Any) -> InvoiceCharge:
    """The card for all that is due."""
    values: dict[str, Any] = {"amount": invoice.amount_due, "actor": "system:settling"}
    return InvoiceCharge(invoice_id=invoice.id, card_id=card.id, occasion=occasion, **(values | given))


async def test_it_tops_the_balance_up(each_world: Any, save_card: Any, card_gateway: Any) -> None:
    """What arrived is on the balance, booked under the payment's id."""
    card = await save_card(each_world)
    before = await each_world.facts_version()
    outcome = await charges.top_up(card_gateway, each_world.clock, wish(each_world))
    assert (outcome.state, outcome.client_secret) == (ChargeState.SUCCEEDED, None)
    assert outcome.charge is not None
    assert outcome.charge.card_id == card.id
    assert await balance(each_world) == received(each_world) == 2000
    assert await each_world.facts_version() > before
    await each_world.deliver()
    await charges.finish_charges(card_gateway, each_world.clock)
    assert await balance(each_world) == 2000
    assert await ledger.proven() == []


async def test_it_answers_the_same_request_the_same_way(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """One payment however often it is asked for; another key is another payment."""
    await save_card(world)
    first = await charges.top_up(card_gateway, world.clock, wish(world))
    again = await charges.top_up(card_gateway, world.clock, wish(world))
    assert first.charge is not None
    assert again.charge is not None
    assert (first.charge.id, again.state) == (again.charge.id, ChargeState.SUCCEEDED)
    assert len(payments(world)) == 1
    await charges.top_up(card_gateway, world.clock, wish(world, idempotency_key="key-2"))
    assert await balance(world) == 4000


@pytest.mark.parametrize(
    "other", [{"amount": Money(2001, "EUR")}, {"on_session": False}, {"card_id": "the other"}]
)
async def test_it_refuses_a_key_that_was_used_for_something_else(
    world: Any, save_card: Any, card_gateway: Any, other: dict[str, Any]
) -> None:
    """Nothing is charged for it."""
    await save_card(world)
    mastercard = await save_card(world, "pm_card_mastercard")
    await charges.top_up(card_gateway, world.clock, wish(world))
    given = {"card_id": mastercard.id} if "card_id" in other else other
    with pytest.raises(RefusalError) as caught:
        await charges.top_up(card_gateway, world.clock, wish(world, **given))
    assert caught.value.problems[0].code is RefusalCode.IDEMPOTENCY_MISMATCH
    assert await balance(world) == 2000


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"amount": Money(49, "EUR")}, RefusalCode.INVALID),
        ({"amount": Money(100_000_000, "EUR")}, RefusalCode.INVALID),
        ({"amount": Money(2000, "USD")}, RefusalCode.CURRENCY_MISMATCH),
        ({"card_id": 10**6}, RefusalCode.NOT_FOUND),
    ],
)
async def test_it_refuses_what_cannot_be_charged(
    world: Any, save_card: Any, card_gateway: Any, given: dict[str, Any], code: RefusalCode
) -> None:
    """Before anything is written or asked."""
    await save_card(world)
    world.wire.requests.clear()
    with pytest.raises(RefusalError) as caught:
        await charges.top_up(card_gateway, world.clock, wish(world, **given))
    assert caught.value.problems[0].code is code
    assert (await Charge.all().count(), world.wire.requests.total()) == (0, 0)


async def test_it_refuses_a_top_up_without_a_usable_card(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """An expired card is none."""
    card = await save_card(world)
    await Card.filter(id=card.id).update(exp_year=2026, exp_month=10)
    with pytest.raises(RefusalError, match="no usable card"):
        await charges.top_up(card_gateway, world.clock, wish(world))


@pytest.mark.parametrize(
    ("answer", "hard"),
    [
        (declines("insufficient_funds"), False),
        (declines("generic_decline"), False),
        (declines("do_not_honor", advice_code="do_not_try_again"), True),
        (declines("lost_card"), True),
        (declines("stolen_card"), True),
        (declines("expired_card", code="expired_card"), True),
    ],
)
async def test_it_notes_a_decline(
    world: Any, save_card: Any, card_gateway: Any, factory: Any, answer: Any, hard: bool
) -> None:
    """A hard one is not repeated for that invoice until the card changes; a soft one once per occasion."""
    card, invoice = await save_card(world), await due(world, factory)
    world.simulator.answer_next(answer)
    outcome = await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card))
    assert outcome.charge is not None
    assert outcome.state is ChargeState.FAILED
    assert (outcome.charge.decline_code, outcome.charge.hard_decline) == (answer.decline_code, hard)
    again = await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card))
    assert again.not_asked is NotAsked.TRIED
    later = await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card, "schedule:2"))
    assert later.not_asked is (NotAsked.HARD_DECLINED if hard else None)
    await Card.filter(id=card.id).update(version=2)
    changed = await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card, "card:1:2"))
    assert changed.not_asked is (None if hard else NotAsked.NOT_OPEN)
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID


async def test_it_hands_the_portal_what_a_confirmation_needs(
    each_world: Any, save_card: Any, card_gateway: Any
) -> None:
    """On-session the bank may ask for more; the return, the webhook and the sweep find the same money once."""
    await save_card(each_world)
    each_world.simulator.answer_next(REQUIRES_ACTION)
    outcome = await charges.top_up(card_gateway, each_world.clock, wish(each_world))
    assert outcome.state is ChargeState.REQUIRES_ACTION
    [payment] = payments(each_world, "requires_action")
    assert outcome.client_secret == payment["client_secret"]
    assert await balance(each_world) == 0
    each_world.simulator.authenticate(payment["id"])
    for event in each_world.news():
        await inbox.store(event, source="webhook", now=each_world.clock.now())
    each_world.clock.advance(SOON)
    await asyncio.gather(
        charges.top_up(card_gateway, each_world.clock, wish(each_world)),
        process_due(each_world.gateway, each_world.clock),
        charges.finish_charges(card_gateway, each_world.clock),
        charges.refresh_payment(card_gateway, each_world.clock, payment["id"], customer=None),
    )
    assert await balance(each_world) == received(each_world) == 2000
    assert (await Charge.get()).state is ChargeState.SUCCEEDED
    assert await ledger.proven() == []


async def test_it_takes_a_wish_for_authentication_for_a_task(
    world: Any, save_card: Any, card_gateway: Any, factory: Any
) -> None:
    """Off-session it is no decline: the customer is told, confirms in the browser, and the invoice is paid."""
    card = await save_card(world, "pm_card_authenticationRequired")
    invoice = await due(world, factory)
    outcome = await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card))
    assert (outcome.state, outcome.charge and outcome.charge.decline_code) == (
        ChargeState.REQUIRES_ACTION,
        None,
    )
    [task] = await tasks(world)
    [payment] = payments(world)
    assert (task.invoice_id, task.expires_at) == (invoice.id, world.clock.now() + CONFIRMABLE)
    told = await customer_tasks.client_secret(card_gateway, world.clock, task.charge_id)
    assert told == payment["client_secret"]
    later = await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card, "schedule:2"))
    assert later.not_asked is NotAsked.AWAITS_CUSTOMER
    world.simulator.confirm_payment(payment["id"], card.stripe_payment_method_id)
    assert await customer_tasks.client_secret(card_gateway, world.clock, task.charge_id) is None
    assert await tasks(world) == []
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
    [part] = await InvoicePart.all()
    assert (part.source, part.amount, part.card_id) == (PartSource.CARD, 500, card.id)


async def test_it_gives_a_task_up_that_nobody_needs_any_more(
    world: Any, save_card: Any, card_gateway: Any, factory: Any
) -> None:
    """Another card paid, or 72 hours went by: the payment is canceled, so that it cannot succeed later."""
    asking = await save_card(world, "pm_card_authenticationRequired")
    other = await save_card(world)
    invoice, left = await due(world, factory), await due(world, factory)
    for one in (invoice, left):
        await charges.charge_for_invoice(card_gateway, world.clock, ask(one, asking))
    paid = await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, other))
    assert paid.state is ChargeState.SUCCEEDED
    assert [task.invoice_id for task in await tasks(world)] == [left.id]
    world.clock.advance(SOON)
    assert await charges.finish_charges(card_gateway, world.clock) == 2
    states = await Charge.filter(card_id=asking.id).order_by("id").values_list("state", flat=True)
    assert states == [ChargeState.ABANDONED, ChargeState.REQUIRES_ACTION]
    world.clock.advance(CONFIRMABLE)
    assert await tasks(world) == []
    await charges.finish_charges(card_gateway, world.clock)
    assert [one["status"] for one in payments(world)] == ["canceled", "canceled", "succeeded"]
    assert await Charge.filter(state=ChargeState.ABANDONED).count() == 2


async def test_it_waits_for_a_payment_that_is_processing(
    world: Any, save_card: Any, card_gateway: Any, factory: Any
) -> None:
    """No other card is asked meanwhile; the money counts when the bank has answered."""
    card, other = await save_card(world), await save_card(world, "pm_card_mastercard")
    invoice = await due(world, factory)
    world.simulator.answer_next(PROCESSING)
    outcome = await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card))
    assert outcome.state is ChargeState.PROCESSING
    blocked = await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, other))
    assert blocked.not_asked is NotAsked.IN_FLIGHT
    found = await charge_rows.unfinished([world.account.id])
    assert [one.invoice_id for one in found[world.account.id]] == [invoice.id]
    world.simulator.complete_payment(payments(world)[0]["id"])
    await world.deliver()
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
    assert await charge_rows.unfinished([world.account.id]) == {}


async def test_it_asks_once_although_the_answer_is_lost(
    each_world: Any, save_card: Any, card_gateway: Any
) -> None:
    """Stripe charged and nobody heard of it: the sweep finds the payment and credits it."""
    await save_card(each_world)
    each_world.simulator.outage.begin(Trouble.LOST_ANSWER, requests=1, path="/v1/payment_intents")
    outcome = await charges.top_up(card_gateway, each_world.clock, wish(each_world))
    assert outcome.state is ChargeState.INTENDED
    same = await charges.top_up(card_gateway, each_world.clock, wish(each_world))
    assert same.state is ChargeState.INTENDED
    assert await charges.finish_charges(card_gateway, each_world.clock) == 0
    each_world.clock.advance(SOON)
    assert await charges.finish_charges(card_gateway, each_world.clock) == 1
    assert len(payments(each_world)) == 1
    assert await balance(each_world) == received(each_world) == 2000


@pytest.mark.parametrize("customer_returns", [True, False])
async def test_it_gives_a_top_up_up_that_never_reached_stripe(
    world: Any, save_card: Any, card_gateway: Any, customer_returns: bool
) -> None:
    """Nobody is charged behind their back; the customer who asks again is."""
    await save_card(world)
    world.simulator.outage.begin(Trouble.UNAVAILABLE, requests=1, path="/v1/payment_intents")
    await charges.top_up(card_gateway, world.clock, wish(world))
    world.clock.advance(SOON)
    if customer_returns:
        outcome = await charges.top_up(card_gateway, world.clock, wish(world))
        assert outcome.state is ChargeState.SUCCEEDED
    else:
        await charges.finish_charges(card_gateway, world.clock)
        assert (await Charge.get()).state is ChargeState.ABANDONED
    assert await balance(world) == received(world) == (2000 if customer_returns else 0)


@pytest.mark.parametrize(("later", "state"), [(SOON, "SUCCEEDED"), (timedelta(hours=2), "ABANDONED")])
async def test_it_carries_an_invoices_charge_out_later_while_it_is_young(
    world: Any, save_card: Any, card_gateway: Any, factory: Any, later: timedelta, state: str
) -> None:
    """Under the same key; an old intent is given up, and the schedule makes another."""
    card, invoice = await save_card(world), await due(world, factory)
    world.simulator.outage.begin(Trouble.UNAVAILABLE, requests=1, path="/v1/payment_intents")
    await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card))
    world.clock.advance(later)
    await charges.finish_charges(card_gateway, world.clock)
    assert (await Charge.get()).state == state
    assert received(world) == (500 if state == "SUCCEEDED" else 0)


async def test_it_credits_what_succeeds_after_it_was_given_up(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """A request that was under way for hours charges after all: the event leads to the charge by its key."""
    await save_card(world)
    world.simulator.outage.begin(Trouble.LOST_ANSWER, requests=1, path="/v1/payment_intents")
    await charges.top_up(card_gateway, world.clock, wish(world))
    await Charge.all().update(state=ChargeState.ABANDONED, next_look_at=None)
    await world.deliver()
    assert (await Charge.get()).state is ChargeState.SUCCEEDED
    assert await balance(world) == 2000


async def test_it_puts_what_an_invoice_does_not_need_on_the_balance(
    world: Any, save_card: Any, card_gateway: Any, factory: Any
) -> None:
    """Somebody else paid a part while the card was charged: no money is lost."""
    card, invoice = await save_card(world), await due(world, factory)

    async def pay_meanwhile(path: str) -> None:
        if path == "/v1/payment_intents":
            await Invoice.filter(id=invoice.id).update(amount_due=100, amount_paid=400)

    world.wire.before_answer = pay_meanwhile
    await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card))
    paid = await Invoice.get(id=invoice.id)
    assert (paid.status, paid.amount_paid, await balance(world)) == (InvoiceStatus.PAID, 500, 400)
    assert await ledger.proven() == []


async def test_it_does_not_ask_for_what_is_not_owed(
    world: Any, save_card: Any, card_gateway: Any, factory: Any
) -> None:
    """A paid invoice, more than is due, too little for a card, another customer's card, an expired one."""
    card, invoice = await save_card(world), await due(world, factory)
    paid = await due(world, factory, status=InvoiceStatus.PAID, amount_due=0, amount_paid=500)
    small = await due(world, factory, amount_due=30)
    stranger = await factory.invoice(await factory.account())
    wanted = [
        (ask(paid, card, amount=500), NotAsked.NOT_OPEN),
        (ask(invoice, card, amount=501), NotAsked.NOT_OPEN),
        (ask(small, card), NotAsked.AMOUNT),
        (ask(stranger, card), NotAsked.NOT_USABLE),
    ]
    for one, why in wanted:
        assert (await charges.charge_for_invoice(card_gateway, world.clock, one)).not_asked is why
    await Card.filter(id=card.id).update(exp_year=2020)
    expired = await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card))
    assert expired.not_asked is NotAsked.NOT_USABLE
    assert (await Charge.all().count(), payments(world)) == (0, [])


async def test_it_asks_nothing_about_payments_of_others(world: Any) -> None:
    """Stripe's own payments, and those of strangers, are put aside without a question."""
    world.simulator.create_invoice(world.simulator.create_customer()["id"], 700)
    world.charged_invoice()
    world.wire.requests.clear()
    about = [event for event in world.news() if event["type"].startswith("payment_intent.")]
    assert about
    result = await world.deliver(about)
    assert (result.ignored, world.wire.requests.total()) == (len(about), 0)


async def test_it_tells_staff_of_a_payment_that_cannot_be_its_charges(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """Another currency under our key is credited to nobody by guessing."""
    await save_card(world)
    world.simulator.answer_next(PROCESSING)
    await charges.top_up(card_gateway, world.clock, wish(world))
    [payment] = payments(world)
    world.simulator.complete_payment(payment["id"])
    world.simulator.store.get("payment_intent", payment["id"])["currency"] = "usd"
    await world.deliver()
    for _ in range(20):
        world.clock.advance(timedelta(minutes=6))
        await world.process()
    assert await balance(world) == 0
    assert await WorkItem.filter(kind="stripe.event_dead").exists()
