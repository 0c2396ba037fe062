"""Work beside the requests goes on until nothing is left, whatever goes wrong in between."""

import asyncio
from contextlib import asynccontextmanager

from api import background
from api.background import Worker


@asynccontextmanager
async def working(*given):
    """Run a worker whose turns return (or raise) what is given; yields it and the list of turns."""
    rest, turns = list(given), []

    async def turn():
        turns.append(len(turns))
        outcome = rest.pop(0) if rest else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    worker = Worker(name="test", turn=turn)
    task = asyncio.create_task(worker.run())
    try:
        yield worker, turns
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def within(condition, seconds=60.0):
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - turns have no event of their own
            await asyncio.sleep(0.005)


async def test_takes_a_turn_for_a_wake_up_and_no_other():
    """It sleeps until somebody wakes it."""
    async with working() as (worker, turns):
        await asyncio.sleep(0.03)
        assert turns == []
        worker.wake()
        worker.wake()
        await within(lambda: turns == [0])


async def test_takes_another_turn_when_the_last_one_asked_for_it():
    """At once for zero seconds, later for more."""
    async with working(0.0, 0.02) as (worker, turns):
        worker.wake()
        await within(lambda: len(turns) == 3)
        await asyncio.sleep(0.05)

        assert len(turns) == 3


async def test_repeats_a_turn_that_failed(monkeypatch):
    """A failure ends nothing and is tried again by itself."""
    monkeypatch.setattr(background, "AFTER_FAILURE_SECONDS", 0.02)
    async with working(RuntimeError("away"), RuntimeError("away")) as (worker, turns):
        worker.wake()

        await within(lambda: len(turns) == 3)


async def test_hears_a_wake_up_that_comes_during_a_turn():
    """What arrives while it works is not forgotten."""
    began, may_end = asyncio.Event(), asyncio.Event()
    turns = []

    async def turn():
        turns.append(1)
        began.set()
        await may_end.wait()

    worker = Worker(name="test", turn=turn)
    task = asyncio.create_task(worker.run())
    worker.wake()
    await began.wait()
    worker.wake()
    may_end.set()
    await within(lambda: len(turns) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
