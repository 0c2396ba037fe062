"""The account that a mutation is about.

Owns that one rule. An account that the principal may not see is refused like one that does not exist.
"""

from __future__ import annotations

from api.graphql import ids
from api.graphql.context import Context
from billing.models import Account
from billing.refusal import RefusalCode, refusal
from billing.rules.words import phrase


async def account_of(context: Context, account_id: str | None, *, path: str = "accountId") -> Account:
    """Return the named account, or without a name the customer's only one; `path` is the field that names it."""
    query = context.scope.accounts()
    if account_id is not None:
        named = await query.get_or_none(id=ids.key_of("Account", account_id) or 0)
        if named is None:
            raise refusal(RefusalCode.NOT_FOUND, phrase("There is no such account."), path)
        return named
    rows = await query.order_by("id").limit(2) if context.scope.is_customer else []
    if len(rows) != 1:
        raise refusal(RefusalCode.INVALID, phrase("Say which account is meant."), path)
    return rows[0]
