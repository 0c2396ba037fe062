"""Stripe's own collecting: the first attempt, the retry schedule, and giving up."""

import pytest
import stripe

from simulators.stripe import Account
from simulators.stripe.invoices import DRAFT_TIME

DAY = 86400


def automatic(account: Account, card: str | None) -> dict[str, object]:
    customer = account.create_customer()["id"]
    if card:
        account.add_card(customer, card)
    return account.create_invoice(customer, 1200, "eur", "charge_automatically")


def test_it_charges_the_default_card_on_finalization(account: Account) -> None:
    """With a good card an automatic invoice is paid the moment it is finalized."""
    invoice = automatic(account, "pm_card_visa")
    assert (invoice["status"], invoice["attempt_count"], invoice["due_date"]) == ("paid", 1, None)


@pytest.mark.parametrize("card", ["pm_card_chargeCustomerFail", None])
def test_it_retries_on_schedule_and_then_gives_up(account: Account, card: str | None) -> None:
    """Each failure names the next attempt; after the last one there is none and the invoice stays open."""
    key = str(automatic(account, card)["id"])
    start, seen = account.store.now(), []
    for _ in range(4):
        invoice = account.get("invoice", key)
        seen.append((invoice["attempt_count"], invoice["next_payment_attempt"]))
        if invoice["next_payment_attempt"]:
            account.advance(invoice["next_payment_attempt"] - account.store.now())
    assert seen == [(1, start + 3 * DAY), (2, start + 8 * DAY), (3, start + 15 * DAY), (4, None)]
    assert account.get("invoice", key)["status"] == "open"
    assert len(account.events("invoice.payment_failed")) == 4


def test_it_does_nothing_one_second_before_the_next_attempt(account: Account) -> None:
    """The schedule is kept to the second."""
    key = str(automatic(account, "pm_card_chargeCustomerFail")["id"])
    account.advance(3 * DAY - 1)
    assert account.get("invoice", key)["attempt_count"] == 1
    account.advance(1)
    assert account.get("invoice", key)["attempt_count"] == 2


def test_it_catches_up_on_several_attempts_at_their_own_instants(account: Account) -> None:
    """A long jump makes each attempt at the time at which it was due."""
    automatic(account, "pm_card_chargeCustomerFail")
    start = account.store.now()
    account.advance(20 * DAY)
    times = [event["created"] - start for event in account.events("invoice.payment_failed")]
    assert times == [0, 3 * DAY, 8 * DAY, 15 * DAY]


def test_it_collects_with_a_new_card_at_the_next_attempt(account: Account) -> None:
    """A better default card is charged at the next scheduled attempt."""
    invoice = automatic(account, "pm_card_chargeCustomerFail")
    account.add_card(str(invoice["customer"]), "pm_card_visa")
    account.advance(3 * DAY)
    assert account.get("invoice", str(invoice["id"]))["status"] == "paid"


def test_it_does_not_charge_a_hard_declined_card_again(account: Account) -> None:
    """After a hard decline the schedule counts on but leaves that card alone until there is another."""
    customer = account.create_customer()["id"]
    account.add_card(customer, "pm_card_visa")
    key = account.create_invoice(
        customer, 500, "eur", "charge_automatically", auto_advance=True, finalize=False
    )
    account.add_card(customer, "pm_card_chargeCustomerFail")
    invoice = account.finalize_invoice(key["id"])
    key = str(invoice["id"])
    account.fail_payment(key, "stolen_card")
    charges = len(account.store.oldest_first("charge"))
    before = account.get("invoice", key)
    account.advance(before["next_payment_attempt"] - account.store.now())
    after = account.get("invoice", key)
    assert len(account.store.oldest_first("charge")) == charges
    assert after["attempt_count"] == before["attempt_count"] + 1
    account.add_card(str(invoice["customer"]), "pm_card_visa")
    account.advance(after["next_payment_attempt"] - account.store.now())
    assert account.get("invoice", key)["status"] == "paid"


