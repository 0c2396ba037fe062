"""Credit notes: reductions of finalized invoices.

Owns how a credit note splits into what was not paid yet and what was (docs.stripe.com/api/credit_notes/create).
"""

from __future__ import annotations

from simulators.stripe import billing_shapes as shapes
from simulators.stripe.errors import invalid
from simulators.stripe.invoices import Invoices
from simulators.stripe.money_back import MoneyBack
from simulators.stripe.store import Obj, Store


class CreditNotes:
    """All credit notes of the account."""

    def __init__(self, store: Store, invoices: Invoices, money_back: MoneyBack) -> None:
        self.store = store
        self.invoices = invoices
        self.money_back = money_back

    def create(self, params: Obj) -> Obj:
        """`POST /v1/credit_notes`: first reduces what remains, the rest goes back as asked."""
        invoice = self.store.get("invoice", params["invoice"], param="invoice")
        if invoice["status"] not in {"open", "paid", "uncollectible"}:
            raise invalid("Credit notes can only be created for finalized invoices.", "invoice")
        amount, earlier = params["amount"], _credited(invoice)
        if not 0 < amount <= invoice["total"] - earlier:
            raise invalid(f"The credit must be between 1 and {invoice['total'] - earlier}.", "amount")
        before = min(amount, invoice["amount_remaining"])
        after = amount - before
        ways = ("refund_amount", "credit_amount", "out_of_band_amount")
        if sum(params.get(way, 0) for way in ways) != after:
            raise invalid(
                f"The sum of refunds, credits and out-of-band amounts must equal {after}.", "amount"
            )
        refund = self._refund(invoice, params["refund_amount"]) if params.get("refund_amount") else None
        note = shapes.credit_note(self.store.new_id("cn"), self.store.now(), invoice=invoice, amount=amount)
        note |= {
            key: params[key] for key in ("memo", "metadata", "reason", "out_of_band_amount") if key in params
        }
        note |= {"pre_payment_amount": before, "post_payment_amount": after}
        note["type"] = "mixed" if before and after else "post_payment" if after else "pre_payment"
        issued = sum(
            1 for other in self.store.newest_first("credit_note") if other["invoice"] == invoice["id"]
        )
        note["number"] = f"{invoice['number']}-CN-{issued + 1:02d}"
        if refund is not None:
            note["refunds"] = [
                {"amount_refunded": refund["amount"], "refund": refund["id"], "type": "refund"}
            ]
            note["refunds"][0]["payment_record_refund"] = None
        self.store.add(note, "credit_note.created")
        if params.get("credit_amount"):
            self.invoices.payments.credit(invoice["customer"], params["credit_amount"])
        self.invoices.reduce(invoice, before_payment=before, after_payment=after)
        return note

    def update(self, key: str, params: Obj) -> Obj:
        """`POST /v1/credit_notes/{id}`: memo and metadata."""
        note = self.store.get("credit_note", key)
        with self.store.change(note, "credit_note.updated"):
            note |= {name: params[name] for name in ("memo", "metadata") if name in params}
        return note

    def void(self, key: str) -> Obj:
        """`POST /v1/credit_notes/{id}/void`: only while its invoice is still open."""
        note = self.store.get("credit_note", key)
        invoice = self.store.get("invoice", note["invoice"])
        if note["status"] == "void":
            raise invalid("This credit note is already void.")
        if invoice["status"] != "open" or note["post_payment_amount"]:
            raise invalid("You can only void credit notes of open invoices that returned no money.")
        note |= {"status": "void", "voided_at": self.store.now()}
        self.store.emit("credit_note.voided", note)
        self.invoices.reduce(invoice, before_payment=-note["pre_payment_amount"], after_payment=0)
        return note

    def _refund(self, invoice: Obj, amount: int) -> Obj:
        for payment in self.invoices.payments.of(invoice):
            if payment["status"] == "paid" and payment["payment"]["type"] == "payment_intent":
                return self.money_back.refund(
                    {"payment_intent": payment["payment"]["payment_intent"], "amount": amount}
                )
        raise invalid("The invoice has no charge that could be refunded.", "refund_amount")


def _credited(invoice: Obj) -> int:
    before: int = invoice["pre_payment_credit_notes_amount"]
    after: int = invoice["post_payment_credit_notes_amount"]
    return before + after
