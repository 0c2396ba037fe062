"""Vouchers: what was issued, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry
from tortoise.queryset import QuerySet

from api.graphql import ids
from api.graphql.connections import Connection, Window, page
from api.graphql.context import Context, Info
from api.graphql.nodes import Node, VoucherState
from api.graphql.pages import Asked
from api.graphql.scalars import Money
from billing import money_models
from billing.vouchers import in_state, state_of

if TYPE_CHECKING:
    from api.graphql.accounts import Account


@strawberry.type
class Voucher(Node):
    """A code worth money. The code itself is shown when it is issued and never again."""

    value: Money
    state: VoucherState
    issued_at: datetime
    expires_at: datetime | None
    redeemed_at: datetime | None
    note: str | None = strawberry.field(description="For staff; null for customers.")
    row: strawberry.Private[money_models.Voucher]

    @strawberry.field
    async def redeemed_by(
        self, info: Info
    ) -> Annotated[Account, strawberry.lazy("api.graphql.accounts")] | None:
        """Whose purse it filled."""
        from api.graphql.accounts import account_by_key

        return await account_by_key(info.context, self.row.redeemed_by_id)


def show_voucher(context: Context, row: money_models.Voucher) -> Voucher:
    """Return a row as it goes on the wire; the note is for staff alone."""
    return Voucher(
        id=ids.global_id("Voucher", row.id),
        value=Money.of(row.value, row.currency),
        state=state_of(row, now=context.now),
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        redeemed_at=row.redeemed_at,
        note=None if context.scope.is_customer else row.note,
        row=row,
    )


async def page_of_vouchers(
    context: Context, query: QuerySet[money_models.Voucher], window: Window
) -> Connection[Voucher]:
    """Return a page of these vouchers, the one issued last first."""

    async def show(rows: Sequence[money_models.Voucher]) -> list[Voucher]:
        return [show_voucher(context, row) for row in rows]

    return await page(query, window, listing="vouchers", newest_first=True, show=show)


async def vouchers_of(context: Context, account_id: int, window: Window) -> Connection[Voucher]:
    """Return a page of an account's own, newest first."""

    async def show(rows: Sequence[money_models.Voucher]) -> list[Voucher]:
        return [show_voucher(context, row) for row in rows]

    asked = Asked(
        listing="vouchers", owner=account_id, column="redeemed_by_id", window=window, newest_first=True,
        rows=context.scope.vouchers, show=show,
    )  # fmt: skip
    own: Connection[Voucher] = await context.pages.load(asked)
    return own


async def voucher_by_key(context: Context, key: int) -> Voucher | None:
    """Return the voucher of this key if the principal may see it."""
    row = await context.vouchers.load(key)
    return show_voucher(context, row) if row is not None else None


@strawberry.type
class VoucherQueries:
    """The part of the query type that is about vouchers."""

    @strawberry.field
    async def vouchers(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        state: VoucherState | None = None,
    ) -> Connection[Voucher]:
        """Vouchers, the one issued last first. Customers see those that they redeemed."""
        context = info.context
        query = context.scope.vouchers()
        if state is not None:
            query = query.filter(in_state(state, now=context.now))
        return await page_of_vouchers(context, query, Window(first=first, after=after))
