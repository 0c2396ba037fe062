"""What the card gateway asks, what it reads, and what it keeps to itself."""

from datetime import timedelta
from typing import Any

import pytest

from billing.stripe.card_gateway import CardGateway, ChargeRequest, PaymentState
from billing.stripe.gateway import DeclinedError, GoneError, RejectedError
from billing.stripe.reading import UnreadableError
from simulators.stripe.cards import PROCESSING, REQUIRES_ACTION, SUCCEEDS, declines


def request(simulator: Any, **given: Any) -> ChargeRequest:
    """Five euros by a good card of a new customer."""
    customer = simulator.create_customer()["id"]
    card = simulator.add_card(customer)["id"]
    values = {"key": "k-1", "amount": 500, "currency": "EUR", "on_session": False, "description": "Top-up"}
    return ChargeRequest(customer_id=customer, payment_method_id=card, **(values | given))


@pytest.mark.parametrize(
    ("answer", "on_session", "state"),
    [
        (SUCCEEDS, False, PaymentState.SUCCEEDED),
        (PROCESSING, False, PaymentState.PROCESSING),
        (REQUIRES_ACTION, True, PaymentState.REQUIRES_ACTION),
        (REQUIRES_ACTION, False, PaymentState.REQUIRES_ACTION),
        (declines("do_not_honor", advice_code="try_again_later"), False, PaymentState.DECLINED),
    ],
)
async def test_it_reads_what_became_of_a_payment(
    simulator: Any, card_gateway: CardGateway, answer: Any, on_session: bool, state: PaymentState
) -> None:
    """In our words; the card that was tried is known in each case, and money only where some arrived."""
    asked = request(simulator, on_session=on_session)
    simulator.answer_next(answer)
    try:
        key = await card_gateway.charge(asked)
    except DeclinedError as error:
        key = str(error.payment_intent)
    found = await card_gateway.fetch_payment(key)
    assert (found.state, found.charge_key, found.currency) == (state, "k-1", "EUR")
    assert found.amount_received == (500 if state is PaymentState.SUCCEEDED else 0)
    assert found.payment_method_id == asked.payment_method_id
    if state is PaymentState.DECLINED:
        assert (found.decline_code, found.advice_code) == ("do_not_honor", "try_again_later")


async def test_it_makes_one_payment_under_one_key(
    simulator: Any, card_gateway: CardGateway, clock: Any
) -> None:
    """And finds it again among others by that key."""
    asked = request(simulator)
    first, again = await card_gateway.charge(asked), await card_gateway.charge(asked)
    assert first == again
    for _ in range(120):
        simulator.payments.intent(amount=100, currency="eur", customer=asked.customer_id)
    since = clock.now() - timedelta(hours=1)
    found = await card_gateway.find_payment(asked.customer_id, "k-1", since=since)
    assert found is not None
    assert found.id == first
    assert await card_gateway.find_payment(asked.customer_id, "k-2", since=since) is None


async def test_it_cancels_what_has_not_ended(simulator: Any, card_gateway: CardGateway) -> None:
    """What succeeded stays so, without a complaint; what does not exist is one."""
    asked = request(simulator, on_session=True)
    simulator.answer_next(REQUIRES_ACTION)
    waiting = await card_gateway.charge(asked)
    await card_gateway.cancel(waiting)
    assert (await card_gateway.fetch_payment(waiting)).state is PaymentState.NOTHING
    paid = await card_gateway.charge(request(simulator, key="k-2"))
    await card_gateway.cancel(paid)
    assert (await card_gateway.fetch_payment(paid)).state is PaymentState.SUCCEEDED
    with pytest.raises(GoneError):
        await card_gateway.cancel("pi_unknown")


async def test_it_lets_go_of_a_card_once(simulator: Any, card_gateway: CardGateway) -> None:
    """Again is no error; a card that does not exist is one."""
    card = request(simulator).payment_method_id
    await card_gateway.detach(card)
    await card_gateway.detach(card)
    found = await card_gateway.fetch_card(card)
    assert found is not None
    assert found.customer_id is None
    with pytest.raises(GoneError):
        await card_gateway.detach("pm_unknown")


async def test_it_names_what_stripe_does_not_accept(simulator: Any, card_gateway: CardGateway) -> None:
    """Too little, and the same key for something else."""
    with pytest.raises(RejectedError) as caught:
        await card_gateway.charge(request(simulator, amount=10))
    assert caught.value.code == "amount_too_small"
    await card_gateway.charge(request(simulator, key="k-3"))
    with pytest.raises(RejectedError):
        await card_gateway.charge(request(simulator, key="k-3", amount=501))


async def test_it_does_not_guess_at_an_answer_that_makes_no_sense(
    simulator: Any, card_gateway: CardGateway
) -> None:
    """A status of tomorrow, a card without its fields; a thing that is no card is none."""
    asked = request(simulator)
    key = await card_gateway.charge(asked)
    simulator.store.get("payment_intent", key)["status"] = "half_way"
    with pytest.raises(UnreadableError):
        await card_gateway.fetch_payment(key)
    method = simulator.store.get("payment_method", asked.payment_method_id)
    del method["card"]["brand"]
    with pytest.raises(UnreadableError):
        await card_gateway.fetch_card(asked.payment_method_id)
    method["type"] = "sepa_debit"
    assert await card_gateway.fetch_card(asked.payment_method_id) is None


async def test_it_shows_no_client_secret(simulator: Any, card_gateway: CardGateway) -> None:
    """Not in any representation, although it is there to be handed on."""
    customer = simulator.create_customer()["id"]
    setup = await card_gateway.begin_setup(customer, account="ada-7")
    simulator.answer_next(REQUIRES_ACTION)
    key = await card_gateway.charge(request(simulator, on_session=True))
    payment = await card_gateway.fetch_payment(key)
    assert setup.client_secret
    assert payment.client_secret
    assert "_secret_" not in repr((setup, payment))
