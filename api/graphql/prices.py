"""Prices: what an hour of each SKU costs, as everybody may read and an admin may set it."""

from __future__ import annotations

from datetime import datetime

import strawberry

from api.graphql.amounts import RateInput
from api.graphql.context import Info
from api.graphql.errors import UserError, refusable
from api.graphql.scalars import Money, Rate
from billing import money_models, prices
from billing.prices import NewPrice
from billing.rules.metering import monthly


@strawberry.type
class Price:
    """What an hour of a SKU costs in one currency from an instant on."""

    sku: str
    description: str
    hourly: Rate
    monthly: Money = strawberry.field(description="730 hours, rounded, for display.")
    valid_from: datetime


@strawberry.input(
    description="Without `validFrom` it holds from now on; without `description` that of the last price."
)
class PriceSetInput:
    """What an hour of a SKU costs from an instant on."""

    sku: str
    description: str | None = None
    hourly: RateInput
    valid_from: datetime | None = None


@strawberry.type
class PricePayload:
    """The price as it is recorded, or why it is not."""

    price: Price | None = None
    errors: list[UserError] = strawberry.field(default_factory=list)


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


@strawberry.type
class PriceMutations:
    """The part of the mutation type that sets prices."""

    @strawberry.mutation
    @refusable(PricePayload)
    async def price_set(
        self,
        info: Info,
        input: PriceSetInput,  # noqa: A002  # the contract's name
    ) -> PricePayload:
        """Record a price. What was deployed before keeps its own; a price is followed by another, never changed."""
        asked = NewPrice(
            sku=input.sku,
            currency=input.hourly.currency,
            rate=input.hourly.read("hourly"),
            description=input.description,
            valid_from=input.valid_from,
        )
        row = await prices.set_price(asked, actor=info.context.principal.actor, now=info.context.now)
        return PricePayload(price=show_price(row))
