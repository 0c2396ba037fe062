"""Purse money for an invoice of Stripe: told to Stripe, read again through the mirror, and only then booked.

Owns the order of the calls and what a crash between any two leaves: a reservation that the sweep finishes or frees. A
payment record is made at most once per reservation, and attached only after its id is committed.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from tortoise.transactions import in_transaction

from billing import invoice_parts, reservations, work_queue
from billing.clock import Clock
from billing.invoice_parts import ChangedMeanwhileError
from billing.models import Account, Invoice
from billing.money_models import Reservation, ReservationState
from billing.stripe.gateway import InvoiceReading, RejectedError, RetryLaterError, StripeReadError
from billing.stripe.refresh import Refreshed, refresh_invoice
from billing.stripe.settle_gateway import (
    KEY_LIFETIME,
    NoPaymentRecordsError,
    ReportedPayment,
    SettleGateway,
    is_attached,
    overpaid,
)

ACTOR = "system:settling"
_FIRST_WAIT = timedelta(minutes=1)
_LONGEST_WAIT = timedelta(hours=1)


async def finish_reservations(stripe: SettleGateway, clock: Clock, *, limit: int = 200) -> set[int]:
    """Finish or free what a crash or a silent Stripe left, longest waiting first; return the accounts looked at.

    Settle them afterwards: money that came back may pay something else. Never raises for Stripe's sake.
    """
    waiting = (
        await Reservation.filter(state__in=reservations.OPEN, set_aside=False, next_look_at__lte=clock.now())
        .order_by("next_look_at", "id")
        .limit(limit)
    )
    for invoice_id in dict.fromkeys(row.invoice_id for row in waiting):
        await finish_invoice(invoice_id, stripe, clock)
    return {row.account_id for row in waiting}


async def finish_invoice(invoice_id: int, stripe: SettleGateway, clock: Clock) -> bool:
    """Bring the reservations of one invoice to their end; return whether any money came back to its purse.

    What Stripe does not answer about stays as it is, with the time of the next look.
    """
    rows = await Reservation.filter(
        invoice_id=invoice_id, state__in=reservations.OPEN, set_aside=False
    ).order_by("id")
    work = _Work(stripe, clock)
    try:
        whole = [row for row in rows if _out_of_band(row, stripe)]
        for row in rows:
            if row not in whole:
                await work.by_record(row)
        if whole:
            await work.out_of_band(whole)
    except StripeReadError as error:
        await _later(rows, error, clock.now())
    return work.came_back


def _out_of_band(row: Reservation, stripe: SettleGateway) -> bool:
    """A row whose record is known goes on by it, whatever is known of the account by now."""
    if row.stripe_payment_record_id is not None:
        return False
    return row.state is ReservationState.REPORTED or not stripe.payment_records


class _Work:
    """One turn over the reservations of one invoice."""

    def __init__(self, stripe: SettleGateway, clock: Clock) -> None:
        self.stripe = stripe
        self.clock = clock
        self.came_back = False

    async def by_record(self, row: Reservation) -> None:
        """Report, commit the record's id, attach, read again, book."""
        invoice = await Invoice.get(id=row.invoice_id)
        if row.stripe_payment_record_id is None and not await self._report(row, invoice):
            return
        row = await Reservation.get(id=row.id)
        if row.state is not ReservationState.REPORTED or row.stripe_payment_record_id is None:
            return
        stripe_id, record_id = str(invoice.stripe_invoice_id), row.stripe_payment_record_id
        reading = await self.stripe.read(stripe_id)
        if not is_attached(reading, record_id):
            refusal = await self._attach(stripe_id, record_id)
            reading = await self.stripe.read(stripe_id)
            if not is_attached(reading, record_id):
                if reading.invoice["status"] in {"open", "uncollectible"}:
                    raise refusal or RetryLaterError(f"{record_id} is not on {stripe_id} yet")
                await self._free([row], "Stripe has closed the invoice meanwhile")
                return
        await self._book(row, reading)

    async def out_of_band(self, rows: Sequence[Reservation]) -> None:
        """Mark the whole remainder as paid, once that is what these rows hold; there is no part this way."""
        invoice = await Invoice.get(id=rows[0].invoice_id)
        stripe_id, now = str(invoice.stripe_invoice_id), self.clock.now()
        reading = await self.stripe.read(stripe_id)
        begun = any(row.state is ReservationState.REPORTED for row in rows)
        if begun and now - min(row.updated_at for row in rows) > KEY_LIFETIME:
            await self._end_unknown(rows, reading)
            return
        if not begun:
            held, remaining = sum(row.amount for row in rows), int(reading.invoice["amount_remaining"])
            if reading.invoice["status"] != "open" or remaining < held:
                await self._free(rows, "Stripe has less to collect than was reserved")
                return
            if remaining > held:
                await self._keep_aside(rows)
                return
            before = int(reading.invoice["amount_paid_off_stripe"] or 0)
            if not await self._begin(rows, before):
                return
            rows = await Reservation.filter(id__in=[row.id for row in rows])
        try:
            key = f"whole:{min(row.idempotency_key for row in rows)}"
            await self.stripe.pay_out_of_band(stripe_id, key=key)
        except RejectedError:
            # Not ours: the same key would have been answered with our own success.
            await self._free(rows, "the invoice was paid otherwise meanwhile")
            return
        await self._book_whole(rows, await self.stripe.read(stripe_id))

    # -- the steps ---------------------------------------------------------------------------------------------------

    async def _report(self, row: Reservation, invoice: Invoice) -> bool:
        """Make the payment record and commit its id; false when the row was ended or set aside instead."""
        now = self.clock.now()
        if now - row.updated_at > KEY_LIFETIME:
            # A record of it may exist, but is attached nowhere: that comes after its id is committed.
            await self._free([row], "Stripe did not answer for a day")
            return False
        reading = await self.stripe.read(str(invoice.stripe_invoice_id))
        if reading.invoice["status"] != "open" or int(reading.invoice["amount_remaining"]) < row.amount:
            await self._free([row], "Stripe has less to collect than was reserved")
            return False
        account = await Account.get(id=row.account_id)
        payment = ReportedPayment(
            amount=row.amount,
            currency=invoice.currency,
            customer_id=str(account.stripe_customer_id),
            at=row.created_at,
            # What was set aside may have grown since: another amount is another payment.
            key=f"{row.idempotency_key}:{row.amount}",
            description=f"Prepaid ({row.purse.value.lower()})",
        )
        try:
            record_id = await self.stripe.report(payment)
        except NoPaymentRecordsError:
            await self._keep_aside([row])
            return False
        except RejectedError:
            await self._free([row], "Stripe did not accept the payment record")
            return False
        await reservations.reported(row, record_id, now=now)
        return True

    async def _attach(self, stripe_id: str, record_id: str) -> RejectedError | None:
        try:
            await self.stripe.attach(stripe_id, record_id)
        except RejectedError as error:
            return error
        return None

    async def _begin(self, rows: Sequence[Reservation], before: int) -> bool:
        """Commit that Stripe is about to be told of the whole, all rows or none, and what it had been told before."""
        now, detail = self.clock.now(), {"off_stripe": before}
        try:
            async with in_transaction():
                await invoice_parts.hold(rows[0].account_id)
                for row in rows:
                    if not await reservations.reported(row, None, now=now, detail=detail):
                        raise ChangedMeanwhileError(f"reservation {row.id} was changed meanwhile")
        except ChangedMeanwhileError:
            return False
        return True

    async def _book(self, row: Reservation, reading: InvoiceReading) -> None:
        """Book what the invoice took; what Stripe had collected meanwhile is the customer's money with us again."""
        invoice = await Invoice.get(id=row.invoice_id)
        handled = await _handled(invoice.id)
        excess = max(0, min(row.amount, overpaid(reading) - handled))
        if excess:
            account = await Account.get(id=row.account_id)
            # Named by what it follows, so that two processes take it once.
            key = f"overpaid:{invoice.stripe_invoice_id}:{handled}:{excess}"
            await self.stripe.take_back_credit(
                str(account.stripe_customer_id), excess, invoice.currency, key=key
            )
        await self._refresh(invoice, [(row, row.amount - excess)], handled=handled)
        self.came_back |= excess > 0

    async def _book_whole(self, rows: Sequence[Reservation], reading: InvoiceReading) -> None:
        """Book the remainder as it was when Stripe took it; a smaller one leaves the rest with the customer."""
        invoice = await Invoice.get(id=rows[0].invoice_id)
        left = _off_stripe(rows, reading)
        shares: list[tuple[Reservation, int]] = []
        for row in rows:
            used = min(row.amount, left)
            shares.append((row, used))
            left -= used
        await self._refresh(invoice, shares, handled=await _handled(invoice.id))
        self.came_back |= any(used < row.amount for row, used in shares)

    async def _refresh(
        self, invoice: Invoice, shares: Sequence[tuple[Reservation, int]], *, handled: int
    ) -> None:
        """Mirror the invoice and book in the same transaction, which holds the account."""
        book = partial(self._write, invoice, shares, handled)
        outcome = await refresh_invoice(
            self.stripe.gateway, self.clock, str(invoice.stripe_invoice_id), within=book
        )
        if outcome is Refreshed.UNKNOWN:
            raise RetryLaterError(f"invoice {invoice.stripe_invoice_id} belongs to no account at Stripe now")

    async def _write(self, invoice: Invoice, shares: Sequence[tuple[Reservation, int]], handled: int) -> None:
        if await _handled(invoice.id) != handled:
            raise RetryLaterError("another reservation of the invoice was booked at the same moment")
        for row, used in shares:
            detail = {**row.detail, "overpaid": row.amount - used}
            await reservations.pay(row, invoice, used, actor=ACTOR, now=self.clock.now(), detail=detail)

    async def _free(self, rows: Sequence[Reservation], why: str) -> None:
        """Give the money back, and bring the mirror in step, since Stripe says something else than it."""
        now = self.clock.now()
        async with in_transaction():
            await invoice_parts.hold(rows[0].account_id)
            freed = [await reservations.free(row, actor=ACTOR, now=now, why=why) for row in rows]
        self.came_back |= any(freed)
        invoice = await Invoice.get(id=rows[0].invoice_id)
        await refresh_invoice(self.stripe.gateway, self.clock, str(invoice.stripe_invoice_id))

    async def _keep_aside(self, rows: Sequence[Reservation]) -> None:
        now = self.clock.now()
        async with in_transaction():
            await invoice_parts.hold(rows[0].account_id)
            for row in rows:
                await reservations.keep_aside(row, actor=ACTOR, now=now)
        invoice = await Invoice.get(id=rows[0].invoice_id)
        await refresh_invoice(self.stripe.gateway, self.clock, str(invoice.stripe_invoice_id))
        self.came_back = True

    async def _end_unknown(self, rows: Sequence[Reservation], reading: InvoiceReading) -> None:
        """End rows whose call was not answered for a day: still open means unpaid; paid, a person has to compare."""
        if reading.invoice["status"] in {"open", "uncollectible"}:
            await self._free(rows, "Stripe did not answer for a day")
            return
        held = sum(row.amount for row in rows)
        if _off_stripe(rows, reading) < held:
            await self._free(rows, "the invoice was paid otherwise meanwhile")
            return
        await self._book_whole(rows, reading)
        number = reading.invoice.get("number") or reading.invoice["id"]
        await work_queue.open_item(
            "settling.unconfirmed",
            f"settling.unconfirmed:{rows[0].id}",
            at=self.clock.now(),
            title="Money of a purse was booked without Stripe's own word",
            detail=f"Invoice {number} is paid outside Stripe; the call that did it was not answered. Compare, and "
            "give the money back if somebody else had marked the invoice as paid.",
            account_id=rows[0].account_id,
        )


def _off_stripe(rows: Sequence[Reservation], reading: InvoiceReading) -> int:
    """What was paid outside Stripe since these rows were about to be."""
    before = int(rows[0].detail.get("off_stripe", 0))
    return int(reading.invoice["amount_paid_off_stripe"] or 0) - before


async def _handled(invoice_id: int) -> int:
    """What of the overpaid amount of an invoice has come back to a purse already."""
    rows = await Reservation.filter(invoice_id=invoice_id, state=ReservationState.BOOKED)
    return sum(int(row.detail.get("overpaid", 0)) for row in rows)


async def _later(rows: Sequence[Reservation], error: StripeReadError, now: datetime) -> None:
    for row in rows:
        wait = min(_LONGEST_WAIT, max(_FIRST_WAIT, (now - row.updated_at) / 4))
        await reservations.look_later(row, now + wait, why=str(error))
