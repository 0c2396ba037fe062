"""Charges at invoices of Stripe, and what no charge may leave behind."""

import logging
from datetime import timedelta
from typing import Any

from billing import charges, customer_tasks, ledger
from billing.charge_rows import LEASE, InvoiceCharge, TopUp
from billing.charges import Outcome
from billing.models import Invoice, StripeEvent
from billing.money_models import Card, Charge, ChargeState, InvoicePart
from billing.rules.cards import NotAsked
from billing.rules.money import Money
from billing.rules.terms import InvoiceStatus
from simulators.stripe import Trouble
from simulators.stripe.cards import REQUIRES_ACTION, declines

SOON = LEASE + timedelta(minutes=1)


def wish(world: Any, **given: Any) -> TopUp:
    """Twenty euros on the balance, with the customer there."""
    values: dict[str, Any] = {"amount": Money(2000, "EUR"), "idempotency_key": "key-1", "actor": "ada"}
    return TopUp(account_id=world.account.id, **(values | given))


async def balance(world: Any) -> int:
    """What is on the balance."""
    return (await ledger.purses([world.account.id]))[world.account.id].balance


def payments(world: Any, *states: str) -> list[dict[str, Any]]:
    """The payments at Stripe, of these states or all."""
    every = world.simulator.store.oldest_first("payment_intent")
    return [one for one in every if not states or one["status"] in states]


def ask(invoice: Invoice, card: Card, occasion: str = "schedule:1", **given: Any) -> InvoiceCharge:
    """The card for all that is due."""
    values: dict[str, Any] = {"amount": invoice.amount_due, "actor": "system:settling"}
    return InvoiceCharge(invoice_id=invoice.id, card_id=card.id, occasion=occasion, **(values | given))


async def mirrored(world: Any, key: str) -> Invoice:
    """The row of an invoice of Stripe."""
    await world.deliver()
    return await Invoice.get(stripe_invoice_id=key)


async def test_it_pays_an_invoice_of_stripe_at_stripe(
    each_world: Any, save_card: Any, card_gateway: Any
) -> None:
    """With no payment of our own; the mirror follows, the ledger has nothing to do with it."""
    card = await save_card(each_world)
    invoice = await mirrored(each_world, each_world.create_invoice(1500))
    outcome = await charges.charge_for_invoice(card_gateway, each_world.clock, ask(invoice, card))
    assert outcome.state is ChargeState.SUCCEEDED
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
    assert (len(payments(each_world)), await balance(each_world)) == (1, 0)


async def test_it_tries_one_card_after_the_other_at_an_invoice_of_stripe(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """All attempts go through the one payment of that invoice; each is told apart."""
    poor = await save_card(world, "pm_card_chargeCustomerFail")
    shy = await save_card(world, "pm_card_authenticationRequired")
    good = await save_card(world)
    invoice = await mirrored(world, world.create_invoice(1500))
    outcomes = [
        await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card))
        for card in (poor, shy, good)
    ]
    states = [outcome.state for outcome in outcomes]
    assert states == [ChargeState.FAILED, ChargeState.REQUIRES_ACTION, ChargeState.SUCCEEDED]
    assert outcomes[1].client_secret is not None
    world.clock.advance(SOON)
    await charges.finish_charges(card_gateway, world.clock)
    assert await Charge.filter(card_id=shy.id, state=ChargeState.ABANDONED).exists()
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID


async def test_it_finds_out_what_became_of_a_lost_answer_about_an_invoice_of_stripe(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """Paid or not, it is read there, and never paid twice."""
    card = await save_card(world)
    invoice = await mirrored(world, world.create_invoice(1500))
    path = f"/v1/invoices/{invoice.stripe_invoice_id}/pay"
    world.simulator.outage.begin(Trouble.LOST_ANSWER, requests=1, path=path)
    lost = await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card))
    assert lost.state is ChargeState.INTENDED
    world.clock.advance(SOON)
    await charges.finish_charges(card_gateway, world.clock)
    assert (await Charge.get()).state is ChargeState.SUCCEEDED
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
    assert world.wire.requests[path] == 1


async def test_it_leaves_an_invoice_to_stripe_while_stripe_collects_it(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """Until Stripe gave up; the customer may always."""
    card = await save_card(world)
    key = world.create_invoice(1500, collection_method="charge_automatically", finalize=False)
    world.simulator.answer_next(declines("insufficient_funds"))
    world.simulator.finalize_invoice(key)
    invoice = await mirrored(world, key)
    assert invoice.next_attempt_at is not None
    waiting = await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, card))
    assert waiting.not_asked is NotAsked.STRIPE_COLLECTS
    mine = await charges.charge_for_invoice(
        card_gateway, world.clock, ask(invoice, card, "key-1", on_session=True)
    )
    assert mine.state is ChargeState.SUCCEEDED


async def test_it_keeps_no_secret(
    world: Any, save_card: Any, card_gateway: Any, factory: Any, caplog: Any, capfd: Any, everything: Any
) -> None:
    """No client secret, key or card number reaches a table, a log line or an audit row, in success or failure."""
    caplog.set_level(logging.DEBUG)
    card, shy = await save_card(world), await save_card(world, "pm_card_authenticationRequired")
    invoice = await factory.invoice(world.account)
    held: list[Outcome] = [
        await charges.charge_for_invoice(card_gateway, world.clock, ask(invoice, one)) for one in (shy, card)
    ]
    held.append(await charges.top_up(card_gateway, world.clock, wish(world, card_id=shy.id)))
    assert held[2].client_secret is not None
    assert held[2].charge is not None
    secret = await customer_tasks.client_secret(card_gateway, world.clock, held[2].charge.id)
    assert secret == held[2].client_secret
    world.simulator.outage.begin(Trouble.SERVER_ERROR, requests=1)
    await charges.top_up(card_gateway, world.clock, wish(world, idempotency_key="other"))
    world.clock.advance(SOON)
    await charges.finish_charges(card_gateway, world.clock)
    rows = {table.__name__: await table.all().values() for table in (Charge, Card, InvoicePart)}
    texts = [repr(await everything_but_payloads(everything)), repr(rows), caplog.text, *capfd.readouterr()]
    texts += [repr(outcome) for outcome in held]
    for text in texts:
        for secret in ("_secret_", "sk_test_canary", "4242424242424242", "4000002760003184"):
            assert secret not in text


async def everything_but_payloads(everything: Any) -> Any:
    """Every row that Stripe's news can reach."""
    assert await StripeEvent.all().count() == 0
    return await everything()


async def test_it_keeps_no_secret_of_an_event(world: Any, save_card: Any, card_gateway: Any) -> None:
    """Stripe's events about payments and setups carry client secrets: they are cut out before storing."""
    await save_card(world)
    world.simulator.answer_next(REQUIRES_ACTION)
    await charges.top_up(card_gateway, world.clock, wish(world))
    events = world.news()
    assert "_secret_" in repr(events)
    await world.deliver(events)
    assert "_secret_" not in repr(await StripeEvent.all().values())
