"""The rows of charges: the intent, committed before Stripe is asked, and each later state with its effect.

The only writer of `charge`, for `billing.charges`. Asks nobody anything. Money is credited here alone, in the
transaction that says `SUCCEEDED`, which a charge becomes once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from billing import audit, invoice_parts
from billing.accounts import note_fact
from billing.cards import usable
from billing.invoice_parts import OutsidePayment, hold
from billing.models import Account, Invoice
from billing.money_models import Card, Charge, ChargeState, LedgerKind, PartSource, TransactionKind
from billing.refusal import RefusalCode, refusal
from billing.rules import cards as rules
from billing.rules.cards import NotAsked
from billing.rules.money import Money
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.rules.words import phrase
from billing.stripe.card_gateway import PaymentReading, PaymentState
from billing.stripe.reading import UnreadableError

UNFINISHED = (ChargeState.INTENDED, ChargeState.PROCESSING, ChargeState.REQUIRES_ACTION)

LEASE = timedelta(minutes=5)
"""How long whoever wrote an intent has it alone: longer than any request to Stripe is waited for."""

AT_THE_PORTAL = timedelta(hours=1)
"""How long a customer who was asked to confirm a payment is taken to be doing so."""

_STRIPE = "stripe"

_STATES = {
    PaymentState.SUCCEEDED: ChargeState.SUCCEEDED,
    PaymentState.PROCESSING: ChargeState.PROCESSING,
    PaymentState.REQUIRES_ACTION: ChargeState.REQUIRES_ACTION,
    PaymentState.DECLINED: ChargeState.FAILED,
    PaymentState.NOTHING: ChargeState.ABANDONED,
}


class NotAskedError(Exception):
    """A card is not asked; nothing was written."""

    def __init__(self, why: NotAsked) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, kw_only=True)
class InvoiceCharge:
    """One card that is to be asked for one invoice."""

    invoice_id: int
    card_id: int
    #: Minor units of the invoice's currency; at an invoice of Stripe, always all that remains.
    amount: int
    #: What makes it: a fact that could help, or an occasion of the schedule. Once per invoice and card.
    occasion: str
    #: Whether the customer is there and asks for it.
    on_session: bool = False
    actor: str


@dataclass(frozen=True, kw_only=True)
class TopUp:
    """What a customer wants to put on the balance."""

    account_id: int
    amount: Money
    #: Null: the first card in order.
    card_id: int | None = None
    #: The customer's: the same request twice is one.
    idempotency_key: str
    on_session: bool = True
    actor: str


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """A charge whose end is not known, for the guard: what it is for, who has to act, since when."""

    charge_id: int
    #: Null: a top-up.
    invoice_id: int | None
    state: ChargeState
    on_session: bool
    since: datetime


async def intend_for_invoice(wanted: InvoiceCharge, *, now: datetime) -> Charge:
    """Commit the intent; raises `NotAskedError`, and nothing is written then."""
    card = await Card.get_or_none(id=wanted.card_id).select_related("account")
    invoice = await Invoice.get_or_none(id=wanted.invoice_id)
    if card is None or invoice is None or invoice.account_id != card.account_id:
        raise NotAskedError(NotAsked.NOT_USABLE)
    columns = {
        "invoice_id": invoice.id,
        "amount": wanted.amount,
        "currency": invoice.currency,
        "on_session": wanted.on_session,
        "occasion": wanted.occasion,
        "idempotency_key": _invoice_key(invoice, card, wanted),
    }
    try:
        async with in_transaction():
            # One at a time: whoever charges the same invoice waits here, and sees below what became of it.
            await hold(card.account_id)
            charge = await _create(card, columns, actor=wanted.actor, now=now)
            await _allow(charge, wanted, now=now)
            return charge
    except IntegrityError:
        tried = Charge.filter(invoice_id=invoice.id, card_id=card.id, occasion=wanted.occasion)
        raise NotAskedError(NotAsked.TRIED if await tried.exists() else NotAsked.IN_FLIGHT) from None


async def intend_top_up(wanted: TopUp, card: Card, *, now: datetime) -> tuple[Charge, bool]:
    """Commit the intent, or find the one of the same request; return it and whether it is new.

    Refuses a key that was used for something else, and a card or a currency that is not the account's any more.
    """
    key = _top_up_key(card.account.external_id, wanted.idempotency_key)
    columns = {
        "amount": wanted.amount.minor,
        "currency": wanted.amount.currency,
        "on_session": wanted.on_session,
        "occasion": "top-up",
        "idempotency_key": key,
    }
    try:
        async with in_transaction():
            await hold(card.account_id)
            await _refuse_changed(card.id, wanted, now=now)
            return await _create(card, columns, actor=wanted.actor, now=now), True
    except IntegrityError:
        return same_top_up(await Charge.get(idempotency_key=key), wanted), False


def same_top_up(charge: Charge, wanted: TopUp) -> Charge:
    """Return the charge that was begun under the key of a top-up; refuses one that was for something else."""
    same = (charge.amount, charge.currency, charge.on_session) == (
        wanted.amount.minor,
        wanted.amount.currency,
        wanted.on_session,
    )
    if not same or wanted.card_id not in {None, charge.card_id}:
        raise refusal(
            RefusalCode.IDEMPOTENCY_MISMATCH,
            phrase("This key was used for another request; take a new one."),
            "idempotencyKey",
        )
    return charge


async def top_up_of(account_external_id: str, idempotency_key: str) -> Charge | None:
    """Return the top-up that was begun under a customer's key; null: none was."""
    return await Charge.get_or_none(idempotency_key=_top_up_key(account_external_id, idempotency_key))


