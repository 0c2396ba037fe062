"""The ledger as a statement: what was booked for an account, and what it came to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from api.graphql import ids
from api.graphql.connections import Connection, Window
from api.graphql.context import Context, Info
from api.graphql.nodes import Node
from api.graphql.pages import Asked
from api.graphql.scalars import Money
from api.graphql.vouchers import Voucher, voucher_by_key
from api.graphql.words import told_in, words_about
from billing.ledger_words import of_entry
from billing.money_models import LedgerTransaction

if TYPE_CHECKING:
    from api.graphql.invoices import Invoice


@strawberry.type
class LedgerEntry(Node):
    """One business fact. The amounts of all entries of an account add up to its two purses and what is reserved."""

    at: datetime
    kind: str
    amount: Money = strawberry.field(
        description="By how much it changed what the account has with us; zero for money that went straight to an "
        "invoice, or was only reserved for one."
    )
    to_invoice: Money = strawberry.field(
        description="What of it went to its invoice; negative for what was taken back."
    )
    description: str
    row: strawberry.Private[LedgerTransaction]

    @strawberry.field
    async def invoice(self, info: Info) -> Annotated[Invoice, strawberry.lazy("api.graphql.invoices")] | None:
        """The invoice that it is about."""
        from api.graphql.invoices import invoice_by_key

        return await invoice_by_key(info.context, self.row.invoice_id)

    @strawberry.field
    async def voucher(self, info: Info) -> Voucher | None:
        """The voucher that was redeemed."""
        key = self.row.voucher_id
        return await voucher_by_key(info.context, key) if key is not None else None


async def show_entries(context: Context, rows: Sequence[LedgerTransaction]) -> list[LedgerEntry]:
    """Return rows as they go on the wire, with what they came to."""
    effects = await context.money.effects.load_many([row.id for row in rows])
    purses = await context.money.purses.load_many([row.account_id for row in rows])
    descriptions = await _descriptions(context, rows)
    return [
        LedgerEntry(
            id=ids.global_id("LedgerEntry", row.id),
            at=row.at,
            kind=row.kind.value,
            amount=Money.of(effect.purses, held.currency),
            to_invoice=Money.of(effect.invoices, held.currency),
            description=description,
            row=row,
        )
        for row, effect, held, description in zip(rows, effects, purses, descriptions, strict=True)
    ]


async def _descriptions(context: Context, rows: Sequence[LedgerTransaction]) -> list[str]:
    """Return what each entry is called: for customers in their words, for staff as it was booked."""
    if not context.scope.is_customer:
        return [row.description for row in rows]
    accounts = await context.accounts.load_many([row.account_id for row in rows])
    invoices = await context.invoices.load_many([row.invoice_id or 0 for row in rows])
    return [
        told_in(words_about(context, account), of_entry(row, invoice)) if account is not None else ""
        for row, account, invoice in zip(rows, accounts, invoices, strict=True)
    ]


async def entries_of(context: Context, account_id: int, window: Window) -> Connection[LedgerEntry]:
    """Return a page of what was booked for an account, newest first."""

    async def show(rows: Sequence[LedgerTransaction]) -> list[LedgerEntry]:
        return await show_entries(context, rows)

    asked = Asked(
        listing="ledger", owner=account_id, column="account_id", window=window, newest_first=True,
        rows=context.scope.ledger, show=show,
    )  # fmt: skip
    entries: Connection[LedgerEntry] = await context.pages.load(asked)
    return entries


async def entry_by_key(context: Context, key: int) -> LedgerEntry | None:
    """Return the entry of this key if the principal may see it."""
    row = await context.entries.load(key)
    return (await show_entries(context, [row]))[0] if row is not None else None
