"""Money that was taken back from us, and the invoices over it: the customer owes it anew, with a fresh grace.

The only writer of invoices of origin `ADJUSTMENT` until they are settled. Whoever learns of the loss (the mirror, or a
person who takes a ledger entry back) calls it in the transaction of that fact; the fact's name makes it happen once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog
from tortoise.transactions import in_transaction

from billing import audit, invoice_parts, ledger, notices, numbers
from billing.accounts import note_fact
from billing.clock import Clock
from billing.ledger import Fact, Move
from billing.models import Account, Invoice
from billing.money_models import (
    InvoiceLine,
    InvoicePart,
    LedgerKind,
    LedgerTransaction,
    LedgerTransfer,
    PartSource,
    TransactionKind,
)
from billing.notice_recheck import ADJUSTMENT_ISSUED
from billing.notice_request import NoticeRequest
from billing.rules import due
from billing.rules.money import Money
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceOrigin, InvoiceStatus

ACTOR = "system:adjustments"

log = structlog.get_logger(__name__)


class LossKind(StrEnum):
    """Why money went back; kept as the SKU of the one line of its invoice."""

    DISPUTE = "dispute"
    REFUND = "refund"
    REVERSAL = "reversal"


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Money that went back to where it came from, in minor units of the account's currency."""

    kind: LossKind
    account_id: int
    amount: int
    #: Names the loss for ever, such as `("stripe_dispute", "dp_1")`.
    fact: Fact
    #: What it had paid; null: the balance.
    invoice_id: int | None = None
    description: str


async def lose(loss: Loss, *, from_balance: int = 0, actor: str, now: datetime) -> bool:
    """Book that money went back through Stripe, once; false when this loss was booked before.

    `from_balance` of it leaves the balance; the rest becomes a draft, which `issue_drafts` opens or drops. Runs in a
    transaction of the caller that holds the account.
    """
    rest = loss.amount - from_balance
    moves = [
        Move(debit=debit, credit=LedgerKind.STRIPE, amount=amount)
        for debit, amount in ((LedgerKind.BALANCE, from_balance), (LedgerKind.INVOICES_PAID, rest))
        if amount
    ]
    booked = await ledger.book(
        TransactionKind.REFUNDED,
        loss.account_id,
        moves,
        fact=loss.fact,
        at=now,
        actor=actor,
        description=loss.description,
        invoice_id=loss.invoice_id,
    )
    if booked is not None and rest:
        await draft(loss, rest, actor=actor, now=now)
    return booked is not None


async def known(loss: Loss) -> bool:
    """Whether this loss was booked before, whatever became of it since."""
    source, source_id = loss.fact
    return await LedgerTransaction.exists(source=source, source_id=source_id)


async def losses_of(payment_id: str) -> list[int]:
    """Return the ledger transactions with which Stripe took back of a payment of ours, and did not bring it back."""
    rows = LedgerTransaction.filter(
        source__in=("stripe_dispute", "stripe_refund"), source_id__startswith=f"{payment_id}/"
    )
    taken = [int(ident) for (ident,) in await rows.values_list("id")]
    back = await LedgerTransaction.filter(reverses_id__in=taken).values_list("reverses_id")
    return sorted({*taken} - {int(ident) for (ident,) in back})


async def regain(fact: Fact, *, actor: str, now: datetime) -> bool:
    """Book back a loss that was none in the end, such as a refund that the bank sent back, once.

    What had left the balance is there again, and so is what was paid for the loss meanwhile; the rest of its invoice is
    void. Returns false when no such loss was booked, or it is booked back already. Runs in a transaction of the caller
    that holds the account.
    """
    source, source_id = fact
    loss = await LedgerTransaction.get_or_none(source=source, source_id=source_id)
    if loss is None or await LedgerTransaction.exists(reverses_id=loss.id):
        return False
    transfers = await LedgerTransfer.filter(transaction_id=loss.id).select_related("debit")
    from_balance = sum(one.amount for one in transfers if one.debit.kind is LedgerKind.BALANCE)
    owed = sum(one.amount for one in transfers) - from_balance
    paid, forgiven = await _call_off(loss, actor=actor, now=now) if owed else (0, 0)
    moves = [
        Move(debit=LedgerKind.STRIPE, credit=credit, amount=amount)
        for credit, amount in (
            (LedgerKind.BALANCE, from_balance + paid),
            (LedgerKind.WRITTEN_OFF, forgiven),
            (LedgerKind.INVOICES_PAID, owed - paid - forgiven),
        )
        if amount
    ]
    booked = await ledger.book(
        TransactionKind.REVERSED,
        loss.account_id,
        moves,
        fact=(f"{source}_regained", source_id),
        at=now,
        actor=actor,
        description=f"{loss.description}: the money came back to us",
        invoice_id=loss.invoice_id,
        reverses_id=loss.id,
    )
    return booked is not None


