"""Setups: what Stripe has of a card that its owner's browser has just saved there.

Reads alone. A customer's word for a setup is never believed: it has to be one of that customer at Stripe.
"""

import re

from billing.models import Account
from billing.refusal import RefusalCode, RefusalError, refusal
from billing.rules.words import phrase
from billing.stripe.card_gateway import CardGateway, CardReading, SetupReading
from billing.stripe.gateway import GoneError, RejectedError

_ID = re.compile(r"[A-Za-z0-9_]{1,255}", re.ASCII)


async def saved_card(gateway: CardGateway, account: Account, setup_intent_id: str) -> CardReading:
    """Return the card of a finished SetupIntent of this account.

    Refuses in the same words what does not exist and what is somebody else's; says what is left to do with its own.
    Raises `StripeReadError` for what else Stripe answers.
    """
    unknown = refusal(
        RefusalCode.INVALID, phrase("There is no card of yours to be saved under this id."), "setupIntentId"
    )
    # A customer's text goes into the path of a request: nothing but an id may.
    if not _ID.fullmatch(setup_intent_id):
        raise unknown
    try:
        setup = await gateway.fetch_setup(setup_intent_id)
        if setup.customer_id is None or setup.customer_id != account.stripe_customer_id:
            raise unknown
        if not setup.succeeded or setup.payment_method_id is None:
            raise _unfinished(setup) or unknown
        found = await gateway.fetch_card(setup.payment_method_id)
    except (GoneError, RejectedError):
        raise unknown from None
    if found is None or found.customer_id != account.stripe_customer_id:
        raise unknown
    return found


def _unfinished(setup: SetupReading) -> RefusalError | None:
    if setup.awaits_customer:
        code, message = (
            RefusalCode.AUTHENTICATION_REQUIRED,
            phrase("Confirm the card with your bank first, then add it."),
        )
    elif setup.refused:
        code = RefusalCode.CARD_DECLINED
        message = phrase("The bank refused this card; enter it anew, or another one.")
    else:
        return None
    return refusal(code, message, "setupIntentId")
