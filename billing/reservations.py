"""Purse money on its way to an invoice, or set aside until the whole is together.

The only writer of `reservation`. Every function runs inside a transaction of its caller that holds the account, changes
the row under a condition, and books with it; nobody outside is told here.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from billing import audit, invoice_parts, ledger
from billing.invoice_parts import ChangedMeanwhileError, Part
from billing.ledger import Move
from billing.models import Invoice
from billing.money_models import (
    LedgerKind,
    PartSource,
    Reservation,
    ReservationState,
    TransactionKind,
)
from billing.rules.settlement import Share, Use
from billing.rules.terms import InvoiceOrigin

OPEN = (ReservationState.RESERVED, ReservationState.REPORTED)
FIRST_LOOK = timedelta(minutes=2)
"""When the sweep looks at money that nobody finished: longer than the requests of who reserved it take."""

_SLOTS = {
    LedgerKind.BALANCE: LedgerKind.BALANCE_RESERVED,
    LedgerKind.VOUCHER: LedgerKind.VOUCHER_RESERVED,
}


async def open_of(account_id: int) -> list[Reservation]:
    """Return the account's reservations that are neither booked nor freed, oldest first."""
    return await Reservation.filter(account_id=account_id, state__in=OPEN).order_by("id")


def blocked(share: Share, rows: Iterable[Reservation]) -> bool:
    """Whether money of this purse is on its way to the invoice already: what is asked for now has to wait for it."""
    return any(
        row.invoice_id == share.invoice_id and row.purse == share.purse.value and not row.set_aside
        for row in rows
    )


async def reserve(invoice: Invoice, share: Share, *, actor: str, now: datetime) -> None:
    """Take a share out of its purse for one invoice; to what is set aside already it is added."""
    purse = LedgerKind(share.purse.value)
    aside = share.use is Use.SET_ASIDE
    row = await Reservation.get_or_none(invoice_id=invoice.id, purse=purse, state__in=OPEN)
    before = row.amount if row else 0
    if row is None:
        earlier = await Reservation.filter(invoice_id=invoice.id, purse=purse).count()
        named = invoice.stripe_invoice_id or invoice.id
        row = await Reservation.create(
            account_id=invoice.account_id,
            invoice_id=invoice.id,
            purse=purse,
            amount=share.amount,
            set_aside=aside,
            # Of lasting facts alone: Stripe must be able to tell the same money from other money.
            idempotency_key=f"reservation:{named}:{purse.value}:{earlier}",
            created_at=now,
            updated_at=now,
            next_look_at=None if aside else now + FIRST_LOOK,
        )
    else:
        as_read = Reservation.filter(
            id=row.id, state=ReservationState.RESERVED, set_aside=True, amount=before
        )
        if not aside or not await as_read.update(amount=before + share.amount, updated_at=now):
            raise ChangedMeanwhileError(f"reservation {row.id} was changed meanwhile")
    await ledger.book(
        TransactionKind.RESERVED,
        invoice.account_id,
        [Move(debit=purse, credit=_SLOTS[purse], amount=share.amount)],
        fact=("reservation", f"{row.id}:{before}"),
        at=now,
        actor=actor,
        description=f"{'set aside' if aside else 'reserved'} for invoice {invoice.number or invoice.id}",
        invoice_id=invoice.id,
    )
    await _record("reserved", row, actor=actor, now=now, amount=before + share.amount, set_aside=aside)


async def send(row: Reservation, *, actor: str, now: datetime) -> None:
    """Let set-aside money go: the whole is together, or its invoice takes parts by now."""
    as_read = Reservation.filter(id=row.id, state=ReservationState.RESERVED, set_aside=True)
    if not await as_read.update(set_aside=False, updated_at=now, next_look_at=now + FIRST_LOOK):
        raise ChangedMeanwhileError(f"reservation {row.id} was changed meanwhile")
    await _record("sent", row, actor=actor, now=now, amount=row.amount)


async def keep_aside(row: Reservation, *, actor: str, now: datetime) -> bool:
    """Set money aside after all, because Stripe takes no part; only while Stripe knows nothing of it."""
    mine = Reservation.filter(
        id=row.id, state=ReservationState.RESERVED, set_aside=False, stripe_payment_record_id__isnull=True
    )
    if not await mine.update(set_aside=True, updated_at=now, next_look_at=None):
        return False
    await _record("set_aside", row, actor=actor, now=now, amount=row.amount)
    return True


