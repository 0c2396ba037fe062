"""The loop runs a pass for every wake-up, and nothing ends it but its end."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise

import pytest

from reconciler import loop as loops
from reconciler.loop import Loop
from reconciler.passes import PassResult
from reconciler.rules.plan import Plan
from reconciler.rules.terms import Mode


@pytest.fixture
def running(clock):
    """Runs a loop over passes whose results (or exceptions) are given; yields the loop and the list of passes."""

    @asynccontextmanager
    async def go(*given, heard=None):
        rest, done = list(given), []

        async def run_pass():
            done.append(len(done))
            outcome = rest.pop(0) if rest else {}
            if isinstance(outcome, Exception):
                raise outcome
            plan = Plan(at=clock.now(), mode=Mode.APPLY, steps=())
            return PassResult(**({"plan": plan, "admitted": 0, "again": False, "next_at": None} | outcome))

        loop = Loop(clock=clock, run_pass=run_pass, heard=heard)
        task = asyncio.create_task(loop.run())
        try:
            yield loop, done
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return go


async def within(condition, seconds=60.0):
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)


def noting(passes):
    """Note when each pass ended: a busy machine may make a pause longer, and nothing makes it shorter."""
    return lambda _: passes.append(asyncio.get_running_loop().time())


async def test_sleeps_until_it_is_woken(running):
    """No wake-up, no pass."""
    async with running() as (loop, done):
        await asyncio.sleep(0.03)
        assert done == []
        loop.wake()
        await within(lambda: done == [0])


async def test_makes_one_pass_of_many_wake_ups(running):
    """Wake-ups carry nothing, so doubled ones cost nothing."""
    async with running() as (loop, done):
        for _ in range(50):
            loop.wake()
        await within(lambda: done)
        await asyncio.sleep(0.03)

        assert done == [0]


async def test_goes_on_at_once_while_there_is_more(running):
    """A pass that asks for another gets it without a wake-up."""
    async with running({"again": True}, {"again": True}) as (loop, done):
        loop.wake()

        await within(lambda: len(done) == 3)


async def test_wakes_itself_when_time_changes_something(running, clock):
    """The alarm rings at the instant that the pass named, and not before."""
    passes = []
    async with running({"next_at": clock.now() + timedelta(milliseconds=80)}, heard=noting(passes)) as (
        loop,
        _,
    ):
        loop.wake()
        await within(lambda: len(passes) == 2)

    assert passes[1] - passes[0] >= 0.079


async def test_does_not_spin_on_an_instant_that_is_past(running, clock):
    """An alarm in the past rings soon, but not in a circle."""
    past, passes = {"next_at": clock.now() - timedelta(hours=1)}, []
    async with running(*[past] * 1000, heard=noting(passes)) as (loop, _):
        loop.wake()
        await within(lambda: len(passes) >= 4)

    assert all(after - before >= 0.049 for before, after in pairwise(passes))


async def test_survives_a_pass_that_fails(running, monkeypatch):
    """The database was away: tried again by itself after a moment."""
    monkeypatch.setattr(loops, "AFTER_FAILURE_SECONDS", 0.02)
    async with running(RuntimeError("away"), OSError("away")) as (loop, done):
        loop.wake()

        await within(lambda: len(done) == 3)


async def test_survives_a_listener_that_fails(running, monkeypatch):
    """Whoever is told of passes cannot end them."""
    monkeypatch.setattr(loops, "AFTER_FAILURE_SECONDS", 0.02)
    said = []

    def heard(result):
        said.append(result)
        if len(said) == 1:
            raise RuntimeError("broken pipe")

    async with running(heard=heard) as (loop, _):
        loop.wake()

        await within(lambda: len(said) == 2)


async def test_gives_others_a_turn_and_then_goes_on(running, monkeypatch):
    """After many passes in a row it pauses; what is left is not forgotten."""
    passes = []
    monkeypatch.setattr(loops, "MAX_IN_A_ROW", 3)
    monkeypatch.setattr(loops, "BREATHER_SECONDS", 0.08)
    async with running(*[{"again": True}] * 5, heard=noting(passes)) as (loop, _):
        loop.wake()
        await within(lambda: len(passes) == 6)

    assert passes[3] - passes[2] >= 0.079
