"""Paying one invoice because its customer asks: the purses that they name first, then one card for the rest.

Owns that order and what is told of it. Each step is one that settling takes as well, and the card is asked under a name
that follows from the customer's key: the same wish again, whatever crashed, asks nothing twice.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

from billing import card_attempts, cards, charges, ledger, reservations
from billing.attempt_models import AttemptKind, CardAttempt
from billing.charge_rows import UNFINISHED, InvoiceCharge
from billing.charges import Outcome
from billing.models import Invoice
from billing.money_models import Card, Charge, ChargeState
from billing.refusal import Problem, RefusalCode, RefusalError, refusal
from billing.rules.cards import NotAsked, amount_problem, in_steps
from billing.rules.money import Money
from billing.rules.settlement import Purse
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.rules.words import phrase
from billing.settling import Means, pay_from_purses
from billing.stripe.card_gateway import CardGateway


class PaymentState(StrEnum):
    """Where a payment is, as its customer is told."""

    SUCCEEDED = "SUCCEEDED"
    PROCESSING = "PROCESSING"
    REQUIRES_ACTION = "REQUIRES_ACTION"
    FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One invoice that is to be paid now, and from what."""

    invoice_id: int
    purses: frozenset[Purse]
    #: Whether a card pays what the purses do not.
    by_card: bool
    #: Null: the first card in order.
    card_id: int | None = None
    #: The customer's: the same wish twice is one.
    key: str
    actor: str
    #: Whether the same wish may have been carried out before, and nobody knows how far.
    again: bool = False

    @property
    def occasion(self) -> str:
        """The name under which a card is asked for it."""
        return f"customer:{sha256(self.key.encode()).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a payment, as far as it is known."""

    state: PaymentState
    #: Why it failed; what the purses paid before it stays paid.
    problem: Problem | None = None
    charge_id: int | None = None
    #: With `REQUIRES_ACTION`: what the customer's browser confirms it with. Hand it on, keep it nowhere.
    client_secret: str | None = field(default=None, repr=False)


_STATES = {
    ChargeState.INTENDED: PaymentState.PROCESSING,
    ChargeState.PROCESSING: PaymentState.PROCESSING,
    ChargeState.REQUIRES_ACTION: PaymentState.REQUIRES_ACTION,
    ChargeState.SUCCEEDED: PaymentState.SUCCEEDED,
    ChargeState.FAILED: PaymentState.FAILED,
    ChargeState.ABANDONED: PaymentState.FAILED,
}

#: What a bank's code may be told as. Of a card that is lost, stolen or suspected nobody is told more than that it was
#: refused (docs.stripe.com/declines/codes).
_REASONS = {
    "insufficient_funds": phrase(
        "The card's account has not enough money. Take another card, or ask your bank."
    ),
    "expired_card": phrase("The card has expired. Take another card, or ask your bank."),
    "card_velocity_exceeded": phrase("The card's limit is reached. Take another card, or ask your bank."),
    "withdrawal_count_limit_exceeded": phrase(
        "The card's limit is reached. Take another card, or ask your bank."
    ),
}


_REFUSED = phrase("The bank refused the card. Take another card, or ask your bank.")


def told(charge: Charge, client_secret: str | None = None) -> Answer:
    """Return what a customer is told of a charge."""
    problem = None
    if charge.state is ChargeState.FAILED:
        message = _REASONS.get(charge.decline_code or "", _REFUSED)
        problem = Problem(code=RefusalCode.CARD_DECLINED, message=message, path=("cardId",))
    elif charge.state is ChargeState.ABANDONED:
        message = phrase("This payment was given up; begin another one.")
        problem = Problem(code=RefusalCode.CONFLICT, message=message, path=("idempotencyKey",))
    return Answer(
        state=_STATES[charge.state], problem=problem, charge_id=charge.id, client_secret=client_secret
    )


async def present(gateway: CardGateway, means: Means, charge: Charge) -> Answer:
    """Return what a customer is told of a charge that was made before; one that may have moved is looked at first."""
    if charge.state in {ChargeState.REQUIRES_ACTION, ChargeState.PROCESSING}:
        return _of(await charges.look(gateway, means.clock, charge), charge)
    return told(charge)


