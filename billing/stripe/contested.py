"""Disputes and refunds of payments that we charged ourselves: read again as a whole, then written in one transaction.

Those of Stripe's invoices come with the invoice, through the mirror. What is owed anew is for `billing.adjustments`.
"""

from collections.abc import Sequence
from datetime import datetime

from tortoise.transactions import in_transaction

from billing import adjustments, audit, invoice_parts, ledger
from billing.accounts import note_fact
from billing.adjustments import Loss, LossKind
from billing.clock import Clock
from billing.models import Account, Invoice
from billing.money_models import Charge, ChargeState, LedgerKind, LedgerTransaction, LedgerTransfer
from billing.rules.terms import InvoiceOrigin
from billing.stripe import disputes as dispute_rows
from billing.stripe.gateway import Object, StripeGateway
from billing.stripe.mirror import tell_staff_of_disputes
from billing.stripe.reading import MirroredDispute, came_back, mirrored_dispute, took
from billing.stripe.refresh import Refreshed

ACTOR = "stripe"


async def refresh_contested(gateway: StripeGateway, clock: Clock, payment_intent_id: str) -> Refreshed:
    """Follow what became of a payment of ours after it had succeeded; `UNKNOWN` if it is none of ours.

    Raises `StripeReadError`; nothing was written then.
    """
    charge = await Charge.filter(
        stripe_payment_intent_id=payment_intent_id, state=ChargeState.SUCCEEDED
    ).first()
    invoice = await Invoice.get_or_none(id=charge.invoice_id) if charge and charge.invoice_id else None
    if charge is None or (invoice is not None and invoice.origin is InvoiceOrigin.STRIPE):
        return Refreshed.UNKNOWN
    by, v1 = {"payment_intent": payment_intent_id}, gateway.client.v1
    disputes = [found async for found in gateway.pages("disputes", v1.disputes.list_async, by)]
    refunds = [found async for found in gateway.pages("refunds", v1.refunds.list_async, by)]
    now, mirrored = clock.now(), [mirrored_dispute(found) for found in disputes]
    async with in_transaction():
        await invoice_parts.hold(charge.account_id)
        await _tell_staff(charge, invoice, mirrored, now=now)
        changed = [await _note_open(invoice.id, mirrored, now=now)] if invoice else []
        for kind, objects in ((LossKind.DISPUTE, disputes), (LossKind.REFUND, refunds)):
            changed += [await _lose(charge, kind, found, now=now) for found in objects]
    return Refreshed.CHANGED if any(changed) else Refreshed.UNCHANGED


async def _tell_staff(
    charge: Charge, invoice: Invoice | None, disputes: Sequence[MirroredDispute], *, now: datetime
) -> None:
    if disputes:
        about = f"invoice {invoice.number or invoice.id}" if invoice else "a top-up"
        account = await Account.get(id=charge.account_id)
        await tell_staff_of_disputes(disputes, about, account, now=now)


async def _note_open(invoice_id: int, disputes: Sequence[MirroredDispute], *, now: datetime) -> bool:
    """Keep the disputes of one payment, and on the invoice what open disputes of all its payments contest."""
    invoice = await Invoice.get(id=invoice_id)
    if not await dispute_rows.keep(invoice, disputes, now=now):
        return False
    await note_fact(invoice.account_id, now=now)
    contested = await dispute_rows.contested(invoice_id)
    if contested == invoice.disputed_amount:
        return True
    await Invoice.filter(id=invoice_id).update(disputed_amount=contested)
    await audit.record(
        "invoice.changed",
        ("Invoice", invoice_id),
        at=now,
        actor=ACTOR,
        reason="read from Stripe",
        account_id=invoice.account_id,
        before={"disputed_amount": invoice.disputed_amount},
        after={"disputed_amount": contested},
    )
    return True


async def _lose(charge: Charge, kind: LossKind, found: Object, *, now: datetime) -> bool:
    payment, amount = str(charge.stripe_payment_intent_id), int(found["amount"])
    if came_back(found):
        return await adjustments.regain((f"stripe_{kind}", f"{payment}/{found['id']}"), actor=ACTOR, now=now)
    if not took(found):
        return False
    loss = Loss(
        kind=kind,
        account_id=charge.account_id,
        amount=amount,
        # The payment comes first, so that what was given back of one payment can be found.
        fact=(f"stripe_{kind}", f"{payment}/{found['id']}"),
        invoice_id=charge.invoice_id,
        description=f"{kind} {found['id']} of a payment by card",
    )
    if await adjustments.known(loss) or await _reversed(payment):
        return False
    from_balance = await _still_balance(charge, amount) if kind is LossKind.REFUND else 0
    return await adjustments.lose(loss, from_balance=from_balance, actor=ACTOR, now=now)


async def _reversed(payment: str) -> bool:
    """Whether staff have taken the whole payment back already: its money is not taken a second time."""
    arrived = await LedgerTransaction.get_or_none(source="stripe_payment", source_id=payment)
    return arrived is not None and await LedgerTransaction.exists(reverses_id=arrived.id)


async def _still_balance(charge: Charge, amount: int) -> int:
    """How much of a refund leaves the balance: what the payment had put there, was not given back, and is there."""
    payment = str(charge.stripe_payment_intent_id)
    arrived = LedgerTransfer.filter(
        transaction__source="stripe_payment",
        transaction__source_id=payment,
        credit__kind=LedgerKind.BALANCE,
    )
    given_back = LedgerTransfer.filter(
        transaction_id__in=await adjustments.losses_of(payment), debit__kind=LedgerKind.BALANCE
    )
    arrived_sum, given_back_sum = [
        sum(await rows.values_list("amount", flat=True))  # type: ignore[arg-type]
        for rows in (arrived, given_back)
    ]
    held = (await ledger.purses([charge.account_id]))[charge.account_id].balance
    return max(0, min(amount, held, arrived_sum - given_back_sum))