@pytest.mark.parametrize(("setting", "status"), [("open", "open"), ("uncollectible", "uncollectible")])
def test_it_ends_as_the_account_is_set(account: Account, setting: str, status: str) -> None:
    """The account decides whether an invoice that Stripe gave up stays open."""
    account.collection.settings.invoice_in_the_end = setting
    key = str(automatic(account, "pm_card_chargeCustomerFail")["id"])
    account.advance(40 * DAY)
    assert account.get("invoice", key)["status"] == status


def test_it_finalizes_an_advancing_draft_after_its_hour(account: Account) -> None:
    """A draft with automatic advancement opens by itself; one without stays."""
    customer = account.create_customer()["id"]
    made = account.create_invoice(customer, 10, finalize=False, auto_advance=True)
    still = account.create_invoice(customer, 10, finalize=False)
    assert made["automatically_finalizes_at"] == made["created"] + DRAFT_TIME
    account.advance(DRAFT_TIME - 1)
    assert account.get("invoice", made["id"])["status"] == "draft"
    account.advance(1)
    assert account.get("invoice", made["id"])["status"] == "open"
    assert account.get("invoice", still["id"])["status"] == "draft"


async def test_it_answers_402_to_a_declined_payment(client: stripe.StripeClient, account: Account) -> None:
    """A decline is a card error with the bank's code, and leaves a failed charge behind."""
    customer = account.create_customer()["id"]
    card = account.add_card(customer, "pm_card_chargeCustomerFail")["id"]
    invoice = account.create_invoice(customer, 300)["id"]
    with pytest.raises(stripe.CardError) as refusal:
        await client.v1.invoices.pay_async(invoice, {"payment_method": card})
    assert (refusal.value.http_status, refusal.value.code) == (402, "card_declined")
    assert refusal.value.error.decline_code == "generic_decline"
    after = await client.v1.invoices.retrieve_async(
        invoice, {"expand": ["payments.data.payment.payment_intent"]}
    )
    assert (after.status, after.attempted, after.attempt_count) == ("open", True, 1)
    intent = after.payments.data[0].payment.payment_intent
    assert intent.status == "requires_payment_method"
    assert intent.last_payment_error.decline_code == "generic_decline"
    failed = await client.v1.charges.list_async({"payment_intent": intent.id})
    assert [(c.status, c.created) for c in failed.data] == [("failed", account.store.now())]


async def test_it_counts_manual_attempts_only_as_the_first(
    client: stripe.StripeClient, account: Account
) -> None:
    """Paying by hand after the first attempt moves neither the count nor the schedule."""
    customer = account.create_customer()["id"]
    card = account.add_card(customer, "pm_card_chargeCustomerFail")["id"]
    invoice = account.create_invoice(customer, 300, "eur", "charge_automatically")
    account.advance(60)
    with pytest.raises(stripe.CardError):
        await client.v1.invoices.pay_async(invoice["id"], {"payment_method": card})
    after = account.get("invoice", invoice["id"])
    assert after["attempt_count"] == 1
    assert after["next_payment_attempt"] == invoice["next_payment_attempt"]


async def test_it_waits_for_the_customer_where_the_bank_wants_one(
    client: stripe.StripeClient, account: Account
) -> None:
    """Authentication is an error of its own; once passed, the invoice is paid."""
    customer = account.create_customer()["id"]
    invoice = account.create_invoice(customer, 300)["id"]
    with pytest.raises(stripe.CardError) as refusal:
        await client.v1.invoices.pay_async(invoice, {"payment_method": "pm_card_authenticationRequired"})
    assert refusal.value.code == "invoice_payment_intent_requires_action"
    assert [e["data"]["object"]["id"] for e in account.events("invoice.payment_action_required")] == [invoice]
    payment = (await client.v1.invoice_payments.list_async({"invoice": invoice})).data[0]
    account.authenticate(str(payment.payment.payment_intent))
    assert (await client.v1.invoices.retrieve_async(invoice)).status == "paid"


def test_it_tells_whether_a_customer_is_delinquent(account: Account) -> None:
    """A failed automatic payment marks the customer until it is paid."""
    invoice = automatic(account, "pm_card_chargeCustomerFail")
    customer = str(invoice["customer"])
    assert account.get("customer", customer)["delinquent"] is True
    account.pay_invoice(str(invoice["id"]))
    assert account.get("customer", customer)["delinquent"] is False