async def pay(gateway: CardGateway | None, means: Means, wish: Wish) -> Answer:
    """Pay an invoice from the purses of the wish, in their order, and by card what they do not cover.

    Refuses, and nothing is paid then, an invoice that takes no money now, a card that is not usable, and means that
    do not suffice. What the purses paid before a card was refused stays paid. Not to be called within a transaction.
    """
    asked = await Charge.get_or_none(invoice_id=wish.invoice_id, occasion=wish.occasion)
    if asked is not None and gateway is not None:
        return await present(gateway, means, asked)
    if wish.again and await Invoice.filter(id=wish.invoice_id, status=InvoiceStatus.PAID).exists():
        return Answer(state=PaymentState.SUCCEEDED)
    invoice = await _payable(wish.invoice_id, means)
    card = await _card(wish, invoice, means) if wish.by_card and gateway else None
    lacking = await _lacking(wish, invoice)
    if lacking is None:
        answer = await _from_purses(wish, means)
        if answer.state is not PaymentState.FAILED or card is None or gateway is None:
            return answer
    elif card is None or gateway is None:
        raise RefusalError(_short(lacking))
    else:
        _refuse_amount(lacking, invoice)
    counted = card_attempts.counted(
        invoice.account_id, AttemptKind.CHARGE, clock=means.clock, actor=wish.actor
    )
    async with counted as attempt:
        answer = await _from_purses(wish, means)
        if answer.state is PaymentState.FAILED:
            answer = await _by_card(gateway, means, wish, card)
        await note_try(attempt, answer)
    return answer


async def note_try(attempt: CardAttempt, answer: Answer) -> None:
    """Let a try count as what it became: one that brought money, or is on its way to, does not."""
    if answer.state in {PaymentState.SUCCEEDED, PaymentState.PROCESSING}:
        await card_attempts.forget(attempt)
    else:
        await card_attempts.note_charge(attempt, answer.charge_id)


async def _payable(invoice_id: int, means: Means) -> Invoice:
    invoice = await Invoice.get(id=invoice_id).select_related("account")
    if invoice.status is not InvoiceStatus.OPEN or invoice.amount_due <= 0:
        message = phrase("This invoice is not open; there is nothing to pay.")
        raise refusal(RefusalCode.INVOICE_NOT_OPEN, message, "invoiceId")
    if invoice.currency != invoice.account.currency:
        message = phrase(
            "This invoice is in %(its)s, the account in %(yours)s; write to us.",
            its=invoice.currency,
            yours=invoice.account.currency,
        )
        raise refusal(RefusalCode.CURRENCY_MISMATCH, message, "invoiceId")
    if invoice.origin is InvoiceOrigin.STRIPE and means.stripe is None:
        message = phrase("This invoice can only be paid at the payment provider, which is switched off here.")
        raise refusal(RefusalCode.PROVIDER_UNAVAILABLE, message, "invoiceId")
    return invoice


async def _card(wish: Wish, invoice: Invoice, means: Means) -> Card | None:
    usable = await cards.in_order(invoice.account_id, now=means.clock.now())
    if wish.card_id is None:
        if not usable and not wish.purses:
            raise refusal(RefusalCode.NOT_FOUND, phrase("There is no usable card; add one first."), "cardId")
        return usable[0] if usable else None
    named = next((card for card in usable if card.id == wish.card_id), None)
    if named is None:
        raise refusal(RefusalCode.NOT_FOUND, phrase("This card cannot be used."), "cardId")
    return named


async def _lacking(wish: Wish, invoice: Invoice) -> Money | None:
    """Return what the purses of the wish lack to pay an invoice, with what waits for it already; null: nothing."""
    held = (await ledger.purses([invoice.account_id]))[invoice.account_id]
    waiting = sum(
        row.amount for row in await reservations.open_of(invoice.account_id) if row.invoice_id == invoice.id
    )
    there = {Purse.VOUCHER: held.voucher, Purse.BALANCE: held.balance}
    lacking = invoice.amount_due - waiting - sum(there[purse] for purse in wish.purses)
    return Money(lacking, invoice.currency) if lacking > 0 else None


def _short(lacking: Money) -> Problem:
    message = phrase(
        "%(amount)s are missing. Top up the balance, redeem a voucher, or pay by card.", amount=lacking
    )
    return Problem(code=RefusalCode.INSUFFICIENT_FUNDS, message=message, path=("sources",))


