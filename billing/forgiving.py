"""Forgiving what is left of an invoice: ours is written off, Stripe's is voided or credited there.

A part that was paid stays paid. At Stripe nothing changes here before Stripe has said so.
"""

from datetime import datetime

from tortoise.transactions import in_transaction

from billing import audit, invoice_parts, reservations
from billing.accounts import note_fact
from billing.invoice_parts import ChangedMeanwhileError
from billing.models import Invoice
from billing.money_models import Reservation
from billing.refusal import RefusalCode, RefusalError, refusal, required_reason
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling import Means
from billing.stripe.gateway import RejectedError, StripeReadError
from billing.stripe.refresh import refresh_invoice
from billing.stripe.settle_gateway import SettleGateway


async def forgive(invoice_id: int, *, reason: str, actor: str, means: Means) -> Invoice:
    """Close an open invoice without the money that is left to pay, and return it; settle the account afterwards.

    Money that was set aside for it goes back to its purse. Refuses an invoice that is not open, one for which money is
    on its way, and, with `PROVIDER_UNAVAILABLE`, one of Stripe when Stripe does not answer.
    """
    told = required_reason(reason)
    invoice = await _open(invoice_id)
    if await Reservation.exists(invoice_id=invoice_id, state__in=reservations.OPEN, set_aside=False):
        raise refusal(
            RefusalCode.CONFLICT, "money is on its way to this invoice: try again shortly", "invoiceId"
        )
    if invoice.origin is InvoiceOrigin.STRIPE:
        await _forgive_at_stripe(invoice, told, actor=actor, means=means)
    else:
        await _write_off(invoice, told, actor=actor, now=means.clock.now())
    return await Invoice.get(id=invoice_id)


async def _open(invoice_id: int) -> Invoice:
    invoice = await Invoice.get_or_none(id=invoice_id)
    if invoice is None:
        raise refusal(RefusalCode.NOT_FOUND, "there is no such invoice", "invoiceId")
    if invoice.status is not InvoiceStatus.OPEN or invoice.amount_due == 0:
        raise refusal(RefusalCode.INVOICE_NOT_OPEN, "nothing is due of this invoice", "invoiceId")
    return invoice


async def _write_off(invoice: Invoice, reason: str, *, actor: str, now: datetime) -> None:
    try:
        async with in_transaction():
            await invoice_parts.hold(invoice.account_id)
            invoice = await _open(invoice.id)
            await invoice_parts.write_off(invoice, reason=reason, actor=actor, now=now)
            for row in await Reservation.filter(invoice_id=invoice.id, state__in=reservations.OPEN):
                await reservations.free(row, actor=actor, now=now, why="the invoice was forgiven")
            await _record(invoice, reason, actor=actor, now=now)
    except ChangedMeanwhileError as error:
        raise refusal(RefusalCode.CONFLICT, "the invoice was changed meanwhile", "invoiceId") from error


async def _forgive_at_stripe(invoice: Invoice, reason: str, *, actor: str, means: Means) -> None:
    if means.stripe is None:
        raise _unavailable()
    stripe_id, now = str(invoice.stripe_invoice_id), means.clock.now()

    async def recorded() -> None:
        await note_fact(invoice.account_id, now=now)
        await _record(invoice, reason, actor=actor, now=now)

    # Kept whatever becomes of it: the mirror may learn of the end before this does.
    await _record(invoice, reason, actor=actor, now=now, kind="invoice.forgiving")
    try:
        await _close_at_stripe(means.stripe, stripe_id, reason)
        await refresh_invoice(means.stripe.gateway, means.clock, stripe_id, within=recorded)
    except RejectedError as error:
        raise refusal(
            RefusalCode.CONFLICT, "Stripe does not let go of this invoice as it is now", "invoiceId"
        ) from error
    except StripeReadError as error:
        raise _unavailable() from error


async def _close_at_stripe(stripe: SettleGateway, stripe_id: str, reason: str) -> None:
    """Void it if nothing was paid, else reduce what remains to nothing, as Stripe says just now."""
    invoice = (await stripe.read(stripe_id)).invoice
    if invoice["status"] not in {"open", "uncollectible"}:
        return
    remaining = int(invoice["amount_remaining"])
    # Named by what it does, so that the same wish is carried out once, and a later one anew.
    key = f"forgive:{stripe_id}:{remaining}"
    if int(invoice["amount_paid"]) == 0:
        await stripe.void(stripe_id, key=key)
    else:
        await stripe.credit(stripe_id, remaining, memo=reason[:500], key=key)


def _unavailable() -> RefusalError:
    return refusal(
        RefusalCode.PROVIDER_UNAVAILABLE,
        "Stripe does not answer: nothing was changed; try again",
        "invoiceId",
    )


async def _record(
    invoice: Invoice, reason: str, *, actor: str, now: datetime, kind: str = "invoice.forgiven"
) -> None:
    await audit.record(
        kind,
        ("Invoice", invoice.id),
        at=now,
        actor=actor,
        reason=reason,
        account_id=invoice.account_id,
        before={"amount_due": invoice.amount_due, "amount_paid": invoice.amount_paid},
    )