async def unfinished(account_ids: Iterable[int]) -> dict[int, list[Unfinished]]:
    """Return the charges of these accounts whose end is not known; an account without any is left out."""
    ids, found = list(account_ids), dict[int, list[Unfinished]]()
    for start in range(0, len(ids), 5_000):
        rows = Charge.filter(account_id__in=ids[start : start + 5_000], state__in=UNFINISHED).order_by("id")
        for row in await rows:
            found.setdefault(row.account_id, []).append(
                Unfinished(
                    charge_id=row.id,
                    invoice_id=row.invoice_id,
                    state=row.state,
                    on_session=row.on_session,
                    since=row.created_at,
                )
            )
    return found


async def claim(charge: Charge, *, now: datetime) -> bool:
    """Take an unfinished charge whose turn it is, for the length of a lease; false: somebody else did."""
    mine = Charge.filter(id=charge.id, state__in=UNFINISHED, next_look_at__lte=now)
    return await mine.update(next_look_at=now + LEASE) == 1


async def look_now(charge_id: int, *, now: datetime) -> bool:
    """Let the sweep look at an unfinished charge at its next turn; return whether it still is one."""
    return bool(await Charge.filter(id=charge_id, state__in=UNFINISHED).update(next_look_at=now))


async def note_payment(charge: Charge, payment_intent_id: str) -> None:
    """Keep which payment at Stripe is this charge's, before anything is known of it."""
    await Charge.filter(id=charge.id, stripe_payment_intent_id__isnull=True).update(
        stripe_payment_intent_id=payment_intent_id
    )


async def apply(charge: Charge, payment: PaymentReading, *, now: datetime) -> Charge:
    """Bring a charge in step with its payment as just read, and credit what arrived; return it as it is now.

    Success counts in whatever state the charge is; anything else changes only one that is not finished. Raises
    `UnreadableError` for a payment that is not this charge's.
    """
    if payment.charge_key != charge.idempotency_key or payment.currency != charge.currency:
        raise UnreadableError(f"payment {payment.id} at Stripe is not that of charge {charge.id}")
    columns: dict[str, Any] = {"stripe_payment_intent_id": payment.id}
    if payment.state is PaymentState.DECLINED:
        columns |= _decline(payment.decline_code, payment.advice_code)
    received = payment.amount_received if payment.state is PaymentState.SUCCEEDED else None
    return await _move(charge, _STATES[payment.state], columns, received=received, now=now)


