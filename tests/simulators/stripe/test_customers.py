"""Customers through the SDK."""

import pytest
import stripe

from simulators.stripe import Account


async def test_it_keeps_what_it_was_given(client: stripe.StripeClient) -> None:
    """Fields come back as sent, with the rest at their starting values."""
    made = await client.v1.customers.create_async(
        {"email": "a@example.com", "metadata": {"external_id": "acct-1"}}
    )
    read = await client.v1.customers.retrieve_async(made.id)
    assert (read.email, read.metadata.to_dict()) == ("a@example.com", {"external_id": "acct-1"})
    assert (read.balance, read.delinquent, read.invoice_settings.default_payment_method) == (0, False, None)


async def test_it_tells_what_an_update_changed(client: stripe.StripeClient, account: Account) -> None:
    """The event carries the former values of the changed fields alone; an empty update sends none."""
    customer = account.create_customer(email="a@example.com", name="A")["id"]
    await client.v1.customers.update_async(customer, {"email": "b@example.com"})
    await client.v1.customers.update_async(customer, {"email": "b@example.com"})
    [event] = account.events("customer.updated")
    assert event["data"]["previous_attributes"] == {"email": "a@example.com"}
    assert event["data"]["object"]["email"] == "b@example.com"
    assert event["request"]["id"].startswith("req_")


async def test_it_leaves_a_stub_of_a_deleted_customer(client: stripe.StripeClient, account: Account) -> None:
    """A deleted customer reads as deleted, is not listed, takes no invoice; its open invoice stays payable."""
    customer = account.create_customer(email="a@example.com")["id"]
    account.add_card(customer)
    subscription = account.create_subscription(customer, 900)["id"]
    invoice = account.create_invoice(customer, 100)["id"]
    deleted = await client.v1.customers.delete_async(customer)
    assert deleted.deleted is True
    assert (await client.v1.customers.retrieve_async(customer)).to_dict() == {
        "id": customer,
        "object": "customer",
        "deleted": True,
    }
    assert (await client.v1.customers.list_async()).data == []
    assert (await client.v1.subscriptions.retrieve_async(subscription)).status == "canceled"
    [event] = account.events("customer.deleted")
    assert event["data"]["object"]["email"] == "a@example.com"
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        await client.v1.invoices.create_async({"customer": customer})
    assert (await client.v1.invoices.retrieve_async(invoice)).status == "open"
    assert account.pay_invoice(invoice)["status"] == "paid"


async def test_it_finds_a_customer_by_email(client: stripe.StripeClient, account: Account) -> None:
    """The list filters by the exact address."""
    account.create_customer(email="a@example.com")
    wanted = account.create_customer(email="b@example.com")["id"]
    found = await client.v1.customers.list_async({"email": "b@example.com"})
    assert [customer.id for customer in found.data] == [wanted]


async def test_it_changes_the_credit_of_a_customer(client: stripe.StripeClient, account: Account) -> None:
    """A positive amount takes from the credit, and the transaction tells what is left."""
    customer = account.create_customer(balance=-500)["id"]
    made = await client.v1.customers.balance_transactions.create_async(
        customer, {"amount": 200, "currency": "eur", "description": "kept elsewhere"}
    )
    assert (made.amount, made.ending_balance, made.type) == (200, -300, "adjustment")
    assert account.get("customer", customer)["balance"] == -300
