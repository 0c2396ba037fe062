"""What an invoice is for: the lines of ours with their servers and rates, or those that Stripe lists.

Owns how both are told as one list.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Annotated

import strawberry

from api.graphql.context import Context, Info
from api.graphql.scalars import Money, Rate
from api.graphql.words import told_in, words_about
from billing import models
from billing.ledger_words import of_line
from billing.rules.terms import InvoiceOrigin
from billing.words import Words

if TYPE_CHECKING:
    from api.graphql.servers import Server

_HOUR = Decimal(3600)
_DIGITS = Decimal("0.0001")


@strawberry.type
class InvoiceLine:
    """One line of an invoice. Stripe's lines name no server and no rate."""

    description: str
    sku: str | None
    hours: Decimal | None = strawberry.field(
        description="Rounded to a third of a second; the amount is of the exact time."
    )
    unit_price: Rate | None
    amount: Money
    server_id: strawberry.Private[int | None] = None

    @strawberry.field
    async def server(self, info: Info) -> Annotated[Server, strawberry.lazy("api.graphql.servers")] | None:
        """Which server it is for; null: none, or one that belongs to somebody else by now."""
        return await info.context.shown_servers.load(self.server_id) if self.server_id is not None else None


async def lines_of(context: Context, row: models.Invoice) -> list[InvoiceLine]:
    """Return the lines of an invoice in their order."""
    if row.origin is InvoiceOrigin.STRIPE:
        return [
            InvoiceLine(
                description=str(line.get("description") or ""),
                sku=None,
                hours=None,
                unit_price=None,
                amount=Money.of(int(line.get("amount") or 0), row.currency),
            )
            for line in row.lines
        ]
    words = await _words(context, row)
    return [
        InvoiceLine(
            description=told_in(words, of_line(line)) if words is not None else line.description,
            server_id=line.server_id,
            sku=line.sku,
            hours=_hours(line.seconds) if line.seconds is not None else None,
            unit_price=Rate.of(line.rate, row.currency) if line.rate is not None else None,
            amount=Money.of(line.amount, row.currency),
        )
        for line in await context.money.lines.load(row.id)
    ]


async def _words(context: Context, row: models.Invoice) -> Words | None:
    """Return the words that a customer reads; null for staff, who reads what was booked."""
    account = await context.accounts.load(row.account_id) if context.scope.is_customer else None
    return words_about(context, account) if account is not None else None


def _hours(seconds: int) -> Decimal:
    return (seconds / _HOUR).quantize(_DIGITS, ROUND_HALF_UP)
