"""What a Stripe object means in our words: pure mapping from what was read to the columns of the mirror.

Fails loudly on anything missing or unheard of, because a guess about money is worse than none. No I/O.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from billing.rules.due import local_day
from billing.rules.terms import InvoiceStatus
from billing.stripe.gateway import InvoiceReading, Object, StripeReadError, id_of

_STATUS = {
    "draft": InvoiceStatus.DRAFT,
    "open": InvoiceStatus.OPEN,
    "paid": InvoiceStatus.PAID,
    "void": InvoiceStatus.VOID,
    "uncollectible": InvoiceStatus.UNCOLLECTIBLE,
}

DISPUTE_OVER = frozenset({"won", "lost", "warning_closed", "prevented", "charge_refunded"})
"""A status that is not here counts as open, also one that is new to us (docs.stripe.com/api/disputes/object)."""

_SUBSCRIPTION_OVER = frozenset({"canceled", "incomplete_expired"})


T = TypeVar("T")


class UnreadableError(StripeReadError):
    """An answer of Stripe lacks something or contradicts itself; the account's facts are unknown, not bad."""


@dataclass(frozen=True, kw_only=True)
class MirroredDispute:
    """One dispute of a payment, open or over."""

    stripe_dispute_id: str
    status: str
    amount: int
    opened_at: datetime

    @property
    def is_over(self) -> bool:
        """Whether the bank has let go of it, whoever has the money now."""
        return self.status in DISPUTE_OVER


@dataclass(frozen=True, kw_only=True)
class MirroredInvoice:
    """The columns that an invoice at Stripe decides. Amounts in minor units, instants aware UTC."""

    stripe_invoice_id: str
    customer_id: str
    status: InvoiceStatus
    currency: str
    total: int
    amount_paid: int
    amount_due: int
    disputed_amount: int
    due_on: date | None
    #: The first attempt that failed or asked for its customer; null: none, not known, or a due date decides.
    first_attempt_at: datetime | None
    next_attempt_at: datetime | None
    paid_at: datetime | None
    issued_at: datetime
    period_start: datetime | None
    period_end: datetime | None
    number: str | None
    collection_method: str
    stripe_subscription_id: str | None
    hosted_url: str | None
    pdf_url: str | None
    lines: list[dict[str, Any]]
    payments: list[dict[str, Any]]
    #: Every dispute of its payments, open or over.
    disputes: tuple[MirroredDispute, ...]


@dataclass(frozen=True, kw_only=True)
class MirroredSubscription:
    """Whether a subscription still covers what it was sold for."""

    customer_id: str
    status: str
    current_period_end: datetime | None
    ended_at: datetime | None


def customer_of(invoice: Object) -> str:
    """Return the id of the customer that an invoice or a subscription is for; raises `UnreadableError`."""
    return _checked(invoice, lambda: id_of(invoice["customer"]))


def mirrored_invoice(reading: InvoiceReading, *, zone: str) -> MirroredInvoice:
    """Map an invoice; its due date is the local day in `zone`. Raises `UnreadableError`.

    What remains is Stripe's `amount_remaining`, which credit notes before payment and payments from anywhere have
    reduced (docs.stripe.com/api/invoices/object, /api/credit_notes). Drafts and totals of zero or less are never debt.
    """
    return _checked(reading.invoice, lambda: _mirrored_invoice(reading, zone))


def mirrored_subscription(found: Object) -> MirroredSubscription:
    """Map a subscription; the period sits on its items since API 2025-03-31. Raises `UnreadableError`."""
    return _checked(found, lambda: _mirrored_subscription(found))


def mirrored_dispute(found: Object) -> MirroredDispute:
    """Map a dispute (docs.stripe.com/api/disputes/object). Raises `UnreadableError`."""
    return _checked(
        found,
        lambda: MirroredDispute(
            stripe_dispute_id=id_of(found),
            status=str(found["status"]),
            amount=_amount(found["amount"]),
            opened_at=_required(found["created"]),
        ),
    )


def _checked(found: Object, mapping: Callable[[], T]) -> T:
    try:
        return mapping()
    except (AttributeError, IndexError, KeyError, OverflowError, OSError, TypeError, ValueError) as error:
        name = f"{found.get('object', 'object')} {found.get('id', 'without an id')}"
        raise UnreadableError(f"{name} at Stripe cannot be read: {type(error).__name__}: {error}") from error


