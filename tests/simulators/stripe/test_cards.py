"""Cards, setup intents and off-session payments."""

import pytest
import stripe

from simulators.stripe import Account
from simulators.stripe.cards import PROCESSING, declines


async def test_it_gives_equal_numbers_equal_fingerprints(
    client: stripe.StripeClient, account: Account
) -> None:
    """Two payment methods of one number differ in id alone; another number has another fingerprint."""
    customer = account.create_customer()["id"]
    for card in ("pm_card_visa", "pm_card_visa", "pm_card_mastercard"):
        await client.v1.payment_methods.attach_async(card, {"customer": customer})
    cards = (await client.v1.payment_methods.list_async({"customer": customer, "type": "card"})).data
    assert len({card.id for card in cards}) == 3
    assert len({card.card.fingerprint for card in cards}) == 2


async def test_it_saves_a_card_by_a_setup_intent(client: stripe.StripeClient, account: Account) -> None:
    """Confirmed: attached. Asked for authentication: attached once the customer passed."""
    customer = account.create_customer()["id"]
    intent = await client.v1.setup_intents.create_async({"customer": customer, "usage": "off_session"})
    done = await client.v1.setup_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    assert done.status == "succeeded"
    asked = await client.v1.setup_intents.create_async(
        {"customer": customer, "payment_method": "pm_card_authenticationRequiredOnSetup", "confirm": True}
    )
    assert asked.status == "requires_action"
    assert len((await client.v1.payment_methods.list_async({"customer": customer})).data) == 1
    account.cards.authenticate_setup(asked.id)
    assert len((await client.v1.payment_methods.list_async({"customer": customer})).data) == 2
    assert len(account.events("setup_intent.succeeded")) == 2


async def test_it_declines_a_card_at_saving(client: stripe.StripeClient, account: Account) -> None:
    """A declined setup is a card error and attaches nothing."""
    customer = account.create_customer()["id"]
    intent = await client.v1.setup_intents.create_async({"customer": customer})
    with pytest.raises(stripe.CardError) as refusal:
        await client.v1.setup_intents.confirm_async(
            intent.id, {"payment_method": "pm_card_visa_chargeDeclinedInsufficientFunds"}
        )
    assert refusal.value.error.decline_code == "insufficient_funds"
    assert (await client.v1.payment_methods.list_async({"customer": customer})).data == []
    assert len(account.events("setup_intent.setup_failed")) == 1


async def test_it_takes_a_detached_card_from_its_customer(
    client: stripe.StripeClient, account: Account
) -> None:
    """A detached default is a default no more."""
    customer = account.create_customer()["id"]
    card = account.add_card(customer)["id"]
    await client.v1.payment_methods.detach_async(card)
    owner = await client.v1.customers.retrieve_async(customer)
    assert owner.invoice_settings.default_payment_method is None
    [event] = account.events("payment_method.detached")
    assert event["data"]["object"]["customer"] is None


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("pm_card_chargeCustomerFail", "card_declined"),
        ("pm_card_authenticationRequired", "authentication_required"),
    ],
)
async def test_it_charges_off_session_or_says_why_not(
    client: stripe.StripeClient, account: Account, card: str, code: str
) -> None:
    """A good card pays; a bad one is declined; one that needs its owner asks for the owner."""
    customer = account.create_customer()["id"]
    good = account.add_card(customer)["id"]
    wanted = {"amount": 500, "currency": "eur", "customer": customer, "confirm": True, "off_session": True}
    paid = await client.v1.payment_intents.create_async({**wanted, "payment_method": good})  # type: ignore[typeddict-item]
    assert (paid.status, paid.amount_received) == ("succeeded", 500)
    with pytest.raises(stripe.CardError) as refusal:
        await client.v1.payment_intents.create_async({**wanted, "payment_method": card})  # type: ignore[typeddict-item]
    assert refusal.value.code == code
    assert refusal.value.error.payment_intent.status == "requires_payment_method"


