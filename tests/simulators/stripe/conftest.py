"""An account on a clock that stands still, its webhooks captured, and the real SDK talking to it."""

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
import stripe

from simulators.stripe import Account, SystemClock, serve

SECRET = "whsec_test"


class StandingClock:
    """A clock that stands at noon on the first of June."""

    def now(self) -> datetime:
        return datetime(2026, 6, 1, 12, tzinfo=UTC)


class Inbox:
    """A webhook receiver that keeps what arrives and answers as told."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, str]] = []
        self.status = 200

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.received.append((body, headers["Stripe-Signature"]))
        return self.status

    def events(self) -> list[stripe.Event]:
        return [stripe.Webhook.construct_event(body, mark, SECRET) for body, mark in self.received]

    def types(self) -> list[str]:
        return [event.type for event in self.events()]

    def ids(self) -> list[str]:
        return [event.id for event in self.events()]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def account(inbox: Inbox) -> Account:
    return Account(StandingClock(), Random(7), sender=inbox, signing_clock=SystemClock())


@pytest.fixture
def listened(account: Account) -> Account:
    """The account with one webhook endpoint."""
    account.deliveries.add_endpoint("http://receiver.invalid/webhooks", SECRET)
    return account


@pytest.fixture
async def url(account: Account) -> AsyncIterator[str]:
    async with serve(account) as base:
        yield base


@pytest.fixture
def connect(url: str, account: Account) -> Callable[..., stripe.StripeClient]:
    def make(**options: Any) -> stripe.StripeClient:
        settings = {"max_network_retries": 0, **options}
        return stripe.StripeClient(account.api_key, base_addresses={"api": url}, **settings)

    return make


@pytest.fixture
def client(connect: Callable[..., stripe.StripeClient]) -> stripe.StripeClient:
    return connect()
