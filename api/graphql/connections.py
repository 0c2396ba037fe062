"""The one way to page: keyset connections over ids, and over the rows of a stored list.

Owns cursors' meaning, page sizes and counts. A cursor names the row that it stood on, so that rows which come or go
elsewhere move nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import strawberry
from tortoise.models import Model
from tortoise.queryset import QuerySet

from api.graphql import ids
from api.graphql.errors import BAD_CURSOR, LIMIT_EXCEEDED, coded
from api.graphql.worked_out import WorkedOut
from billing.rules.words import phrase

DEFAULT_PAGE = 20
LARGEST_PAGE = 100

#: What a cursor names: one or several numbers, the weightiest first.
Key = tuple[int, ...]
Node = TypeVar("Node")
Row = TypeVar("Row", bound=Model)


@strawberry.type
class Edge(WorkedOut, Generic[Node]):
    """One row of a list with its cursor."""

    node: Node
    cursor: str
    listing: strawberry.Private[str]
    key: strawberry.Private[Key]


Edge.works_out({"cursor": lambda edge: ids.cursor(edge.listing, *edge.key)})


@strawberry.type
class PageInfo(WorkedOut):
    """Where this page lies in its list."""

    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None
    edges: strawberry.Private[Sequence[Edge[Any]]]


PageInfo.works_out({
    "start_cursor": lambda info: info.edges[0].cursor if info.edges else None,
    "end_cursor": lambda info: info.edges[-1].cursor if info.edges else None,
})  # fmt: skip


@strawberry.type
class Connection(Generic[Node]):
    """One page of a list."""

    edges: list[Edge[Node]]
    page_info: PageInfo
    count: strawberry.Private[Callable[[], Awaitable[int]]]

    @strawberry.field
    async def total_count(self) -> int:
        """How many rows the list has; counted only when asked for."""
        return await self.count()


@dataclass(frozen=True, kw_only=True)
class Window:
    """What part of a list was asked for."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None

    @property
    def backward(self) -> bool:
        """Whether the page is counted from the end."""
        return self.last is not None or (self.before is not None and self.first is None)

    @property
    def size(self) -> int:
        """How many rows at most; a size out of bounds or asked for from both ends is refused."""
        if self.first is not None and self.last is not None:
            raise coded("give either `first` or `last`", LIMIT_EXCEEDED)
        asked = self.last if self.first is None else self.first
        size = DEFAULT_PAGE if asked is None else asked
        if not 1 <= size <= LARGEST_PAGE:
            raise coded(phrase("Ask for 1 to %(most)s rows.", most=LARGEST_PAGE), LIMIT_EXCEEDED)
        return size

    def bounds(self, listing: str, *, parts: int = 1) -> tuple[Key | None, Key | None]:
        """Return the keys after and before which the page lies; a cursor that is not of this list is refused."""
        return _key(listing, self.after, parts), _key(listing, self.before, parts)


def _key(listing: str, text: str | None, parts: int) -> Key | None:
    if text is None:
        return None
    key = ids.read_cursor(listing, text)
    if key is None or len(key) != parts:
        raise coded(phrase("The list cannot be continued from here; begin again."), BAD_CURSOR)
    return key


class Rows(Protocol[Row]):
    """A list in the order of its rows' ids."""

    async def between(
        self, above: int | None, below: int | None, *, descending: bool, most: int
    ) -> list[Row]:
        """Return the first rows, or the last first, whose ids lie between two; null: no bound."""

    async def count(self) -> int:
        """Return how many rows the list has."""


@dataclass(frozen=True, kw_only=True)
class OfQuery(Generic[Row]):
    """The rows of a query, as they are."""

    query: QuerySet[Row]

    async def between(
        self, above: int | None, below: int | None, *, descending: bool, most: int
    ) -> list[Row]:
        """Return the first rows, or the last first, whose ids lie between two; null: no bound."""
        bounds = {"id__gt": above, "id__lt": below}
        narrowed = self.query.filter(**{name: bound for name, bound in bounds.items() if bound is not None})
        return await narrowed.order_by("-id" if descending else "id").limit(most)

    async def count(self) -> int:
        """Return how many rows it has."""
        return await self.query.count()


async def page(
    rows: QuerySet[Row] | Rows[Row],
    window: Window,
    *,
    listing: str,
    newest_first: bool = False,
    show: Callable[[Sequence[Row]], Awaitable[Sequence[Node]]],
) -> Connection[Node]:
    """Return one page of rows in the order of their ids; two statements beside those of `show`, whatever the size."""
    after, before = (key[0] if key is not None else None for key in window.bounds(listing))
    size = window.size
    source: Rows[Row] = OfQuery(query=rows) if isinstance(rows, QuerySet) else rows
    above, below = (before, after) if newest_first else (after, before)
    descending = newest_first != window.backward
    found = await source.between(above, below, descending=descending, most=size + 1)
    more = len(found) > size
    found = found[:size]
    if window.backward:
        found.reverse()
    keys: list[Key] = [(_pk(row),) for row in found]
    return connection(
        list(await show(found)), keys, listing=listing, window=window, more=more, count=source.count
    )


async def page_of_list(
    rows: Sequence[tuple[Key, Any]],
    window: Window,
    *,
    listing: str,
    parts: int = 1,
    show: Callable[[Sequence[Any]], Awaitable[Sequence[Node]]],
) -> Connection[Node]:
    """Return one page of a list that is at hand, each row with its ascending key of so many `parts`."""
    after, before = window.bounds(listing, parts=parts)
    size = window.size
    inside = [
        row for row in rows if (after is None or row[0] > after) and (before is None or row[0] < before)
    ]
    more = len(inside) > size
    inside = inside[-size:] if window.backward else inside[:size]

    async def count() -> int:
        return len(rows)

    return connection(
        list(await show([row for _, row in inside])),
        [key for key, _ in inside],
        listing=listing,
        window=window,
        more=more,
        count=count,
    )


def connection(
    nodes: list[Node],
    keys: list[Key],
    *,
    listing: str,
    window: Window,
    more: bool,
    count: Callable[[], Awaitable[int]],
) -> Connection[Node]:
    """Return a page of these nodes, each with its key; `more` follow in the direction that was asked for."""
    edges: list[Edge[Node]] = [
        Edge.made_of(node=node, listing=listing, key=key) for node, key in zip(nodes, keys, strict=True)
    ]
    return Connection(
        edges=edges,
        page_info=PageInfo.made_of(
            has_next_page=window.before is not None if window.backward else more,
            has_previous_page=more if window.backward else window.after is not None,
            edges=edges,
        ),
        count=count,
    )


def _pk(row: Model) -> int:
    key: int = row.pk
    return key
