"""The rows of cards: how each of their changes is written, and how they follow what was read from Stripe.

Called by `billing.cards` and the mirror of Stripe, inside a transaction that holds the account. Asks nobody anything.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tortoise.expressions import F

from billing import audit
from billing.models import Account
from billing.money_models import Card
from billing.stripe.card_gateway import CardReading
from billing.stripe.gateway import id_of

SHOWN = ("fingerprint", "brand", "last4", "exp_month", "exp_year")
"""The columns that Stripe decides."""

_STRIPE = "stripe"


async def mark_removed(card: Card, *, actor: str, reason: str, now: datetime) -> bool:
    """End a card here; return false if it had ended already."""
    row = Card.filter(id=card.id, removed_at__isnull=True)
    if not await row.update(removed_at=now, is_default=False):
        return False
    await record("card.removed", card, actor=actor, reason=reason, now=now, before=shown(card))
    return True


async def write_default(card: Card, *, actor: str, reason: str, now: datetime) -> None:
    """Make a card the only default of its account, unless it was removed meanwhile."""
    await Card.filter(account_id=card.account_id, is_default=True).update(is_default=False)
    if await Card.filter(id=card.id, removed_at__isnull=True).update(is_default=True):
        await record("card.default", card, actor=actor, reason=reason, now=now, after={"is_default": True})


def shown(card: Card) -> dict[str, Any]:
    """What Stripe decides about a card, for the audit trail."""
    return {name: getattr(card, name) for name in SHOWN}


async def record(kind: str, card: Card, *, actor: str, reason: str, now: datetime, **change: Any) -> None:
    """Append the audit row of a change of this card."""
    await audit.record(
        kind, ("Card", card.id), at=now, actor=actor, reason=reason, account_id=card.account_id, **change
    )


async def apply_card(card: Card, found: CardReading | None, *, customer: str | None, now: datetime) -> bool:
    """Bring a card in step with Stripe, in the caller's transaction that holds the account; return whether it changed.

    One that is gone, or another customer's, is removed. Any other change is a new version, which may be asked again
    for what a bank refused before.
    """
    card = await Card.get(id=card.id)
    if found is None or found.customer_id != customer:
        changed = await mark_removed(card, actor=_STRIPE, reason="gone at Stripe", now=now)
        await Card.filter(id=card.id, removed_at__isnull=False, detached_at__isnull=True).update(
            detached_at=now
        )
        return changed
    before, after = shown(card), {name: getattr(found, name) for name in SHOWN}
    if card.removed_at is not None or before == after:
        return False
    twin = Card.filter(account_id=card.account_id, fingerprint=found.fingerprint, removed_at__isnull=True)
    if await twin.exclude(id=card.id).exists():
        # The bank replaced it by a number that its owner has added as well: the sweep lets go of this one.
        return await mark_removed(card, actor=_STRIPE, reason="the same number was added anew", now=now)
    await Card.filter(id=card.id).update(version=F("version") + 1, to_settle=True, **after)
    await record(
        "card.changed", card, actor=_STRIPE, reason="read from Stripe", now=now, before=before, after=after
    )
    return True


async def apply_default(customer: Mapping[str, Any], account: Account, *, now: datetime) -> bool:
    """Follow the default of a customer at Stripe, in the caller's transaction that holds the account.

    Returns whether it changed. No default there, or a card that we do not have, leaves ours as it is.
    """
    chosen = (customer.get("invoice_settings") or {}).get("default_payment_method")
    if chosen is None:
        return False
    card = await Card.get_or_none(
        account_id=account.id, stripe_payment_method_id=id_of(chosen), removed_at__isnull=True
    )
    if card is None or card.is_default:
        return False
    await write_default(card, actor=_STRIPE, reason="read from Stripe", now=now)
    return True
