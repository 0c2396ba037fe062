"""Webhooks: what is signed, how often it arrives, and each knob."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
import stripe

from simulators.stripe import API_VERSION, Account, serve, signature
from simulators.stripe.delivery import BACKOFF

SECRET = "whsec_test"


async def test_it_signs_what_the_sdk_accepts(listened: Account, inbox: Any) -> None:
    """A snapshot event of the pinned version, verified over the raw bytes."""
    made = listened.create_customer(email="a@example.com")
    await listened.deliveries.pump()
    [event] = inbox.events()
    assert (event.type, event.api_version) == ("customer.created", API_VERSION)
    assert event.data.object.id == made["id"]
    client = stripe.StripeClient(listened.api_key)
    body, mark = inbox.received[0]
    assert client.construct_event(body, mark, SECRET).id == event.id
    compact = json.dumps(json.loads(body)).encode()
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(compact, mark, SECRET)


async def test_it_signs_with_every_secret_during_rotation(account: Account, inbox: Any) -> None:
    """Old and new secret both verify; a third does not."""
    account.deliveries.add_endpoint("http://receiver.invalid/", "whsec_old", "whsec_new")
    account.create_customer()
    await account.deliveries.pump()
    body, mark = inbox.received[0]
    for secret in ("whsec_old", "whsec_new"):
        stripe.Webhook.construct_event(body, mark, secret)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, mark, "whsec_other")


async def test_it_signs_in_real_time_however_far_the_clock_moved(listened: Account, inbox: Any) -> None:
    """A receiver checks the signature's age against real time."""
    listened.advance(40 * 86400)
    listened.create_customer()
    await listened.deliveries.pump()
    [event] = inbox.events()
    assert event.created - time.time() < 86400 * 365
    assert event.created == listened.store.now()


def test_it_needs_a_secret(account: Account) -> None:
    """An endpoint without a secret, or with an empty one, cannot exist."""
    for secrets in ((), ("",), ("whsec_a", "")):
        with pytest.raises(ValueError, match="secret"):
            account.deliveries.add_endpoint("http://receiver.invalid/", *secrets)


async def test_it_retries_until_somebody_takes_the_event(listened: Account, inbox: Any) -> None:
    """At least once: a refused delivery comes again after its back-off, and the event says so meanwhile."""
    inbox.status = 500
    listened.create_customer()
    await listened.deliveries.pump()
    listened.advance(BACKOFF[0] - 1)
    assert await listened.deliveries.pump() == []
    [event] = listened.events()
    assert (event["pending_webhooks"], listened.deliveries.succeeded(event)) == (1, False)
    listened.advance(1)
    inbox.status = 200
    await listened.deliveries.pump()
    assert len(set(inbox.ids())) == 1
    assert len(inbox.received) == 2
    assert listened.deliveries.succeeded(listened.events()[0])


async def test_it_gives_up_after_about_three_days(listened: Account, inbox: Any) -> None:
    """After the last attempt the event is listed as not delivered."""
    inbox.status = 500
    listened.create_customer()
    for wait in (0, *BACKOFF, 10 * 86400):
        listened.advance(wait)
        await listened.deliveries.pump()
    assert len(inbox.received) == len(BACKOFF) + 1
    assert listened.deliveries.queue == []
    assert not listened.deliveries.succeeded(listened.events()[0])
    assert 2 * 86400 < sum(BACKOFF) < 4 * 86400


async def test_it_delivers_copies(listened: Account, inbox: Any) -> None:
    """The duplicate knob delivers the same event several times."""
    listened.deliveries.set_knobs(copies=50)
    listened.create_customer()
    await listened.deliveries.pump()
    assert len(inbox.received) == 50
    assert len(set(inbox.ids())) == 1


async def test_it_delivers_out_of_order(listened: Account, inbox: Any) -> None:
    """The reorder knob shuffles what is due together and loses nothing."""
    listened.deliveries.set_knobs(reorder=True)
    for _ in range(20):
        listened.create_customer()
    await listened.deliveries.pump()
    sent = [event["id"] for event in listened.events()]
    assert inbox.ids() != sent
    assert sorted(inbox.ids()) == sorted(sent)


async def test_it_delays(listened: Account, inbox: Any) -> None:
    """The delay knob keeps the first attempt back, to the second."""
    listened.deliveries.set_knobs(delay=30)
    listened.create_customer()
    listened.advance(29)
    await listened.deliveries.pump()
    assert inbox.received == []
    listened.advance(1)
    await listened.deliveries.pump()
    assert len(inbox.received) == 1


