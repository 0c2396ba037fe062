"""Lists within a list: the pages of many owners at once, in as many statements as the page of one.

Owns the putting together of questions that differ in nothing but their owner. Which rows there are, and how they are
shown, comes with each question; what a page is, is `api.graphql.connections`'s.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import GraphQLError
from strawberry.dataloader import DataLoader
from tortoise.connection import get_connection
from tortoise.expressions import RawSQL
from tortoise.functions import Count
from tortoise.models import Model
from tortoise.queryset import QuerySet

from api.graphql.connections import Connection, Rows, Window, connection, page

Owner = int | str


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One page of what an owner has. Equal questions of several owners are answered together."""

    #: What it lists; cursors are of this list.
    listing: str
    owner: Owner
    #: The column that names the owner of a row.
    column: str
    window: Window
    newest_first: bool = False
    #: What narrows the list, as text: questions with the same text narrow alike.
    narrowed: str = ""
    #: Where it is not null: only rows with these ids.
    among: tuple[int, ...] | None = None
    #: The rows of every owner, so narrowed.
    rows: Callable[[], QuerySet[Any]] = field(compare=False)
    #: Those of this owner alone, where there is a quicker way to them.
    own: Rows[Any] | None = field(default=None, compare=False)
    show: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]] = field(compare=False)

    @property
    def kind(self) -> tuple[object, ...]:
        """What it has in common with those that are answered together."""
        return (self.listing, self.column, self.window, self.newest_first, self.narrowed)

    def one(self) -> QuerySet[Any] | Rows[Any]:
        """Return the rows of this owner."""
        if self.own is not None:
            return self.own
        rows = self.rows().filter(**{self.column: self.owner})
        return rows if self.among is None else rows.filter(id__in=list(self.among))


Answer = Connection[Any] | GraphQLError


async def load_pages(asked: list[Asked]) -> list[Answer]:
    """Return the page, or the refusal, of each question."""
    groups: dict[tuple[object, ...], list[Asked]] = defaultdict(list)
    for one in asked:
        groups[one.kind].append(one)
    if len(groups) == 1:  # no task for what there is nothing to do beside
        found = dict(await _answered(asked))
        return [found[one] for one in asked]
    found = {}
    for answered in await asyncio.gather(*(_answered(group) for group in groups.values())):
        found |= answered
    return [found[one] for one in asked]


async def _answered(group: Sequence[Asked]) -> Mapping[Asked, Answer]:
    try:
        if len(group) > 1 and len({one.owner for one in group}) == len(group):
            return await _together(group)
        return {one: await _alone(one) for one in group}
    except GraphQLError as refused:
        return dict.fromkeys(group, refused)


async def _alone(one: Asked) -> Connection[Any]:
    return await page(
        one.one(), one.window, listing=one.listing, newest_first=one.newest_first, show=one.show
    )


async def _together(group: Sequence[Asked]) -> Mapping[Asked, Connection[Any]]:
    first = group[0]
    window, size = first.window, first.window.size
    after, before = window.bounds(first.listing)
    everything = first.rows().filter(**{f"{first.column}__in": [one.owner for one in group]})
    if first.among is not None:
        everything = everything.filter(id__in=list({key for one in group for key in one.among or ()}))
    low, high = ("id__lt", "id__gt") if first.newest_first else ("id__gt", "id__lt")
    narrowed = everything
    if after is not None:
        narrowed = narrowed.filter(**{low: after[0]})
    if before is not None:
        narrowed = narrowed.filter(**{high: before[0]})
    descending = first.newest_first != window.backward
    keys = await _first_of_each(narrowed, first.column, size + 1, descending=descending)
    kept: dict[Owner, list[int]] = {owner: some[:size] for owner, some in keys.items()}
    if window.backward:
        for some in kept.values():
            some.reverse()
    wanted = [key for some in kept.values() for key in some]
    rows = {row.pk: row for row in await first.rows().filter(id__in=wanted)} if wanted else {}
    there = [key for key in wanted if key in rows]  # one may have gone meanwhile
    nodes = dict(zip(there, await first.show([rows[key] for key in there]), strict=True))
    counts = DataLoader(load_fn=_counting(everything, first.column))
    return {
        one: connection(
            [nodes[key] for key in kept.get(one.owner, ()) if key in nodes],
            [(key,) for key in kept.get(one.owner, ()) if key in nodes],
            listing=one.listing,
            window=window,
            more=len(keys.get(one.owner, ())) > size,
            count=_count(counts, one.owner),
        )
        for one in group
    }


async def _first_of_each(
    rows: QuerySet[Any], column: str, most: int, *, descending: bool
) -> dict[Owner, list[int]]:
    """Return the ids of the first rows of each owner, in their order; the database counts them off."""
    table = rows.model._meta.db_table  # noqa: SLF001  # it has no other door
    order = "DESC" if descending else "ASC"
    place = RawSQL(f'ROW_NUMBER() OVER (PARTITION BY "{table}"."{column}" ORDER BY "{table}"."id" {order})')
    ranked = rows.annotate(place=place).values("id", column, "place")
    ranked.sql()  # builds the query
    text, values = ranked.query.get_parameterized_sql()
    statement = f'SELECT "id", "{column}" FROM ({text}) AS ranked WHERE "place" <= {most} ORDER BY "place"'  # noqa: S608 - all ours
    _, found = await get_connection("default").execute_query(statement, values)
    keys: dict[Owner, list[int]] = defaultdict(list)
    for key, owner in map(tuple, found):
        keys[owner].append(key)
    return keys


def _counting(rows: QuerySet[Model], column: str) -> Callable[[list[Owner]], Awaitable[list[int]]]:
    async def load(owners: list[Owner]) -> list[int]:
        counted = rows.filter(**{f"{column}__in": owners}).annotate(rows_of_owner=Count("id"))
        found = dict(await counted.group_by(column).values_list(column, "rows_of_owner"))
        return [int(found.get(owner, 0)) for owner in owners]

    return load


def _count(counts: DataLoader[Owner, int], owner: Owner) -> Callable[[], Awaitable[int]]:
    return lambda: counts.load(owner)
