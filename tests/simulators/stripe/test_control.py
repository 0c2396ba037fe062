"""The control door: scripting a running simulator with JSON."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from simulators.stripe import Account
from simulators.stripe.control import SCRIPTS


@pytest.fixture
async def door(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{url}/_simulator", trust_env=False) as client:
        yield client


async def call(door: httpx.AsyncClient, path: str, **given: Any) -> Any:
    answer = await door.post(path, json=given)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


async def test_it_plays_a_whole_story(door: httpx.AsyncClient, account: Account, inbox: Any) -> None:
    """An endpoint, a customer, an overdue invoice and its payment, all from outside."""
    await call(door, "/endpoints", url="http://receiver.invalid/", secrets=["whsec_test"])
    customer = await call(door, "/script/create_customer", email="a@example.com")
    invoice = await call(
        door,
        "/script/create_invoice",
        customer=customer["id"],
        amount=500,
        due_date="2026-05-01T00:00:00+00:00",
    )
    assert invoice["status"] == "open"
    assert invoice["due_date"] < account.store.now()
    await call(door, "/advance", seconds=86400)
    paid = await call(door, "/script/pay_invoice", invoice=invoice["id"])
    assert paid["status"] == "paid"
    await call(door, "/deliver")
    assert {"invoice.finalized", "invoice.paid"} <= set(inbox.types())
    state = (await door.get("/state")).json()["result"]
    assert state["offset_seconds"] == 86400
    assert [shown["status"] for shown in state["objects"]["invoice"]] == ["paid"]


async def test_it_turns_the_knobs_and_begins_and_ends_an_outage(
    door: httpx.AsyncClient, account: Account
) -> None:
    """Each knob that Python has, the door has."""
    await call(door, "/deliveries", copies=3, hold=True)
    assert (account.deliveries.knobs.copies, account.deliveries.knobs.hold) == (3, True)
    await call(door, "/outage", trouble="rate_limited", requests=2)
    assert account.outage.next("/v1/customers") is not None
    assert (await door.delete("/outage")).status_code == 200
    assert account.outage.next("/v1/customers") is None


async def test_it_delivers_one_event_or_all_again(
    door: httpx.AsyncClient, listened: Account, inbox: Any
) -> None:
    """Redelivery by event and of everything."""
    listened.create_customer()
    await call(door, "/deliver")
    [event] = listened.events()
    inbox.received.clear()
    listened.deliveries.set_knobs(hold=True)
    await call(door, "/redeliver", event_id=event["id"], times=4)
    await call(door, "/redeliver")
    assert len(listened.deliveries.queue) == 5


@pytest.mark.parametrize(
    ("path", "given", "word"),
    [
        ("/script/advance", {}, "there is no script"),
        ("/script/__init__", {}, "there is no script"),
        ("/script/pay_invoice", {}, "invoice"),
        ("/script/pay_invoice", {"invoice": "in_none"}, "No such invoice"),
        ("/advance", {"seconds": -1}, "forward"),
        ("/deliveries", {"loss": 1}, "knob"),
        ("/endpoints", {"url": "http://x.invalid/"}, "secrets"),
        ("/outage", {"trouble": "fire"}, "fire"),
    ],
)
async def test_it_refuses_with_a_reason(
    door: httpx.AsyncClient, account: Account, path: str, given: dict[str, Any], word: str
) -> None:
    """Only listed scripts can be called, and a mistake is told."""
    answer = await door.post(path, json=given)
    assert answer.status_code in {400, 404}
    assert word in answer.json()["error"]["message"]


async def test_it_lists_only_scripts_that_exist(account: Account) -> None:
    """Every name in the list is a public method of the account."""
    assert all(callable(getattr(account, name)) and not name.startswith("_") for name in SCRIPTS)