async def test_it_does_not_charge_another_customers_card(
    client: stripe.StripeClient, account: Account
) -> None:
    """A card belongs to one customer."""
    owner, other = account.create_customer()["id"], account.create_customer()["id"]
    card = account.add_card(owner)["id"]
    invoice = account.create_invoice(other, 100)["id"]
    with pytest.raises(stripe.InvalidRequestError, match="does not have a payment method"):
        await client.v1.invoices.pay_async(invoice, {"payment_method": card})


async def test_it_saves_a_card_that_the_customer_enters(account: Account) -> None:
    """In the browser, 3-D Secure included."""
    customer = account.create_customer()["id"]
    setup = account.cards.create_setup({"customer": customer})
    done = account.save_card(setup["id"], "pm_card_authenticationRequired")
    assert done["status"] == "succeeded"
    assert account.get("payment_method", done["payment_method"])["customer"] == customer


async def test_it_tells_of_a_renewed_card(account: Account) -> None:
    """With what was before; a card that did not change is no news."""
    card = account.add_card(account.create_customer()["id"])["id"]
    account.renew_card(card, exp_year=2040)
    account.renew_card(card, exp_year=2040)
    [event] = account.events("payment_method.automatically_updated")
    assert event["data"]["object"]["card"]["exp_year"] == 2040


async def test_it_answers_as_scripted_and_then_as_the_card_does(
    client: stripe.StripeClient, account: Account
) -> None:
    """A payment that is processing waits for the bank, and ends as the bank says."""
    customer = account.create_customer()["id"]
    card = account.add_card(customer)["id"]
    account.answer_next(PROCESSING, PROCESSING, declines("lost_card", advice_code="do_not_try_again"))
    wanted = {"amount": 500, "currency": "eur", "customer": customer, "payment_method": card, "confirm": True}
    paid = await client.v1.payment_intents.create_async({**wanted})  # type: ignore[typeddict-item]
    lost = await client.v1.payment_intents.create_async({**wanted})  # type: ignore[typeddict-item]
    assert (paid.status, lost.status) == ("processing", "processing")
    assert account.complete_payment(paid.id)["status"] == "succeeded"
    assert account.complete_payment(lost.id, declines("lost_card"))["status"] == "requires_payment_method"
    with pytest.raises(stripe.CardError) as refusal:
        await client.v1.payment_intents.create_async({**wanted})  # type: ignore[typeddict-item]
    assert refusal.value.error.advice_code == "do_not_try_again"
    good = await client.v1.payment_intents.create_async({**wanted})  # type: ignore[typeddict-item]
    assert good.status == "succeeded"


async def test_it_lets_the_customer_confirm_what_failed_without_them(
    client: stripe.StripeClient, account: Account
) -> None:
    """The attempt took the card off the payment; only the error still names it."""
    customer = account.create_customer()["id"]
    card = account.add_card(customer, "pm_card_authenticationRequired")["id"]
    with pytest.raises(stripe.CardError) as refusal:
        await client.v1.payment_intents.create_async(
            {"amount": 500, "currency": "eur", "customer": customer, "payment_method": card, "confirm": True,
             "off_session": True}
        )  # fmt: skip
    intent = refusal.value.error.payment_intent.id
    failed = account.get("payment_intent", intent)
    assert (failed["payment_method"], failed["last_payment_error"]["payment_method"]["id"]) == (None, card)
    assert account.confirm_payment(intent, card)["status"] == "succeeded"


async def test_it_refuses_too_little(client: stripe.StripeClient) -> None:
    """Stripe's least differs by currency."""
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        await client.v1.payment_intents.create_async({"amount": 49, "currency": "eur"})
    assert refusal.value.code == "amount_too_small"
    assert (await client.v1.payment_intents.create_async({"amount": 30, "currency": "gbp"})).amount == 30
