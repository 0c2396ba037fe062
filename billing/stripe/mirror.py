"""The mirror of Stripe: the one writer of Stripe's invoices, of subscriptions, and of what is known of a customer.

Compares what was read with the rows and writes what differs, with its audit row, inside a transaction of the caller
that holds the account. Reads nothing from Stripe itself and decides no stage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from tortoise.expressions import F

from billing import adjustments, audit, work_queue
from billing.adjustments import Loss, LossKind
from billing.models import Account, Invoice, Subscription, WorkItem
from billing.rules import due
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.stripe import disputes
from billing.stripe.gateway import InvoiceReading, NeedsHumanError, Object
from billing.stripe.reading import (
    MirroredDispute,
    MirroredInvoice,
    MirroredSubscription,
    UnreadableError,
    came_back,
    mirrored_invoice,
    mirrored_subscription,
    took,
)

ACTOR = "stripe"

_FACTS = (
    "status",
    "currency",
    "total",
    "amount_paid",
    "amount_due",
    "disputed_amount",
    "due_on",
    "overdue_at",
    "overdue_seen_at",
    "next_attempt_at",
    "paid_at",
    "collection_method",
    "stripe_subscription_id",
)
"""The columns that decisions rest on: a change of one raises the account's facts version and is audited."""

_SHOWN = ("number", "issued_at", "period_start", "period_end", "hosted_url", "pdf_url", "lines", "payments")
"""The columns that people see and no decision reads; links may differ from one reading to the next."""

_TITLES = {
    "stripe.currency": "A Stripe invoice is in another currency than its account",
    "stripe.customer_deleted": "A customer was deleted at Stripe",
    "stripe.dispute": "A payment is disputed",
    "stripe.dispute_lost": "A dispute was lost",
}


async def lock(account: Account) -> bool:
    """Lock the account's row; false if any fact of it has changed since `account` was loaded.

    The first statement of every transaction of the mirror. What was read from Stripe in between may be older than what
    is in the mirror by now, so on false the caller reads again: this is what makes the order of events meaningless.
    """
    seen = account.facts_version
    return await Account.filter(id=account.id, facts_version=seen).update(facts_version=seen) == 1


async def raise_version(account: Account, *, now: datetime) -> None:
    """Make passes and plans see that facts of this account changed; once per transaction that changed any."""
    await Account.filter(id=account.id).update(facts_version=F("facts_version") + 1, next_change_at=now)


async def apply_invoice(
    reading: InvoiceReading, account: Account, *, read_at: datetime, now: datetime
) -> bool:
    """Bring the invoice's row in step; return whether a fact changed. Raises `UnreadableError`.

    `read_at` is the instant before the reading began: the row is as fresh as that.
    """
    row = await Invoice.get_or_none(stripe_invoice_id=reading.invoice.get("id"))
    zone = row.due_zone if row else account.time_zone
    found = mirrored_invoice(reading, zone=zone)
    if found.customer_id != account.stripe_customer_id or (row is not None and row.account_id != account.id):
        raise UnreadableError(
            f"invoice {found.stripe_invoice_id} is mirrored for another account than its customer's"
        )
    columns = _columns(found, row, zone=zone, now=now)
    await _tell_staff(found, account, now=now)
    if row is None:
        row = await Invoice.create(
            account_id=account.id, origin=InvoiceOrigin.STRIPE, due_zone=zone, fetched_at=read_at, **columns
        )
        await _record(
            "invoice.mirrored", ("Invoice", row.id), account, now=now, after=_named(columns, _FACTS)
        )
        await disputes.keep(row, found.disputes, now=now)
        await _take_back(reading, row, account, now=now)
        return True
    before = {name: getattr(row, name) for name in (*_FACTS, *_SHOWN)}
    changed = [name for name in (*_FACTS, *_SHOWN) if before[name] != columns[name]]
    fresh = max(read_at, row.fetched_at or read_at)
    await Invoice.filter(id=row.id).update(fetched_at=fresh, **_named(columns, changed))
    facts = [name for name in changed if name in _FACTS]
    if facts:
        old, new = _named(before, facts), _named(columns, facts)
        await _record("invoice.changed", ("Invoice", row.id), account, now=now, before=old, after=new)
    contested = await disputes.keep(row, found.disputes, now=now)
    lost = await _take_back(reading, row, account, now=now)
    return bool(facts) or contested or lost


