"""The gateway through real sockets: what it asks, how it fails, and that the key stays inside."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import stripe

from billing.stripe.gateway import (
    API_VERSION,
    GoneError,
    NeedsHumanError,
    RejectedError,
    RetryLaterError,
    StripeGateway,
    StripeReadError,
    id_of,
    is_live_key,
)
from simulators.stripe import Account as Simulator
from simulators.stripe import Trouble, serve

CANARY = "sk_test_canary_5f1c0b9e"


@asynccontextmanager
async def connected(simulator: Simulator, key: str = CANARY, **given: Any) -> AsyncIterator[StripeGateway]:
    """A gateway to a simulator that listens on a socket."""
    async with serve(simulator) as url:
        gateway = StripeGateway(key, api_base=url, **({"retries": 0, "timeout": 5.0} | given))
        try:
            yield gateway
        finally:
            await gateway.close()


@asynccontextmanager
async def answering(reply: bytes | None) -> AsyncIterator[StripeGateway]:
    """A gateway to something that answers these bytes to everything, or never (null)."""
    hold = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if reply is None:
            await hold.wait()
        else:
            writer.write(reply)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gateway = StripeGateway(
        CANARY, api_base=f"http://127.0.0.1:{port}", retries=0, timeout=0.2 if reply is None else 60
    )
    try:
        yield gateway
    finally:
        hold.set()
        await gateway.close()
        server.close()


async def test_it_reads_an_invoice_with_its_payments_and_disputes(simulator: Simulator) -> None:
    """Everything that decides its standing, in plain dicts."""
    customer = simulator.create_customer()["id"]
    key = simulator.create_invoice(customer, 900)["id"]
    simulator.pay_invoice(key)
    simulator.open_dispute(key, amount=300)
    async with connected(simulator) as gateway:
        reading = await gateway.fetch_invoice(key)
        assert (reading.invoice["status"], reading.invoice["amount_paid"]) == ("paid", 900)
        assert [payment["status"] for payment in reading.payments] == ["paid"]
        assert [dispute["amount"] for dispute in reading.disputes] == [300]
        assert type(reading.invoice) is dict
        assert await gateway.account_id() == simulator.id
        assert (await gateway.fetch_customer(customer))["id"] == customer


async def test_it_reads_every_page(simulator: Simulator, clock: Any) -> None:
    """More invoices and events than one page holds, each once."""
    customer = simulator.create_customer()["id"]
    keys = {simulator.create_invoice(customer, 100)["id"] for _ in range(230)}
    async with connected(simulator) as gateway:
        listed = [invoice["id"] async for invoice in gateway.list_invoices(status="open", customer=customer)]
        since, until = clock.now() - timedelta(hours=1), clock.now() + timedelta(seconds=1)
        events = [event["id"] async for event in gateway.list_events(since=since, until=until)]
    assert len(listed) == 230
    assert set(listed) == keys
    assert set(events) == {event["id"] for event in simulator.events()}
    assert len(events) == len(set(events)) > 230


async def test_it_reads_all_lines_of_a_long_invoice(
    simulator: Simulator, gateway: StripeGateway, wire: Any
) -> None:
    """Stripe embeds the first lines only and says that there are more."""
    customer = simulator.create_customer()["id"]
    key = simulator.create_invoice(customer, 100, finalize=False)["id"]
    for number in range(120):
        simulator.invoices.create_item({"customer": customer, "amount": number, "invoice": key})
    lines = simulator.store.get("invoice", key)["lines"]
    lines["has_more"] = True
    reading = await gateway.fetch_invoice(key)
    assert wire.requests[f"/v1/invoices/{key}/lines"] == 2
    assert [line["id"] for line in reading.invoice["lines"]["data"]] == [line["id"] for line in lines["data"]]


async def test_it_finds_the_invoice_behind_every_kind_of_object(simulator: Simulator) -> None:
    """Credit note, payment, charge, refund and dispute."""
    customer = simulator.create_customer()["id"]
    paid = simulator.create_invoice(customer, 900)["id"]
    simulator.pay_invoice(paid)
    other = simulator.create_invoice(customer, 900)["id"]
    found = {
        "credit_note": simulator.credit(other, 100)["id"],
        "invoice_payment": simulator.store.newest_first("invoice_payment")[-1]["id"],
        "charge": simulator.charge_of(paid),
        "refund": simulator.refund(paid, 100)["id"],
        "dispute": simulator.open_dispute(paid, amount=100)["id"],
    }
    async with connected(simulator) as gateway:
        touched = {kind: await gateway.invoices_touched_by(kind, key) for kind, key in found.items()}
        with pytest.raises(ValueError, match="payout"):
            await gateway.invoices_touched_by("payout", "po_1")
    assert touched == {kind: (other if kind == "credit_note" else paid,) for kind in found}


@pytest.mark.parametrize(
    "trouble", [Trouble.RATE_LIMITED, Trouble.SERVER_ERROR, Trouble.UNAVAILABLE, Trouble.TIMEOUT]
)
async def test_it_calls_a_passing_trouble_one_to_retry(simulator: Simulator, trouble: Trouble) -> None:
    """429 and every 5xx."""
    simulator.outage.begin(trouble, seconds=0)
    async with connected(simulator) as gateway:
        with pytest.raises(RetryLaterError):
            await gateway.account_id()


async def test_it_retries_by_itself_within_its_bounds(simulator: Simulator) -> None:
    """One hiccup is not even noticed."""
    simulator.outage.begin(Trouble.SERVER_ERROR, requests=1)
    async with connected(simulator, retries=1) as gateway:
        assert await gateway.account_id() == simulator.id


async def test_it_calls_a_refused_key_a_matter_for_a_person(simulator: Simulator) -> None:
    """401: no retry mends it; what it says holds no key."""
    async with connected(simulator, "sk_test_revoked_canary") as gateway:
        with pytest.raises(NeedsHumanError, match="check the API key") as refused:
            await gateway.account_id()
    assert "canary" not in f"{refused.value!r} {gateway!r} {gateway.__dict__.keys()}"


async def test_it_tells_what_is_missing_from_what_is_refused(simulator: Simulator) -> None:
    """404 for an object, 400 for a question."""
    async with connected(simulator) as gateway:
        with pytest.raises(GoneError, match="in_missing"):
            await gateway.fetch_invoice("in_missing")
    refusal = b'{"error": {"message": "no", "type": "invalid_request_error"}}'
    head = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(refusal)}\r\n\r\n".encode()
    async with answering(head + refusal) as gateway:
        with pytest.raises(RejectedError):
            await gateway.account_id()


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html></ht",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id"',
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"not HTTP at all",
    ],
)
async def test_it_calls_silence_and_nonsense_one_to_retry(reply: bytes | None) -> None:
    """A hanging, broken or foreign peer says nothing about anybody's debts."""
    async with answering(reply) as gateway:
        with pytest.raises(RetryLaterError):
            await gateway.account_id()


