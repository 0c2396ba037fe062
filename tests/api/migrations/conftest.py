"""Raw SQL for the tests of constraints: no code of ours looks at a row before the database does."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tortoise.connection import get_connection
from tortoise.models import Model


async def _execute(statement: str) -> None:
    await get_connection("default").execute_query(statement)


async def _copy(model: type[Model], given: dict[str, str], where: str = "1 = 1") -> None:
    meta = model._meta
    values: dict[str, str] = {}
    for name, column in meta.fields_db_projection.items():
        field = meta.fields_map[name]
        if column in given:
            values[column] = given[column]
        elif field.pk and field.generated:
            continue
        elif field.unique and not field.pk:
            values[column] = (
                f"""'n' || substr("{column}", 2)""" if hasattr(field, "max_length") else f'"{column}" + 1'
            )
        else:
            values[column] = f'"{column}"'
    source = f'SELECT {", ".join(values.values())} FROM "{meta.db_table}" WHERE {where} ORDER BY 1 LIMIT 1'  # noqa: S608
    columns = ", ".join(f'"{column}"' for column in values)
    await _execute(f'INSERT INTO "{meta.db_table}" ({columns}) {source}')


@pytest.fixture
def execute() -> Callable[[str], Awaitable[None]]:
    """Runs one statement."""
    return _execute


@pytest.fixture
def copy() -> Callable[..., Awaitable[Any]]:
    """Inserts a copy of a table's first fitting row, with other SQL values in some columns."""
    return _copy