async def close_missing_draft(invoice_id: str, account: Account, *, now: datetime) -> bool:
    """Void the row of a draft that Stripe no longer has; return whether there was one.

    Only drafts can be deleted (docs.stripe.com/api/invoices/delete): `UnreadableError` when any other is missing.
    """
    row = await Invoice.get(stripe_invoice_id=invoice_id)
    if row.status is InvoiceStatus.VOID:
        return False
    if row.status is not InvoiceStatus.DRAFT:
        raise UnreadableError(f"invoice {invoice_id} was {row.status.lower()} and is missing at Stripe")
    await Invoice.filter(id=row.id).update(status=InvoiceStatus.VOID, amount_due=0)
    before, after = {"status": InvoiceStatus.DRAFT}, {"status": InvoiceStatus.VOID}
    await _record("invoice.changed", ("Invoice", row.id), account, now=now, before=before, after=after)
    return True


def differs(row: Invoice, invoice: Object) -> bool:
    """Whether an invoice as listed differs from its row in a fact that a list shows; raises `UnreadableError`.

    A list shows neither disputes nor attempts: the first failed attempt of an invoice is looked up when one was made
    and none is known yet.
    """
    found = mirrored_invoice(InvoiceReading(invoice=invoice), zone=row.due_zone)
    compared = set(_FACTS) - {"disputed_amount", "overdue_at", "overdue_seen_at"}
    if any(getattr(row, name) != getattr(found, name) for name in compared):
        return True
    return found.due_on is None and bool(invoice["attempted"]) and row.overdue_at is None


async def apply_customer(customer: Object, account: Account, *, read_at: datetime, now: datetime) -> bool:
    """Take note of the customer; return whether a fact changed.

    A customer that was deleted at Stripe is a matter for a person: it restricts nobody and lifts nothing.
    """
    deleted = customer.get("deleted") is True
    fresh = max(read_at, account.stripe_fetched_at or read_at)
    await Account.filter(id=account.id).update(stripe_fetched_at=fresh, stripe_deleted=deleted)
    if deleted == account.stripe_deleted:
        return False
    before, after = {"stripe_deleted": not deleted}, {"stripe_deleted": deleted}
    await _record("account.changed", ("Account", account.id), account, now=now, before=before, after=after)
    if deleted:
        customer_id = str(account.stripe_customer_id)
        detail = f"The Stripe customer {customer_id} of {account.name} was deleted: name another, or close the account."
        await _open_once("stripe.customer_deleted", customer_id, account, now=now, detail=detail)
    return True


async def apply_subscription(found: Object, account: Account, *, read_at: datetime, now: datetime) -> bool:
    """Bring the subscription's row in step; return whether a fact changed. Raises `UnreadableError`."""
    mirrored = mirrored_subscription(found)
    row = await Subscription.get_or_none(stripe_subscription_id=found["id"])
    if mirrored.customer_id != account.stripe_customer_id or (
        row is not None and row.account_id != account.id
    ):
        raise UnreadableError(
            f"subscription {found['id']} is mirrored for another account than its customer's"
        )
    columns = {field.name: getattr(mirrored, field.name) for field in fields(MirroredSubscription)}
    del columns["customer_id"]
    if row is None:
        row = await Subscription.create(
            stripe_subscription_id=found["id"], account_id=account.id, fetched_at=read_at, **columns
        )
        await _record("subscription.mirrored", ("Subscription", row.id), account, now=now, after=columns)
        return True
    before = {name: getattr(row, name) for name in columns}
    changed = [name for name in columns if before[name] != columns[name]]
    fresh = max(read_at, row.fetched_at)
    await Subscription.filter(id=row.id).update(fetched_at=fresh, **_named(columns, changed))
    if changed:
        old, new = _named(before, changed), _named(columns, changed)
        await _record(
            "subscription.changed", ("Subscription", row.id), account, now=now, before=old, after=new
        )
    return bool(changed)


async def tell_staff_of_refusal(error: NeedsHumanError, *, now: datetime) -> None:
    """Open the work item for a key that Stripe refuses; a person resolves it, since some questions may still pass."""
    title = "Stripe refuses to be read"
    await work_queue.open_item("stripe.access", "stripe.access", at=now, title=title, detail=str(error))


