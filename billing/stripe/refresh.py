"""Bringing one thing of the mirror up to date: read it at Stripe, then write it in one transaction.

The transaction holds the account. Owns the order of the two and what happens when the account changes in between;
decides nothing from events.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Generic, TypeVar

from tortoise.transactions import in_transaction

from billing import card_rows
from billing.clock import Clock
from billing.models import Account, Invoice, Subscription
from billing.money_models import Card
from billing.stripe import mirror
from billing.stripe.card_gateway import CardGateway, CardReading
from billing.stripe.gateway import (
    GoneError,
    InvoiceReading,
    Object,
    RetryLaterError,
    StripeGateway,
    StripeReadError,
)
from billing.stripe.reading import UnreadableError, customer_of

Within = Callable[[], Awaitable[None]]
"""What is written in the same transaction as the mirror, such as the state of the events that asked for it."""

_TRIES = 6

T = TypeVar("T")


class Refreshed(StrEnum):
    """What a reading did to the mirror."""

    CHANGED = "CHANGED"
    UNCHANGED = "UNCHANGED"
    #: It belongs to no account of ours; nothing was written.
    UNKNOWN = "UNKNOWN"


class Agreement(StrEnum):
    """Whether Stripe, asked just now, says what the mirror said."""

    EQUAL = "EQUAL"
    CHANGED = "CHANGED"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, kw_only=True)
class Refetched:
    """The answer to the guard's question, with a reason for people unless all is equal."""

    agreement: Agreement
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Thing(Generic[T]):
    """One kind of object: how it is read, whose it is, and how it is written."""

    fetch: Callable[[], Awaitable[T]]
    customer: Callable[[T], str]
    #: Takes what was read, the account, the instant before the reading, and now.
    apply: Callable[[T, Account, datetime, datetime], Awaitable[bool]]
    #: What to do when Stripe has no such object.
    gone: Callable[[Account, datetime], Awaitable[bool]]


async def refresh_invoice(
    gateway: StripeGateway,
    clock: Clock,
    invoice_id: str,
    *,
    customer: str | None = None,
    within: Within | None = None,
) -> Refreshed:
    """Read an invoice of Stripe and mirror it.

    `customer` is a guess at whose it is that saves a reading; a wrong one does no harm. `within` runs in the
    transaction unless the answer is `UNKNOWN`. Raises `StripeReadError`; nothing was written then.
    """

    async def gone(account: Account, now: datetime) -> bool:
        if not await Invoice.exists(stripe_invoice_id=invoice_id):
            return False
        return await mirror.close_missing_draft(invoice_id, account, now=now)

    thing = _Thing[InvoiceReading](
        fetch=lambda: gateway.fetch_invoice(invoice_id),
        customer=lambda reading: customer_of(reading.invoice),
        apply=lambda found, account, read_at, now: mirror.apply_invoice(
            found, account, read_at=read_at, now=now
        ),
        gone=gone,
    )
    row = await Invoice.get_or_none(stripe_invoice_id=invoice_id).select_related("account")
    return await _refresh(
        thing, clock, guess=row.account.stripe_customer_id if row else customer, within=within
    )


async def refresh_subscription(
    gateway: StripeGateway,
    clock: Clock,
    subscription_id: str,
    *,
    customer: str | None = None,
    within: Within | None = None,
) -> Refreshed:
    """Read a subscription and mirror whether it still covers; arguments and errors as `refresh_invoice`."""

    async def gone(account: Account, now: datetime) -> bool:
        raise UnreadableError(f"subscription {subscription_id} is missing at Stripe")

    thing = _Thing[Object](
        fetch=lambda: gateway.fetch_subscription(subscription_id),
        customer=customer_of,
        apply=lambda found, account, read_at, now: mirror.apply_subscription(
            found, account, read_at=read_at, now=now
        ),
        gone=gone,
    )
    row = await Subscription.get_or_none(stripe_subscription_id=subscription_id).select_related("account")
    return await _refresh(
        thing, clock, guess=row.account.stripe_customer_id if row else customer, within=within
    )


async def refresh_customer(
    gateway: StripeGateway, clock: Clock, customer_id: str, *, within: Within | None = None
) -> Refreshed:
    """Read a customer and take note of it; errors as `refresh_invoice`. Asks nothing about a customer of nobody."""

    async def gone(account: Account, now: datetime) -> bool:
        raise UnreadableError(f"customer {customer_id} of account {account.external_id} is missing at Stripe")

    if not await Account.exists(stripe_customer_id=customer_id):
        return Refreshed.UNKNOWN
    thing = _Thing[Object](
        fetch=lambda: gateway.fetch_customer(customer_id),
        customer=lambda found: customer_id,
        apply=_apply_customer,
        gone=gone,
    )
    return await _refresh(thing, clock, guess=customer_id, within=within)


