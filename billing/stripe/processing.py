"""Working the inbox off: claim what is due, read again what it is about, mark it in the transaction of its effect.

Owns attempts, back-off and giving up. Any number of processes may do this at once on PostgreSQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from tortoise.expressions import F
from tortoise.transactions import in_transaction

from billing import cards, charges, work_queue
from billing.clock import Clock
from billing.models import Account, EventState, Invoice, StripeEvent, StripeMirror
from billing.stripe.card_gateway import CardGateway
from billing.stripe.contested import refresh_contested
from billing.stripe.gateway import GoneError, NeedsHumanError, RetryLaterError, StripeGateway
from billing.stripe.inbox import MIRROR_ROW
from billing.stripe.mirror import tell_staff_of_refusal
from billing.stripe.reading import UnreadableError
from billing.stripe.refresh import (
    Refreshed,
    Within,
    refresh_card,
    refresh_customer,
    refresh_invoice,
    refresh_subscription,
)

MAX_FAILURES = 6
"""After so many failed attempts, about eight minutes, an event is given up and shown to a person."""

_LEASE = timedelta(minutes=5)
"""How long a claim lasts if its process dies; longer than anything read within it."""

_FIRST_WAIT = timedelta(seconds=15)
_LONGEST_WAIT = timedelta(minutes=5)
_APART = frozenset({"setup_intent", "payment_intent", "contested"})
"""Kinds that are written in transactions of their own, so that the state of their events follows afterwards."""

_READ_ITSELF = frozenset({"invoice", "customer", "subscription", "payment_method"}) | _APART
"""Kinds of objects that are read as they are; the others lead to invoices."""

_OUTAGE = 3
"""After so many things in a row that Stripe did not answer about, the rest waits."""

_log = structlog.get_logger(__name__)


class WrongStripeAccountError(Exception):
    """The key belongs to another Stripe account than the mirror: nothing is read or written until a person mends it."""


@dataclass(kw_only=True)
class Processed:
    """How many events came to which end."""

    done: int = 0
    ignored: int = 0
    later: int = 0
    dead: int = 0
    #: Customers whom events that were done name: what is open of them may be settled now.
    customers: set[str] = field(default_factory=set)


@dataclass(kw_only=True)
class _Batch:
    """One pass over the inbox. A thing read in it is as fresh as every event that the pass began with."""

    gateway: StripeGateway
    clock: Clock
    read: dict[tuple[str, str], Refreshed] = field(default_factory=dict)
    result: Processed = field(default_factory=Processed)


async def process_due(gateway: StripeGateway, clock: Clock, *, limit: int = 100) -> Processed:
    """Work off up to `limit` events that are due, oldest first; return what became of them.

    Stripe being unreachable costs no event anything but time. Raises `WrongStripeAccountError` while the pinned account
    does not match, and the database's errors; claims that were open then come back by themselves.
    """
    mirror = await StripeMirror.get(id=MIRROR_ROW)
    if mirror.problem is not None:
        raise WrongStripeAccountError(mirror.problem)
    batch = _Batch(gateway=gateway, clock=clock)
    due = (
        await StripeEvent.filter(state=EventState.PENDING, next_attempt_at__lte=clock.now())
        .order_by("next_attempt_at", "id")
        .limit(limit)
    )
    groups: dict[tuple[str | None, str | None], list[StripeEvent]] = {}
    for event in due:
        groups.setdefault((event.object_type, event.object_id), []).append(event)
    unanswered = 0
    for events in groups.values():
        ids = [event.id for event in events]
        if not await _claim(ids, clock.now()):
            continue
        done = batch.result.done
        try:
            await _work_off(batch, events)
            # What is nobody's may have been put aside without asking Stripe.
            unanswered = 0 if batch.result.done > done else unanswered
        except NeedsHumanError as error:
            await _wait(batch, ids, error, forgiven=True)
            await tell_staff_of_refusal(error, now=clock.now())
            break
        except RetryLaterError as error:
            await _wait(batch, ids, error, forgiven=True)
            unanswered += 1
            if unanswered == _OUTAGE:
                break
        except Exception as error:  # noqa: BLE001 - a poison event of any kind must not stop the queue
            await _failed(batch, events, error)
    return batch.result


async def _claim(ids: Sequence[int], now: datetime) -> bool:
    """Take what nobody else has taken; one conditional statement, so two processes never both get an event."""
    free = StripeEvent.filter(id__in=ids, state=EventState.PENDING, next_attempt_at__lte=now)
    return await free.update(attempts=F("attempts") + 1, next_attempt_at=now + _LEASE, error=None) > 0


async def _work_off(batch: _Batch, events: Sequence[StripeEvent]) -> None:
    kind, object_id = events[0].object_type, events[0].object_id
    ids = [event.id for event in events]
    if kind is None or object_id is None:
        raise UnreadableError(f"a {events[0].type} without the id of what it is about")
    if kind in _READ_ITSELF:
        await _settle(batch, [(kind, object_id)], ids, customer=events[0].stripe_customer_id)
        return
    things: list[tuple[str, str]] = []
    try:
        invoices = await batch.gateway.invoices_touched_by(kind, object_id)
        things = [("invoice", invoice) for invoice in invoices]
        payment = None if things else await batch.gateway.payment_touched_by(kind, object_id)
        if payment is not None:
            things = [("contested", payment)]
    except GoneError:
        invoices = ()
    await _attribute(ids, invoices)
    await _settle(batch, things, ids, customer=events[0].stripe_customer_id)


async def _settle(
    batch: _Batch, things: Sequence[tuple[str, str]], ids: Sequence[int], *, customer: str | None
) -> None:
    """Refresh every thing that these events are about; the last one carries their state in its transaction."""
    unread = [thing for thing in things if thing not in batch.read]

    carried, marked = False, 0

    async def done() -> None:
        nonlocal marked
        marked = await _mark(ids, EventState.DONE, batch.clock.now())

    for thing in unread:
        within = done if thing == unread[-1] and thing[0] not in _APART else None
        outcome = await _refresh(batch, thing, customer=customer, within=within)
        batch.read[thing] = outcome
        carried = carried or (within is not None and outcome is not Refreshed.UNKNOWN)
    known = any(batch.read[thing] is not Refreshed.UNKNOWN for thing in things)
    if not carried:
        marked = await _mark(ids, EventState.DONE if known else EventState.IGNORED, batch.clock.now())
    if known:
        batch.result.done += marked
        batch.result.customers |= {customer} if customer else set()
    else:
        batch.result.ignored += marked


async def _refresh(
    batch: _Batch, thing: tuple[str, str], *, customer: str | None, within: Within | None
) -> Refreshed:
    kind, object_id = thing
    if kind == "customer":
        return await refresh_customer(batch.gateway, batch.clock, object_id, within=within)
    if kind == "payment_method":
        return await refresh_card(batch.gateway, batch.clock, object_id, within=within)
    if kind == "payment_intent":
        card_gateway = CardGateway(batch.gateway)
        return await charges.refresh_payment(card_gateway, batch.clock, object_id, customer=customer)
    if kind == "setup_intent":
        added = await cards.adopt(CardGateway(batch.gateway), batch.clock, object_id)
        return Refreshed.UNKNOWN if added is None else Refreshed.CHANGED if added else Refreshed.UNCHANGED
    if kind == "contested":
        # The payment itself first: its own news may be late or lost, and what was given back of it counts all the same.
        await charges.refresh_payment(CardGateway(batch.gateway), batch.clock, object_id, customer=customer)
        return await refresh_contested(batch.gateway, batch.clock, object_id)
    refresh = refresh_invoice if kind == "invoice" else refresh_subscription
    return await refresh(batch.gateway, batch.clock, object_id, customer=customer, within=within)


async def _mark(ids: Sequence[int], state: EventState, now: datetime) -> int:
    """Write the end of these events; return how many of them had not ended before."""
    return await StripeEvent.filter(id__in=ids, state=EventState.PENDING).update(
        state=state, processed_at=now, error=None
    )


async def _attribute(ids: Sequence[int], invoices: Sequence[str]) -> None:
    """Keep whose events these are, so that they shield that account should they fail from here on."""
    row = await Invoice.filter(stripe_invoice_id__in=list(invoices)).select_related("account").first()
    if row is not None:
        unowned = StripeEvent.filter(id__in=ids, stripe_customer_id__isnull=True)
        await unowned.update(stripe_customer_id=row.account.stripe_customer_id)


async def _wait(batch: _Batch, ids: Sequence[int], error: Exception, *, forgiven: bool) -> None:
    """Put events back with a back-off; a forgiven attempt does not bring them nearer to being given up."""
    for event in await StripeEvent.filter(id__in=ids, state=EventState.PENDING):
        wait = min(_FIRST_WAIT * 2 ** min(event.attempts - 1, 10), _LONGEST_WAIT)
        attempts = event.attempts - 1 if forgiven else event.attempts
        await StripeEvent.filter(id=event.id, state=EventState.PENDING).update(
            attempts=attempts, next_attempt_at=batch.clock.now() + wait, error=str(error)[:2000]
        )
    batch.result.later += len(ids)


async def _failed(batch: _Batch, events: Sequence[StripeEvent], error: Exception) -> None:
    _log.warning(
        "stripe_event_failed", events=[event.event_id for event in events], error=type(error).__name__
    )
    now = batch.clock.now()
    # Loaded before they were claimed, hence the one more.
    given_up = [event for event in events if event.attempts + 1 >= MAX_FAILURES]
    for event in given_up:
        async with in_transaction():
            dead = StripeEvent.filter(id=event.id, state=EventState.PENDING)
            if await dead.update(state=EventState.DEAD, processed_at=now, error=str(error)[:2000]):
                detail = f"{event.type} {event.event_id} was given up after {MAX_FAILURES} attempts: {error}"
                title = "A Stripe event could not be applied"
                await work_queue.open_item(
                    "stripe.event_dead",
                    f"stripe.event_dead:{event.event_id}",
                    at=now,
                    title=title,
                    detail=detail[:4000],
                    account_id=await _account_of(event),
                )
                batch.result.dead += 1
    await _wait(batch, [event.id for event in events if event not in given_up], error, forgiven=False)


async def _account_of(event: StripeEvent) -> int | None:
    # Looked up anew: whose a dispute is becomes known only while it is worked off.
    customer = (await StripeEvent.get(id=event.id)).stripe_customer_id
    account = await Account.get_or_none(stripe_customer_id=customer) if customer else None
    return account.id if account else None
