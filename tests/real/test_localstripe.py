"""Cards, setups, payments and declines against localstripe: a stand-in for Stripe that none of us wrote.

It speaks an API of 2017 in places and knows no idempotency keys, payment filters or off-session refusals; `Translator`
says what is left out on the way there and added on the way back.
"""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest
import pytest_asyncio
import stripe

from billing import cards, charges, ledger
from billing.charge_rows import InvoiceCharge, TopUp
from billing.clock import ManualClock
from billing.models import Account, Invoice
from billing.money_models import Card, Charge, ChargeState
from billing.refusal import RefusalCode, RefusalError
from billing.rules.cards import NotAsked
from billing.rules.money import Money
from billing.rules.terms import InvoiceStatus
from billing.stripe import inbox
from billing.stripe.card_gateway import CardGateway
from billing.stripe.gateway import DeclinedError, GoneError, StripeGateway
from billing.stripe.processing import process_due

KEY, SECRET = "sk_test_localstripe", "whsec_localstripe"

_SERVE = """
import socket
from aiohttp import web
from localstripe.server import app

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
web.run_app(app, sock=listener, print=None, access_log=None)
"""
"""Its own start listens on every address and loads what an earlier run left."""

VISA, MASTERCARD = "4242424242424242", "5555555555554444"
DECLINED_AT_CHARGE, AUTHENTICATED, NEVER_SAVED = "4000000000000341", "4000002760003184", "4000000000000002"


class Translator(httpx.AsyncBaseTransport):
    """Leaves out what localstripe does not know, and adds what it does not say."""

    _UNKNOWN = ("allowed_payment_method_types", "description", "cancellation_reason")
    _FILTERS = ("customer", "created[gte]")

    def __init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = (await request.aread()).decode()
        known = [(name, value) for name, value in parse_qsl(body) if name.split("[")[0] not in self._UNKNOWN]
        headers = {key: value for key, value in request.headers.items() if key.lower() != "content-length"}
        url = request.url
        for name in self._FILTERS if url.path == "/v1/payment_intents" else ():
            url = url.copy_remove_param(name)
        plain = httpx.Request(
            request.method, url, headers=headers, content=urlencode(known) if body else None
        )
        response = await self._inner.handle_async_request(plain)
        await response.aread()
        return self._completed(response)

    @staticmethod
    def _completed(response: httpx.Response) -> httpx.Response:
        answer = response.json()
        if answer.get("object") != "payment_intent":
            return response
        # Always there at Stripe (docs.stripe.com/api/payment_intents/object).
        answer["amount_received"] = answer["amount"] if answer["status"] == "succeeded" else 0
        return httpx.Response(response.status_code, json=answer)


