"""Which payments went towards which invoice (the `invoice_payment` resource), and the way to paid.

Owns InvoicePayment objects and keeps the default one in step with what remains
(docs.stripe.com/api/invoice-payment). It charges nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from simulators.stripe import billing_shapes as shapes
from simulators.stripe.errors import ApiError, invalid
from simulators.stripe.payments import Payments
from simulators.stripe.store import Obj, Store


class InvoicePayments:
    """The link between invoices and payment intents or payment records."""

    def __init__(self, store: Store, payments: Payments) -> None:
        self.store = store
        self.payments = payments
        self._by_invoice: dict[str, list[Obj]] = {}
        self._by_source: dict[str, Obj] = {}
        self.on_paid: list[Callable[[Obj], None]] = []
        payments.on_success.append(self._intent_succeeded)

    def of(self, invoice: Obj) -> list[Obj]:
        """The invoice's payments, newest first."""
        return self._by_invoice.get(invoice["id"], [])[::-1]

    def open_default(self, invoice: Obj) -> None:
        """The payment that Stripe prepares when it finalizes an invoice."""
        intent = self.payments.intent(
            amount=invoice["amount_remaining"], currency=invoice["currency"], customer=invoice["customer"]
        )
        self._link(invoice, {"type": "payment_intent", "payment_intent": intent["id"]}, is_default=True)

    def default_intent(self, invoice: Obj) -> Obj:
        """The intent of the default payment that is still open."""
        for payment in self.of(invoice):
            if payment["is_default"] and payment["status"] == "open":
                return self.store.get("payment_intent", payment["payment"]["payment_intent"])
        raise invalid(f"Invoice {invoice['id']} has no open payment.", code="invoice_not_editable")

    def attach(self, key: str, params: Obj) -> Obj:
        """`POST /v1/invoices/{id}/attach_payment`: an intent or a guaranteed payment record."""
        invoice = self.store.get("invoice", key)
        if invoice["status"] not in {"open", "uncollectible"}:
            raise invalid(
                f"Payments can't be attached to an invoice that is {invoice['status']}.",
                code="invoice_not_editable",
            )
        given = [name for name in ("payment_intent", "payment_record") if name in params]
        if len(given) != 1:
            raise invalid(
                "Exactly one of payment_intent and payment_record is required.", code="parameter_missing"
            )
        kind = given[0]
        source = self.store.get(kind, params[kind], param=kind)
        if source["id"] in self._by_source:
            raise invalid(f"{source['id']} is already attached to an invoice.", kind)
        if kind == "payment_record":
            money = source["amount_guaranteed"]
            arrived: int = money["value"]
            self._same_currency(invoice, money["currency"])
            if arrived <= 0:
                raise invalid("The payment record is not guaranteed.", kind)
        else:
            arrived = source["amount_received"]
            self._same_currency(invoice, source["currency"])
            if source["status"] == "canceled":
                raise invalid("A canceled PaymentIntent can't be attached.", kind)
        payment = self._link(invoice, {"type": kind, kind: source["id"]}, is_default=False)
        if kind == "payment_record":
            payment["amount_requested"] = min(arrived, invoice["amount_remaining"])
        if arrived:
            self._settle(payment, arrived)
        return invoice

    def close_as_paid(self, invoice: Obj, *more: str) -> None:
        """The last step to `paid`, whatever brought it."""
        with self.store.change(invoice, "invoice.updated", "invoice.paid", *more):
            invoice |= {"status": "paid", "next_payment_attempt": None}
            invoice["status_transitions"]["paid_at"] = self.store.now()
        self.cancel_open(invoice)
        for tell in self.on_paid:
            tell(invoice)

    def cancel_open(self, invoice: Obj) -> None:
        """Nothing more is asked for: open payments and the default's intent end."""
        for payment in self.of(invoice):
            if payment["status"] != "open":
                continue
            payment["status"] = "canceled"
            payment["status_transitions"]["canceled_at"] = self.store.now()
            intent = self.store.get("payment_intent", payment["payment"]["payment_intent"])
            if payment["is_default"] and intent["status"] not in {"succeeded", "canceled"}:
                reason = "void_invoice" if invoice["status"] == "void" else "automatic"
                self.payments.cancel(intent["id"], {"cancellation_reason": reason})

    def follow_remaining(self, invoice: Obj) -> None:
        """Keep the default payment and its intent in step with what remains."""
        for payment in self.of(invoice):
            if payment["is_default"] and payment["status"] == "open":
                payment["amount_requested"] = invoice["amount_remaining"]
                intent = self.store.get("payment_intent", payment["payment"]["payment_intent"])
                intent["amount"] = invoice["amount_remaining"]

    def credit(self, customer: str, amount: int) -> None:
        """Give a customer money for the next invoice (negative: take it); a deleted one keeps none."""
        owner = self.store.get("customer", customer)
        if not owner.get("deleted"):
            with self.store.change(owner, "customer.updated"):
                owner["balance"] -= amount

    def _link(self, invoice: Obj, source: Obj, *, is_default: bool) -> Obj:
        payment = shapes.invoice_payment(
            self.store.new_id("inpay"),
            self.store.now(),
            invoice=invoice,
            payment=source,
            is_default=is_default,
        )
        self._by_invoice.setdefault(invoice["id"], []).append(payment)
        self._by_source[source[source["type"]]] = payment
        return self.store.add(payment)

    def _intent_succeeded(self, intent: Obj) -> None:
        payment = self._by_source.get(intent["id"])
        if payment is not None and payment["status"] == "open":
            self._settle(payment, intent["amount_received"])

    def _settle(self, payment: Obj, arrived: int) -> None:
        """Book arrived money; more than what remains becomes the customer's credit balance."""
        invoice = self.store.get("invoice", payment["invoice"])
        now = self.store.now()
        taken = min(arrived, invoice["amount_remaining"])
        payment |= {"amount_paid": arrived, "status": "paid"}
        payment["status_transitions"]["paid_at"] = now
        self.store.emit("invoice_payment.paid", payment)
        done = taken == invoice["amount_remaining"]
        with self.store.change(invoice, *(() if done else ("invoice.updated",))):
            invoice["amount_paid"] += taken
            invoice["amount_remaining"] -= taken
            invoice["amount_overpaid"] += arrived - taken
            if payment["payment"]["type"] == "payment_record":
                invoice["amount_paid_off_stripe"] += taken
        if arrived > taken:
            self.credit(invoice["customer"], arrived - taken)
            self.store.emit("invoice.overpaid", invoice)
        if done:
            self.close_as_paid(invoice, "invoice.payment_succeeded")
        else:
            self.follow_remaining(invoice)

    def _same_currency(self, invoice: Obj, currency: str) -> None:
        if currency != invoice["currency"]:
            raise invalid(f"The payment is in {currency}, the invoice in {invoice['currency']}.", "currency")


def already_paid() -> ApiError:
    """The answer to paying twice."""
    return invalid("Invoice is already paid", code="invoice_already_paid")
