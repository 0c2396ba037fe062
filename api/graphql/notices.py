"""Notices: what was sent to customers and staff."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry
from tortoise.queryset import QuerySet

from api.graphql import ids
from api.graphql.connections import Connection, Window, page
from api.graphql.context import Context, Info
from api.graphql.nodes import Node, NoticeState, Stage
from api.graphql.pages import Asked
from api.graphql.words import words_about
from billing import models
from billing.rules.plain_words import NOT_DELIVERED

if TYPE_CHECKING:
    from api.graphql.accounts import Account


@strawberry.type
class Notice(Node):
    """One message to a customer."""

    account: Annotated[Account, strawberry.lazy("api.graphql.accounts")]
    subject: str
    body: str
    recipient: str
    error: str | None
    template: str
    channel: str
    stage: Stage | None
    state: NoticeState
    created_at: datetime
    delivered_at: datetime | None
    attempts: int


async def show_notices(context: Context, rows: Sequence[models.Notice]) -> list[Notice]:
    """Return rows as they go on the wire, with their accounts, in one statement."""
    from api.graphql.accounts import accounts_by_key

    accounts = await accounts_by_key(context, [row.account_id for row in rows if row.account_id is not None])
    return [
        Notice(
            id=ids.global_id("Notice", row.id),
            account=accounts[row.account_id],
            subject=row.subject,
            body=row.body,
            recipient=row.recipient or "",
            error=row.error and _error(context, row.error, accounts[row.account_id].row),
            template=row.template,
            channel=row.channel,
            stage=row.stage,
            state=row.state,
            created_at=row.created_at,
            delivered_at=row.delivered_at,
            attempts=row.attempts,
        )
        for row in rows
        if row.account_id in accounts
    ]


def _error(context: Context, error: str, account: models.Account) -> str:
    return words_about(context, account).say(NOT_DELIVERED) if context.scope.is_customer else error


async def page_of_notices(
    context: Context, query: QuerySet[models.Notice], window: Window
) -> Connection[Notice]:
    """Return a page of these notices, newest first. Messages to staff about no account are not part of it."""

    async def show(rows: Sequence[models.Notice]) -> list[Notice]:
        return await show_notices(context, rows)

    about_accounts = query.filter(account_id__isnull=False)
    return await page(about_accounts, window, listing="notices", newest_first=True, show=show)


async def notices_of(context: Context, account_id: int, window: Window) -> Connection[Notice]:
    """Return a page of an account's own, newest first."""

    async def show(rows: Sequence[models.Notice]) -> list[Notice]:
        return await show_notices(context, rows)

    asked = Asked(
        listing="notices", owner=account_id, column="account_id", window=window, newest_first=True,
        rows=context.scope.notices, show=show,
    )  # fmt: skip
    own: Connection[Notice] = await context.pages.load(asked)
    return own


@strawberry.type
class NoticeQueries:
    """The part of the query type that is about notices."""

    @strawberry.field
    async def notices(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        state: NoticeState | None = None,
    ) -> Connection[Notice]:
        """Notices about accounts, newest first."""
        query = info.context.scope.notices()
        narrowed = query.filter(state=state) if state is not None else query
        return await page_of_notices(info.context, narrowed, Window(first=first, after=after))