@pytest.fixture(scope="module")
def localstripe(
    require: Callable[[str], NoReturn], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of a localstripe of this module alone."""
    if importlib.util.find_spec("localstripe") is None:
        require("localstripe is missing: make setup-dev")
    folder = tmp_path_factory.mktemp("localstripe")
    environment = {"PATH": os.defpath, "TMPDIR": str(folder), "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", _SERVE], stdout=subprocess.PIPE, stderr=log, env=environment, cwd=folder
        )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().decode().strip()
        assert port, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=60)


@dataclass(kw_only=True)
class Peer:
    """An account of ours with a customer there, and the ways to it."""

    url: str
    clock: ManualClock
    gateway: CardGateway
    sdk: stripe.StripeClient
    account: Account

    async def save(self, number: str, **given: Any) -> Card:
        """Save a card as the portal does; the browser's part is done with the number."""
        setup = await cards.begin_setup(self.gateway, self.clock, self.account.id, actor="ada")
        await self.enter(setup.id, str(setup.customer_id), number)
        return await cards.add(
            self.gateway, self.clock, self.account.id, setup_intent_id=setup.id, actor="ada", **given
        )

    async def enter(self, setup: str, customer: str, number: str) -> None:
        """What Stripe.js does; localstripe does not attach what a setup saved, so that is done by hand."""
        card: Any = {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": "123"}
        method = await self.sdk.v1.payment_methods.create_async({"type": "card", "card": card})
        await self.sdk.v1.payment_methods.attach_async(method.id, {"customer": customer})
        await self.sdk.v1.setup_intents.confirm_async(setup, {"payment_method": method.id})

    async def authenticate(self, secret: str, *, success: bool) -> None:
        """The customer passes 3-D Secure, or fails."""
        payment = secret.split("_secret_", maxsplit=1)[0]
        async with httpx.AsyncClient(auth=(KEY, "")) as client:
            await client.post(
                f"{self.url}/v1/payment_intents/{payment}/_authenticate",
                data={"client_secret": secret, "success": str(success).lower()},
            )

    async def balance(self) -> int:
        """What is on the balance."""
        return (await ledger.purses([self.account.id]))[self.account.id].balance

    def wish(self, card: Card, key: str = "key-1", **given: Any) -> TopUp:
        """Twenty euros by this card."""
        return TopUp(
            account_id=self.account.id, amount=Money(2000, "EUR"), card_id=card.id, idempotency_key=key, actor="ada",
            **given,
        )  # fmt: skip


@pytest_asyncio.fixture
async def peer(
    localstripe: str, sqlite_database: str, clock: ManualClock, factory: Any
) -> AsyncIterator[Peer]:
    """A fresh account, which has no customer there yet."""
    http = stripe.HTTPXClient(timeout=60)
    http._client_async = httpx.AsyncClient(transport=Translator())
    gateway = StripeGateway(KEY, api_base=localstripe, retries=0, http_client=http)
    sdk = stripe.StripeClient(KEY, base_addresses={"api": localstripe}, http_client=stripe.HTTPXClient())
    account = await factory.account(email="ada@example.org")
    yield Peer(url=localstripe, clock=clock, gateway=CardGateway(gateway), sdk=sdk, account=account)
    await gateway.close()


async def test_it_saves_cards_that_localstripe_tells_apart(peer: Peer) -> None:
    """A customer is made; equal numbers have equal fingerprints; the duplicate is let go of."""
    first = await peer.save(VISA)
    second = await peer.save(MASTERCARD, make_default=True)
    with pytest.raises(RefusalError) as caught:
        await peer.save(VISA)
    assert caught.value.problems[0].code is RefusalCode.CARD_DUPLICATE
    customer = str((await Account.get(id=peer.account.id)).stripe_customer_id)
    listed = await peer.sdk.v1.payment_methods.list_async({"customer": customer, "type": "card"})
    mine = {first.stripe_payment_method_id, second.stripe_payment_method_id}
    assert {method.id for method in listed.data} == mine
    owner = await peer.gateway.gateway.fetch_customer(customer)
    assert owner["invoice_settings"]["default_payment_method"] == second.stripe_payment_method_id


async def test_it_removes_a_card_at_localstripe(peer: Peer) -> None:
    """It belongs to nobody there, and letting go once more does no harm."""
    card = await peer.save(VISA)

    async def no(account_id: int) -> bool:
        return False

    await cards.remove(
        peer.gateway, peer.clock, card.id, account_id=peer.account.id, needs_card=no, actor="ada"
    )
    found = await peer.gateway.fetch_card(card.stripe_payment_method_id)
    assert found is not None
    assert found.customer_id is None
    await peer.gateway.detach(card.stripe_payment_method_id)


async def test_it_refuses_a_setup_that_localstripe_did_not_finish(peer: Peer) -> None:
    """Begun, or declined at saving: no card."""
    setup = await cards.begin_setup(peer.gateway, peer.clock, peer.account.id, actor="ada")
    with pytest.raises(stripe.CardError):
        await peer.enter(setup.id, str(setup.customer_id), NEVER_SAVED)
    for key in (setup.id, "seti_unknown"):
        with pytest.raises(RefusalError):
            await cards.add(peer.gateway, peer.clock, peer.account.id, setup_intent_id=key, actor="ada")
    assert await Card.all().count() == 0


async def test_it_tops_up_through_localstripe(peer: Peer) -> None:
    """On- and off-session; the money is there once."""
    card = await peer.save(VISA)
    for key, on_session in (("key-1", True), ("key-2", False), ("key-1", True)):
        outcome = await charges.top_up(peer.gateway, peer.clock, peer.wish(card, key, on_session=on_session))
        assert outcome.state is ChargeState.SUCCEEDED
    assert await peer.balance() == 4000


async def test_it_pays_an_invoice_through_localstripe_when_a_card_was_declined(
    peer: Peer, factory: Any
) -> None:
    """The first card is refused at the charge, the second pays."""
    poor, good = await peer.save(DECLINED_AT_CHARGE), await peer.save(VISA)
    invoice = await factory.invoice(peer.account)
    asked = {"invoice_id": invoice.id, "amount": 500, "occasion": "schedule:1", "actor": "system"}
    declined = await charges.charge_for_invoice(
        peer.gateway, peer.clock, InvoiceCharge(card_id=poor.id, **asked)
    )
    assert declined.charge is not None
    assert (declined.state, declined.charge.decline_code) == (ChargeState.FAILED, "card_declined")
    again = await charges.charge_for_invoice(
        peer.gateway, peer.clock, InvoiceCharge(card_id=poor.id, **asked)
    )
    assert again.not_asked is NotAsked.TRIED
    await charges.charge_for_invoice(peer.gateway, peer.clock, InvoiceCharge(card_id=good.id, **asked))
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID


@pytest.mark.parametrize("success", [True, False])
async def test_it_waits_for_3d_secure_at_localstripe(peer: Peer, success: bool) -> None:
    """Nothing is credited before; passed, the webhook leads to the money, failed, to a decline."""
    setup = await cards.begin_setup(peer.gateway, peer.clock, peer.account.id, actor="ada")
    await peer.enter(setup.id, str(setup.customer_id), VISA)
    card = await cards.add(peer.gateway, peer.clock, peer.account.id, setup_intent_id=setup.id, actor="ada")
    shy = await _authenticated_card(peer, str(setup.customer_id), card)
    async with receiving(peer.url) as received:
        outcome = await charges.top_up(peer.gateway, peer.clock, peer.wish(shy))
        assert outcome.state is ChargeState.REQUIRES_ACTION
        assert outcome.client_secret is not None
        assert await peer.balance() == 0
        await peer.authenticate(outcome.client_secret, success=success)
        if success:
            event = await _webhook_about(outcome.client_secret.split("_secret_", maxsplit=1)[0], received)
            await inbox.store(event, source="webhook", now=peer.clock.now())
            await process_due(peer.gateway.gateway, peer.clock)
        else:
            await charges.top_up(peer.gateway, peer.clock, peer.wish(shy))
    state = (await Charge.get()).state
    assert state is (ChargeState.SUCCEEDED if success else ChargeState.FAILED)
    assert await peer.balance() == (2000 if success else 0)


async def _webhook_about(payment: str, received: "asyncio.Queue[tuple[bytes, str]]") -> dict[str, Any]:
    """The signed event about this payment; those of earlier tests may come first."""
    while True:
        body, signature = await asyncio.wait_for(received.get(), 60)
        stripe.Webhook.construct_event(body, signature, SECRET)
        event: dict[str, Any] = json.loads(body)
        if event["data"]["object"]["id"] == payment:
            assert event["type"] == "payment_intent.succeeded"
            return event


async def _authenticated_card(peer: Peer, customer: str, like: Card) -> Card:
    """A card that asks for its owner; a setup with it never ends there, so its row is made by hand."""
    card: Any = {"number": AUTHENTICATED, "exp_month": 12, "exp_year": 2034, "cvc": "123"}
    method = await peer.sdk.v1.payment_methods.create_async({"type": "card", "card": card})
    await peer.sdk.v1.payment_methods.attach_async(method.id, {"customer": customer})
    return await Card.create(
        account_id=like.account_id, stripe_payment_method_id=method.id, fingerprint="shy", brand="visa", last4="3184",
        exp_month=12, exp_year=2034, added_at=datetime(2026, 11, 20, tzinfo=UTC),
    )  # fmt: skip


async def test_it_tells_failures_of_localstripe_apart(peer: Peer) -> None:
    """What does not exist, what is declined, what has ended already."""
    for fetch in (peer.gateway.fetch_card, peer.gateway.fetch_setup, peer.gateway.fetch_payment):
        with pytest.raises(GoneError):
            await fetch({"fetch_card": "pm_x", "fetch_setup": "seti_x"}.get(fetch.__name__, "pi_x"))
    card = await peer.save(DECLINED_AT_CHARGE)
    account = await Account.get(id=peer.account.id)
    request = charges.ChargeRequest(
        key="k", customer_id=str(account.stripe_customer_id), payment_method_id=card.stripe_payment_method_id,
        amount=500, currency="EUR", on_session=False, description="x",
    )  # fmt: skip
    with pytest.raises(DeclinedError):
        await peer.gateway.charge(request)


@asynccontextmanager
async def receiving(url: str) -> AsyncIterator["asyncio.Queue[tuple[bytes, str]]"]:
    """A receiver of localstripe's webhooks: bodies with their signatures."""
    received: asyncio.Queue[tuple[bytes, str]] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        body = await reader.readexactly(int(headers["Content-Length"]))
        await received.put((body, headers["Stripe-Signature"]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient() as client:
        settings = {
            "url": f"http://127.0.0.1:{port}/",
            "secret": SECRET,
            "events[0]": "payment_intent.succeeded",
        }
        (await client.post(f"{url}/_config/webhooks/abeyance", data=settings)).raise_for_status()
    try:
        yield received
    finally:
        server.close()
