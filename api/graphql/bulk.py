"""Many single questions of one request as one statement, by loaders that are made when they are first asked.

Owns when a loader begins; what it loads is said where it is declared. Most requests ask few of the many there are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from strawberry.dataloader import DataLoader

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bulk(Generic[K, V]):
    """Decorates a method that returns what there is about each of many keys, in their order.

    Read of an instance it is a `DataLoader` of that instance, which remembers what it was asked.
    """

    def __init__(self, load: Callable[[Any, list[K]], Awaitable[Sequence[V]]]) -> None:
        self._load = load
        self.__doc__ = load.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> DataLoader[K, V]:
        """Begin the loader of this instance."""
        loader: DataLoader[K, V] = DataLoader(load_fn=self._load.__get__(instance))
        vars(instance)[self._name] = loader
        return loader
