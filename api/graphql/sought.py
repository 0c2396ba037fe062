"""A text that is looked for anywhere in the columns of a long list.

Owns how PostgreSQL is asked: a text that few rows have is looked up in the index of trigrams before anything else, one
that many have is met soon enough on the way through the list. SQLite reads the rows.
"""

import functools
import operator
from dataclasses import dataclass

from pypika_tortoise.context import SqlContext
from pypika_tortoise.terms import Criterion
from tortoise.connection import get_connection
from tortoise.expressions import Q, ResolveContext
from tortoise.query_utils import QueryModifier

from api.graphql.id_sets import Ids
from api.graphql.long_lists import Part

#: Percent of a table that is looked into beforehand: of a million rows two thousand, wherever they lie.
_SAMPLE = 0.2
#: A text is common when one of so many rows has it.
_COMMON = 100


class _Criterion(Criterion):
    def __init__(self, text: Ids) -> None:
        super().__init__()
        self.text = text

    def get_sql(self, ctx: SqlContext) -> str:
        return self.text.get_sql(ctx)


class _Matching(Q):
    """A condition that is written by us, which the ORM takes as it is."""

    def __init__(self, text: Ids) -> None:
        super().__init__()
        self.text = text

    def resolve(self, resolve_context: ResolveContext) -> QueryModifier:
        return QueryModifier(where_criterion=_Criterion(self.text))


@dataclass(frozen=True, kw_only=True)
class Sought:
    """A text, and the columns of a table that may have it in them, in large letters or small."""

    table: str
    columns: tuple[str, ...]
    text: str

    def row_by_row(self) -> Q:
        """Return the condition for a list of few."""
        return functools.reduce(
            operator.or_, (Q(**{f"{name}__icontains": self.text}) for name in self.columns)
        )

    async def part(self) -> Part:
        """Return the rows of a list of many."""
        if get_connection("default").capabilities.dialect == "sqlite":
            return Part(condition=self.row_by_row())
        values = [self._pattern] * len(self.columns)
        if await self._is_common():
            # Not `row_by_row`: in a plan that is kept for any value its text is put in large letters for each row anew.
            # And joined with nothing, so that no index is asked for what so many rows have.
            return Part(
                condition=_Matching(Ids(self._matching("(SELECT upper(%s))", joined=" || ''"), *values))
            )
        statement = f"SELECT id FROM {self.table} WHERE {self._matching('upper(%s)')}"  # noqa: S608 - all ours
        return Part(inside=(Ids(statement, *values),))

    async def _is_common(self) -> bool:
        _, rows = await get_connection("default").execute_query(
            f"SELECT COUNT(*), COUNT(*) FILTER (WHERE {self._matching('upper($1)')})"  # noqa: S608 - all ours
            f" FROM {self.table} TABLESAMPLE SYSTEM ({_SAMPLE})",
            [self._pattern],
        )
        every, found = rows[0]
        return bool(found * _COMMON > every)

    def _matching(self, pattern: str, *, joined: str = "") -> str:
        return " OR ".join(f"upper({self.table}.{name}){joined} LIKE {pattern}" for name in self.columns)

    @property
    def _pattern(self) -> str:
        plain = self.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return f"%{plain}%"
