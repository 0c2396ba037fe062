"""A customer's accounts, and what one account has page by page, by statements of our own.

Owns these statements: every page of a portal asks for them, and the ORM spends more on the text of each than the
database on its answer. Whose rows may be seen is the scope's; a list that is narrowed further is the ORM's.
"""

import functools
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tortoise.connection import get_connection

from api.graphql.scope import Scope
from billing.models import Account, Invoice
from billing.stored import Stored
from reconciler.models import Server

Row = TypeVar("Row", bound=Stored)


@dataclass(frozen=True, kw_only=True)
class OwnRows(Generic[Row]):
    """The rows of one account that the scope shows, in the order of their ids."""

    model: type[Row]
    account_id: int
    scope: Scope
    #: What customers are not shown.
    unseen: str = "FALSE"

    async def between(
        self, above: int | None, below: int | None, *, descending: bool, most: int
    ) -> list[Row]:
        """Return the first rows, or the last first, whose ids lie between two; null: no bound."""
        bounds = [(sign, bound) for sign, bound in ((">", above), ("<", below)) if bound is not None]
        ends = [f"AND t.id {sign} %s" for sign, _ in bounds]
        ends.append(f"ORDER BY t.id {'DESC' if descending else 'ASC'} LIMIT %s")
        found = await self._read(
            _columns(self.model), " ".join(ends), [*(bound for _, bound in bounds), most]
        )
        return [self.model.of_row(row) for row in found]

    async def count(self) -> int:
        """Return how many there are."""
        ((number,),) = await self._read("COUNT(*)", "", [])
        return int(number)

    async def _read(self, told: str, ends: str, given: list[Any]) -> Sequence[Any]:
        narrowed, values = "", [self.account_id, *given]
        if self.scope.is_customer:
            narrowed = f"AND t.account_id IN ({_OWN_IDS}) AND NOT ({self.unseen})"
            values.insert(1, _own(self.scope))
        table = self.model._meta.db_table  # noqa: SLF001  # the ORM's only account of it
        text = f"SELECT {told} FROM {table} t WHERE t.account_id = %s {narrowed} {ends}"  # noqa: S608 - all ours
        return await _rows(text, values)


async def accounts_of(scope: Scope, *, most: int) -> list[Account]:
    """Return the accounts of a customer, in the order of their ids."""
    text = f"SELECT {_columns(Account)} FROM account t WHERE {_OWN} ORDER BY t.id LIMIT %s"  # noqa: S608 - all ours
    return [Account.of_row(row) for row in await _rows(text, [_own(scope), most])]


#: The condition on accounts that they are the principal's, whose external ids are a JSON array.
_OWN = "external_id IN (<texts>)"

_OWN_IDS = f"SELECT id FROM account WHERE {_OWN}"  # noqa: S608 - all ours


def _own(scope: Scope) -> str:
    return _listed(scope.principal.accounts)


@functools.lru_cache(maxsize=1_000)
def _listed(accounts: frozenset[str]) -> str:
    return json.dumps(sorted(accounts))


async def _rows(text: str, values: list[Any]) -> Sequence[Any]:
    connection = get_connection("default")
    statement = _written(text, sqlite=connection.capabilities.dialect == "sqlite")
    _, rows = await connection.execute_query(statement, values)
    return rows


@functools.lru_cache(maxsize=100)
def _written(text: str, *, sqlite: bool) -> str:
    """Return a statement as its database reads it, with the places of its values."""
    if sqlite:
        return text.replace("<texts>", "SELECT value FROM json_each(%s)").replace("%s", "?")
    numbers = itertools.count(1)
    text = text.replace("<texts>", "SELECT json_array_elements_text(%s::text::json)")
    return re.sub("%s", lambda _: f"${next(numbers)}", text)


@functools.cache
def _columns(model: type[Stored]) -> str:
    return ", ".join(f't."{name}"' for name in model.columns())


def own_servers(scope: Scope, account_id: int) -> OwnRows[Server]:
    """Return the servers of an account."""
    return OwnRows(model=Server, account_id=account_id, scope=scope)


def own_invoices(scope: Scope, account_id: int) -> OwnRows[Invoice]:
    """Return the invoices of an account; a customer sees none that is still a draft."""
    return OwnRows(model=Invoice, account_id=account_id, scope=scope, unseen="t.status = 'DRAFT'")
