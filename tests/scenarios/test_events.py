"""Events only wake: however often and in whatever order they are posted, they change nothing after the first."""

import asyncio
import json
import random
from typing import Any

import httpx
from tortoise import Tortoise

from billing.models import AuditEntry, Episode, Invoice, Notice, StripeEvent
from reconciler.models import Admission, Hold, RestorePart, Step
from simulators.stripe.delivery import signature

TIMES = 50
TABLES = (StripeEvent, Notice, Episode, Admission, Hold, Step, RestorePart, Invoice, AuditEntry)


async def _post_all(tale: Any, *, seed: int) -> None:
    """Post every event of the account fifty times, all mixed, each with a signature of its own."""
    posts = tale.world.stripe.events() * TIMES
    random.Random(seed).shuffle(posts)
    gate = asyncio.Semaphore(8)

    async def post(client: httpx.AsyncClient, event: dict[str, Any]) -> int:
        body = json.dumps(event).encode()
        at = int(tale.scene.clock.now().timestamp())
        signed = {"Stripe-Signature": signature(body, (tale.world.webhook_secret,), at)}
        async with gate:
            return (await client.post("/webhooks/stripe", content=body, headers=signed)).status_code

    async with httpx.AsyncClient(base_url=tale.scene.url, timeout=60) as client:
        answers = await asyncio.gather(*(post(client, event) for event in posts))
    assert set(answers) == {200}
    assert len(answers) >= 5 * TIMES


async def _counts() -> dict[str, int]:
    """How many rows there are of everything that an event could have made."""
    assert Tortoise._inited
    return {table.__name__: await table.all().count() for table in TABLES}


async def _seen(tale: Any) -> tuple[Any, ...]:
    """What can be told from outside: the world, every call that changes it, the letters, the portal's page."""
    return tale.essence(), tale.writes(), tale.letters(), await tale.account()


async def test_it_takes_fifty_copies_in_any_order_for_one(theatre: Any) -> None:
    """First news comes fifty times and mixed: one letter a stage. Then everything again, suspended and paid."""
    async with theatre.tale(ladders=theatre.stops) as tale:
        await tale.begin()
        before = tale.essence()
        tale.world.stripe.deliveries.set_knobs(hold=True)
        tale.owe()
        await _post_all(tale, seed=1)
        await tale.reaches("SUSPENDED", settled=True)
        await tale.until("each stage was told", lambda: len(tale.letters()) >= 3)
        assert len(tale.letters()) == len(set(tale.letters())) == 3
        assert [tale.asked(vmid, "shutdown") for vmid in (1101, 1103, 1102)] == [1, 0, 1]

        rows, seen = await _counts(), await _seen(tale)
        await _post_all(tale, seed=2)
        await asyncio.sleep(1.5)  # a tick, a pass and a sweep have had their chance
        assert (await _counts(), await _seen(tale)) == (rows, seen)

        tale.pay()
        await _post_all(tale, seed=3)
        await tale.reaches("CURRENT", settled=True)
        await tale.until("everything is as it was", lambda: tale.essence() == before)
        await tale.until("the good news arrives", lambda: len(tale.letters()) == 4)
        rows, seen = await _counts(), await _seen(tale)
        await _post_all(tale, seed=4)
        await asyncio.sleep(1.5)
        assert (await _counts(), await _seen(tale)) == (rows, seen)
        assert [tale.asked(vmid, "start") for vmid in (1101, 1103, 1102)] == [1, 0, 1]