async def test_it_gives_up_an_answer_that_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that sends a byte now and then stays below the timeout of each read, not below the deadline."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gateway = StripeGateway(CANARY, api_base=f"http://127.0.0.1:{port}", retries=0, timeout=0.3)
    with pytest.raises(RetryLaterError, match="within"):
        await asyncio.wait_for(gateway.account_id(), 60)
    await gateway.close()
    server.close()


async def test_it_lets_the_key_out_nowhere(simulator: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """Not in an error with its causes, not in a log at the loudest level, not in a representation."""
    caplog.set_level(logging.DEBUG)
    echo = f'{{"error": {{"message": "Invalid API Key provided: {CANARY}"}}}}'.encode()
    replies = [
        f"HTTP/1.1 {status}\r\nContent-Length: {len(echo)}\r\n\r\n".encode() + echo
        for status in ("401 Unauthorized", "403 Forbidden", "400 Bad Request", "500 Internal Server Error")
    ]
    said = ""
    for reply in replies:
        async with answering(reply) as gateway:
            with pytest.raises(StripeReadError) as refused:
                await gateway.account_id()
            said += f"{refused.value!r} {refused.value} {refused.value.__cause__} {gateway!r}"
            assert refused.value.__suppress_context__
    assert CANARY not in said + caplog.text


def test_it_asks_in_the_version_that_it_was_written_for(simulator: Simulator) -> None:
    """Another major of the SDK speaks another version: then this module has to be read again."""
    assert stripe.api_version == API_VERSION


def test_it_needs_a_key() -> None:
    """An empty one would be sent as such."""
    with pytest.raises(ValueError, match="ABEYANCE_STRIPE_API_KEY"):
        StripeGateway(" ")


def test_it_knows_live_keys() -> None:
    """Secret and restricted ones."""
    assert [is_live_key(key) for key in ("sk_live_1", "rk_live_1", "sk_test_1", "rk_test_1")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("reference", [None, 7, "", [], {"id": None}])
def test_it_refuses_what_is_no_reference(reference: object) -> None:
    """Neither an id nor an object."""
    with pytest.raises(ValueError, match="neither"):
        id_of(reference)
