"""What customers read of the ledger and of invoices of ours: each booking, and what money that went back was.

Owns these words alone. What staff wrote for the customer to read there (a credit, what was taken back or let off) is
shown as it was written; so is the name of a server.
"""

from collections.abc import Mapping

from billing.adjustments import LossKind
from billing.invoice_parts import TOO_LITTLE
from billing.models import Invoice
from billing.money_models import InvoiceLine, LedgerTransaction, TransactionKind
from billing.rules.words import Phrase, phrase

_PLAIN: Mapping[TransactionKind, Phrase] = {
    TransactionKind.VOUCHER_REDEEMED: phrase("Voucher redeemed"),
    TransactionKind.TOP_UP: phrase("Topped up by card"),
    TransactionKind.CARD_CHARGED: phrase("Paid by card"),
    TransactionKind.OVERPAID: phrase("Paid more than was due"),
}
_LOST: Mapping[str, Phrase] = {
    LossKind.DISPUTE: phrase("Payment by card that the bank took back"),
    LossKind.REFUND: phrase("Payment by card that was refunded"),
}
_CAME_BACK = phrase("Money that had been taken back came back")


def of_entry(row: LedgerTransaction, invoice: Invoice | None) -> Phrase | str:
    """Return what a customer reads of a booking; `invoice` is the one that it is about."""
    name = (invoice.number if invoice else None) or str(row.invoice_id)
    match row.kind:
        case TransactionKind.PAYMENT_RECORDED:
            return phrase(
                "Payment received: %(reference)s", reference=row.description.removeprefix("transfer ")
            )
        case TransactionKind.INVOICE_PAID:
            return phrase("Used for invoice %(invoice)s", invoice=name)
        case TransactionKind.RESERVED:
            return phrase("Set aside for invoice %(invoice)s", invoice=name)
        case TransactionKind.RESERVATION_FREED:
            return phrase("Given back from invoice %(invoice)s", invoice=name)
        case TransactionKind.WRITTEN_OFF if row.description == TOO_LITTLE:
            return phrase("Let off: no card can be charged with so little")
        case TransactionKind.REFUNDED:
            return _LOST.get(row.source.removeprefix("stripe_"), row.description)
        case TransactionKind.REVERSED if row.source.endswith("_regained"):
            return _CAME_BACK
        case _:
            return _PLAIN.get(row.kind, row.description)


def of_line(row: InvoiceLine) -> Phrase | str:
    """Return what a customer reads of a line of an invoice of ours."""
    return _LOST.get(row.sku or "", row.description)
