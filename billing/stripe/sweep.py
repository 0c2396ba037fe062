"""The sweep: finds what webhooks lost, by reading events and open invoices; and pins which Stripe account this is.

Owns the cursor of `stripe_mirror`, which never passes an event that is not stored. What it finds goes through the inbox
and the mirror like everything else.
"""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from tortoise.queryset import QuerySet
from tortoise.transactions import in_transaction

from billing import audit, work_queue
from billing.clock import Clock
from billing.models import Account, Invoice, StripeEvent, StripeMirror, Subscription
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.stripe import inbox, mirror
from billing.stripe.gateway import NeedsHumanError, Object, StripeGateway
from billing.stripe.inbox import MIRROR_ROW
from billing.stripe.mirror import tell_staff_of_refusal
from billing.stripe.processing import WrongStripeAccountError, process_due
from billing.stripe.reading import UnreadableError, customer_of
from billing.stripe.refresh import Refreshed, refresh_customer, refresh_invoice, refresh_subscription

OVERLAP = timedelta(minutes=15)
"""How far back each sweep of events reaches behind the last: for late events and clocks that differ."""

KEPT = timedelta(days=29)
"""Stripe lists events of 30 days (docs.stripe.com/api/events); a gap longer than this is read in full instead."""

SILENCE_TOLD = timedelta(minutes=15)
"""How long webhooks may be missing before people are told: one that is merely late is no alarm."""

SILENT = "webhooks_silent"

_STRIDE = timedelta(days=1)
_STALE_DRAFT = timedelta(days=1)
_BATCH = 500

_log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class Swept:
    """What a sweep found: events that no webhook had brought, and invoices that differed without any event."""

    events: int = 0
    invoices: int = 0
    #: Customers whom events that were worked off name; what is open of them may be settled now.
    customers: set[str] = field(default_factory=set)
    #: Things that could not be read; each is logged and stays as old as it is.
    unreadable: int = 0


async def confirm_account(gateway: StripeGateway, clock: Clock, *, configured: str | None = None) -> str:
    """Return the id of the Stripe account that the key belongs to, pinned at its first sight.

    Raises `WrongStripeAccountError` when it is neither the configured nor the pinned one; the mirror then stands still
    until this succeeds. Raises `StripeReadError` when Stripe cannot be asked.
    """
    found = await gateway.account_id()
    row = await StripeMirror.get(id=MIRROR_ROW)
    expected = [known for known in (configured, row.stripe_account_id) if known is not None]
    now = clock.now()
    if any(known != found for known in expected):
        problem = f"the Stripe key belongs to {found}, but this database mirrors {' and '.join(sorted(set(expected)))}"
        remedy = "set ABEYANCE_STRIPE_API_KEY and ABEYANCE_STRIPE_ACCOUNT for the account this database was made for"
        async with in_transaction():
            await StripeMirror.filter(id=MIRROR_ROW).update(problem=f"{problem}; {remedy}")
            title = "The Stripe key belongs to another account"
            await work_queue.open_item(
                "stripe.account", "stripe.account", at=now, title=title, detail=problem
            )
        raise WrongStripeAccountError(f"{problem}; {remedy}")
    if row.stripe_account_id is None or row.problem is not None:
        async with in_transaction():
            await StripeMirror.filter(id=MIRROR_ROW).update(stripe_account_id=found, problem=None)
            await work_queue.resolve("stripe.account", at=now, by="stripe", resolution="the key fits again")
            subject = ("StripeMirror", MIRROR_ROW)
            await audit.record(
                "stripe.pinned",
                subject,
                at=now,
                actor="stripe",
                reason="GET /v1/account",
                after={"account": found},
            )
    return found


async def full_sweep(gateway: StripeGateway, clock: Clock, *, configured_account: str | None = None) -> Swept:
    """Read all that may have been missed and work it off; then, and only then, the mirror counts as swept.

    Raises `WrongStripeAccountError` or `StripeReadError`; what was stored by then stays stored, and staff are told of a
    key that is refused.
    """
    started = clock.now()
    swept = Swept()
    try:
        await confirm_account(gateway, clock, configured=configured_account)
        row = await StripeMirror.get(id=MIRROR_ROW)
        if _is_gap(row.events_until, started):
            # An installation that is new, or was off for longer than Stripe keeps events.
            await _bridge_gap(gateway, clock, swept)
            await _move_cursor(started)
        swept.events = await sweep_events(gateway, clock)
        swept.customers |= (await process_due(gateway, clock, limit=1000)).customers
        await _sweep_open_invoices(gateway, clock, swept)
    except NeedsHumanError as error:
        await tell_staff_of_refusal(error, now=clock.now())
        raise
    await StripeMirror.filter(id=MIRROR_ROW).update(last_full_sweep_at=started)
    return swept