async def _call_off(loss: LedgerTransaction, *, actor: str, now: datetime) -> tuple[int, int]:
    """Void what is still owed on the invoice over a loss; return what was paid and what was forgiven of it."""
    lines = InvoiceLine.filter(
        description=loss.description,
        invoice__account_id=loss.account_id,
        invoice__origin=InvoiceOrigin.ADJUSTMENT,
    )
    line = await lines.select_related("invoice").first()
    if line is None:
        return 0, 0
    invoice = line.invoice
    asked = Invoice.filter(id=invoice.id, status__in=(InvoiceStatus.DRAFT, InvoiceStatus.OPEN))
    if await asked.update(status=InvoiceStatus.VOID, amount_due=0, overdue_seen_at=None):
        await note_fact(invoice.account_id, now=now)
        await audit.record(
            "invoice.voided",
            ("Invoice", invoice.id),
            at=now,
            actor=actor,
            reason=f"{loss.description}: the money came back to us",
            account_id=invoice.account_id,
            before={"status": invoice.status, "amount_due": invoice.amount_due},
            after={"status": InvoiceStatus.VOID, "amount_paid": invoice.amount_paid},
        )
    forgiven = InvoicePart.filter(invoice_id=invoice.id, source=PartSource.WRITE_OFF)
    return invoice.amount_paid, sum(await forgiven.values_list("amount", flat=True))  # type: ignore[arg-type]


async def draft(loss: Loss, amount: int, *, actor: str, now: datetime) -> Invoice:
    """Write the invoice over an amount that is owed anew; it asks for nothing before it is issued."""
    account_id, description = loss.account_id, loss.description
    account = await Account.get(id=account_id)
    invoice = await Invoice.create(
        account_id=account_id,
        origin=InvoiceOrigin.ADJUSTMENT,
        status=InvoiceStatus.DRAFT,
        currency=account.currency,
        total=amount,
        amount_due=0,
        issued_at=now,
        due_zone=account.time_zone,
    )
    await InvoiceLine.create(invoice_id=invoice.id, sku=loss.kind, description=description, amount=amount)
    await note_fact(account_id, now=now)
    await audit.record(
        "adjustment.drafted",
        ("Invoice", invoice.id),
        at=now,
        actor=actor,
        reason=description,
        account_id=account_id,
        after={"total": amount, "currency": account.currency},
    )
    return invoice


async def issue_drafts(
    clock: Clock, policies: Mapping[str, Policy], *, account_id: int | None = None, limit: int = 500
) -> set[int]:
    """Open what was drafted, with the grace of each account's policy from now on; return the accounts to settle.

    By default a refund leaves its debt closed (`refund_reopens_debt`): then its draft is dropped. One that cannot be
    opened is logged and keeps no other waiting.
    """
    rows = Invoice.filter(origin=InvoiceOrigin.ADJUSTMENT, status=InvoiceStatus.DRAFT)
    if account_id is not None:
        rows = rows.filter(account_id=account_id)
    issued = set()
    for invoice in await rows.order_by("id").limit(limit).select_related("account"):
        policy = policies.get(invoice.account.policy) or policies["standard"]
        try:
            async with in_transaction():
                await invoice_parts.hold(invoice.account_id)
                if await _issue(invoice, policy, clock.now()):
                    issued.add(invoice.account_id)
        except Exception:
            log.exception("adjustment.not_issued", invoice=invoice.id)
    return issued


async def _issue(invoice: Invoice, policy: Policy, now: datetime) -> bool:
    account, overdue_at = invoice.account, now + policy.billing.grace_after_lost_dispute
    drafted = Invoice.filter(id=invoice.id, status=InvoiceStatus.DRAFT)
    refund = await InvoiceLine.exists(invoice_id=invoice.id, sku=LossKind.REFUND)
    if refund and not policy.billing.refund_reopens_debt:
        await drafted.update(status=InvoiceStatus.VOID)
        return False
    if not await drafted.update(
        status=InvoiceStatus.OPEN, amount_due=invoice.total, issued_at=now, overdue_at=overdue_at
    ):
        return False
    await note_fact(account.id, now=now)
    invoice = await Invoice.get(id=invoice.id)
    await audit.record(
        "invoice.issued",
        ("Invoice", invoice.id),
        at=now,
        actor=ACTOR,
        reason=f"money was taken back; overdue after {policy.billing.grace_after_lost_dispute}",
        account_id=account.id,
        after={"total": str(Money(invoice.total, invoice.currency)), "overdue_at": overdue_at},
    )
    # The number comes after every other lock, since everybody else who issues waits for it.
    [number] = await numbers.take(due.local_day(now, account.time_zone).year)
    await Invoice.filter(id=invoice.id).update(number=number)
    await notices.queue(
        NoticeRequest(
            account=account,
            template=ADJUSTMENT_ISSUED,
            dedupe_key=f"{ADJUSTMENT_ISSUED}:{invoice.id}",
            invoices=[await Invoice.get(id=invoice.id)],
        ),
        now=now,
    )
    return True
