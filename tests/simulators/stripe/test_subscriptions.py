"""Subscriptions: periods, renewals and the ways they end."""

from datetime import UTC, datetime

import pytest
import stripe

from simulators.stripe import Account

DAY = 86400


def subscribed(account: Account, card: str | None = "pm_card_visa", **params: object) -> dict[str, object]:
    customer = account.create_customer()["id"]
    if card:
        account.add_card(customer, card)
    return account.create_subscription(customer, 900, **params)


def invoices_of(account: Account) -> list[tuple[str, str]]:
    return [(i["billing_reason"], i["status"]) for i in account.store.oldest_first("invoice")]


async def test_it_invoices_each_period_and_names_itself_as_parent(
    client: stripe.StripeClient, account: Account
) -> None:
    """A renewal an hour after the period's end is paid; the period sits on the item."""
    key = str(subscribed(account)["id"])
    account.advance(31 * DAY)
    read = await client.v1.subscriptions.retrieve_async(key, {"expand": ["latest_invoice"]})
    item = read.to_dict()["items"]["data"][0]
    assert datetime.fromtimestamp(item["current_period_start"], UTC) == datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert datetime.fromtimestamp(item["current_period_end"], UTC) == datetime(2026, 8, 1, 12, tzinfo=UTC)
    assert invoices_of(account) == [("subscription_create", "paid"), ("subscription_cycle", "paid")]
    assert read.latest_invoice.parent.subscription_details.subscription == key
    found = await client.v1.invoices.list_async({"subscription": key})
    assert len(found.data) == 2


def test_it_keeps_the_anchor_day_through_short_months(account: Account) -> None:
    """The 31st is the 30th or 28th where a month has no more, and the 31st again afterwards."""
    account.advance(29 * DAY + 30 * DAY + DAY)
    made = subscribed(account)
    ends = []
    for _ in range(8):
        item = account.get("subscription", str(made["id"]))["items"]["data"][0]
        ends.append(datetime.fromtimestamp(item["current_period_end"], UTC).strftime("%m-%d"))
        account.advance(item["current_period_end"] - account.store.now())
    assert ends == ["08-31", "09-30", "10-31", "11-30", "12-31", "01-31", "02-28", "03-31"]


async def test_it_ends_now_or_when_the_period_is_over(client: stripe.StripeClient, account: Account) -> None:
    """An end at the period's end keeps it active until then, to the second."""
    now = await client.v1.subscriptions.cancel_async(str(subscribed(account)["id"]))
    assert (now.status, now.ended_at) == ("canceled", account.store.now())
    later = str(subscribed(account)["id"])
    ending = await client.v1.subscriptions.update_async(later, {"cancel_at_period_end": True})
    end = ending.to_dict()["items"]["data"][0]["current_period_end"]
    assert (ending.status, ending.cancel_at) == ("active", end)
    account.advance(end - account.store.now() - 1)
    assert account.get("subscription", later)["status"] == "active"
    account.advance(1)
    assert account.get("subscription", later)["status"] == "canceled"
    assert account.events("customer.subscription.deleted")[-1]["data"]["object"]["id"] == later


@pytest.mark.parametrize("end", ["past_due", "unpaid", "canceled"])
def test_it_follows_its_invoice_into_and_out_of_arrears(account: Account, end: str) -> None:
    """A failed renewal makes it past due; when Stripe gives up it ends as the account is set."""
    account.collection.settings.subscription_in_the_end = end
    made = subscribed(account)
    account.add_card(str(made["customer"]), "pm_card_chargeCustomerFail")
    account.advance(31 * DAY)
    assert account.get("subscription", str(made["id"]))["status"] == "past_due"
    account.advance(16 * DAY)
    assert account.get("subscription", str(made["id"]))["status"] == end
    account.pay_invoice(account.get("subscription", str(made["id"]))["latest_invoice"])
    assert account.get("subscription", str(made["id"]))["status"] == (
        "canceled" if end == "canceled" else "active"
    )


async def test_it_sends_invoices_where_nobody_is_charged(
    client: stripe.StripeClient, account: Account
) -> None:
    """A subscription that mails its invoices gives each a due date and charges nothing."""
    subscribed(account, None, collection_method="send_invoice", days_until_due=7)
    [invoice] = (await client.v1.invoices.list_async()).data
    assert (invoice.status, invoice.due_date) == ("open", account.store.now() + 7 * DAY)
    assert len(account.events("invoice.sent")) == 1


async def test_it_lists_the_living_unless_asked(client: stripe.StripeClient, account: Account) -> None:
    """Canceled subscriptions appear only for `all` or by their status."""
    ended, alive = str(subscribed(account)["id"]), str(subscribed(account)["id"])
    account.end_subscription(ended)

    async def ids(**filters: str) -> list[str]:
        return [s.id for s in (await client.v1.subscriptions.list_async(filters)).data]  # type: ignore[arg-type]

    assert await ids() == [alive]
    assert await ids(status="all") == [alive, ended]
    assert await ids(status="canceled") == [ended]