async def sweep_events(gateway: StripeGateway, clock: Clock) -> int:
    """Store every event since the cursor that is not stored yet; return how many were new.

    Goes forward a day at a time, so that a long backlog is worked off although the connection keeps breaking. The
    cursor moves only over days that were read to their end, and not at all over a gap that events cannot bridge: that
    takes a full sweep. Raises `StripeReadError`.
    """
    row = await StripeMirror.get(id=MIRROR_ROW)
    started = clock.now()
    gap = _is_gap(row.events_until, started)
    since = (started if gap or row.events_until is None else row.events_until) - OVERLAP
    # Stripe counts whole seconds, and an event of the present one is wanted too.
    end = started + timedelta(seconds=1)
    new = 0
    while since < end:
        until = min(since + _STRIDE, end)
        async for event in gateway.list_events(since=since, until=until):
            new += await _keep(event, clock.now())
        if not gap:
            await _move_cursor(min(until, started))
        since = until
    return new


async def sweep_open_invoices(gateway: StripeGateway, clock: Clock) -> Swept:
    """Compare the open invoices of both sides and mirror what differs, whether an event told of it or not."""
    swept = Swept()
    await _sweep_open_invoices(gateway, clock, swept)
    return swept


async def webhook_silence(*, now: datetime) -> timedelta | None:
    """Return how long webhooks have been missing; null while they are not.

    That is the age of the oldest event, newer than the last webhook, that only the sweep found.
    """
    row = await StripeMirror.get(id=MIRROR_ROW)
    # Only events that are acted on: an endpoint need not be subscribed to any other.
    missed = StripeEvent.filter(source="sweep", object_type__isnull=False, created_at__gt=now - KEPT)
    if row.last_webhook_at is not None:
        missed = missed.filter(created_at__gt=row.last_webhook_at)
    first = await missed.order_by("created_at").first()
    return now - first.created_at if first else None


async def tell_of_silence(*, now: datetime) -> None:
    """Let people know that webhooks are missing, once for each silence; a webhook that arrives ends it."""
    silence = await webhook_silence(now=now)
    told = []
    if silence is not None and silence >= SILENCE_TOLD:
        since = f"{now - silence:%Y-%m-%d %H:%M:%S} UTC"
        detail = (
            f"Since {since} no webhook of Stripe has told what happened there: the sweep found it, later. Compare the "
            "endpoint at Stripe and its secret with ABEYANCE_STRIPE_WEBHOOK_SECRET."
        )
        told.append(work_queue.Trouble(key=since, title="Webhooks of Stripe do not arrive", detail=detail))
    await work_queue.follow(SILENT, told, at=now, by="system:sweep")


def _is_gap(cursor: datetime | None, now: datetime) -> bool:
    return cursor is None or cursor < now - KEPT


async def _keep(event: Object, now: datetime) -> bool:
    try:
        return await inbox.store(event, source="sweep", now=now)
    except inbox.UnstorableError as error:
        # Stripe listed something that is no event: nothing to act on, and no reason to stop at it for ever.
        _log.error("stripe_event_unstorable", event=str(event.get("id"))[:64], reason=str(error))
        return False


async def _move_cursor(until: datetime) -> None:
    """Forward only: another process may be further."""
    moved = await StripeMirror.filter(id=MIRROR_ROW, events_until__lt=until).update(events_until=until)
    if not moved:
        await StripeMirror.filter(id=MIRROR_ROW, events_until__isnull=True).update(events_until=until)


async def _sweep_open_invoices(gateway: StripeGateway, clock: Clock, swept: Swept) -> None:
    ours = Invoice.filter(origin=InvoiceOrigin.STRIPE)
    # Drafts are never debt; a look a day finds those that were deleted, or finalized and paid, unseen.
    stale = ours.filter(status=InvoiceStatus.DRAFT, fetched_at__lt=clock.now() - _STALE_DRAFT)
    listed = await _compare_listed(gateway, clock, "open", swept)
    missing = {*await _ids(ours.filter(status=InvoiceStatus.OPEN)), *await _ids(stale)} - listed
    for invoice_id in sorted(missing):
        await _refresh(gateway, clock, invoice_id, swept)


