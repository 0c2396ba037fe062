"""Money that staff book: transfers that arrived, credits they grant, and entries that are taken back.

Each is one ledger fact with its audit row in one transaction, and then settles. What the bank or Stripe takes back by
itself comes through `billing.adjustments`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from tortoise.transactions import in_transaction

from billing import adjustments, audit, invoice_parts, ledger
from billing.adjustments import Loss, LossKind
from billing.invoice_parts import OutsidePayment, Taken
from billing.ledger import Fact, Move
from billing.models import Account, Invoice
from billing.money_models import LedgerKind, LedgerTransaction, LedgerTransfer, PartSource, TransactionKind
from billing.refusal import RefusalCode, refusal, required_reason
from billing.rules.money import Money
from billing.rules.settlement import Purse
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling import Means, Occasion, pay_from_purses, settle

_LONGEST_REFERENCE = 140
"""As long as a SEPA transfer's; the fact's name has to hold it."""

MOST = 10**15
"""Minor units of one booking: more than anybody pays, and far from what 64 bits hold of a whole balance."""


@dataclass(frozen=True, kw_only=True)
class BankPayment:
    """Money that arrived outside Stripe, as staff tell it."""

    account_id: int
    amount: Money
    #: What the payer wrote, or the bank's own number. With the same amount on the same day it is the same money; blanks
    #: and cases do not matter.
    reference: str
    received_at: datetime
    #: Null: the balance, and from there whatever is open.
    invoice_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """What became of an entry that was taken back; the invoice is over what is owed anew, null when nothing is."""

    reversal: ledger.Reversal
    invoice: Invoice | None


#: Runs in the transaction that books, and undoes it by raising.
Within = Callable[[LedgerTransaction], Awaitable[None]]


async def nothing_more(_: LedgerTransaction) -> None:
    """Add nothing to a booking."""


async def record_payment(
    asked: BankPayment,
    *,
    actor: str,
    means: Means,
    within: Within = nothing_more,
) -> Taken:
    """Book a transfer: to the named invoice, the rest to the balance; then settle. `within` runs with the booking.

    Refuses what was recorded and not taken back, another currency than the account's, an amount that is not above
    zero or is beyond `MOST`, an instant in the future, and an invoice that is not the account's or not open.
    """
    now = means.clock.now()
    reference = " ".join(asked.reference.split())
    if not 0 < len(reference) <= _LONGEST_REFERENCE or not reference.isprintable():
        raise refusal(
            RefusalCode.INVALID, f"give a reference of 1 to {_LONGEST_REFERENCE} characters", "reference"
        )
    if asked.received_at > now:
        raise refusal(RefusalCode.INVALID, "say when it arrived; that cannot be in the future", "receivedAt")
    await _check_amount(asked.account_id, asked.amount)
    at_stripe = await _named_at_stripe(asked)
    day = asked.received_at.date()
    payment = OutsidePayment(
        account_id=asked.account_id,
        amount=asked.amount.minor,
        invoice_id=asked.invoice_id,
        origin=LedgerKind.BANK,
        kind=TransactionKind.PAYMENT_RECORDED,
        fact=("bank", f"{asked.account_id}:{asked.amount.minor}:{day}:{_plain(reference)}"),
        source=PartSource.OUT_OF_BAND,
        description=f"transfer {reference}",
    )
    async with in_transaction():
        await invoice_parts.hold(asked.account_id)
        payment = replace(payment, fact=await _unspent(payment.fact))
        taken = await invoice_parts.take(payment, actor=actor, now=now)
        if taken is None:
            raise refusal(
                RefusalCode.CONFLICT, f"{asked.amount} with this reference is recorded for {day}", "reference"
            )
        after = {
            "paid": taken.paid,
            "to_balance": taken.to_balance,
            "reference": reference,
            "received_at": asked.received_at,
        }
        await _record("payment.recorded", taken.transaction, actor=actor, reason=reference, after=after)
        await within(taken.transaction)
    if at_stripe and asked.invoice_id is not None:
        await pay_from_purses(asked.invoice_id, {Purse.BALANCE}, actor=actor, means=means)
    await settle(asked.account_id, occasion=_occasion(taken.transaction, actor), means=means)
    return taken


async def grant_credit(
    account_id: int,
    amount: Money,
    *,
    reason: str,
    key: str,
    actor: str,
    means: Means,
    within: Within = nothing_more,
) -> LedgerTransaction:
    """Give an account money of the house, once per key; then settle. Refuses as `record_payment`, `within` as there."""
    told = required_reason(reason)
    await _check_amount(account_id, amount)
    now = means.clock.now()
    async with in_transaction():
        await invoice_parts.hold(account_id)
        booked = await ledger.book(
            TransactionKind.CREDIT_GRANTED,
            account_id,
            [Move(debit=LedgerKind.CREDIT_GRANTED, credit=LedgerKind.BALANCE, amount=amount.minor)],
            fact=("credit", f"{account_id}:{key}"),
            at=now,
            actor=actor,
            description=told,
        )
        if booked is None:
            return await LedgerTransaction.get(source="credit", source_id=f"{account_id}:{key}")
        after = {"amount": str(amount)}
        await _record("credit.granted", booked, actor=actor, reason=told, after=after)
        await within(booked)
    await settle(account_id, occasion=_occasion(booked, actor), means=means)
    return booked


async def take_back(
    entry_id: int, *, reason: str, actor: str, means: Means, within: Within = nothing_more
) -> TakenBack:
    """Take an entry that brought money in back, once; voucher money never is.

    If the balance still has all of it, that is the end of it. Otherwise the whole is owed anew, on an invoice with a
    fresh grace that the balance pays in part. What the entry had settled stays settled. Refuses a payment by card
    of which Stripe has given something back, or lost it to the bank: that is booked. `within` runs with the booking.
    """
    told, now = required_reason(reason), means.clock.now()
    async with in_transaction():
        entry = await LedgerTransaction.get_or_none(id=entry_id)
        if entry is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such ledger entry", "entryId")
        await invoice_parts.hold(entry.account_id)
        if entry.source == "stripe_payment" and await adjustments.losses_of(entry.source_id):
            message = "Stripe has given back or lost some of this payment, which was booked by itself: the rest stays"
            raise refusal(RefusalCode.CONFLICT, message, "entryId")
        reversal = await ledger.reverse(
            entry.id,
            fact=("reversal", str(entry.id)),
            at=now,
            actor=actor,
            description=told,
            from_purses=await _still_there(entry),
        )
        if reversal is None:
            raise refusal(RefusalCode.CONFLICT, "the ledger entry has been taken back already", "entryId")
        drafted = None
        if reversal.shortfall:
            loss = Loss(
                kind=LossKind.REVERSAL,
                account_id=entry.account_id,
                amount=reversal.shortfall,
                fact=("reversal", str(entry.id)),
                description=told,
            )
            drafted = await adjustments.draft(loss, reversal.shortfall, actor=actor, now=now)
        after = {"entry": entry.id, "taken": reversal.taken, "owed": reversal.shortfall}
        await _record("ledger.reversed", reversal.transaction, actor=actor, reason=told, after=after)
        await within(reversal.transaction)
    await adjustments.issue_drafts(means.clock, means.policies, account_id=entry.account_id)
    await settle(entry.account_id, occasion=Occasion(cards=False, actor=actor), means=means)
    return TakenBack(reversal=reversal, invoice=await Invoice.get(id=drafted.id) if drafted else None)


def _plain(reference: str) -> str:
    """Return a reference as it names its transfer: people copy the same one with other blanks and cases."""
    return "".join(reference.upper().split())[:_LONGEST_REFERENCE]


async def _unspent(fact: Fact) -> Fact:
    """Return the name for a transfer: one that was taken back, such as from the wrong invoice, is recorded anew."""
    source, name = fact
    times, known = 1, await LedgerTransaction.get_or_none(source=source, source_id=name)
    while known is not None and await LedgerTransaction.exists(reverses_id=known.id):
        times += 1
        # Blanks are in no plain reference.
        fact = (source, f"{name}  {times}")
        known = await LedgerTransaction.get_or_none(source=source, source_id=fact[1])
    return fact


async def _check_amount(account_id: int, amount: Money) -> None:
    account = await Account.get_or_none(id=account_id)
    if account is None:
        raise refusal(RefusalCode.NOT_FOUND, "there is no such account", "accountId")
    if amount.currency != account.currency:
        message = f"the account is in {account.currency}"
        raise refusal(RefusalCode.CURRENCY_MISMATCH, message, "amount", "currency")
    if amount.minor <= 0:
        raise refusal(RefusalCode.INVALID, "give an amount above zero", "amount", "amount")
    if amount.minor > MOST:
        most = Money(MOST, amount.currency)
        raise refusal(RefusalCode.INVALID, f"give at most {most} at once", "amount", "amount")


async def _named_at_stripe(asked: BankPayment) -> bool:
    """Whether the named invoice is one of Stripe's, which is paid from the balance."""
    if asked.invoice_id is None:
        return False
    invoice = await Invoice.get_or_none(id=asked.invoice_id, account_id=asked.account_id)
    if invoice is None:
        raise refusal(RefusalCode.NOT_FOUND, "the account has no such invoice", "invoiceId")
    if invoice.status is not InvoiceStatus.OPEN:
        message = "the invoice is not open: leave it out, and the money becomes balance"
        raise refusal(RefusalCode.INVOICE_NOT_OPEN, message, "invoiceId")
    return invoice.origin is InvoiceOrigin.STRIPE


async def _still_there(entry: LedgerTransaction) -> bool:
    """Whether all that the entry brought is in the balance, or other money like it."""
    transfers = await LedgerTransfer.filter(transaction_id=entry.id).select_related("credit")
    balance = (await ledger.purses([entry.account_id]))[entry.account_id].balance
    to_balance = all(transfer.credit.kind is LedgerKind.BALANCE for transfer in transfers)
    return to_balance and sum(transfer.amount for transfer in transfers) <= balance


def _occasion(booked: LedgerTransaction, actor: str) -> Occasion:
    # Money that arrived is no reason to charge a card as well.
    return Occasion(fact=f"ledger:{booked.id}", cards=False, actor=actor)


async def _record(
    kind: str, booked: LedgerTransaction, *, actor: str, reason: str, after: Mapping[str, object]
) -> None:
    await audit.record(
        kind,
        ("LedgerEntry", booked.id),
        at=booked.at,
        actor=actor,
        reason=reason,
        account_id=booked.account_id,
        after=after,
    )