async def test_it_holds_until_released(listened: Account, inbox: Any) -> None:
    """Held events wait in order and all arrive at the release."""
    listened.deliveries.set_knobs(hold=True)
    listened.create_customer()
    listened.create_customer()
    await listened.deliveries.pump()
    assert inbox.received == []
    listened.deliveries.release()
    await listened.deliveries.pump()
    assert inbox.ids() == [event["id"] for event in listened.events()]


async def test_it_loses_the_next_events_for_good_but_lists_them(listened: Account, inbox: Any) -> None:
    """A lost event never arrives; only the events list still has it, as not delivered."""
    listened.deliveries.set_knobs(lose_next=1)
    lost = listened.create_customer()["id"]
    kept = listened.create_customer()["id"]
    listened.advance(10 * 86400)
    await listened.deliveries.pump()
    assert [event.data.object.id for event in inbox.events()] == [kept]
    missed = [e for e in listened.events() if not listened.deliveries.succeeded(e)]
    assert [event["data"]["object"]["id"] for event in missed] == [lost]


async def test_it_fails_the_next_attempts_and_retries_them(listened: Account, inbox: Any) -> None:
    """A failed attempt reaches nobody and comes again."""
    listened.deliveries.set_knobs(fail_next=1)
    listened.create_customer()
    [first] = await listened.deliveries.pump()
    assert (first.status, inbox.received) == (0, [])
    listened.advance(BACKOFF[0])
    [second] = await listened.deliveries.pump()
    assert second.status == 200


async def test_it_delivers_again_on_request(listened: Account, inbox: Any) -> None:
    """One event several times, or every event once more."""
    listened.create_customer()
    listened.create_customer()
    await listened.deliveries.pump()
    first, second = inbox.ids()
    inbox.received.clear()
    listened.deliveries.redeliver(first, times=3)
    await listened.deliveries.pump()
    assert inbox.ids() == [first] * 3
    inbox.received.clear()
    listened.deliveries.redeliver_all()
    await listened.deliveries.pump()
    assert inbox.ids() == [first, second]


async def test_it_sends_only_what_an_endpoint_asked_for(account: Account, inbox: Any) -> None:
    """`enabled_events` filters."""
    account.deliveries.add_endpoint("http://receiver.invalid/", SECRET, enabled_events=("customer.deleted",))
    account.delete_customer(account.create_customer()["id"])
    await account.deliveries.pump()
    assert inbox.types() == ["customer.deleted"]


def test_it_refuses_a_knob_that_does_not_exist(account: Account) -> None:
    """A misspelt knob is an error that names the right ones."""
    with pytest.raises(ValueError, match="copies"):
        account.deliveries.set_knobs(duplicate=3)


async def test_it_posts_over_http_to_whoever_listens(account: Account) -> None:
    """The default sender posts; an address where nobody listens counts as no answer."""
    real = Account()
    async with serve(account) as base:
        real.deliveries.add_endpoint(f"{base}/_simulator/deliveries", SECRET)
        real.deliveries.add_endpoint("http://127.0.0.1:9/", SECRET)
        real.create_customer()
        attempts = await real.deliveries.pump()
    # The control door answers the foreign body with a refusal: an answer all the same.
    assert [attempt.status for attempt in attempts] == [400, 0]


async def test_it_delivers_by_itself_while_it_is_served() -> None:
    """Nobody needs to pump a running simulator, and due work is done as time passes."""
    second_failure, failures = asyncio.Event(), []

    async def receive(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        event = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)
        failures.extend([event.id] if event.type == "invoice.payment_failed" else [])
        if len(failures) == 2:
            second_failure.set()
        return 200

    account = Account(sender=receive)
    account.deliveries.add_endpoint("http://receiver.invalid/", SECRET)
    async with serve(account):
        customer = account.create_customer()["id"]
        account.add_card(customer, "pm_card_chargeCustomerFail")
        account.create_invoice(customer, 100, "eur", "charge_automatically")
        account.advance(3 * 86400)
        await asyncio.wait_for(second_failure.wait(), 60)


def test_it_writes_the_header_as_documented() -> None:
    """`t=`, then one `v1=` per secret, over `t.body`."""
    assert signature(b"{}", ("s",), 1) == (
        "t=1,v1=" + stripe.WebhookSignature._compute_signature("1.{}", "s")
    )
