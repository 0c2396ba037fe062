"""Cards, setup intents and off-session payments."""

import pytest
import stripe

from simulators.stripe import Account


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
            intent.id, {"payment_method": "pm_card_chargeDeclinedInsufficientFunds"}
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
