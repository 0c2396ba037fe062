"""Many single questions of one request as one statement, by loaders that are made when they are first asked.

Owns when a loader begins; what it loads is said where it is declared. Most requests ask few of the many there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from strawberry.dataloader import DataLoader

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Loader(DataLoader[K, V]):
    """A loader that waits for many answers without a task for them: most are there already."""

    async def load_many(self, keys: Iterable[K]) -> list[V]:
        """Return the answers in the order of their keys; raises the first fault. Given up, it asks for none of them."""
        asked = [asyncio.ensure_future(self.load(key)) for key in keys]  # they are futures already
        try:
            return [await one for one in asked]
        except BaseException as fault:
            for one in asked:
                if isinstance(fault, asyncio.CancelledError):
                    one.cancel()  # a statement goes on as long as a single one of its keys is waited for
                one.add_done_callback(_seen)  # else the loop would complain of those that nobody waited for
            raise


def _seen(answer: asyncio.Future[Any]) -> None:
    if not answer.cancelled():
        answer.exception()


class Bulk(Generic[K, V]):
    """Decorates a method that returns what there is about each of many keys, in their order.

    Read of an instance it is a `Loader` of that instance, which remembers what it was asked.
    """

    def __init__(self, load: Callable[[Any, list[K]], Awaitable[Sequence[V]]]) -> None:
        self._load = load
        self.__doc__ = load.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Loader[K, V]:
        """Begin the loader of this instance."""
        loader: Loader[K, V] = Loader(load_fn=self._load.__get__(instance))
        vars(instance)[self._name] = loader
        return loader
