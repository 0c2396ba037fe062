"""Stripe's webhooks through the real door: only genuine ones are kept, once, and nothing is done while Stripe waits."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from random import Random
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from tortoise.exceptions import OperationalError

from api import bodies
from api.webhooks import LARGEST_BODY, StripeWebhook
from billing.models import Account, AuditEntry, EventState, StripeEvent, StripeMirror
from billing.stripe import inbox
from simulators.stripe import Account as Simulator
from simulators.stripe import signature

SECRET = "whsec_canary_c0ffee"
OLD = "whsec_of_before"


class Door:
    """The mounted webhook and a client at it."""

    def __init__(self, clock: Any, *, secrets: Sequence[str] = (SECRET,), live: bool = False) -> None:
        self.clock = clock
        self.woken = 0
        hook = StripeWebhook(secrets=secrets, live=live, account_id="acct_ours", clock=clock, wake=self._wake)
        app = Starlette(routes=[Route("/webhooks/stripe", hook.handle, methods=["POST"])])
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://abeyance.test"
        )
        self.hook = hook

    def _wake(self) -> None:
        self.woken += 1

    async def post(self, body: bytes, *, header: str | None = None, **headers: str) -> httpx.Response:
        """Post a body, signed now unless a header is given."""
        signed = (
            header if header is not None else signature(body, (SECRET,), int(self.clock.now().timestamp()))
        )
        sent = {"Stripe-Signature": signed} | headers if signed else headers
        return await self.client.post("/webhooks/stripe", content=body, headers=sent)


@pytest_asyncio.fixture
async def door(database: str, clock: Any) -> AsyncIterator[Door]:
    """The door on SQLite and on PostgreSQL."""
    made = Door(clock)
    yield made
    await made.client.aclose()


@pytest_asyncio.fixture
async def small_door(sqlite_database: str, clock: Any) -> AsyncIterator[Door]:
    """The door on SQLite alone, where the kind of database does not matter."""
    made = Door(clock)
    yield made
    await made.client.aclose()


def an_event(**given: Any) -> bytes:
    """A genuine event's body."""
    event = {
        "id": "evt_1",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": 1_790_000_000,
        "type": "invoice.paid",
        "livemode": False,
        "data": {"object": {"id": "in_1", "object": "invoice", "customer": "cus_1"}},
    }
    return json.dumps(event | given).encode()


async def test_it_answers_once_an_event_is_stored_and_wakes(door: Door) -> None:
    """200, a row that waits, and one wake; nothing has been processed."""
    answer = await door.post(an_event())
    assert answer.status_code == 200
    row = await StripeEvent.get(event_id="evt_1")
    assert (row.state, row.source, row.object_id, row.attempts) == (EventState.PENDING, "webhook", "in_1", 0)
    assert (await StripeMirror.get(id=1)).last_webhook_at == door.clock.now()
    assert door.woken == 1


async def test_it_answers_a_repeated_event_and_changes_nothing(door: Door) -> None:
    """Fifty times, some of them together: 200 each time, one row, one wake."""
    await door.post(an_event())
    before = await StripeEvent.all().values(), await StripeMirror.all().values()
    door.clock.advance(timedelta(minutes=1))
    answers = await asyncio.gather(*(door.post(an_event()) for _ in range(49)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await StripeEvent.all().values(), await StripeMirror.all().values()) == before
    assert door.woken == 1


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=1,v1=0",
        "nonsense",
        signature(an_event(), (OLD,), 1_795_165_200),
        signature(an_event(), (SECRET,), 1_795_165_200 - 301),
        signature(an_event(), (SECRET,), 1_795_165_200 + 301),
        signature(an_event(), (SECRET,), 1_795_165_200).replace("v1", "v0"),
        signature(an_event(id="evt_2"), (SECRET,), 1_795_165_200),
    ],
)
async def test_it_keeps_nothing_of_what_is_not_signed(small_door: Door, header: str) -> None:
    """400, no row of any kind, no wake, and an answer that teaches a forger nothing."""
    assert int(small_door.clock.now().timestamp()) == 1_795_165_200
    answer = await small_door.post(an_event(), header=header)
    assert answer.status_code == 400
    assert answer.json() == {"error": "not a genuine Stripe event"}
    assert await StripeEvent.all().count() == await AuditEntry.all().count() == 0
    assert (await StripeMirror.get(id=1)).last_webhook_at is None
    assert small_door.woken == 0


async def test_it_checks_the_bytes_and_not_their_meaning(small_door: Door) -> None:
    """The same JSON written anew does not fit the signature."""
    body = an_event()
    header = signature(body, (SECRET,), int(small_door.clock.now().timestamp()))
    assert (
        await small_door.post(json.dumps(json.loads(body), indent=1).encode(), header=header)
    ).status_code == 400
    assert (await small_door.post(body, header=header)).status_code == 200


@pytest.mark.parametrize(
    ("secrets", "status"), [((OLD, SECRET), 200), (("", SECRET), 200), ((OLD,), 400), (("",), 400), ((), 400)]
)
async def test_it_takes_any_of_its_secrets(
    sqlite_database: str, clock: Any, secrets: Sequence[str], status: int
) -> None:
    """While one is being rotated; without one, nothing."""
    door = Door(clock, secrets=secrets)
    assert (await door.post(an_event())).status_code == status
    await door.client.aclose()


