"""A demonstration account: one customer per stage of the ladder, without any card.

Owns names and addresses of the sample customers. How long each is overdue is the caller's choice,
since demonstrations compress their policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from simulators.stripe.account import Account

NAMES = {
    "acct-current": "Aster Gaming",
    "acct-past-due": "Birch Hosting",
    "acct-final-notice": "Cedar Labs",
    "acct-suspended": "Dahlia Studio",
    "acct-story": "Elm Relay",
}
"""The sample customers by the `external_id` in their metadata."""

OVERDUE: Mapping[str, timedelta] = {
    "acct-past-due": timedelta(days=2),
    "acct-final-notice": timedelta(days=5),
    "acct-suspended": timedelta(days=9),
}
"""How long ago the open invoices of the overdue customers fell due."""

NOT_YET = timedelta(days=14)


@dataclass(frozen=True, kw_only=True)
class SampleCustomer:
    """The Stripe ids of one sample customer; `invoice` is its open invoice, if it has one."""

    customer: str
    email: str
    invoice: str | None


def fill(
    account: Account,
    overdue: Mapping[str, timedelta] = OVERDUE,
    *,
    amount: int = 2900,
    currency: str = "eur",
) -> dict[str, SampleCustomer]:
    """Create the sample customers and their open `send_invoice` invoices; returned by external id.

    `acct-current` has one that is not due yet. `acct-story` starts without one unless `overdue` names it.
    An unknown name in `overdue` is a KeyError.
    """
    now = account.clock.now()
    due = {"acct-current": now + NOT_YET, **{name: now - late for name, late in overdue.items()}}
    unknown = due.keys() - NAMES.keys()
    if unknown:
        raise KeyError(f"no sample customer {', '.join(sorted(unknown))}")
    made = {}
    for external_id, name in NAMES.items():
        email = f"billing@{external_id.removeprefix('acct-')}.example"
        customer = account.create_customer(email=email, name=name, metadata={"external_id": external_id})
        invoice = None
        if external_id in due:
            invoice = account.create_invoice(customer["id"], amount, currency, due_date=due[external_id])[
                "id"
            ]
        made[external_id] = SampleCustomer(customer=customer["id"], email=email, invoice=invoice)
    return made
