"""Servers with their accounts, by external id: the control plane's hundred at once.

Owns that one statement, written by hand: for rows of two tables the ORM spends more on its text and on putting objects
together than the database on the answer. Whose servers may be seen is the scope's.
"""

import functools
import json
from collections.abc import Sequence

from tortoise.connection import get_connection

from api.graphql.scope import Scope
from billing.models import Account
from reconciler.models import Server


async def servers_with_accounts(scope: Scope, external_ids: Sequence[str]) -> list[tuple[Server, Account]]:
    """Return the servers of these external ids that the scope shows, each with its account; in no order."""
    connection = get_connection("default")
    statement = _statement(sqlite=connection.capabilities.dialect == "sqlite", narrowed=scope.is_customer)
    asked = [json.dumps(list(external_ids))]
    if scope.is_customer:
        asked.append(json.dumps(sorted(scope.principal.accounts)))
    _, rows = await connection.execute_query(statement, asked)
    width = len(Server.columns())
    return [(Server.of_row(row[:width]), Account.of_row(row[width:])) for row in map(tuple, rows)]


@functools.cache
def _statement(*, sqlite: bool, narrowed: bool) -> str:
    """Return the text; the external ids, and those of the accounts that may be seen, are JSON arrays."""
    chosen = [f's."{name}"' for name in Server.columns()] + [f'a."{name}"' for name in Account.columns()]
    if sqlite:
        listed = ["SELECT value FROM json_each(?)"] * 2
    else:
        listed = [f"SELECT json_array_elements_text(${number}::text::json)" for number in (1, 2)]
    text = (
        f"SELECT {', '.join(chosen)} FROM server s JOIN account a ON a.id = s.account_id "  # noqa: S608 - all ours
        f"WHERE s.external_id IN ({listed[0]})"
    )
    return f"{text} AND a.external_id IN ({listed[1]})" if narrowed else text
