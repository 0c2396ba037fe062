"""Ticks come at their spans, each for itself, and only wake."""

import asyncio

from reconciler.schedule import Schedule


async def within(condition, seconds=60.0):
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - ticks have no event of their own
            await asyncio.sleep(0.005)


async def test_ticks_again_and_again_until_it_is_stopped():
    """A tick fires at its span, and not after the end."""
    fired = []

    async def tick():
        fired.append(1)

    schedule = Schedule({"tick": (0.05, tick)})
    schedule.start()
    await within(lambda: len(fired) >= 3)
    schedule.stop()
    await asyncio.sleep(0)
    before = len(fired)
    await asyncio.sleep(0.12)

    assert len(fired) == before


async def test_keeps_ticking_beside_a_tick_that_fails_or_hangs():
    """A tick that raises comes again, and one that hangs skips itself alone."""
    failed, hanging, fine = [], [], []

    async def fails():
        failed.append(1)
        raise RuntimeError("broken")

    async def hangs():
        hanging.append(1)
        await asyncio.sleep(60)

    async def works():
        fine.append(1)

    schedule = Schedule({"fails": (0.05, fails), "hangs": (0.05, hangs), "works": (0.05, works)})
    schedule.start()
    await within(lambda: len(failed) >= 2 and len(fine) >= 3 and hanging)
    schedule.stop()

    assert hanging == [1]
