"""Cards and what their owners have to do: as they go on the wire.

Owns the shape of both. Of a card no more is shown than its owner needs to tell it from another one; what a payment is
confirmed with is read from Stripe only when its owner asks for it, and kept nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from api.graphql import ids
from api.graphql.context import Context, Info
from api.graphql.nodes import Node
from api.graphql.words import words_about
from billing import cards, customer_tasks, models
from billing.money_models import Card as CardRow

if TYPE_CHECKING:
    from api.graphql.invoices import Invoice


@strawberry.type
class Card(Node):
    """A card saved at the payment provider. One that was removed is not usable and stays on what it paid."""

    brand: str
    last4: str
    exp_month: int
    exp_year: int
    is_default: bool
    usable: bool = strawberry.field(
        description="Whether it may be charged: neither removed nor expired in its owner's time zone."
    )


@strawberry.type
class CustomerTask:
    """What only the customer can do now."""

    kind: str = strawberry.field(description="`CONFIRM_PAYMENT`; treat others as something to read.")
    message: str
    expires_at: datetime | None
    task: strawberry.Private[customer_tasks.CustomerTask]

    @strawberry.field
    async def invoice(self, info: Info) -> Annotated[Invoice, strawberry.lazy("api.graphql.invoices")] | None:
        """What it is for; null: a top-up."""
        from api.graphql.invoices import invoice_by_key

        return await invoice_by_key(info.context, self.task.invoice_id)

    @strawberry.field
    async def client_secret(self, info: Info) -> str | None:
        """What the browser confirms the payment with; for the customer alone.

        Null when there is nothing to confirm any more, and while the payment provider does not answer: ask again.
        """
        context = info.context
        if not context.scope.is_customer or context.ports.cards is None:
            return None
        gateway, clock = context.ports.cards, context.ports.clock
        secret = await customer_tasks.client_secret(gateway, clock, self.task.charge_id)
        if secret is None:
            # The bank was satisfied, perhaps, and Stripe's own news of it is on its way still.
            context.ports.wake(self.task.account_id)
        return secret


def show_card(context: Context, row: CardRow, zone: str) -> Card:
    """Return a card as it goes on the wire; `zone` is its owner's."""
    return Card(
        id=ids.global_id("Card", row.id),
        brand=row.brand,
        last4=row.last4,
        exp_month=row.exp_month,
        exp_year=row.exp_year,
        is_default=row.is_default,
        usable=cards.usable(row, zone, now=context.now),
    )


async def cards_of(context: Context, account: models.Account) -> list[Card]:
    """Return the cards of an account, the default first, then by age."""
    rows = await context.money.cards_of.load(account.id)
    return [show_card(context, row, account.time_zone) for row in rows]


async def cards_by_key(context: Context, keys: Sequence[int], zone: str) -> dict[int, Card]:
    """Return these cards of one account that the caller has read the ids of, removed ones too."""
    rows = await context.money.cards.load_many(list(dict.fromkeys(keys)))
    return {row.id: show_card(context, row, zone) for row in rows if row is not None}


async def card_by_key(context: Context, key: int) -> Card | None:
    """Return the card of this key if the principal may see it."""
    row = await context.scope.cards().select_related("account").get_or_none(id=key)
    return show_card(context, row, row.account.time_zone) if row is not None else None


async def tasks_of(context: Context, account: models.Account) -> list[CustomerTask]:
    """Return what the customer of an account has to do, oldest first."""
    words = words_about(context, account)
    return [
        CustomerTask(kind=task.kind, message=words.say(task.message), expires_at=task.expires_at, task=task)
        for task in await context.money.tasks.load(account.id)
    ]
