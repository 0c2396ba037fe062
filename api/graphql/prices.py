"""Prices: what an hour of each SKU costs now. No customer's money, and everybody's to read."""

from __future__ import annotations

from datetime import datetime

import strawberry

from api.graphql.context import Info
from api.graphql.scalars import Money, Rate
from billing import money_models, prices
from billing.rules.metering import monthly


@strawberry.type
class Price:
    """What an hour of a SKU costs in one currency from an instant on."""

    sku: str
    description: str
    hourly: Rate
    monthly: Money = strawberry.field(description="730 hours, rounded, for display.")
    valid_from: datetime


def show_price(row: money_models.Price) -> Price:
    """Return a row as it goes on the wire."""
    return Price(
        sku=row.sku,
        description=row.description,
        hourly=Rate.of(row.rate, row.currency),
        monthly=Money.of(monthly(row.rate), row.currency),
        valid_from=row.valid_from,
    )


@strawberry.type
class PriceQueries:
    """The part of the query type that is about prices."""

    @strawberry.field
    async def prices(self, info: Info) -> list[Price]:
        """The prices in force, by SKU and currency. A server keeps the one that it was deployed at."""
        return [show_price(row) for row in await prices.current(at=info.context.now)]