def _refuse_amount(lacking: Money, invoice: Invoice) -> None:
    """Refuse a rest that no card is charged with, before the purses pay theirs; Stripe knows its own invoices."""
    # What is below the steps in which cards are charged is let off, unless it is all that is left.
    asked = Money(in_steps(lacking.minor, lacking.currency) or lacking.minor, lacking.currency)
    problem = amount_problem(asked) if invoice.origin is not InvoiceOrigin.STRIPE else None
    if problem is not None:
        message = phrase(
            "%(amount)s would be left for the card. %(why)s Pay all by card, or top up the balance.",
            amount=lacking,
            why=problem,
        )
        raise refusal(RefusalCode.INVALID, message, "sources")


async def _from_purses(wish: Wish, means: Means) -> Answer:
    """Spend the purses of the wish; `FAILED` when something is left that nothing is on its way for."""
    if wish.purses:
        await pay_from_purses(wish.invoice_id, wish.purses, actor=wish.actor, means=means)
    invoice = await Invoice.get(id=wish.invoice_id)
    if invoice.status is InvoiceStatus.PAID:
        return Answer(state=PaymentState.SUCCEEDED)
    rows = await reservations.open_of(invoice.account_id)
    if any(row.invoice_id == invoice.id and not row.set_aside for row in rows):
        return Answer(state=PaymentState.PROCESSING)
    return Answer(state=PaymentState.FAILED, problem=_short(Money(invoice.amount_due, invoice.currency)))


async def _by_card(gateway: CardGateway, means: Means, wish: Wish, card: Card) -> Answer:
    """Ask the card for what is left; a payment that still waits for the customer on another card gives way."""
    outcome = await _ask(gateway, means, wish, card)
    if outcome.not_asked in {NotAsked.IN_FLIGHT, NotAsked.AWAITS_CUSTOMER}:
        unfinished = Charge.filter(invoice_id=wish.invoice_id, state__in=UNFINISHED).order_by("-id")
        other = await unfinished.first()
        if other is not None and other.state is not ChargeState.REQUIRES_ACTION:
            return Answer(state=PaymentState.PROCESSING, charge_id=other.id)
        if other is not None and other.card_id == card.id:
            return await present(gateway, means, other)
        if other is not None:
            await charges.give_up(gateway, means.clock, other)
        outcome = await _ask(gateway, means, wish, card)
    if outcome.charge is not None:
        return _of(outcome, outcome.charge)
    return await _not_asked(outcome.not_asked, wish)


async def _ask(gateway: CardGateway, means: Means, wish: Wish, card: Card) -> Outcome:
    invoice = await Invoice.get(id=wish.invoice_id)
    wanted = InvoiceCharge(
        invoice_id=invoice.id,
        card_id=card.id,
        amount=_asked_for(invoice),
        occasion=wish.occasion,
        on_session=True,
        actor=wish.actor,
    )
    return await charges.charge_for_invoice(gateway, means.clock, wanted)


def _asked_for(invoice: Invoice) -> int:
    due: int = invoice.amount_due
    return due if invoice.origin is InvoiceOrigin.STRIPE else in_steps(due, invoice.currency)


async def _not_asked(why: NotAsked | None, wish: Wish) -> Answer:
    """Return what is told when the card could not be asked, which has changed since it was looked at, or is known."""
    invoice = await Invoice.get(id=wish.invoice_id)
    if invoice.status is InvoiceStatus.PAID:
        return Answer(state=PaymentState.SUCCEEDED)
    if why is NotAsked.HARD_DECLINED:
        message = phrase("The bank refused this card for this invoice for good. Take another card.")
        problem = Problem(code=RefusalCode.CARD_DECLINED, message=message, path=("cardId",))
    elif why is NotAsked.AMOUNT:
        problem = _short(Money(invoice.amount_due, invoice.currency))
    else:
        message = phrase("The invoice or the card was changed meanwhile. Look at it again, then pay.")
        problem = Problem(code=RefusalCode.CONFLICT, message=message, path=("idempotencyKey",))
    return Answer(state=PaymentState.FAILED, problem=problem)


def _of(outcome: Outcome, charge: Charge) -> Answer:
    return told(outcome.charge or charge, outcome.client_secret)
