"""Whether an account's servers need a card, so that its last one stays.

Reads alone; the rule on purses is `billing.funds`', the one on cards `billing.cards`'.
"""

from datetime import datetime

from billing import funds
from billing.models import Invoice
from billing.settling import Means
from reconciler.models import Server

_BY_HAND = "send_invoice"


async def needs_card(account_id: int, means: Means, *, now: datetime) -> bool:
    """Whether the account has servers that no purse covers for the coming month.

    A server under a Stripe subscription is one of them, unless Stripe sends its invoices to be paid by hand: without a
    card Stripe's next charge would fail.
    """
    return await _charged_by_stripe(account_id) or await funds.needs_card(account_id, means, now=now)


async def _charged_by_stripe(account_id: int) -> bool:
    live = Server.filter(account_id=account_id, retired_at=None, free=False)
    named = live.exclude(stripe_subscription_id=None).distinct()
    subscriptions = set(await named.values_list("stripe_subscription_id", flat=True))
    by_hand = Invoice.filter(stripe_subscription_id__in=subscriptions, collection_method=_BY_HAND)
    return bool(
        subscriptions - set(await by_hand.distinct().values_list("stripe_subscription_id", flat=True))
    )
