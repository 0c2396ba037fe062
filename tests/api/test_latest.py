"""One answer for everybody who asks at the same time."""

import asyncio

import pytest

from api.latest import Latest


async def test_it_makes_one_answer_for_all_who_ask_meanwhile() -> None:
    """It makes another for who comes after it."""
    made = 0

    async def make() -> int:
        nonlocal made
        await asyncio.sleep(0.01)
        made += 1
        return made

    latest = Latest(make=make)
    assert await asyncio.gather(*(latest.get() for _ in range(20))) == [1] * 20
    assert await latest.get() == 2


async def test_an_answer_serves_for_a_while() -> None:
    """It gives the same until its time is over."""
    made = 0

    async def make() -> int:
        nonlocal made
        made += 1
        return made

    latest = Latest(make=make, seconds=0.2)
    assert [await latest.get() for _ in range(3)] == [1, 1, 1]
    await asyncio.sleep(0.25)
    assert await latest.get() == 2


async def test_who_goes_away_takes_the_answer_from_nobody() -> None:
    """It goes on for the others, and a failure is everybody's until somebody asks again."""
    going = asyncio.Event()
    fails = True

    async def make() -> str:
        await going.wait()
        if fails:
            raise ConnectionError("gone")
        return "there"

    latest = Latest(make=make)
    first, second = asyncio.create_task(latest.get()), asyncio.create_task(latest.get())
    await asyncio.sleep(0)
    first.cancel()
    going.set()
    with pytest.raises(ConnectionError):
        await second
    fails = False
    assert await latest.get() == "there"
