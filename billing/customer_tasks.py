"""What only a customer can do now: confirm with the bank what one of their cards was asked for.

Reads what is known here, for many accounts at once, and asks Stripe for nothing but the one secret that its customer's
browser needs. Writes nothing but what became of a charge.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tortoise.expressions import Q, Subquery

from billing import charges
from billing.charges import CONFIRMABLE
from billing.clock import Clock
from billing.models import Invoice
from billing.money_models import Charge, ChargeState
from billing.rules.money import Money
from billing.rules.terms import InvoiceStatus
from billing.rules.words import Phrase, phrase
from billing.stripe.card_gateway import CardGateway

CONFIRM_PAYMENT = "CONFIRM_PAYMENT"


@dataclass(frozen=True, kw_only=True)
class CustomerTask:
    """One payment that waits for its customer."""

    kind: str
    message: Phrase
    account_id: int
    charge_id: int
    #: Null: a top-up.
    invoice_id: int | None
    #: When it is given up.
    expires_at: datetime


async def of_accounts(account_ids: Iterable[int], *, now: datetime) -> dict[int, list[CustomerTask]]:
    """Return the payments that these accounts' customers have to confirm, oldest first, in one statement."""
    found: dict[int, list[CustomerTask]] = {account_id: [] for account_id in account_ids}
    open_invoices = Invoice.filter(account_id__in=list(found), status=InvoiceStatus.OPEN)
    waiting = Charge.filter(
        Q(invoice_id__isnull=True) | Q(invoice_id__in=Subquery(open_invoices.values("id"))),
        account_id__in=list(found),
        state=ChargeState.REQUIRES_ACTION,
        created_at__gt=now - CONFIRMABLE,
        card__removed_at__isnull=True,
    )
    for charge in await waiting.order_by("id"):
        amount = Money(charge.amount, charge.currency)
        task = CustomerTask(
            kind=CONFIRM_PAYMENT,
            message=phrase("Your bank wants you to confirm a payment of %(amount)s.", amount=amount),
            account_id=charge.account_id,
            charge_id=charge.id,
            invoice_id=charge.invoice_id,
            expires_at=charge.created_at + CONFIRMABLE,
        )
        found[charge.account_id].append(task)
    return found


async def client_secret(gateway: CardGateway, clock: Clock, charge_id: int) -> str | None:
    """Return what the customer's browser confirms a payment with, read from Stripe now; hand it to nobody else.

    Null when there is nothing to confirm any more, and while Stripe does not answer.
    """
    charge = await Charge.get(id=charge_id)
    if charge.state is not ChargeState.REQUIRES_ACTION:
        return None
    return (await charges.look(gateway, clock, charge)).client_secret
