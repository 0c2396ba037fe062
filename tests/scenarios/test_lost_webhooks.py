"""Webhooks that are lost, late or out of order, and a Stripe that does not answer: delay is all that they cost."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from api.runtime import Pace
from simulators.stripe.outage import Trouble

LOSE_ALL = 10_000


async def test_the_sweep_finds_what_no_webhook_brought(theatre: Any) -> None:
    """Every webhook is lost, of the debt and of the payment alike: the story is the same."""
    async with theatre.tale(ladders=theatre.stops) as tale:
        await tale.begin(guests=(1101,))
        before = tale.essence()
        tale.world.stripe.deliveries.set_knobs(lose_next=LOSE_ALL)
        tale.owe()
        await tale.reaches("SUSPENDED", settled=True)
        assert tale.power(1101) == "stopped"
        tale.pay()
        await tale.reaches("CURRENT", settled=True)
        await tale.until("everything is as it was", lambda: tale.essence() == before)
        assert not tale.world.stripe.deliveries.log or all(
            attempt.type.startswith("customer") for attempt in tale.world.stripe.deliveries.log
        )


@pytest.mark.nightly
async def test_late_doubled_and_shuffled_webhooks_tell_the_same_story(theatre: Any) -> None:
    """Without a sweep to help: each event comes three times, a second late and in random order."""
    lone = Pace(tick=1.0, observe=2.0, sweep=3600.0, scale=20.0)
    async with theatre.tale(ladders=theatre.stops, pace=lone) as tale:
        await tale.begin(guests=(1101,))
        before = tale.essence()
        tale.world.stripe.deliveries.set_knobs(copies=3, delay=1.0, reorder=True)
        tale.owe()
        await tale.reaches("SUSPENDED", settled=True)
        tale.world.stripe.deliveries.set_knobs(hold=True)
        tale.pay()
        await asyncio.sleep(1.5)
        assert (await tale.stage(), tale.power(1101)) == ("SUSPENDED", "stopped")  # nobody has told us yet
        tale.world.stripe.deliveries.release()
        await tale.reaches("CURRENT", settled=True)
        await tale.until("everything is as it was", lambda: tale.essence() == before)
        assert (tale.asked(1101, "shutdown"), tale.asked(1101, "start")) == (1, 1)
        assert len(tale.letters()) == len(set(tale.letters()))


async def test_nobody_is_stopped_while_stripe_does_not_answer(theatre: Any) -> None:
    """The debt is old enough to suspend and the facts are too old to: it waits, says why, and goes on afterwards."""
    plot = {
        "ladders": theatre.ladder(told=5.0, effects=("stop_servers",)),
        "facts_max_age": timedelta(seconds=4),
        "pace": Pace(tick=1.0, observe=1.5, sweep=1.5, scale=20.0),
    }
    async with theatre.tale(**plot) as tale:
        await tale.begin(guests=(1101,))
        before = tale.essence()
        tale.owe()
        await tale.reaches("FINAL_NOTICE")
        tale.world.stripe.outage.begin(Trouble.UNAVAILABLE)

        async def held_back() -> bool:
            return (await tale.held_back()).get("ADVANCE") == "FACTS_STALE"

        await tale.until("the plan holds the suspension back", held_back)
        await asyncio.sleep(2.0)
        assert (await tale.stage(), tale.essence(), tale.writes()) == ("FINAL_NOTICE", before, [])
        tale.world.stripe.outage.end()
        await tale.reaches("SUSPENDED", settled=True)
        assert tale.power(1101) == "stopped"

        # Paid while Stripe is away again: its webhook has come, only what it is about cannot be read yet.
        tale.world.stripe.outage.begin(Trouble.UNAVAILABLE)
        tale.pay()
        await asyncio.sleep(1.0)
        assert await tale.stage() == "SUSPENDED"
        tale.world.stripe.outage.end()
        await tale.reaches("CURRENT", settled=True)
        await tale.until("everything is as it was", lambda: tale.essence() == before)