def _mirrored_invoice(reading: InvoiceReading, zone: str) -> MirroredInvoice:
    invoice = reading.invoice
    status = _STATUS[invoice["status"]]
    total, remaining = _amount(invoice["total"]), _amount(invoice["amount_remaining"])
    owed = status is InvoiceStatus.OPEN and total > 0
    due_at = _instant(invoice["due_date"])
    moves = invoice["status_transitions"]
    issued_at = _instant(moves["finalized_at"]) or _required(invoice["created"])
    period_start, period_end = _period(invoice)
    disputes = tuple(map(mirrored_dispute, reading.disputes))
    details = (invoice["parent"] or {}).get("subscription_details")
    return MirroredInvoice(
        stripe_invoice_id=id_of(invoice),
        customer_id=id_of(invoice["customer"]),
        status=status,
        currency=_currency(invoice["currency"]),
        total=total,
        amount_paid=_amount(invoice["amount_paid"]),
        amount_due=max(remaining, 0) if owed else 0,
        disputed_amount=sum(dispute.amount for dispute in disputes if not dispute.is_over),
        due_on=local_day(due_at, zone) if due_at else None,
        first_attempt_at=_first_attempt(reading) if owed and due_at is None else None,
        next_attempt_at=_instant(invoice["next_payment_attempt"]) if owed else None,
        paid_at=_instant(moves["paid_at"]),
        issued_at=issued_at,
        period_start=period_start,
        period_end=period_end,
        number=invoice["number"],
        collection_method=invoice["collection_method"],
        stripe_subscription_id=id_of(details["subscription"]) if details else None,
        hosted_url=invoice["hosted_invoice_url"],
        pdf_url=invoice["invoice_pdf"],
        lines=[
            {
                "description": line["description"] or "",
                "quantity": line["quantity"],
                "amount": _amount(line["amount"]),
            }
            for line in invoice["lines"]["data"]
        ],
        payments=_payments(reading),
        disputes=disputes,
    )


def took(found: Object) -> bool:
    """Whether a dispute or a refund has taken its money from us."""
    return bool(found["status"] == ("lost" if found["object"] == "dispute" else "succeeded"))


def came_back(found: Object) -> bool:
    """Whether what a dispute or a refund had taken, if it ever had, is ours again.

    A refund may fail days after it succeeded (docs.stripe.com/refunds#failed-refunds): the bank sends it back to us.
    """
    over = {"won"} if found["object"] == "dispute" else {"failed", "canceled"}
    return found["status"] in over


def _first_attempt(reading: InvoiceReading) -> datetime | None:
    """The first failed charge; an attempt without a charge (no card, or the customer must act) began with its payment.

    A charge that is still pending (a bank debit on its way) has not failed.
    """
    if not reading.invoice["attempted"]:
        return None
    instants: list[datetime] = []
    for payment in reading.payments:
        intent = payment["payment"].get("payment_intent")
        charges = (reading.attempts or {}).get(id_of(intent), ()) if intent else ()
        failed = [_required(charge["created"]) for charge in charges if charge["status"] == "failed"]
        if failed:
            instants.append(min(failed))
        elif intent and not charges and payment["status"] == "open":
            instants.append(_required(payment["created"]))
    return min(instants, default=None)


def _payments(reading: InvoiceReading) -> list[dict[str, Any]]:
    paid_at = _instant(reading.invoice["status_transitions"]["paid_at"])
    listed: list[dict[str, Any]] = []
    for payment in reading.payments:
        if payment["status"] != "paid":
            continue
        at = _instant(payment["status_transitions"]["paid_at"]) or _required(payment["created"])
        source = "OUT_OF_BAND" if payment["payment"]["type"] == "payment_record" else "STRIPE"
        listed.append({"source": source, "amount": _amount(payment["amount_paid"]), "at": at.isoformat()})
    outside = _amount(reading.invoice["amount_paid"]) - sum(payment["amount"] for payment in listed)
    if outside > 0 and paid_at is not None:
        # Marked as paid out of band: part of `amount_paid`, yet no payment object of its own.
        listed.append({"source": "OUT_OF_BAND", "amount": outside, "at": paid_at.isoformat()})
    return listed


def _period(invoice: Object) -> tuple[datetime | None, datetime | None]:
    """What the lines are for; a subscription invoice's own period is the one before (docs.stripe.com/api/invoices)."""
    periods = [line["period"] for line in invoice["lines"]["data"]] or [
        {"start": invoice["period_start"], "end": invoice["period_end"]}
    ]
    starts = [_required(period["start"]) for period in periods]
    ends = [_required(period["end"]) for period in periods]
    return min(starts), max(ends)


def _mirrored_subscription(found: Object) -> MirroredSubscription:
    status = found["status"]
    ends = [_required(item["current_period_end"]) for item in found["items"]["data"]]
    period_end = max(ends, default=None)
    ended_at = None
    if status in _SUBSCRIPTION_OVER:
        # Canceled in the middle of a paid period, it still covers to the end of that period.
        ended_at = max(filter(None, (_instant(found["ended_at"]), period_end)))
    return MirroredSubscription(
        customer_id=id_of(found["customer"]),
        status=str(status),
        current_period_end=period_end,
        ended_at=ended_at,
    )


def _amount(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise TypeError(f"{value!r} is no amount of minor units")
    return value


def _currency(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 3 or not value.isalpha():
        raise ValueError(f"{value!r} is no currency")
    return value.upper()


def _required(value: Any) -> datetime:
    found = _instant(value)
    if found is None:
        raise ValueError("an instant is missing")
    return found


def _instant(value: Any) -> datetime | None:
    return None if value is None else datetime.fromtimestamp(_amount(value), UTC)
