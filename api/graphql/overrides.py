"""Overrides: recorded decisions of staff.

Owns which words about them each reader gets: what staff typed is for support and admins.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from api.graphql import ids
from api.graphql.context import Context
from api.graphql.nodes import Node, OverrideKind
from api.graphql.words import words_about
from billing import models
from billing.overrides import PROMISE
from billing.rules.plain_words import OVERRIDES, PROMISED

if TYPE_CHECKING:
    from api.graphql.accounts import Account
    from api.graphql.servers import Server


@strawberry.type
class Override(Node):
    """A recorded decision of staff."""

    kind: OverrideKind
    account: Annotated[Account, strawberry.lazy("api.graphql.accounts")]
    server: Annotated[Server, strawberry.lazy("api.graphql.servers")] | None
    reason: str
    placed_by: str
    placed_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    active: bool


async def show_overrides(context: Context, rows: Sequence[models.Override]) -> list[Override]:
    """Return rows as they go on the wire, with their accounts and servers, in two statements."""
    from api.graphql.accounts import accounts_by_key
    from api.graphql.servers import servers_by_key

    accounts = await accounts_by_key(context, [row.account_id for row in rows])
    servers = await servers_by_key(context, [row.server_id for row in rows if row.server_id is not None])
    return [
        Override(
            id=ids.global_id("Override", row.id),
            kind=row.kind,
            account=accounts[row.account_id],
            server=servers.get(row.server_id) if row.server_id is not None else None,
            reason=_reason(context, row, accounts[row.account_id].row),
            placed_by=context.actor(row.placed_by),
            placed_at=row.placed_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            revoked_by=context.actor(row.revoked_by) if row.revoked_by else None,
            active=is_active(row, context.now),
        )
        for row in rows
        if row.account_id in accounts
    ]


def word_for_word(context: Context, row: models.Override) -> str | None:
    """Return the reason as it was typed, for those whom it is for; null where a plain sentence is to be read.

    What staff typed is for support and admins, what a customer promised for it as well.
    """
    if context.reads_reasons:
        return row.reason
    own = context.scope.is_customer and row.by_customer and row.reason != PROMISE
    return row.reason if own else None


def _reason(context: Context, row: models.Override, account: models.Account) -> str:
    plain = PROMISED if row.by_customer else OVERRIDES[row.kind]
    return word_for_word(context, row) or words_about(context, account).say(plain)


def is_active(row: models.Override, now: datetime) -> bool:
    """Return whether an override is in force at `now`."""
    return row.revoked_at is None and (row.expires_at is None or now < row.expires_at)
