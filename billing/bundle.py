"""Several small reads about one set of keys as one statement, on either database.

Owns how such a statement is put together and how its rows come back. What is read, and what it means, is its callers'.
For what every page asks for: a round trip, and what the ORM spends on a statement, cost more than a handful of rows.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from tortoise.connection import get_connection

Row = TypeVar("Row")

#: What the texts of the parts call the keys.
_ASKED = "(SELECT id FROM asked)"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the reads. Both texts are written by us and hold no value from outside."""

    #: The columns, the first of which is what the rows are sorted by; `<json>` and `</json>` stand around a column
    #: that is JSON itself.
    columns: str
    #: `FROM … WHERE …`; that a column is one of the keys that are asked about is `IN (SELECT id FROM asked)`.
    rows: str


class Bundle:
    """One statement of many parts."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = tuple(parts)
        self._postgres = _statement(
            parts,
            asked="SELECT value::bigint AS id FROM json_array_elements_text($1::text::json)",
            # Worked out first and looked up by an index; of a join it would be guessed that much of the table is in it.
            among=f"= ANY(ARRAY{_ASKED})",
            told="json_build_array(…)::text",
            json_column="…",
        )
        self._sqlite = _statement(
            parts,
            asked="SELECT value AS id FROM json_each(?)",
            among=f"IN {_ASKED}",
            told="json_array(…)",
            json_column="json(…)",
        )

    async def read(self, keys: Iterable[int]) -> dict[str, list[list[Any]]]:
        """Return the rows of every part about these keys, each in the order of its first column.

        The columns are as JSON has them: instants and enums are text, and SQLite's flags are numbers.
        """
        found: dict[str, list[list[Any]]] = {part: [] for part in self._parts}
        asked = sorted(set(keys))
        if not asked:
            return found
        connection = get_connection("default")
        sqlite = connection.capabilities.dialect == "sqlite"
        # As text: for an array of PostgreSQL's, every connection would first ask what its type is made of.
        statement = self._sqlite if sqlite else self._postgres
        _, rows = await connection.execute_query(statement, [orjson.dumps(asked).decode()])
        # Read as one text: the reader's setting up costs more than a row.
        told = orjson.loads(f"[{','.join(row['told'] for row in rows)}]")
        for row, columns in zip(rows, told, strict=True):
            found[row["part"]].append(columns)
        for part in found.values():
            part.sort(key=lambda columns: columns[0])
        return found


def grouped(rows: Iterable[tuple[int, Row]]) -> Mapping[int, list[Row]]:
    """Return rows by whom they belong to, in their order; an empty list for everybody else."""
    found: dict[int, list[Row]] = defaultdict(list)
    for owner, row in rows:
        found[owner].append(row)
    return found


def instant(text: str) -> datetime:
    """Return an instant of a row."""
    return datetime.fromisoformat(text).astimezone(UTC)


def instant_or_none(text: str | None) -> datetime | None:
    """Return an instant of a row, where there is one."""
    return instant(text) if text is not None else None


def _statement(parts: Mapping[str, Part], *, asked: str, among: str, told: str, json_column: str) -> str:
    opened, closed = json_column.split("…")
    selects = [
        f"SELECT '{name}' AS part, {told.replace('…', part.columns)} AS told {part.rows}"
        for name, part in parts.items()
    ]
    text = f"WITH asked AS ({asked}) " + " UNION ALL ".join(selects).replace(f"IN {_ASKED}", among)
    return text.replace("<json>", opened).replace("</json>", closed)
