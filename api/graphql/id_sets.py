"""Sets of ids that a statement of ours finds, as conditions on the rows of a long list.

Owns how such a set is put before both databases, so that a list of a million rows is walked from the few that a
condition is about. What the sets are, is their users'.
"""

from __future__ import annotations

from typing import Any

from pypika_tortoise.context import SqlContext
from pypika_tortoise.terms import Term, ValueWrapper
from tortoise.connection import get_connection
from tortoise.expressions import Q


class Ids(Term):
    """The ids that a statement finds; each `%s` in it stands for the next of its values."""

    def __init__(self, text: str, *values: Any) -> None:
        super().__init__()
        self.text = text
        self.values = values

    def __or__(self, other: Ids) -> Ids:
        """Return the ids of either, some perhaps twice."""
        return Ids(f"{self.text} UNION ALL {other.text}", *self.values, *other.values)

    def __and__(self, other: Ids) -> Ids:
        """Return the ids of both."""
        texts = (f"SELECT * FROM ({one.text}) AS found" for one in (self, other))  # noqa: S608 - all ours
        return Ids(" INTERSECT ".join(texts), *self.values, *other.values)

    def get_sql(self, ctx: SqlContext) -> str:
        """Return the text in parentheses, each value in its place."""
        first, *rest = self.text.split("%s")
        values = (ValueWrapper(value).get_sql(ctx) for value in self.values)
        return f"({first}{''.join(value + text for value, text in zip(values, rest, strict=True))})"


class _Any(Term):
    """PostgreSQL's `ANY` of a set, which it works out first and then looks up one by one, in the order of the list.

    Of a join it would guess how many rows come out, and reads the whole table where it guesses too many. There may be
    only one for a column: it would go through the second for every row.
    """

    def __init__(self, ids: Ids) -> None:
        super().__init__()
        self.ids = ids

    def get_sql(self, ctx: SqlContext) -> str:
        return f"ANY(ARRAY{self.ids.get_sql(ctx)})"


def among(ids: Ids) -> Q:
    """Return the condition that a row is one of these; the database begins with them."""
    sqlite = get_connection("default").capabilities.dialect == "sqlite"
    return Q(id__in=ids) if sqlite else Q(id=_Any(ids))
