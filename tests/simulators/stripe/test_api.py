"""The HTTP manners of the API: paging, expansion, idempotency, errors and troubles."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import stripe

from simulators.stripe import Account, Trouble

Connect = Callable[..., stripe.StripeClient]


async def test_it_pages_from_newest_to_oldest(client: stripe.StripeClient, account: Account) -> None:
    """Paging visits each object once, in the order in which Stripe lists them."""
    made = [account.create_customer()["id"] for _ in range(7)]
    first = await client.v1.customers.list_async({"limit": 3})
    assert (len(first.data), first.has_more) == (3, True)
    assert [customer.id async for customer in first.auto_paging_iter()] == made[::-1]
    last = await client.v1.customers.list_async({"limit": 3, "starting_after": made[1]})
    assert ([customer.id for customer in last.data], last.has_more) == ([made[0]], False)


async def test_it_climbs_from_a_cursor_to_the_newest_events(
    client: stripe.StripeClient, account: Account
) -> None:
    """`ending_before` reads the events just after the cursor; going on that way misses none."""
    for _ in range(9):
        account.create_customer()
    wanted = [event["id"] for event in account.events()]
    cursor, seen = wanted[0], []
    while True:
        page = await client.v1.events.list_async({"ending_before": cursor, "limit": 4})
        seen += [event.id for event in reversed(page.data)]
        if not page.has_more:
            break
        cursor = seen[-1]
    assert seen == wanted[1:]


async def test_it_filters_events(client: stripe.StripeClient, listened: Account) -> None:
    """By types, by wildcard, by time and by whether they arrived."""
    listened.deliveries.set_knobs(lose_next=1)
    lost = listened.create_customer()["id"]
    listened.advance(5)
    kept = listened.create_customer()["id"]
    listened.delete_customer(kept)
    await listened.deliveries.pump()

    async def kinds(**filters: object) -> list[str]:
        return [e.type for e in (await client.v1.events.list_async(filters)).data]  # type: ignore[arg-type]

    assert await kinds(types=["customer.deleted", "invoice.paid"]) == ["customer.deleted"]
    assert await kinds(type="customer.*") == ["customer.deleted", "customer.created", "customer.created"]
    assert len(await kinds(created={"gte": listened.store.now()})) == 2
    missed = (await client.v1.events.list_async({"delivery_success": False})).data
    assert [event.data.object.id for event in missed] == [lost]


async def test_it_forgets_events_after_thirty_days(client: stripe.StripeClient, account: Account) -> None:
    """Only the last 30 days are listed."""
    account.create_customer()
    account.advance(30 * 86400 - 1)
    assert len((await client.v1.events.list_async()).data) == 1
    account.advance(1)
    assert (await client.v1.events.list_async()).data == []


async def test_it_expands_what_is_asked_for(client: stripe.StripeClient, account: Account) -> None:
    """Ids become objects, in single objects and in lists; a wrong path is an error."""
    customer = account.create_customer(email="a@example.com")["id"]
    invoice = account.create_invoice(customer, 100)["id"]
    account.pay_invoice(invoice)
    page = await client.v1.invoices.list_async(
        {"expand": ["data.customer", "data.payments.data.payment.payment_intent.latest_charge"]}
    )
    [found] = page.data
    assert found.customer.email == "a@example.com"
    assert found.payments.data[0].payment.payment_intent.latest_charge.status == "succeeded"
    plain = await client.v1.invoices.retrieve_async(invoice)
    assert plain.customer == customer
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        await client.v1.invoices.retrieve_async(invoice, {"expand": ["charge"]})


async def test_it_answers_a_repeated_key_with_the_first_answer(
    client: stripe.StripeClient, account: Account
) -> None:
    """Same key and parameters: the same answer and no second object. Other parameters: refused."""
    first = await client.v1.customers.create_async({"name": "A"}, {"idempotency_key": "k1"})
    again = await client.v1.customers.create_async({"name": "A"}, {"idempotency_key": "k1"})
    assert again.id == first.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError) as refusal:
        await client.v1.customers.create_async({"name": "B"}, {"idempotency_key": "k1"})
    assert refusal.value.http_status == 400
    assert len(account.store.oldest_first("customer")) == 1
    [event] = account.events("customer.created")
    assert event["request"]["idempotency_key"] == "k1"


async def test_it_remembers_a_decline_but_not_a_wrong_parameter(
    client: stripe.StripeClient, account: Account
) -> None:
    """What began is answered alike for ever; what never began may be tried again with that key."""
    customer = account.create_customer()["id"]
    card = account.add_card(customer, "pm_card_chargeCustomerFail")["id"]
    invoice = account.create_invoice(customer, 100)["id"]
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            await client.v1.invoices.pay_async(invoice, {"payment_method": card}, {"idempotency_key": "pay"})
    assert len(account.store.oldest_first("charge")) == 1
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.customers.create_async({"nmae": "A"}, {"idempotency_key": "typo"})  # type: ignore[typeddict-unknown-key]
    await client.v1.customers.create_async({"name": "A"}, {"idempotency_key": "typo"})


async def test_it_forgets_a_key_after_a_day(client: stripe.StripeClient, account: Account) -> None:
    """A key lives for 24 hours of simulated time."""
    first = await client.v1.customers.create_async({}, {"idempotency_key": "k"})
    account.advance(86400)
    assert (await client.v1.customers.create_async({}, {"idempotency_key": "k"})).id != first.id


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"customer": "cus_none"}, "resource_missing"),
        ({}, "parameter_missing"),
        ({"customer": "cus_none", "overdue": "yes"}, "parameter_unknown"),
        ({"customer": "cus_none", "due_date": "soon"}, "parameter_invalid_integer"),
        ({"customer": "cus_none", "auto_advance": "maybe"}, "parameter_invalid_boolean"),
    ],
)
async def test_it_names_the_wrong_parameter(
    client: stripe.StripeClient, params: dict[str, Any], code: str
) -> None:
    """400 with Stripe's code and the parameter's name."""
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        await client.v1.invoices.create_async(params)  # type: ignore[arg-type]
    assert (refusal.value.http_status, refusal.value.code) == (400, code)
    assert refusal.value.param in {*params, "customer"}


async def test_it_answers_404_to_what_does_not_exist(client: stripe.StripeClient) -> None:
    """A missing object in the path is not found."""
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        await client.v1.invoices.retrieve_async("in_none")
    assert (refusal.value.http_status, refusal.value.code) == (404, "resource_missing")


async def test_it_lets_nobody_in_without_the_key(connect: Connect, url: str, account: Account) -> None:
    """Another key is 401, another API version is refused, an unknown endpoint is 404."""
    stranger = stripe.StripeClient("sk_test_other", base_addresses={"api": url}, max_network_retries=0)
    with pytest.raises(stripe.AuthenticationError):
        await stranger.v1.customers.list_async()
    with pytest.raises(stripe.InvalidRequestError, match="API version"):
        await connect(stripe_version="2024-06-20").v1.customers.list_async()
    with pytest.raises(stripe.InvalidRequestError, match="no such endpoint"):
        await connect().v1.products.list_async()
    assert account.store.oldest_first("customer") == []


async def test_it_tells_which_account_it_is(client: stripe.StripeClient, account: Account) -> None:
    """The account's id is what a client pins."""
    assert (await client.v1.accounts.retrieve_current_async()).id == account.id


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (Trouble.RATE_LIMITED, stripe.RateLimitError),
        (Trouble.SERVER_ERROR, stripe.APIError),
        (Trouble.UNAVAILABLE, stripe.APIError),
        (Trouble.TIMEOUT, stripe.APIConnectionError),
    ],
)
async def test_it_is_out_of_order_as_often_as_told(
    connect: Connect, account: Account, trouble: Trouble, error: type[stripe.StripeError]
) -> None:
    """The next requests fail before anything is done; the one after them succeeds."""
    hasty = connect(http_client=stripe.HTTPXClient(timeout=0.2 if trouble is Trouble.TIMEOUT else 60))
    account.outage.begin(trouble, requests=2, seconds=0.4)
    for _ in range(2):
        with pytest.raises(error):
            await hasty.v1.customers.create_async({})
    assert account.store.oldest_first("customer") == []
    client = connect(http_client=stripe.HTTPXClient(timeout=60))
    await client.v1.customers.create_async({})
    assert len(account.store.oldest_first("customer")) == 1