async def apply_at_invoice(
    charge: Charge, state: ChargeState, payment: PaymentReading | None, *, now: datetime
) -> Charge:
    """Note what became of an attempt at an invoice of Stripe; the money is the invoice's, which the mirror follows."""
    columns: dict[str, Any] = {"stripe_payment_intent_id": payment.id} if payment else {}
    if payment is not None and state is ChargeState.FAILED:
        columns |= _decline(payment.decline_code, payment.advice_code)
    return await _move(charge, state, columns, received=None, now=now)


async def refused(charge: Charge, code: str | None, *, now: datetime) -> Charge:
    """End a charge that Stripe did not even try."""
    return await _move(charge, ChargeState.FAILED, _decline(code, None), received=None, now=now)


async def abandon(charge: Charge, *, now: datetime) -> Charge:
    """Give up a charge of which Stripe knows nothing."""
    return await _move(charge, ChargeState.ABANDONED, {}, received=None, now=now)


async def _move(
    charge: Charge, state: ChargeState, columns: dict[str, Any], *, received: int | None, now: datetime
) -> Charge:
    succeeded = state is ChargeState.SUCCEEDED
    from_states = tuple(ChargeState) if succeeded else UNFINISHED
    movable = [one for one in from_states if one not in {ChargeState.SUCCEEDED, state}]
    unfinished = state in UNFINISHED
    # Looked at again ever more rarely, but for days.
    wait = min(max(LEASE, (now - charge.created_at) / 4), timedelta(hours=6))
    columns = {**columns, "next_look_at": now + wait if unfinished else None}
    try:
        async with in_transaction():
            await hold(charge.account_id)
            row = Charge.filter(id=charge.id, state__in=movable)
            if await row.update(state=state, updated_at=now, **columns):
                if received:
                    await _credit(charge, str(columns["stripe_payment_intent_id"]), received, now=now)
                await note_fact(charge.account_id, now=now)
                after = {"state": state, "decline_code": columns.get("decline_code")}
                await _record("charge.moved", charge, actor=_STRIPE, now=now, after=after)
    except IntegrityError:
        if succeeded:
            raise
        # Another attempt at the same invoice is in flight: this one is looked at again later.
    if unfinished:
        await Charge.filter(id=charge.id, state=state).update(next_look_at=columns["next_look_at"])
    return await Charge.get(id=charge.id)


async def _credit(charge: Charge, payment_id: str, received: int, *, now: datetime) -> None:
    """Book what arrived: to the invoice as far as it is owed still, the rest and every top-up to the balance."""
    account = await Account.get(id=charge.account_id)
    if account.currency != charge.currency:
        raise UnreadableError(
            f"payment {payment_id} is in {charge.currency}, its account in {account.currency}"
        )
    top_up = charge.invoice_id is None
    payment = OutsidePayment(
        account_id=charge.account_id,
        amount=received,
        invoice_id=charge.invoice_id,
        origin=LedgerKind.STRIPE,
        kind=TransactionKind.TOP_UP if top_up else TransactionKind.CARD_CHARGED,
        fact=("stripe_payment", payment_id),
        source=PartSource.CARD,
        card_id=charge.card_id,
        description="Top-up by card" if top_up else "Payment by card",
    )
    await invoice_parts.take(payment, actor=_STRIPE, now=now)
    if charge.invoice_id is not None:
        await invoice_parts.let_off(charge.invoice_id, actor=_STRIPE, now=now)


async def _create(card: Card, columns: dict[str, Any], *, actor: str, now: datetime) -> Charge:
    charge = await Charge.create(
        account_id=card.account_id,
        card_id=card.id,
        card_version=card.version,
        state=ChargeState.INTENDED,
        created_at=now,
        updated_at=now,
        next_look_at=now + LEASE,
        **columns,
    )
    await note_fact(card.account_id, now=now)
    shown = ("invoice_id", "card_id", "amount", "currency", "occasion", "on_session")
    after = {name: getattr(charge, name) for name in shown}
    await _record("charge.intended", charge, actor=actor, now=now, after=after)
    return charge


