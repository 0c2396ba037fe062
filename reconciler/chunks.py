"""Long lists of ids, cut so that one statement can carry them.

Owns the limit alone: SQLite takes 32,766 parameters in a statement, PostgreSQL's protocol 32,767.
"""

from collections.abc import Iterable, Iterator, Sequence

MAX_IDS = 5_000


def chunks(ids: Iterable[int]) -> Iterator[Sequence[int]]:
    """Yield the ids once each, in order, in lists that one statement can carry."""
    every = sorted(set(ids))
    for start in range(0, len(every), MAX_IDS):
        yield every[start : start + MAX_IDS]
