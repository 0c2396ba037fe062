"""The life of an invoice: draft, open, then paid, void or uncollectible, and all its amounts.

Owns the transitions and the rules of docs.stripe.com/invoicing/overview. When Stripe tries to
collect by itself is decided in `collection`; this module only carries an attempt out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simulators.stripe import billing_shapes as shapes
from simulators.stripe.errors import ApiError, invalid
from simulators.stripe.invoice_payments import InvoicePayments
from simulators.stripe.store import Obj, Store

DRAFT_TIME = 3600
"""Seconds that a draft with automatic advancement stays a draft (docs: about an hour)."""

_DAY = 86400
_PLAIN = ("auto_advance", "description", "footer", "default_payment_method", "statement_descriptor")


class Invoices:
    """All invoices of the account."""

    def __init__(self, store: Store, payments: InvoicePayments) -> None:
        self.store = store
        self.payments = payments

    def create(self, params: Obj, **internal: Any) -> Obj:
        """`POST /v1/invoices`; `internal` overrides fields that only Stripe sets, such as `parent`."""
        owner = self.live_customer(params)
        method = params.get("collection_method", "charge_automatically")
        currency = str(params.get("currency") or owner["currency"] or "eur").lower()
        invoice = shapes.invoice(self.store.new_id("in"), self.store.now(), owner=owner, currency=currency)
        invoice |= {"collection_method": method, "due_date": self._due_date(method, params)}
        invoice |= {key: params[key] for key in _PLAIN if key in params}
        invoice |= internal
        invoice["metadata"] = dict(params.get("metadata", {}))
        if "subscription" in params:
            subscription = self.store.get("subscription", params["subscription"], param="subscription")
            invoice["parent"] = parent_of(subscription)
        if invoice["auto_advance"]:
            invoice["automatically_finalizes_at"] = invoice["created"] + DRAFT_TIME
        self.store.add(invoice)
        if params.get("pending_invoice_items_behavior") == "include":
            pending = [item for item in self.store.newest_first("invoiceitem") if item["invoice"] is None]
            mine = [
                item for item in pending if (item["customer"], item["currency"]) == (owner["id"], currency)
            ]
            self._take(invoice, reversed(mine))
        self._total(invoice)
        self.store.emit("invoice.created", invoice)
        return invoice

    def create_item(self, params: Obj) -> Obj:
        """`POST /v1/invoiceitems`: an amount for a draft, or pending until an invoice includes it."""
        owner = self.live_customer(params)
        invoice = self._editable(params["invoice"], param="invoice") if "invoice" in params else None
        currency = params.get("currency") or (invoice or owner)["currency"] or "eur"
        if invoice is not None and invoice["customer"] != owner["id"]:
            raise invalid("The invoice belongs to another customer.", "invoice")
        if invoice is not None and invoice["currency"] != currency.lower():
            raise invalid(f"The invoice is in {invoice['currency']}, the item in {currency}.", "currency")
        item = shapes.invoice_item(
            self.store.new_id("ii"),
            self.store.now(),
            customer=owner["id"],
            amount=params["amount"],
            currency=currency.lower(),
        )
        item |= {key: params[key] for key in ("description", "metadata") if key in params}
        self.store.add(item, "invoiceitem.created")
        if invoice is not None:
            with self.store.change(invoice, "invoice.updated"):
                self._take(invoice, [item])
        return item

    def update(self, key: str, params: Obj) -> Obj:
        """`POST /v1/invoices/{id}`: anything on a draft, afterwards only what moves no money."""
        invoice = self.store.get("invoice", key)
        timing = {"collection_method", "due_date", "days_until_due"} & params.keys()
        if timing and invoice["status"] != "draft":
            raise _not_editable(f"Finalized invoices can't be updated in {', '.join(sorted(timing))}.")
        with self.store.change(invoice, "invoice.updated"):
            invoice |= {name: params[name] for name in _PLAIN if name in params}
            if timing:
                invoice["collection_method"] = params.get("collection_method", invoice["collection_method"])
                invoice["due_date"] = self._due_date(
                    invoice["collection_method"], params, was=invoice["due_date"]
                )
            if "metadata" in params:
                merge_metadata(invoice, params["metadata"])
            draft = invoice["status"] == "draft" and invoice["auto_advance"]
            invoice["automatically_finalizes_at"] = self.store.now() + DRAFT_TIME if draft else None
        return invoice

    def delete(self, key: str) -> Obj:
        """`DELETE /v1/invoices/{id}`: drafts only; finalized invoices are voided."""
        invoice = self._editable(key)
        self.store.remove(invoice)
        self.store.emit("invoice.deleted", invoice)
        return {"id": key, "object": "invoice", "deleted": True}

    def finalize(self, key: str, params: Obj) -> Obj:
        """Open a draft: number it, apply the customer's balance, prepare the default payment."""
        invoice = self.store.get("invoice", key)
        if invoice["status"] != "draft":
            raise invalid(
                "This invoice is already finalized, you can't re-finalize it.", code="invoice_not_editable"
            )
        now, owner = self.store.now(), self.live_customer(invoice)
        with self.store.change(invoice, "invoice.updated", "invoice.finalized"):
            invoice["starting_balance"] = owner["balance"]
            invoice["ending_balance"] = min(0, owner["balance"] + invoice["total"])
            invoice["number"] = f"{owner['invoice_prefix']}-{owner['next_invoice_sequence']:04d}"
            invoice |= {"status": "open", "effective_at": now, "automatically_finalizes_at": None}
            invoice["auto_advance"] = params.get("auto_advance", invoice["auto_advance"])
            invoice["hosted_invoice_url"] = f"https://invoice.stripe.invalid/i/{key}"
            invoice["invoice_pdf"] = f"https://pay.stripe.invalid/invoice/{key}/pdf"
            invoice["status_transitions"]["finalized_at"] = now
            self._total(invoice)
        with self.store.change(owner, "customer.updated"):
            owner |= {"balance": invoice["ending_balance"], "currency": invoice["currency"]}
            owner["next_invoice_sequence"] += 1
        if invoice["amount_remaining"] == 0:
            self.payments.close_as_paid(invoice, "invoice.payment_succeeded")
        else:
            self.payments.open_default(invoice)
        return invoice

    def send(self, key: str) -> Obj:
        """`POST /v1/invoices/{id}/send`: finalize if still a draft, and tell that it was mailed."""
        invoice = self.store.get("invoice", key)
        if invoice["collection_method"] != "send_invoice":
            raise invalid("You can only manually send an invoice if its collection method is 'send_invoice'.")
        if invoice["status"] == "draft":
            self.finalize(key, {})
        self.store.emit("invoice.sent", invoice)
        return invoice

    def pay_out_of_band(self, invoice: Obj) -> Obj:
        """Take the whole remainder as paid outside Stripe; there is no part payment this way."""
        self._must_be(invoice, "open", "uncollectible", doing="paid")
        with self.store.change(invoice):
            invoice["amount_paid_off_stripe"] += invoice["amount_remaining"]
            invoice["amount_paid"] += invoice["amount_remaining"]
            self._total(invoice)
        self.payments.close_as_paid(invoice)
        return invoice

    def void(self, key: str) -> Obj:
        """`POST /v1/invoices/{id}/void`: for good; the customer's applied balance returns."""
        invoice = self.store.get("invoice", key)
        self._must_be(invoice, "open", "uncollectible", doing="voided")
        if invoice["amount_paid"]:
            raise invalid(
                "You can't void an invoice that has payments; issue a credit note.",
                code="invoice_not_editable",
            )
        applied = invoice["starting_balance"] - invoice["ending_balance"]
        self.payments.credit(invoice["customer"], -applied)
        with self.store.change(invoice, "invoice.updated", "invoice.voided"):
            invoice |= {"status": "void", "auto_advance": False, "next_payment_attempt": None}
            invoice["status_transitions"]["voided_at"] = self.store.now()
        self.payments.cancel_open(invoice)
        return invoice

    def mark_uncollectible(self, key: str) -> Obj:
        """`POST /v1/invoices/{id}/mark_uncollectible`; it can still be paid or voided."""
        invoice = self.store.get("invoice", key)
        self._must_be(invoice, "open", doing="marked uncollectible")
        with self.store.change(invoice, "invoice.updated", "invoice.marked_uncollectible"):
            invoice |= {"status": "uncollectible", "auto_advance": False, "next_payment_attempt": None}
            invoice["status_transitions"]["marked_uncollectible_at"] = self.store.now()
        return invoice

    def reduce(self, invoice: Obj, *, before_payment: int, after_payment: int) -> None:
        """Book a credit note (or, negative, its voiding); an invoice that owes nothing is paid."""
        with self.store.change(invoice, "invoice.updated"):
            invoice["pre_payment_credit_notes_amount"] += before_payment
            invoice["post_payment_credit_notes_amount"] += after_payment
            self._total(invoice)
        if invoice["status"] in {"open", "uncollectible"}:
            if invoice["amount_remaining"] == 0:
                self.payments.close_as_paid(invoice)
            else:
                self.payments.follow_remaining(invoice)

    def live_customer(self, params: Obj) -> Obj:
        """The customer that a request names; one that was deleted is refused."""
        owner = self.store.get("customer", params["customer"], param="customer")
        if owner.get("deleted"):
            raise invalid(f"No such customer: '{owner['id']}'", "customer", "resource_missing")
        return owner

    def _editable(self, key: str, *, param: str = "id") -> Obj:
        invoice = self.store.get("invoice", key, param=param)
        if invoice["status"] != "draft":
            raise _not_editable("Only draft invoices can be changed that way.")
        return invoice

    def _due_date(self, method: str, params: Obj, was: int | None = None) -> int | None:
        """Null exactly when Stripe collects by itself; a date in the past is kept, for demonstrations."""
        given = {"due_date", "days_until_due"} & params.keys()
        if method == "charge_automatically":
            if given:
                raise invalid(f"You can only specify {given.pop()} when collection_method is send_invoice.")
            return None
        if len(given) > 1:
            raise invalid(
                "You may only specify one of these parameters: due_date, days_until_due.", "due_date"
            )
        if "due_date" in params:
            return int(params["due_date"])
        if "days_until_due" in params:
            return self.store.now() + int(params["days_until_due"]) * _DAY
        if was is None:
            raise invalid(
                "If collection_method is send_invoice, you must specify due_date or days_until_due."
            )
        return was

    def _take(self, invoice: Obj, items: Iterable[Obj]) -> None:
        for item in items:
            item["invoice"] = invoice["id"]
            details = {
                "invoice_item": item["id"],
                "proration": False,
                "proration_details": {"credited_items": None},
                "subscription": None,
            }
            self.add_line(invoice, item, {"invoice_item_details": details, "type": "invoice_item_details"})

    def add_line(self, invoice: Obj, item: Obj, parent: Obj) -> None:
        """Put an amount on a draft as a line that names what it comes from."""
        whole = {"invoice_item_details": None, "subscription_item_details": None, **parent}
        line = shapes.line_item(self.store.new_id("il"), item, invoice=invoice["id"], parent=whole)
        invoice["lines"]["data"].append(line)
        self._total(invoice)

    def _total(self, invoice: Obj) -> None:
        """All sums anew from the lines, the balance, the credit notes and the payments."""
        total = sum(line["amount"] for line in invoice["lines"]["data"])
        sums = ("subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax")
        invoice |= dict.fromkeys(sums, total)
        if invoice["status"] == "draft":
            invoice["starting_balance"] = self.live_customer(invoice)["balance"]
            due = max(0, total + invoice["starting_balance"])
        else:
            applied = invoice["starting_balance"] - invoice["ending_balance"]
            due = max(0, total + applied - invoice["pre_payment_credit_notes_amount"])
        invoice |= {"amount_due": due, "amount_remaining": due - invoice["amount_paid"]}

    def _must_be(self, invoice: Obj, *allowed: str, doing: str) -> None:
        if invoice["status"] not in allowed:
            code = "invoice_not_editable"
            raise invalid(f"This invoice can't be {doing}: it is {invoice['status']}.", code=code)


def parent_of(subscription: Obj) -> Obj:
    """How an invoice names the subscription that made it."""
    details = {"metadata": dict(subscription["metadata"]), "subscription": subscription["id"]}
    return {"quote_details": None, "subscription_details": details, "type": "subscription_details"}


def merge_metadata(obj: Obj, given: Obj) -> None:
    """Metadata is merged; an empty value removes its key, and an empty whole removes all."""
    merged = {**obj["metadata"], **given} if given else {}
    obj["metadata"] = {key: value for key, value in merged.items() if value != ""}


def _not_editable(message: str) -> ApiError:
    return invalid(message, code="invoice_not_editable")
