"""Loaders begin when they are asked, and are forgotten with what they loaded."""

import asyncio
import gc

import pytest

from api.graphql.bulk import Bulk
from api.graphql.context import Context


class Shelf:
    """Has something in bulk, and counts how often it was asked for it."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.begun, self.given_up = asyncio.Event(), asyncio.Event()

    @Bulk
    async def lost(self, keys: list[int]) -> list[int]:
        """What cannot be read."""
        raise OSError(str(keys))

    @Bulk
    async def slow(self, keys: list[int]) -> list[int]:
        """What takes for ever."""
        self.begun.set()
        try:
            return await asyncio.Future()
        finally:
            self.given_up.set()

    @Bulk
    async def doubled(self, keys: list[int]) -> list[int]:
        """Twice each key."""
        self.asked.append(keys)
        return [2 * key for key in keys]


async def test_it_asks_once_for_what_is_wanted_together() -> None:
    """It puts single questions together, and remembers their answers."""
    shelf = Shelf()
    assert await asyncio.gather(*(shelf.doubled.load(key) for key in (1, 2, 1))) == [2, 4, 2]
    assert await shelf.doubled.load(2) == 4
    assert shelf.asked == [[1, 2]]


async def test_it_answers_many_in_their_order() -> None:
    """It waits for those that are not there yet, together, and tells what it knows again."""
    shelf = Shelf()
    await shelf.doubled.load(2)
    assert await shelf.doubled.load_many([3, 2, 1, 3]) == [6, 4, 2, 6]
    assert shelf.asked == [[2], [3, 1]]
    assert await shelf.doubled.load_many([]) == []


async def test_it_tells_a_fault_once() -> None:
    """It raises the fault of many, and leaves none behind for the loop to complain of."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    with pytest.raises(OSError, match=r"\[1, 2, 3\]"):
        await Shelf().lost.load_many([1, 2, 3])
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


async def test_it_ends_what_is_loaded_for_nobody() -> None:
    """It gives the loading up with the only one who waits for it, however many keys there are."""
    shelf = Shelf()
    waiting = asyncio.create_task(shelf.slow.load_many([1, 2, 3]))
    await asyncio.wait_for(shelf.begun.wait(), 60)
    waiting.cancel()
    await asyncio.wait_for(shelf.given_up.wait(), 60)
    assert await shelf.doubled.load(1) == 2


async def test_it_keeps_instances_apart() -> None:
    """It remembers nothing of one for another."""
    one, other = Shelf(), Shelf()
    assert (await one.doubled.load(1), await other.doubled.load(1)) == (2, 2)
    assert one.asked == other.asked == [[1]]


async def test_a_request_has_the_loaders_that_it_asked_and_forgets_them_all(door, clock) -> None:
    """It begins none before it is asked for something, and has none once what was loaded counts no longer."""
    context = Context(principal=None, ports=door.ports, now=clock.now())
    there = set(vars(context))
    before = (context.accounts, context.money.cards, context.machinery)
    assert context.accounts is before[0]
    assert set(vars(context)) > there
    context.woken(None)
    assert set(vars(context)) == there
    assert context.accounts is not before[0]
    assert context.money.cards is not before[1]
    assert context.machinery is not before[2]
