"""How invoices of ours are paid, part by part: each part once, never more than is due.

The only writer of `invoice_part`, and of what is paid of an invoice of origin `USAGE` or `ADJUSTMENT`. `take` opens its
own transaction, the others run in one of their caller that holds the account, who decides which money pays.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tortoise.expressions import F
from tortoise.transactions import in_transaction

from billing import audit, ledger
from billing.ledger import Fact, Move
from billing.models import Account, Invoice
from billing.money_models import InvoicePart, LedgerKind, LedgerTransaction, PartSource, TransactionKind
from billing.rules.cards import in_steps
from billing.rules.terms import InvoiceOrigin, InvoiceStatus

#: Why the last digits are let off of what a card has paid.
TOO_LITTLE = "no card can be charged with so little"


class ChangedMeanwhileError(Exception):
    """The invoice is not any more as it was read; the caller's transaction has to be rolled back and tried anew."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of an invoice. `source_id` names the fact that paid: the same pays one invoice once."""

    source: PartSource
    source_id: str
    amount: int
    transaction_id: int | None = None
    card_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class OutsidePayment:
    """Money that reached us from outside: pays what is due of the named invoice of ours, the rest becomes balance."""

    account_id: int
    amount: int
    #: Null, or an invoice that takes nothing (any more): all of it becomes balance.
    invoice_id: int | None
    #: Where it came from: `STRIPE` or `BANK`.
    origin: LedgerKind
    kind: TransactionKind
    fact: Fact
    #: What the invoice shows as the source of its part.
    source: PartSource
    card_id: int | None = None
    description: str


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of money from outside, in minor units."""

    transaction: LedgerTransaction
    paid: int
    to_balance: int


async def hold(account_id: int) -> None:
    """Make everybody else who changes this account's money wait; the first statement of its transactions."""
    await Account.filter(id=account_id).update(facts_version=F("facts_version"))


async def take(payment: OutsidePayment, *, actor: str, now: datetime) -> Taken | None:
    """Book money from outside; null when this fact was booked before, whatever became of the invoice since.

    Opens its own transaction, or joins the caller's.
    """
    async with in_transaction():
        await hold(payment.account_id)
        source, source_id = payment.fact
        if await LedgerTransaction.exists(source=source, source_id=source_id):
            return None
        invoice = await _payable(payment)
        paid = min(payment.amount, invoice.amount_due) if invoice else 0
        rest = payment.amount - paid
        moves = [
            Move(debit=payment.origin, credit=credit, amount=amount)
            for credit, amount in ((LedgerKind.INVOICES_PAID, paid), (LedgerKind.BALANCE, rest))
            if amount
        ]
        booked = await ledger.book(
            payment.kind,
            payment.account_id,
            moves,
            fact=payment.fact,
            at=now,
            actor=actor,
            description=payment.description,
            invoice_id=invoice.id if invoice else None,
        )
        if booked is None:
            return None
        if invoice is not None:
            part = Part(
                source=payment.source,
                source_id=f"{source}:{source_id}",
                amount=paid,
                transaction_id=booked.id,
                card_id=payment.card_id,
            )
            await pay(invoice, part, actor=actor, now=now)
        return Taken(transaction=booked, paid=paid, to_balance=rest)


async def pay(invoice: Invoice, part: Part, *, actor: str, now: datetime) -> None:
    """Let a part pay an open invoice of ours, as it was read by the caller; the last one closes it.

    Raises `ChangedMeanwhileError` when it is not open any more or something else is due of it.
    """
    left = invoice.amount_due - part.amount
    if left < 0:
        raise ValueError(f"{part.amount} are more than the {invoice.amount_due} due of invoice {invoice.id}")
    paid = invoice.amount_paid + (0 if part.source is PartSource.WRITE_OFF else part.amount)
    closed = left == 0
    columns: dict[str, Any] = {"amount_paid": paid, "amount_due": left}
    if closed:
        columns |= {"status": InvoiceStatus.PAID, "paid_at": now, "overdue_seen_at": None}
    as_read = Invoice.filter(
        id=invoice.id,
        status=InvoiceStatus.OPEN,
        origin__not=InvoiceOrigin.STRIPE,
        amount_due=invoice.amount_due,
        amount_paid=invoice.amount_paid,
    )
    if not await as_read.update(**columns):
        raise ChangedMeanwhileError(f"invoice {invoice.id} was changed meanwhile")
    await note(invoice, part, now=now)
    await audit.record(
        "invoice.settled" if closed else "invoice.paid_in_part",
        ("Invoice", invoice.id),
        at=now,
        actor=actor,
        reason=f"{part.source.value.lower()} {part.source_id}",
        account_id=invoice.account_id,
        before={"amount_paid": invoice.amount_paid, "amount_due": invoice.amount_due},
        after=columns,
    )


async def write_off(invoice: Invoice, *, reason: str, actor: str, now: datetime) -> None:
    """Close an open invoice of ours, as it was read by the caller, without what is left of it: the house bears that.

    Raises `ChangedMeanwhileError` when it is not as it was read.
    """
    booked = await ledger.book(
        TransactionKind.WRITTEN_OFF,
        invoice.account_id,
        [Move(debit=LedgerKind.WRITTEN_OFF, credit=LedgerKind.INVOICES_PAID, amount=invoice.amount_due)],
        fact=("write_off", str(invoice.id)),
        at=now,
        actor=actor,
        description=reason,
        invoice_id=invoice.id,
    )
    if booked is None:
        raise ChangedMeanwhileError(f"invoice {invoice.id} was written off meanwhile")
    part = Part(
        source=PartSource.WRITE_OFF,
        source_id=str(invoice.id),
        amount=invoice.amount_due,
        transaction_id=booked.id,
    )
    await pay(invoice, part, actor=actor, now=now)


async def let_off(invoice_id: int, *, actor: str, now: datetime) -> None:
    """Close an invoice of ours of which a card has paid all but what is below the steps in which cards are charged."""
    invoice = await Invoice.get(id=invoice_id)
    due: int = invoice.amount_due
    if invoice.status is InvoiceStatus.OPEN and due and not in_steps(due, invoice.currency):
        await write_off(invoice, reason=TOO_LITTLE, actor=actor, now=now)


async def note(invoice: Invoice, part: Part, *, now: datetime) -> None:
    """Keep which money of ours paid a part of an invoice of Stripe; what is left of it tells the mirror."""
    await InvoicePart.create(
        invoice_id=invoice.id,
        source=part.source,
        source_id=part.source_id,
        amount=part.amount,
        at=now,
        transaction_id=part.transaction_id,
        card_id=part.card_id,
    )


async def _payable(payment: OutsidePayment) -> Invoice | None:
    if payment.invoice_id is None:
        return None
    return await Invoice.get_or_none(
        id=payment.invoice_id,
        account_id=payment.account_id,
        status=InvoiceStatus.OPEN,
        amount_due__gt=0,
        origin__not=InvoiceOrigin.STRIPE,
    )
