"""From a global id to its object, through the same scope as everything else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import strawberry

from api.graphql import ids
from api.graphql.accounts import account_by_key
from api.graphql.approvals import approval_by_key
from api.graphql.audit import show_audit
from api.graphql.cards import card_by_key
from api.graphql.context import Context, Info
from api.graphql.invoices import invoice_by_key
from api.graphql.ledger import entry_by_key
from api.graphql.nodes import Node
from api.graphql.notices import show_notices
from api.graphql.overrides import show_overrides
from api.graphql.permissions import may_look_up
from api.graphql.plan import step_by_key
from api.graphql.runs import run_by_key
from api.graphql.servers import server_by_key
from api.graphql.vouchers import voucher_by_key
from api.graphql.work_queue import item_by_key


async def _override(context: Context, key: int) -> Node | None:
    row = await context.scope.overrides().get_or_none(id=key)
    return next(iter(await show_overrides(context, [row])), None) if row is not None else None


async def _notice(context: Context, key: int) -> Node | None:
    row = await context.scope.notices().get_or_none(id=key)
    return next(iter(await show_notices(context, [row])), None) if row is not None else None


async def _audit(context: Context, key: int) -> Node | None:
    row = await context.scope.audit().get_or_none(id=key)
    return next(iter(await show_audit(context, [row])), None) if row is not None else None


_LOADERS: dict[str, Callable[[Context, int], Awaitable[Node | None]]] = {
    "Account": account_by_key,
    "Server": server_by_key,
    "Invoice": invoice_by_key,
    "Card": card_by_key,
    "LedgerEntry": entry_by_key,
    "Voucher": voucher_by_key,
    "Override": _override,
    "Notice": _notice,
    "Run": run_by_key,
    "WorkItem": item_by_key,
    "AuditEntry": _audit,
    "Approval": approval_by_key,
}


async def node_of(context: Context, noun: str, key: str) -> Node | None:
    """Return the object of this type and key; null when the principal may not see it, as when there is none."""
    if not may_look_up(context.principal.role, noun):
        return None
    if noun == "PlanStep":
        return await step_by_key(context, key)
    number = ids.key_of(noun, ids.global_id(noun, key))
    return await _LOADERS[noun](context, number) if noun in _LOADERS and number is not None else None


@strawberry.type
class NodeQueries:
    """The part of the query type that reaches everything by its id."""

    @strawberry.field
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:  # noqa: A002  # the contract's name
        """One object of any type; null when there is none that the caller may see."""
        named = ids.read_id(id)
        return await node_of(info.context, *named) if named is not None else None
