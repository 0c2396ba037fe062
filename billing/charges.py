"""Charges: one card asked once for one amount, whatever crashes, and credited once Stripe says that it succeeded.

Owns the order of things: commit an intent, ask, read again what became of it, write that down; and the sweep that ends
what was left half way. An answer, an event and a customer's return are only reasons to read again.
"""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from billing import cards, charge_rows, work_queue
from billing.charge_rows import UNFINISHED, InvoiceCharge, NotAskedError, TopUp
from billing.clock import Clock
from billing.models import Account, Invoice
from billing.money_models import Card, Charge, ChargeState
from billing.refusal import RefusalCode, refusal
from billing.rules.cards import NotAsked, amount_problem
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.rules.words import phrase
from billing.stripe.card_gateway import CardGateway, ChargeRequest, PaymentReading, PaymentState
from billing.stripe.gateway import (
    DeclinedError,
    GoneError,
    NeedsHumanError,
    RejectedError,
    RetryLaterError,
    StripeReadError,
)
from billing.stripe.mirror import tell_staff_of_refusal
from billing.stripe.refresh import Refreshed, refresh_invoice

ASKED_AGAIN_WITHIN = timedelta(hours=1)
"""How old an intent may be that is carried out after a crash; well within the 24 h for which Stripe keeps our key."""

CONFIRMABLE = timedelta(hours=72)
"""How long a customer has to confirm a payment that their bank wants to hear of; then it is given up."""

_BEFORE = timedelta(hours=1)
"""How far Stripe's clock may be behind ours."""