async def reported(
    row: Reservation, record_id: str | None, *, now: datetime, detail: Mapping[str, object] | None = None
) -> bool:
    """Note that Stripe has been, or is about to be, told of it; false: somebody else did, or freed it."""
    mine = Reservation.filter(id=row.id, state=ReservationState.RESERVED, set_aside=False)
    changed = await mine.update(
        state=ReservationState.REPORTED,
        stripe_payment_record_id=record_id,
        updated_at=now,
        detail={**row.detail, **(detail or {})},
    )
    return changed == 1


async def free(row: Reservation, *, actor: str, now: datetime, why: str) -> bool:
    """Give the money back to its purse; false when somebody else has moved the row since it was read."""
    if not await _end(row, ReservationState.FREED, now):
        return False
    await ledger.book(
        TransactionKind.RESERVATION_FREED,
        row.account_id,
        [Move(debit=_SLOTS[row.purse], credit=row.purse, amount=row.amount)],
        fact=("reservation_freed", str(row.id)),
        at=now,
        actor=actor,
        description=why,
        invoice_id=row.invoice_id,
    )
    await _record("freed", row, actor=actor, now=now, amount=row.amount, why=why)
    return True


async def pay(
    row: Reservation, invoice: Invoice, used: int, *, actor: str, now: datetime, detail: object = None
) -> bool:
    """Book what the invoice took of it and give the rest back; false when somebody else has ended the row.

    The invoice is as the caller read it; one of ours is paid by this very booking.
    """
    if not await _end(row, ReservationState.BOOKED, now, detail=detail):
        return False
    moves = [
        Move(debit=_SLOTS[row.purse], credit=credit, amount=amount)
        for credit, amount in ((LedgerKind.INVOICES_PAID, used), (row.purse, row.amount - used))
        if amount
    ]
    booked = await ledger.book(
        TransactionKind.INVOICE_PAID if used else TransactionKind.RESERVATION_FREED,
        row.account_id,
        moves,
        fact=("reservation_booked", str(row.id)),
        at=now,
        actor=actor,
        description=f"invoice {invoice.number or invoice.id}",
        invoice_id=invoice.id,
    )
    if booked is None:
        raise ChangedMeanwhileError(f"reservation {row.id} was booked before")
    if used:
        part = Part(
            source=PartSource(row.purse.value),
            source_id=row.idempotency_key,
            amount=used,
            transaction_id=booked.id,
        )
        if invoice.origin is InvoiceOrigin.STRIPE:
            await invoice_parts.note(invoice, part, now=now)
        else:
            await invoice_parts.pay(invoice, part, actor=actor, now=now)
    await _record("booked", row, actor=actor, now=now, amount=row.amount, used=used)
    return True


async def look_later(row: Reservation, at: datetime, *, why: str) -> None:
    """Put it off, with the reason for people; `updated_at` stays the moment at which the money last moved."""
    await Reservation.filter(id=row.id, state__in=OPEN).update(
        next_look_at=at, detail={**row.detail, "waiting": why[:500]}
    )


async def look_now(reservation_id: int, now: datetime) -> bool:
    """Let the sweep look at money on its way at its next turn; return whether it still is."""
    mine = Reservation.filter(id=reservation_id, state__in=OPEN, set_aside=False)
    return bool(await mine.update(next_look_at=now))


async def _end(row: Reservation, state: ReservationState, now: datetime, *, detail: object = None) -> bool:
    as_read = Reservation.filter(
        id=row.id,
        state=row.state,
        amount=row.amount,
        set_aside=row.set_aside,
    )
    columns = {} if detail is None else {"detail": detail}
    return await as_read.update(state=state, updated_at=now, next_look_at=None, **columns) == 1


async def _record(what: str, row: Reservation, *, actor: str, now: datetime, **after: object) -> None:
    await audit.record(
        f"reservation.{what}",
        ("Invoice", row.invoice_id),
        at=now,
        actor=actor,
        reason=f"reservation {row.id} of {row.purse.value}",
        account_id=row.account_id,
        after=after,
    )
