"""Long lists, cut so that one statement can carry each part.

Owns the limit alone: SQLite takes 32,766 parameters in a statement, PostgreSQL's protocol 32,767.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

LONGEST = 5_000
Value = TypeVar("Value", int, str)


def pages(values: Iterable[Value]) -> Iterator[Sequence[Value]]:
    """Yield the values once each, in order, in lists that one statement can carry."""
    every = sorted(set(values))
    for start in range(0, len(every), LONGEST):
        yield every[start : start + LONGEST]