_OUTAGE = 3

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of asking a card, as far as it is known."""

    #: Null: the card was not asked, and this is why.
    charge: Charge | None
    not_asked: NotAsked | None = None
    #: With `REQUIRES_ACTION`: what the customer's browser confirms the payment with. Hand it on, keep it nowhere.
    client_secret: str | None = field(default=None, repr=False)

    @property
    def state(self) -> ChargeState | None:
        """Where the charge is; `INTENDED` when Stripe has not said yet. Null: not asked."""
        return self.charge.state if self.charge else None


async def charge_for_invoice(gateway: CardGateway, clock: Clock, wanted: InvoiceCharge) -> Outcome:
    """Ask one card for one invoice, once per occasion; whatever is wrong with that is in the outcome.

    An invoice of ours is credited with what arrives, the balance with what is over; one of Stripe is paid there and
    mirrored. Never raises for Stripe's sake: what is not known yet stays `INTENDED` for the sweep.
    """
    try:
        charge = await charge_rows.intend_for_invoice(wanted, now=clock.now())
    except NotAskedError as error:
        return Outcome(charge=None, not_asked=error.why)
    return await _carry_out(gateway, clock, charge)


async def top_up(gateway: CardGateway, clock: Clock, wanted: TopUp) -> Outcome:
    """Put money on the balance by card; the same request again returns what became of the first.

    On-session, `REQUIRES_ACTION` comes with the client secret for the portal. Refuses an amount that Stripe does not
    take, another currency than the account's, a card that is not usable, and a key used for something else.
    """
    now = clock.now()
    account = await Account.get(id=wanted.account_id)
    if wanted.amount.currency != account.currency:
        raise refusal(
            RefusalCode.CURRENCY_MISMATCH,
            phrase("The account's currency is %(currency)s.", currency=account.currency),
            "amount",
        )
    problem = amount_problem(wanted.amount)
    if problem is not None:
        raise refusal(RefusalCode.INVALID, problem, "amount")
    known = await charge_rows.top_up_of(account.external_id, wanted.idempotency_key)
    if known is not None:
        # Whatever became of the card since: who asks again must hear what became of the money.
        charge, new = charge_rows.same_top_up(known, wanted), False
    else:
        card = await _card_for(wanted, now=now)
        charge, new = await charge_rows.intend_top_up(wanted, card, now=now)
    if new:
        return await _carry_out(gateway, clock, charge)
    if charge.state is ChargeState.INTENDED and await charge_rows.claim(charge, now=now):
        # The first request died half way, and its customer asks again.
        return await _tolerant(charge, clock, _resume(gateway, clock, charge, again=True))
    if charge.state is ChargeState.REQUIRES_ACTION:
        return await look(gateway, clock, charge)
    return Outcome(charge=charge)


async def look(gateway: CardGateway, clock: Clock, charge: Charge) -> Outcome:
    """Read now what became of a charge and bring it in step; without an answer, the charge as it is known."""
    return await _tolerant(charge, clock, _look(gateway, clock, charge))


async def give_up(gateway: CardGateway, clock: Clock, charge: Charge) -> Outcome:
    """Let nobody confirm any more a payment that waits for its customer; one that has ended meanwhile stays as it is.

    Without an answer it goes on waiting. The payment of an invoice of Stripe is left there for whoever pays next.
    """
    outcome = await look(gateway, clock, charge)
    payment_id = outcome.charge.stripe_payment_intent_id if outcome.charge else None
    if outcome.state is not ChargeState.REQUIRES_ACTION or payment_id is None:
        return outcome
    if await _stripe_invoice(charge) is not None:
        return Outcome(charge=await charge_rows.abandon(charge, now=clock.now()))
    return await _tolerant(charge, clock, _canceled(gateway, clock, charge, payment_id))


async def refresh_payment(
    gateway: CardGateway, clock: Clock, payment_intent_id: str, *, customer: str | None
) -> Refreshed:
    """Read a payment that an event spoke of and bring its charge in step; `UNKNOWN` if it is none of ours.

    Asks nothing while no charge could be meant. Raises `StripeReadError`.
    """
    mine = Charge.filter(stripe_payment_intent_id=payment_intent_id)
    # An answer that never reached us left no id; only the customer tells whose it may be.
    nameless = Charge.filter(stripe_payment_intent_id__isnull=True, account__stripe_customer_id=customer)
    if not await mine.exists() and not (customer and await nameless.exists()):
        return Refreshed.UNKNOWN
    payment = await gateway.fetch_payment(payment_intent_id)
    if payment.charge_key is None:
        # Stripe's own, for an invoice: each attempt of ours at it is looked at.
        rows = await mine.filter(state__in=UNFINISHED)
        outcomes = [await _look(gateway, clock, row) for row in rows]
        moved = any(outcome.state is not row.state for outcome, row in zip(outcomes, rows, strict=True))
        return Refreshed.CHANGED if moved else Refreshed.UNCHANGED if rows else Refreshed.UNKNOWN
    charge = await Charge.get_or_none(idempotency_key=payment.charge_key)
    if charge is None:
        return Refreshed.UNKNOWN
    after = await charge_rows.apply(charge, payment, now=clock.now())
    return Refreshed.CHANGED if after.state is not charge.state else Refreshed.UNCHANGED


async def finish_charges(gateway: CardGateway, clock: Clock, *, limit: int = 200) -> int:
    """End what is unfinished and due for a look, longest waiting first; return how many were looked at.

    What Stripe knows is read again; what it does not know is asked now, or given up where that is too late or wanted no
    more; what waits for a customer in vain is canceled. Never raises for Stripe's sake.
    """
    due = (
        await Charge.filter(state__in=UNFINISHED, next_look_at__lte=clock.now())
        .order_by("next_look_at", "id")
        .limit(limit)
    )
    looked, unanswered = 0, 0
    for charge in due:
        if not await charge_rows.claim(charge, now=clock.now()):
            continue
        looked += 1
        try:
            await _resume(gateway, clock, charge, again=charge.invoice_id is not None)
            unanswered = 0
        except StripeReadError as error:
            await _tell_staff(charge, error, now=clock.now())
            unanswered += isinstance(error, (RetryLaterError, NeedsHumanError))
            if unanswered == _OUTAGE:
                break
    return looked


# -- one charge ----------------------------------------------------------------------------------------------------


async def _carry_out(gateway: CardGateway, clock: Clock, charge: Charge) -> Outcome:
    """Ask Stripe, with the intent committed; then read what became of it."""
    card = await Card.get(id=charge.card_id).select_related("account")
    invoice = await _stripe_invoice(charge)
    method, key = card.stripe_payment_method_id, charge.idempotency_key
    try:
        if invoice is not None:
            await gateway.pay_invoice(invoice, method, key=key, on_session=charge.on_session)
        else:
            what = "Top-up" if charge.invoice_id is None else f"Invoice {await _number(charge.invoice_id)}"
            request = ChargeRequest(
                key=key,
                customer_id=str(card.account.stripe_customer_id),
                payment_method_id=method,
                amount=charge.amount,
                currency=charge.currency,
                on_session=charge.on_session,
                description=what,
            )
            await charge_rows.note_payment(charge, await gateway.charge(request))
    except DeclinedError as error:
        if invoice is None and error.payment_intent is not None:
            await charge_rows.note_payment(charge, error.payment_intent)
    except (RejectedError, GoneError) as error:
        code = error.code if isinstance(error, RejectedError) else "resource_missing"
        return await _tolerant(charge, clock, _rejected(gateway, clock, charge, code))
    except StripeReadError as error:
        await _tell_staff(charge, error, now=clock.now())
        return Outcome(charge=await Charge.get(id=charge.id))
    return await look(gateway, clock, await Charge.get(id=charge.id))


async def _rejected(gateway: CardGateway, clock: Clock, charge: Charge, code: str | None) -> Outcome:
    """Stripe did not accept the request: it made nothing, unless an earlier one under the same key did."""
    if await _stripe_invoice(charge) is None:
        payment = await _payment_of(gateway, charge)
        if payment is not None:
            return await _applied(charge, payment, clock)
    return Outcome(charge=await charge_rows.refused(charge, code, now=clock.now()))


async def _look(gateway: CardGateway, clock: Clock, charge: Charge) -> Outcome:
    """Read what became of a charge. Raises `StripeReadError`."""
    if await _stripe_invoice(charge) is not None:
        return await _look_at_invoice(gateway, clock, charge)
    payment = await _payment_of(gateway, charge)
    return Outcome(charge=charge) if payment is None else await _applied(charge, payment, clock)


async def _tolerant(charge: Charge, clock: Clock, looking: Awaitable[Outcome]) -> Outcome:
    """What was found out; without an answer the charge as it is, for the sweep."""
    try:
        return await looking
    except StripeReadError as error:
        await _tell_staff(charge, error, now=clock.now())
    return Outcome(charge=await Charge.get(id=charge.id))


async def _tell_staff(charge: Charge, error: StripeReadError, *, now: datetime) -> None:
    """Tell of what does not pass by itself: a key that is refused, a payment that makes no sense."""
    _log.warning("charge_without_answer", charge=charge.id, error=str(error))
    if isinstance(error, NeedsHumanError):
        await tell_staff_of_refusal(error, now=now)
    elif not isinstance(error, RetryLaterError):
        await work_queue.open_item(
            "stripe.charge_unclear",
            f"stripe.charge_unclear:{charge.id}",
            at=now,
            title="Nobody can tell what became of a payment by card",
            detail=f"{error}; look it up at Stripe under {charge.idempotency_key}.",
            account_id=charge.account_id,
        )


async def _resume(gateway: CardGateway, clock: Clock, charge: Charge, *, again: bool) -> Outcome:
    """End a claimed charge that was left half way; `again` if it may still be asked. Raises when Stripe is silent."""
    if await _stripe_invoice(charge) is not None:
        outcome = await _look_at_invoice(gateway, clock, charge)
        if outcome.state is not ChargeState.INTENDED:
            return outcome
    else:
        payment = await _payment_of(gateway, charge)
        if payment is not None:
            return await _ended(gateway, clock, charge, payment)
    young = clock.now() < charge.created_at + ASKED_AGAIN_WITHIN
    if again and young and await _wanted(charge, now=clock.now()):
        return await _carry_out(gateway, clock, charge)
    return Outcome(charge=await charge_rows.abandon(charge, now=clock.now()))


async def _canceled(gateway: CardGateway, clock: Clock, charge: Charge, payment_id: str) -> Outcome:
    await gateway.cancel(payment_id)
    return await _applied(charge, await gateway.fetch_payment(payment_id), clock)


async def _ended(gateway: CardGateway, clock: Clock, charge: Charge, payment: PaymentReading) -> Outcome:
    """Apply a payment; cancel it first if it waits for something that nobody wants any more."""
    waits = payment.state is PaymentState.REQUIRES_ACTION and not await _wanted(charge, now=clock.now())
    if waits or payment.state is PaymentState.NOTHING:
        return await _canceled(gateway, clock, charge, payment.id)
    return await _applied(charge, payment, clock)


async def _applied(charge: Charge, payment: PaymentReading, clock: Clock) -> Outcome:
    after = await charge_rows.apply(charge, payment, now=clock.now())
    waits = after.state is ChargeState.REQUIRES_ACTION
    return Outcome(charge=after, client_secret=payment.client_secret if waits else None)


async def _look_at_invoice(gateway: CardGateway, clock: Clock, charge: Charge) -> Outcome:
    """Read what became of an attempt at an invoice of Stripe: of all attempts at it, the last one shows."""
    invoice_id = str(await _stripe_invoice(charge))
    card = await Card.get(id=charge.card_id)
    found = await gateway.fetch_invoice(invoice_id)
    payment = found.payment
    ours = payment is not None and payment.payment_method_id == card.stripe_payment_method_id
    state = charge.state
    if found.status == "paid" and ours:
        state = ChargeState.SUCCEEDED
    elif found.status != "open" or clock.now() >= charge.created_at + CONFIRMABLE:
        state = ChargeState.ABANDONED
    elif ours and payment is not None:
        state = {
            PaymentState.PROCESSING: ChargeState.PROCESSING,
            PaymentState.REQUIRES_ACTION: ChargeState.REQUIRES_ACTION,
            PaymentState.DECLINED: ChargeState.FAILED,
        }.get(payment.state, state)
    elif state is not ChargeState.INTENDED:
        # Somebody tried another card since.
        state = ChargeState.ABANDONED
    after = await charge_rows.apply_at_invoice(charge, state, payment, now=clock.now())
    if found.status != "open":
        await refresh_invoice(gateway.gateway, clock, invoice_id)
    waits = after.state is ChargeState.REQUIRES_ACTION and payment is not None
    return Outcome(charge=after, client_secret=payment.client_secret if waits and payment else None)


async def _payment_of(gateway: CardGateway, charge: Charge) -> PaymentReading | None:
    if charge.stripe_payment_intent_id is not None:
        return await gateway.fetch_payment(charge.stripe_payment_intent_id)
    account = await Account.get(id=charge.account_id)
    if account.stripe_customer_id is None:
        return None
    return await gateway.find_payment(
        account.stripe_customer_id, charge.idempotency_key, since=charge.created_at - _BEFORE
    )


async def _wanted(charge: Charge, *, now: datetime) -> bool:
    """Whether the charge would still be made, or waited for, today."""
    card = await Card.get(id=charge.card_id)
    if card.removed_at is not None or now >= charge.created_at + CONFIRMABLE:
        return False
    if charge.invoice_id is None:
        return True
    invoice = await Invoice.get(id=charge.invoice_id)
    return invoice.status is InvoiceStatus.OPEN and invoice.amount_due >= charge.amount


async def _stripe_invoice(charge: Charge) -> str | None:
    if charge.invoice_id is None:
        return None
    invoice = await Invoice.get(id=charge.invoice_id)
    return invoice.stripe_invoice_id if invoice.origin is InvoiceOrigin.STRIPE else None


async def _number(invoice_id: int) -> str:
    return (await Invoice.get(id=invoice_id)).number or str(invoice_id)


async def _card_for(wanted: TopUp, *, now: datetime) -> Card:
    usable = await cards.in_order(wanted.account_id, now=now)
    found = next((card for card in usable if wanted.card_id in {None, card.id}), None)
    if found is None:
        message = (
            phrase("There is no usable card; add one first.")
            if wanted.card_id is None
            else phrase("This card cannot be used.")
        )
        raise refusal(RefusalCode.NOT_FOUND, message, "cardId")
    return await Card.get(id=found.id).select_related("account")
