"""Stripe is asked again about those who would be restricted, within bounds."""

import asyncio
from datetime import timedelta

import pytest

from billing.models import Account, StripeMirror
from reconciler import asking
from reconciler.asking import Asking
from reconciler.freshness import Freshness

pytestmark = pytest.mark.usefixtures("sqlite_database")


@pytest.fixture
def stale(factory, clock):
    """Makes Stripe customers that were never read; returns their ids."""

    async def make(number):
        await StripeMirror.filter(id=1).update(last_full_sweep_at=clock.now())
        return [(await factory.account(stripe_customer_id=f"cus_{one}")).id for one in range(number)]

    return make


@pytest.fixture
def asked_of(clock):
    """Makes an `Asking` whose refetch is given."""

    def make(refetch, **changes):
        freshness = Freshness(stripe=True, facts_max_age=timedelta(minutes=15))
        return Asking(clock=clock, freshness=freshness, refetch=refetch, **changes)

    return make


async def test_asks_about_the_stale_alone(stale, asked_of, clock):
    """Who was read in time is not asked about again."""
    ids = await stale(2)
    await Account.filter(id=ids[0]).update(stripe_fetched_at=clock.now())
    seen = []

    async def refetch(account):
        seen.append(account.id)

    assert await asked_of(refetch).about(ids) == {ids[1]}
    assert seen == [ids[1]]


async def test_asks_the_others_beside_one_that_fails(stale, asked_of):
    """A failure leaves one account stale, and no other."""
    ids = await stale(3)
    seen = []

    async def refetch(account):
        if account.id == ids[0]:
            raise RuntimeError("no such customer")
        seen.append(account.id)

    await asked_of(refetch).about(ids)

    assert sorted(seen) == ids[1:]


async def test_waits_only_so_long(stale, asked_of):
    """A Stripe that hangs holds up no pass."""
    ids = await stale(1)

    async def hangs(_):
        await asyncio.sleep(60)

    async with asyncio.timeout(60):
        await asked_of(hangs, patience_seconds=0.05).about(ids)


async def test_gives_everybody_a_turn(stale, asked_of, clock, monkeypatch):
    """Accounts that stay stale for good do not take the turns of the others, nor Stripe's patience."""
    monkeypatch.setattr(asking, "MAX_ASKED", 2)
    ids = await stale(4)

    async def fails(_):
        raise RuntimeError("gone")

    asked = asked_of(fails)
    assert await asked.about(ids) == set(ids[:2])
    assert await asked.about(ids) == set(ids[2:])
    assert await asked.about(ids) == set()
    clock.advance(timedelta(seconds=60))
    assert await asked.about(ids) == set(ids[:2])


async def test_asks_nobody_without_stripe(stale, asked_of):
    """With Stripe off there is nothing to ask."""
    assert await asked_of(None).about(await stale(1)) == set()


async def test_a_hurry_ends_the_waiting_and_not_the_asking(stale, asked_of):
    """It lets the pass go on at once, asks nobody twice meanwhile, and asks for a pass when the answers are there."""
    ids = await stale(2)
    asked = []
    everybody, answers, hurry, woken = (asyncio.Event() for _ in range(4))

    async def refetch(account):
        asked.append(account.id)
        if len(asked) == 2:
            everybody.set()
        await answers.wait()

    asking_now = asked_of(refetch, wake=woken.set, patience_seconds=600.0)
    async with asyncio.timeout(60):
        pass_under_way = asyncio.create_task(asking_now.about(ids, hurry=hurry))
        await everybody.wait()
        assert not pass_under_way.done()
        hurry.set()
        for _ in range(100):
            await asyncio.sleep(0)
        assert pass_under_way.done()
        assert pass_under_way.result() == frozenset()
        assert await asking_now.about(ids, hurry=hurry) == frozenset()
        assert not woken.is_set()
        answers.set()
        await woken.wait()
    assert sorted(asked) == ids


async def test_an_end_of_the_process_ends_the_asking(stale, asked_of):
    """It leaves nothing running when the pass that waits is given up."""
    ids = await stale(1)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hangs(_):
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    async with asyncio.timeout(60):
        waiting = asyncio.create_task(asked_of(hangs, patience_seconds=600.0).about(ids))
        await begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await ended.wait()