async def tell_staff_of_disputes(
    found: Sequence[MirroredDispute], about: str, account: Account, *, now: datetime
) -> None:
    """Let the work queue follow disputes: who answers one must, and what a lost one took is told."""
    for one in found:
        dispute = one.stripe_dispute_id
        if not one.is_over:
            detail = f"A payment of {about} of {account.name} is disputed; answer {dispute} at Stripe."
            await _open_once("stripe.dispute", dispute, account, now=now, detail=detail)
            continue
        await work_queue.resolve(
            f"stripe.dispute:{dispute}", at=now, by=ACTOR, resolution="the dispute is closed"
        )
        if one.status == "lost":
            detail = (
                f"The dispute {dispute} over {about} of {account.name} is lost; its amount was taken back."
            )
            await _open_once("stripe.dispute_lost", dispute, account, now=now, detail=detail)


def _columns(found: MirroredInvoice, row: Invoice | None, *, zone: str, now: datetime) -> dict[str, Any]:
    columns = asdict(found)
    for other in ("customer_id", "first_attempt_at", "disputes"):
        del columns[other]
    attempts = [found.first_attempt_at] if found.first_attempt_at else []
    overdue_at = due.overdue_at(due_on=found.due_on, zone=zone, unsuccessful_attempts=attempts)
    columns["overdue_at"] = overdue_at
    owed = found.status is InvoiceStatus.OPEN and found.amount_due > 0
    overdue = owed and overdue_at is not None and overdue_at <= now
    # Closed and opened again, it counts anew: the moment of being seen ends with the debt.
    columns["overdue_seen_at"] = ((row.overdue_seen_at if row else None) or now) if overdue else None
    return columns


async def _take_back(reading: InvoiceReading, row: Invoice, account: Account, *, now: datetime) -> bool:
    """Book what lost disputes and refunds took back from us, or did not after all; return whether there was news.

    At Stripe the invoice stays paid (docs.stripe.com/disputes); what is owed anew is an invoice of ours.
    """
    if row.currency != account.currency:
        return False
    new = False
    for kind, objects in ((LossKind.DISPUTE, reading.disputes), (LossKind.REFUND, reading.refunds)):
        for found in objects:
            fact = (f"stripe_{kind}", str(found["id"]))
            if came_back(found):
                new = await adjustments.regain(fact, actor=ACTOR, now=now) or new
            if not took(found):
                continue
            loss = Loss(
                kind=kind,
                account_id=account.id,
                amount=int(found["amount"]),
                fact=fact,
                invoice_id=row.id,
                description=f"{kind} {found['id']} of invoice {row.number or row.stripe_invoice_id}",
            )
            new = await adjustments.lose(loss, actor=ACTOR, now=now) or new
    return new


async def _tell_staff(found: MirroredInvoice, account: Account, *, now: datetime) -> None:
    invoice = found.number or found.stripe_invoice_id
    if found.currency != account.currency:
        detail = (
            f"Invoice {invoice} is in {found.currency}, the account {account.name} in {account.currency}."
        )
        await _open_once("stripe.currency", found.stripe_invoice_id, account, now=now, detail=detail)
    await tell_staff_of_disputes(found.disputes, f"invoice {invoice}", account, now=now)


async def _open_once(kind: str, subject: str, account: Account, *, now: datetime, detail: str) -> None:
    """Open a work item for what stays true after a person has dealt with it: once, not at every reading."""
    key = f"{kind}:{subject}"
    if not await WorkItem.exists(dedupe_key=key):
        title = _TITLES[kind]
        await work_queue.open_item(kind, key, at=now, title=title, detail=detail, account_id=account.id)


async def _record(
    kind: str,
    subject: audit.Subject,
    account: Account,
    *,
    now: datetime,
    after: Mapping[str, Any],
    before: Mapping[str, Any] | None = None,
) -> None:
    await audit.record(
        kind,
        subject,
        at=now,
        actor=ACTOR,
        reason="read from Stripe",
        account_id=account.id,
        before=before,
        after=after,
        facts_version=account.facts_version + 1,
    )


def _named(columns: Mapping[str, Any], names: Any) -> dict[str, Any]:
    return {name: columns[name] for name in names}