async def _bridge_gap(gateway: StripeGateway, clock: Clock, swept: Swept) -> None:
    """Read what events would have told, apart from the open invoices, which every full sweep reads.

    By lists, so that it costs a request for a hundred of them; alone is asked for what a list does not show.
    """
    present = {str(customer["id"]) async for customer in gateway.list_customers()}
    named = await Account.filter(stripe_customer_id__not_isnull=True).values_list("stripe_customer_id")
    for customer in sorted({customer for (customer,) in named} - present):
        await _tolerant(refresh_customer(gateway, clock, customer), swept)
    ours = Invoice.filter(origin=InvoiceOrigin.STRIPE)
    listed = await _compare_listed(gateway, clock, "uncollectible", swept)
    closed = await _ids(ours.filter(status__in=(InvoiceStatus.DRAFT, InvoiceStatus.UNCOLLECTIBLE)))
    disputed = await _ids(ours.filter(disputed_amount__gt=0))
    for invoice_id in sorted((closed - listed) | disputed):
        await _refresh(gateway, clock, invoice_id, swept)
    alive = Subscription.filter(ended_at__isnull=True).order_by("id")
    for (subscription,) in await alive.values_list("stripe_subscription_id"):
        await _tolerant(refresh_subscription(gateway, clock, subscription), swept)


async def _ids(invoices: QuerySet[Invoice]) -> set[str]:
    return {invoice_id for (invoice_id,) in await invoices.values_list("stripe_invoice_id")}


async def _compare_listed(gateway: StripeGateway, clock: Clock, status: str, swept: Swept) -> set[str]:
    """Bring every invoice that Stripe lists with this status in step; return their ids."""
    read_at = clock.now()
    listed: set[str] = set()
    page: list[Object] = []
    async for invoice in gateway.list_invoices(status=status):
        listed.add(str(invoice["id"]))
        page.append(invoice)
        if len(page) == _BATCH:
            await _compare(gateway, clock, page, read_at, swept)
            page = []
    await _compare(gateway, clock, page, read_at, swept)
    return listed


async def _compare(
    gateway: StripeGateway, clock: Clock, page: list[Object], read_at: datetime, swept: Swept
) -> None:
    if not page:
        return
    rows = {
        row.stripe_invoice_id: row
        for row in await Invoice.filter(stripe_invoice_id__in=[i["id"] for i in page])
    }
    customers = {customer for invoice in page if (customer := _customer(invoice)) is not None}
    known = await Account.filter(stripe_customer_id__in=list(customers)).values_list("stripe_customer_id")
    ours = {customer for (customer,) in known}
    equal: list[int] = []
    for invoice in page:
        customer = _customer(invoice)
        row = rows.get(invoice["id"])
        if row is None and customer is not None and customer not in ours:
            continue
        if row is not None and _equal(row, invoice):
            equal.append(row.id)
        else:
            await _refresh(gateway, clock, str(invoice["id"]), swept, customer=customer)
    await Invoice.filter(id__in=equal, fetched_at__lt=read_at).update(fetched_at=read_at)


def _customer(invoice: Object) -> str | None:
    try:
        return customer_of(invoice)
    except UnreadableError:
        return None


def _equal(row: Invoice, invoice: Object) -> bool:
    try:
        return not mirror.differs(row, invoice)
    except UnreadableError:
        # Read in full, it fails with its reason.
        return False


async def _refresh(
    gateway: StripeGateway, clock: Clock, invoice_id: str, swept: Swept, *, customer: str | None = None
) -> None:
    outcome = await _tolerant(refresh_invoice(gateway, clock, invoice_id, customer=customer), swept)
    swept.invoices += outcome is Refreshed.CHANGED


async def _tolerant(refreshing: Awaitable[Refreshed], swept: Swept) -> Refreshed | None:
    """One unreadable thing must not keep the others from being swept: it only stays as old as it is."""
    try:
        return await refreshing
    except UnreadableError as error:
        _log.error("stripe_unreadable", reason=str(error))
        swept.unreadable += 1
        return None