async def refresh_card(
    gateway: StripeGateway, clock: Clock, payment_method_id: str, *, within: Within | None = None
) -> Refreshed:
    """Read a saved card and follow what became of it; errors as `refresh_invoice`.

    A card that we do not have is none of ours: it becomes so by the setup that its owner finished, or not at all.
    """
    row = await Card.get_or_none(stripe_payment_method_id=payment_method_id).select_related("account")
    customer = row.account.stripe_customer_id if row is not None else None
    if row is None or customer is None:
        return Refreshed.UNKNOWN
    card = row
    thing = _Thing[CardReading | None](
        fetch=lambda: CardGateway(gateway).fetch_card(payment_method_id),
        customer=lambda found: customer,
        apply=lambda found, account, read_at, now: card_rows.apply_card(
            card, found, customer=account.stripe_customer_id, now=now
        ),
        gone=lambda account, now: card_rows.apply_card(card, None, customer=customer, now=now),
    )
    return await _refresh(thing, clock, guess=customer, within=within)


async def adopt_customer(gateway: StripeGateway, clock: Clock, account_id: int) -> bool:
    """Mirror the customer that the account has just been given, with its unpaid invoices; return whether facts changed.

    Events of before were ignored, because the customer was nobody's. Raises as `refresh_invoice`; call it again then.
    """
    account = await Account.get(id=account_id)
    customer = account.stripe_customer_id
    if customer is None:
        return False
    outcomes = [await refresh_customer(gateway, clock, customer)]
    for status in ("open", "uncollectible"):
        # Collected first: reading goes on for as long as writing takes, and a page must not outlive what it lists.
        listed = [
            str(invoice["id"]) async for invoice in gateway.list_invoices(status=status, customer=customer)
        ]
        outcomes += [await refresh_invoice(gateway, clock, invoice, customer=customer) for invoice in listed]
    return Refreshed.CHANGED in outcomes


async def refetch_account(
    gateway: StripeGateway, clock: Clock, account_id: int, invoice_ids: Iterable[int]
) -> Refetched:
    """Ask Stripe again about the customer and the named invoices, and bring the mirror in step.

    `EQUAL` only if every answer arrived and said what the mirror said. A deleted customer is no firm ground for a
    restriction either: `UNAVAILABLE`. Invoices that are not Stripe's are passed over. Never raises for Stripe's sake.
    """
    account = await Account.get(id=account_id)
    customer = account.stripe_customer_id
    if customer is None:
        return Refetched(agreement=Agreement.UNAVAILABLE, reason="the account has no Stripe customer")
    wanted = set(invoice_ids)
    named = await Invoice.filter(id__in=list(wanted), account_id=account_id)
    if len(named) != len(wanted):
        return Refetched(
            agreement=Agreement.UNAVAILABLE, reason="an invoice is not, or no longer, this account's"
        )
    theirs = [row.stripe_invoice_id for row in named if row.stripe_invoice_id is not None]
    try:
        outcomes = [await refresh_customer(gateway, clock, customer)]
        outcomes += [await refresh_invoice(gateway, clock, invoice_id) for invoice_id in theirs]
    except StripeReadError as error:
        return Refetched(agreement=Agreement.UNAVAILABLE, reason=str(error))
    if (await Account.get(id=account_id)).stripe_deleted:
        return Refetched(
            agreement=Agreement.UNAVAILABLE, reason=f"the customer {customer} was deleted at Stripe"
        )
    if set(outcomes) != {Refreshed.UNCHANGED}:
        return Refetched(agreement=Agreement.CHANGED, reason="Stripe says something else than the mirror did")
    return Refetched(agreement=Agreement.EQUAL)


async def _apply_customer(found: Object, account: Account, read_at: datetime, now: datetime) -> bool:
    changed = await mirror.apply_customer(found, account, read_at=read_at, now=now)
    return await card_rows.apply_default(found, account, now=now) or changed


async def _refresh(thing: _Thing[T], clock: Clock, *, guess: str | None, within: Within | None) -> Refreshed:
    for _ in range(_TRIES):
        account = await Account.get_or_none(stripe_customer_id=guess) if guess else None
        read_at = clock.now()
        try:
            found = await thing.fetch()
        except GoneError:
            if account is None:
                return Refreshed.UNKNOWN
            outcome = await _write(account, clock, partial(thing.gone, account), within)
        else:
            customer = thing.customer(found)
            if account is None or account.stripe_customer_id != customer:
                if not await Account.exists(stripe_customer_id=customer):
                    return Refreshed.UNKNOWN
                guess = customer
                continue
            outcome = await _write(account, clock, partial(thing.apply, found, account, read_at), within)
        if outcome is not None:
            return Refreshed.CHANGED if outcome else Refreshed.UNCHANGED
    raise RetryLaterError("the account kept changing while Stripe was read")


async def _write(
    account: Account, clock: Clock, write: Callable[[datetime], Awaitable[bool]], within: Within | None
) -> bool | None:
    """Write in one transaction; null if the account changed since it was loaded, and then nothing was written."""
    now = clock.now()
    async with in_transaction():
        if not await mirror.lock(account):
            return None
        changed = await write(now)
        if changed:
            await mirror.raise_version(account, now=now)
        if within is not None:
            await within()
        return changed
