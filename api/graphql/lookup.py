"""From a global id to its object, through the same scope as everything else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import strawberry

from api.graphql import ids
from api.graphql.accounts import accounts_by_key
from api.graphql.approvals import show_approvals
from api.graphql.audit import show_audit
from api.graphql.cards import show_card
from api.graphql.context import Context, Info
from api.graphql.invoices import invoices_by_key
from api.graphql.ledger import show_entries
from api.graphql.nodes import Node
from api.graphql.notices import show_notices
from api.graphql.overrides import show_overrides
from api.graphql.permissions import may_look_up
from api.graphql.plan import step_by_key
from api.graphql.runs import show_run
from api.graphql.vouchers import show_voucher
from api.graphql.work_queue import show_item

Keys = Sequence[int]
Found = Mapping[int, Node]


async def _invoices(context: Context, keys: Keys) -> Found:
    return await invoices_by_key(context, keys)


async def _accounts(context: Context, keys: Keys) -> Found:
    return await accounts_by_key(context, keys)


async def _servers(context: Context, keys: Keys) -> Found:
    shown = await context.shown_servers.load_many(list(keys))
    return {key: server for key, server in zip(keys, shown, strict=True) if server is not None}


async def _cards(context: Context, keys: Keys) -> Found:
    rows = await context.scope.cards().filter(id__in=list(keys)).select_related("account")
    return {row.id: show_card(context, row, row.account.time_zone) for row in rows}


async def _entries(context: Context, keys: Keys) -> Found:
    rows = [row for row in await context.entries.load_many(list(keys)) if row is not None]
    return dict(zip((row.id for row in rows), await show_entries(context, rows), strict=True))


async def _vouchers(context: Context, keys: Keys) -> Found:
    rows = [row for row in await context.vouchers.load_many(list(keys)) if row is not None]
    return {row.id: show_voucher(context, row) for row in rows}


async def _overrides(context: Context, keys: Keys) -> Found:
    rows = await context.scope.overrides().filter(id__in=list(keys))
    return _by_key(await show_overrides(context, rows))


async def _notices(context: Context, keys: Keys) -> Found:
    return _by_key(await show_notices(context, await context.scope.notices().filter(id__in=list(keys))))


async def _runs(context: Context, keys: Keys) -> Found:
    return {row.id: show_run(row) for row in await context.scope.runs().filter(id__in=list(keys))}


async def _items(context: Context, keys: Keys) -> Found:
    return {row.id: show_item(row) for row in await context.scope.work_items().filter(id__in=list(keys))}


async def _audit(context: Context, keys: Keys) -> Found:
    return _by_key(await show_audit(context, await context.scope.audit().filter(id__in=list(keys))))


async def _approvals(context: Context, keys: Keys) -> Found:
    return _by_key(await show_approvals(context, await context.scope.approvals().filter(id__in=list(keys))))


def _by_key(nodes: Iterable[Node]) -> Found:
    """Return nodes by the keys in their ids; some of the rows may not be shown."""
    named = ((ids.read_id(node.id), node) for node in nodes)
    return {int(name[1]): node for name, node in named if name is not None}


_LOADERS: Mapping[str, Callable[[Context, Keys], Awaitable[Found]]] = {
    "Account": _accounts,
    "Server": _servers,
    "Invoice": _invoices,
    "Card": _cards,
    "LedgerEntry": _entries,
    "Voucher": _vouchers,
    "Override": _overrides,
    "Notice": _notices,
    "Run": _runs,
    "WorkItem": _items,
    "AuditEntry": _audit,
    "Approval": _approvals,
}


async def load_nodes(context: Context, named: Sequence[tuple[str, int]]) -> list[Node | None]:
    """Return what these types and keys name, as far as the principal may see it, all of a type at once."""
    keys: dict[str, list[int]] = defaultdict(list)
    for noun, key in named:
        keys[noun].append(key)
    found = {noun: await _LOADERS[noun](context, some) for noun, some in keys.items()}
    return [found[noun].get(key) for noun, key in named]


async def node_of(context: Context, noun: str, key: str) -> Node | None:
    """Return the object of this type and key; null when the principal may not see it, as when there is none."""
    if not may_look_up(context.principal.role, noun):
        return None
    if noun == "PlanStep":
        return await step_by_key(context, key)
    number = ids.key_of(noun, ids.global_id(noun, key))
    if noun not in _LOADERS or number is None:
        return None
    node: Node | None = await context.nodes.load((noun, number))
    return node


@strawberry.type
class NodeQueries:
    """The part of the query type that reaches everything by its id."""

    @strawberry.field
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:  # noqa: A002  # the contract's name
        """One object of any type; null when there is none that the caller may see."""
        named = ids.read_id(id)
        return await node_of(info.context, *named) if named is not None else None
