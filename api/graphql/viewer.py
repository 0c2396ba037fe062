"""Who asks, and what it may ask for."""

from __future__ import annotations

from datetime import datetime

import strawberry

from api.graphql.accounts import Account, show_accounts
from api.graphql.context import Info
from api.graphql.nodes import Role
from api.graphql.own_rows import accounts_of
from api.graphql.permissions import permitted

_MOST_ACCOUNTS = 100


@strawberry.type
class Viewer:
    """Who asks."""

    role: Role
    name: str
    person: str | None
    accounts: list[Account]
    account: Account | None = strawberry.field(
        description="The only account, or null when there are several or none."
    )
    permissions: list[str]
    server_time: datetime


@strawberry.type
class ViewerQueries:
    """The part of the query type that is about who asks."""

    @strawberry.field
    async def viewer(self, info: Info) -> Viewer:
        """Who asks. Only customers have accounts of their own."""
        context = info.context
        rows = await accounts_of(context.scope, most=_MOST_ACCOUNTS) if context.scope.is_customer else []
        accounts = await show_accounts(context, rows)
        return Viewer(
            role=context.principal.role,
            name=context.principal.name,
            person=context.principal.person,
            accounts=accounts,
            account=accounts[0] if len(accounts) == 1 else None,
            permissions=list(permitted(context.principal.role)),
            server_time=context.now,
        )
