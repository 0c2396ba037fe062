"""What was paid on an invoice, by whom it is known best: our own parts, or the payments that Stripe lists.

Owns how the two are told as one list; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import strawberry

from api.graphql.cards import Card, cards_by_key
from api.graphql.context import Context
from api.graphql.nodes import PaymentSource
from api.graphql.scalars import Money
from billing import models
from billing.money_models import Charge, InvoicePart
from billing.rules.terms import InvoiceOrigin


@strawberry.type
class InvoicePayment:
    """One payment or reduction of an invoice."""

    source: PaymentSource
    amount: Money
    at: datetime
    card: Card | None = strawberry.field(description="The saved card that paid, removed ones too.")


@dataclass(frozen=True, kw_only=True)
class Paid:
    """One payment in minor units, with the key of its card."""

    source: PaymentSource
    amount: int
    at: datetime
    card_id: int | None = None


async def payments_of(context: Context, row: models.Invoice, zone: str) -> list[InvoicePayment]:
    """Return what was paid on an invoice, oldest first; `zone` is its account's."""
    parts = await context.money.parts.load(row.id)
    if row.origin is InvoiceOrigin.STRIPE:
        listed = at_stripe(row, parts, await context.money.charges.load(row.id))
    else:
        listed = [_part(part) for part in parts]
    cards = await cards_by_key(context, [paid.card_id for paid in listed if paid.card_id is not None], zone)
    return [
        InvoicePayment(
            source=paid.source,
            amount=Money.of(paid.amount, row.currency),
            at=paid.at,
            card=cards.get(paid.card_id) if paid.card_id is not None else None,
        )
        for paid in sorted(listed, key=lambda paid: paid.at)
    ]


def at_stripe(row: models.Invoice, parts: Sequence[InvoicePart], charges: Iterable[Charge]) -> list[Paid]:
    """Return the payments that Stripe lists, with what is known here of them.

    What our purses paid stands there as money from outside Stripe, so it takes that money's place. A payment of the
    amount of a charge of ours is that charge.
    """
    unnamed = list(charges)
    listed = []
    for told in row.payments:
        paid = Paid(
            source=PaymentSource(told["source"]),
            amount=int(told["amount"]),
            at=datetime.fromisoformat(told["at"]),
        )
        charge = next((one for one in unnamed if one.amount == paid.amount), None)
        if paid.source is PaymentSource.STRIPE and charge is not None:
            unnamed.remove(charge)
            paid = replace(paid, source=PaymentSource.CARD, card_id=charge.card_id)
        listed.append(paid)
    outside = [paid for paid in listed if paid.source is PaymentSource.OUT_OF_BAND]
    rest = sum(paid.amount for paid in outside) - sum(part.amount for part in parts)
    if not parts or rest < 0:
        return listed
    inside = [paid for paid in listed if paid.source is not PaymentSource.OUT_OF_BAND]
    others = [replace(outside[-1], amount=rest)] if rest else []
    return [*inside, *(_part(part) for part in parts), *others]


def _part(part: InvoicePart) -> Paid:
    return Paid(source=PaymentSource(part.source.value), amount=part.amount, at=part.at, card_id=part.card_id)