async def test_it_takes_nothing_signed_with_an_empty_secret(sqlite_database: str, clock: Any) -> None:
    """An unset variable must not be a secret that everybody knows."""
    door = Door(clock, secrets=[""])
    header = signature(an_event(), ("",), int(clock.now().timestamp()))
    assert (await door.post(an_event(), header=header)).status_code == 400
    await door.client.aclose()


@pytest.mark.parametrize(
    "given",
    [
        {"livemode": True},
        {"livemode": None},
        {"account": "acct_of_a_connected_shop"},
        {"object": "v2.core.event"},
        {"object": "invoice"},
        {"id": None},
        {"created": "yesterday"},
        {"type": ["invoice.paid"]},
    ],
)
async def test_it_refuses_genuine_mail_that_is_not_for_us(small_door: Door, given: dict[str, Any]) -> None:
    """Another mode, another account, another kind of event: signed, and yet not kept."""
    assert (await small_door.post(an_event(**given))).status_code == 400
    assert await StripeEvent.all().count() == 0


async def test_it_takes_live_events_with_a_live_key(sqlite_database: str, clock: Any) -> None:
    """And test events not."""
    door = Door(clock, live=True)
    assert (await door.post(an_event(livemode=True, account="acct_ours"))).status_code == 200
    assert (await door.post(an_event(id="evt_2"))).status_code == 400
    await door.client.aclose()


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'"text"', b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 200_000, b'{"a":' * 100_000],
    ids=["empty", "null", "list", "text", "cut off", "no text", "no number", "deep", "deep objects"],
)
async def test_it_refuses_shapeless_bodies(small_door: Door, body: bytes) -> None:
    """Signed nonsense: 400, and the process lives."""
    assert (await small_door.post(body)).status_code == 400
    assert await StripeEvent.all().count() == 0


async def test_it_keeps_a_deep_or_strange_event(door: Door) -> None:
    """What Stripe did sign is kept, also with characters that PostgreSQL's JSON cannot hold."""
    deep: Any = "x"
    for _ in range(50):
        deep = {"in": [deep]}
    about = {"id": "in_1", "deep": deep, "nul": "a\0b", "half": "\ud83d", "huge": 10**60}
    assert (await door.post(an_event(data={"object": about}))).status_code == 200
    assert (await StripeEvent.get(event_id="evt_1")).object_id == "in_1"


async def test_it_reads_no_more_than_a_mebibyte(small_door: Door) -> None:
    """Whatever length is announced: the rest is not even read."""
    exact = an_event(padding="")
    fitting = an_event(padding="x" * (LARGEST_BODY - len(exact)))
    assert (await small_door.post(fitting)).status_code == 200
    assert (await small_door.post(fitting + b" ")).status_code == 400
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b" " * 65_536

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(b"stripe-signature", b"t=1,v1=0")],
        "query_string": b"",
    }
    parts = endless()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": await anext(parts), "more_body": True}

    assert (await small_door.hook.handle(Request(scope, receive))).status_code == 400
    assert sent <= LARGEST_BODY + 2 * 65_536


async def test_it_asks_for_another_try_when_the_database_fails(
    small_door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 and no wake: Stripe sends it again; then it is stored."""

    async def fails(*args: Any, **kwargs: Any) -> bool:
        raise OperationalError("disk I/O error of whsec_canary")

    monkeypatch.setattr(inbox, "store", fails)
    answer = await small_door.post(an_event())
    assert answer.status_code == 503
    assert "canary" not in answer.text
    assert small_door.woken == 0
    monkeypatch.undo()
    assert (await small_door.post(an_event())).status_code == 200
    assert small_door.woken == 1


async def test_it_never_shows_its_secrets(
    small_door: Door, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    """Not in a representation, a log line or an answer."""
    answers = [
        await small_door.post(an_event(), header=header)
        for header in ("", "t=1,v1=0", signature(b"x", (SECRET,), 1))
    ]
    said = "".join(answer.text for answer in answers) + repr(small_door.hook) + caplog.text
    printed = capsys.readouterr()
    assert SECRET not in said + printed.out + printed.err


async def test_it_takes_what_the_simulated_stripe_delivers(database: str, clock: Any, factory: Any) -> None:
    """Signed, doubled and shuffled as in life: each event of an invoice's life is kept once."""
    door = Door(clock)

    async def send(url: str, body: bytes, headers: Any) -> int:
        return (await door.client.post(url, content=body, headers=dict(headers))).status_code

    simulator = Simulator(clock, Random(5), sender=send)
    door_url = "http://abeyance.test/webhooks/stripe"
    simulator.deliveries.add_endpoint(door_url, SECRET)
    simulator.deliveries.set_knobs(copies=3, reorder=True)
    customer = simulator.create_customer()["id"]
    await factory.account(stripe_customer_id=customer)
    key = simulator.create_invoice(customer, 500)["id"]
    simulator.pay_invoice(key)
    attempts = await simulator.deliveries.pump()
    assert {attempt.status for attempt in attempts} == {200}
    stored = await StripeEvent.all().order_by("event_id").values_list("event_id", flat=True)
    assert list(stored) == sorted(event["id"] for event in simulator.events())
    assert door.woken == len(stored)
    assert await Account.all().count() == 1
    await door.client.aclose()


async def test_it_waits_for_no_slow_delivery(small_door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger who sends byte by byte is given up, and nothing is kept of it."""
    monkeypatch.setattr(bodies, "SECONDS", 0.05)
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    answer = await asyncio.wait_for(small_door.hook.handle(Request(scope, receive)), 60)
    assert answer.status_code == 400
    assert not await StripeEvent.exists()