async def test_it_disturbs_until_ended_and_only_where_told(
    client: stripe.StripeClient, account: Account
) -> None:
    """An outage of one path leaves the others alone and lasts until it is ended."""
    account.outage.begin(Trouble.SERVER_ERROR, path="/v1/invoices")
    for _ in range(3):
        await client.v1.customers.list_async()
        with pytest.raises(stripe.APIError):
            await client.v1.invoices.list_async()
    account.outage.end()
    await client.v1.invoices.list_async()


async def test_it_only_takes_longer_when_slow(client: stripe.StripeClient, account: Account) -> None:
    """A slow answer is a right answer."""
    account.outage.begin(Trouble.SLOW, requests=1, seconds=0.05)
    assert (await client.v1.customers.list_async()).data == []


async def test_it_pays_once_although_the_answer_was_lost(connect: Connect, account: Account) -> None:
    """The work of a lost answer was done; the SDK's own repetition gets the remembered answer."""
    customer = account.create_customer()["id"]
    invoice = account.create_invoice(customer, 100)["id"]
    account.outage.begin(Trouble.LOST_ANSWER, requests=1)
    paid = await connect(max_network_retries=1).v1.invoices.pay_async(
        invoice, {"payment_method": "pm_card_visa"}
    )
    assert paid.status == "paid"
    assert len(account.store.oldest_first("charge")) == 1


async def test_it_does_due_work_before_it_answers(client: stripe.StripeClient, account: Account) -> None:
    """A request after the next attempt's time sees that attempt made, however time passed."""
    customer = account.create_customer()["id"]
    invoice = account.create_invoice(customer, 100, "eur", "charge_automatically")
    account.clock.move(invoice["next_payment_attempt"] - account.store.now())
    assert (await client.v1.invoices.retrieve_async(invoice["id"])).attempt_count == 2


async def test_it_survives_garbled_parameters(url: str, account: Account) -> None:
    """Whatever a client posts, the answer is an error object and never a crash."""
    headers = {"Authorization": f"Bearer {account.api_key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as http:
        for body in ("metadata=x", "metadata[a][b]=c", "name[=]", "name=a&name[b]=c", "=", "[]=1", "\xff"):
            answer = await http.post("/v1/customers", content=body.encode("latin-1"))
            assert answer.status_code in {200, 400}, body
            assert "object" in answer.json() or "error" in answer.json()
