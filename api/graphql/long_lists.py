"""Lists that grow with the fleet, made of parts that the database finds each in its own way.

Owns the putting together of the parts' pages and counts. One condition with an OR in it would make the database read
every row; each part alone has an index.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tortoise.connection import get_connection
from tortoise.expressions import Q
from tortoise.models import Model
from tortoise.queryset import QuerySet

from api.graphql.id_sets import Ids, among

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, kw_only=True)
class Part:
    """The rows that fulfil a condition and are in all of some sets."""

    condition: Q = field(default_factory=Q)
    inside: tuple[Ids, ...] = ()
    #: Where almost all rows do: a part with more rows, and parts of it, with no row in common, that have the others.
    #: The many are counted from an index, and the few taken off.
    counted: tuple[Part, Sequence[Part]] | None = None

    def __and__(self, other: Part) -> Part:
        """Return the rows of both, which are counted as they are."""
        return Part(condition=self.condition & other.condition, inside=self.inside + other.inside)

    def row_by_row(self) -> Q:
        """Return the condition for a list of few rows."""
        return functools.reduce(operator.and_, (Q(id__in=ids) for ids in self.inside), self.condition)

    def of(self, query: QuerySet[Row]) -> QuerySet[Row]:
        """Return its rows among these, found from the sets."""
        rows = query.filter(self.condition)
        return rows.filter(among(functools.reduce(operator.and_, self.inside))) if self.inside else rows


@dataclass(frozen=True, kw_only=True)
class Parted(Generic[Row]):
    """The rows of parts that have none in common, in the order of their ids."""

    query: QuerySet[Row]
    parts: Sequence[Part]

    async def between(
        self, above: int | None, below: int | None, *, descending: bool, most: int
    ) -> list[Row]:
        """Return the first rows, or the last first, whose ids lie between two; null: no bound."""
        bounds = {"id__gt": above, "id__lt": below}
        query = self.query.filter(**{name: bound for name, bound in bounds.items() if bound is not None})
        found: dict[int, Row] = {}
        for part in self.parts:
            rows = part.of(query).order_by("-id" if descending else "id")
            # By id: a row may have changed from one part into the next meanwhile.
            found |= {row.pk: row for row in await rows.limit(most)}
        return [found[key] for key in sorted(found, reverse=descending)[:most]]

    async def count(self) -> int:
        """Return how many rows there are, in one statement."""
        terms, values = ["0"], list[Any]()
        for part in self.parts:
            every, others = part.counted or (part, ())
            for sign, one in (("+", every), *(("-", other) for other in others)):
                text, given = _counting(one.of(self.query))
                terms.append(f"{sign} ({_moved(text, len(values))})")
                values += given
        _, rows = await get_connection("default").execute_query(f"SELECT {' '.join(terms)}", values)
        return int(rows[0][0])


def _counting(rows: QuerySet[Any]) -> tuple[str, list[Any]]:
    count = rows.count()
    count.sql()  # builds the query
    text, values = count.query.get_parameterized_sql()
    return text, values


def _moved(text: str, places: int) -> str:
    """Return a statement whose numbered values begin so many places later; SQLite's have no numbers."""
    return re.sub(r"\$(\d+)", lambda found: f"${int(found[1]) + places}", text)
