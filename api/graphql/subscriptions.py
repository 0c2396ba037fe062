"""What can be subscribed to: the present state at once, and again whenever it has changed.

Owns which accounts and runs a subscriber may watch; each event is read through the same scope as a query.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import strawberry

from api.graphql import ids
from api.graphql.accounts import Account, account_by_key
from api.graphql.context import Context, Info
from api.graphql.errors import INVALID, coded
from api.graphql.marks import ACCOUNT, RUN, Key
from api.graphql.nodes import RunState
from api.graphql.runs import Run, run_by_key
from api.graphql.stream import Stream
from billing.rules.words import phrase

#: Accounts of one subscription.
_MOST_ACCOUNTS = 100


@strawberry.type
class Subscription:
    """Everything that can be watched."""

    @strawberry.subscription
    async def account_changed(
        self, info: Info, account_id: strawberry.ID | None = None
    ) -> AsyncGenerator[Account, None]:
        """An account's standing, announcement or servers changed; customers get only their own.

        Each is sent once at the beginning. Without an id customers watch all their accounts; staff name one.
        """
        context = info.context
        stream, keys = _stream(context), await _watched(context, account_id)
        async with aclosing(stream.events(context, keys)) as events:
            async for _, key in events:
                account = await account_by_key(context, key)
                if account is not None:
                    yield account

    @strawberry.subscription
    async def run_progress(self, info: Info, run_id: strawberry.ID) -> AsyncGenerator[Run, None]:
        """How a run goes on: sent at the beginning, whenever another target has its outcome, and when it has ended."""
        context = info.context
        stream, key = _stream(context), ids.key_of("Run", run_id)
        if await run_by_key(context, key) is None:
            raise coded("there is no such run", INVALID)
        async with aclosing(stream.events(context, [(RUN, key or 0)])) as events:
            async for _ in events:
                run = await run_by_key(context, key)
                if run is None:
                    return
                yield run
                if run.state is not RunState.RUNNING:
                    return


def _stream(context: Context) -> Stream:
    if context.stream is None:
        raise coded("subscribe over a WebSocket, or with `Accept: text/event-stream`", INVALID)
    return context.stream


async def _watched(context: Context, account_id: str | None) -> list[Key]:
    """Return what to watch; an account of somebody else is refused like one that does not exist."""
    rows = context.scope.accounts()
    if account_id is not None:
        found = await rows.filter(id=ids.key_of("Account", account_id) or 0).values_list("id", flat=True)
        if not found:
            raise coded(phrase("There is no such account."), INVALID)
    elif context.scope.is_customer:
        found = await rows.order_by("id").limit(_MOST_ACCOUNTS).values_list("id", flat=True)
    else:
        raise coded("name the account to watch", INVALID)
    return [(ACCOUNT, int(key)) for key in found]  # type: ignore[call-overload]