async def _refuse_changed(card_id: int, wanted: TopUp, *, now: datetime) -> None:
    """Refuse what was changed since the card was chosen; within the transaction that holds the account."""
    card = await Card.get(id=card_id).select_related("account")
    if not usable(card, card.account.time_zone, now=now):
        raise refusal(RefusalCode.NOT_FOUND, phrase("This card cannot be used."), "cardId")
    if card.account.currency != wanted.amount.currency:
        message = phrase("The account's currency is %(currency)s.", currency=card.account.currency)
        raise refusal(RefusalCode.CURRENCY_MISMATCH, message, "amount")


async def _allow(charge: Charge, wanted: InvoiceCharge, *, now: datetime) -> None:
    """Check, with the intent written, everything that may have changed until then."""
    invoice = await Invoice.get(id=wanted.invoice_id)
    card = await Card.get(id=wanted.card_id).select_related("account")
    if invoice.status is not InvoiceStatus.OPEN or not 0 < wanted.amount <= invoice.amount_due:
        raise NotAskedError(NotAsked.NOT_OPEN)
    if not usable(card, card.account.time_zone, now=now):
        raise NotAskedError(NotAsked.NOT_USABLE)
    at_stripe = invoice.origin is InvoiceOrigin.STRIPE
    if not at_stripe and rules.amount_problem(Money(wanted.amount, invoice.currency)) is not None:
        raise NotAskedError(NotAsked.AMOUNT)
    rows = await Charge.filter(invoice_id=invoice.id).exclude(id=charge.id)
    before = tuple(
        rules.Attempt(
            card_id=row.card_id,
            card_version=row.card_version,
            occasion=row.occasion,
            in_flight=_in_flight(row, now),
            awaits_customer=row.state is ChargeState.REQUIRES_ACTION,
            hard_decline=row.hard_decline,
            by_customer=row.on_session,
        )
        for row in rows
    )
    asking = rules.Asking(
        card_id=card.id,
        card_version=card.version,
        occasion=wanted.occasion,
        by_customer=wanted.on_session,
        stripe_collects=at_stripe and invoice.collection_method == "charge_automatically",
        next_attempt_at=invoice.next_attempt_at,
        before=before,
    )
    why = rules.why_not(asking)
    if why is not None:
        raise NotAskedError(why)


def _in_flight(charge: Charge, now: datetime) -> bool:
    """A payment on its way, or a customer at the portal; a bank's wish to see them later blocks no other card."""
    if charge.state is ChargeState.REQUIRES_ACTION:
        return charge.on_session and now < charge.created_at + AT_THE_PORTAL
    return charge.state in UNFINISHED


def _invoice_key(invoice: Invoice, card: Card, wanted: InvoiceCharge) -> str:
    """What Stripe tells two requests apart by. Of lasting facts alone, so that a database set back to yesterday's
    backup asks with the same keys and is answered with what happened.
    """
    named = invoice.stripe_invoice_id or invoice.number or f"{invoice.id}"
    digest = _digest(
        card.account.external_id, named, card.stripe_payment_method_id, f"{card.version}", f"{wanted.amount}",
        invoice.currency, wanted.occasion,
    )  # fmt: skip
    return f"invoice:{digest}"


def _top_up_key(account_external_id: str, idempotency_key: str) -> str:
    return f"top-up:{_digest(account_external_id, idempotency_key)}"


def _digest(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()


def _decline(code: str | None, advice: str | None) -> dict[str, Any]:
    return {"decline_code": (code or "declined")[:64], "hard_decline": rules.is_hard(code, advice)}


async def _record(kind: str, charge: Charge, *, actor: str, now: datetime, after: dict[str, Any]) -> None:
    reason = "a payment by card"
    await audit.record(
        kind,
        ("Charge", charge.id),
        at=now,
        actor=actor,
        reason=reason,
        account_id=charge.account_id,
        after=after,
    )
