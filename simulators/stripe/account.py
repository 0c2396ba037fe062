"""The simulated Stripe account as a whole, with plain methods that script what happens to it.

Owns the parts, the clock that drives them and the lock around them. Each method stands for something
that Stripe, a bank or a customer does; the HTTP API uses the same parts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import datetime
from random import Random
from typing import Any

from simulators.stripe import billing_shapes
from simulators.stripe.cards import REQUIRES_ACTION, SUCCEEDS, Cards, Outcome, declines
from simulators.stripe.clock import Clock, MovableClock, SystemClock
from simulators.stripe.collection import Collection
from simulators.stripe.credit_notes import CreditNotes
from simulators.stripe.customers import Customers
from simulators.stripe.delivery import Deliveries, Sender
from simulators.stripe.invoice_payments import InvoicePayments
from simulators.stripe.invoices import Invoices
from simulators.stripe.money_back import MoneyBack
from simulators.stripe.outage import Outage
from simulators.stripe.payments import Payments
from simulators.stripe.sender import post
from simulators.stripe.store import Obj, Store
from simulators.stripe.subscriptions import Subscriptions

Instant = datetime | int
"""An aware datetime, or seconds since 1970."""


class Account:
    """One Stripe account in test mode. All scripting methods return copies of Stripe's objects."""

    def __init__(
        self,
        clock: Clock | None = None,
        rng: Random | None = None,
        *,
        sender: Sender = post,
        signing_clock: Clock | None = None,
        api_key: str = "sk_test_simulator",
    ) -> None:
        base = clock or SystemClock()
        self.lock = threading.RLock()
        self.clock = MovableClock(base)
        self.api_key = api_key
        self.store = Store(self.clock, rng or Random())
        self.outage = Outage()
        self.deliveries = Deliveries(
            self.store,
            rng=Random(self.store.rng.random()),
            sender=sender,
            # Receivers check the signature's age against real time, however far the clock was moved.
            signing_clock=signing_clock or base,
            lock=self.lock,
        )
        self.account = billing_shapes.account(
            self.store.new_id("acct", 16), self.store.now(), country="DE", currency="eur"
        )
        self.cards = Cards(self.store)
        self.payments = Payments(self.store, self.cards)
        self.invoice_payments = InvoicePayments(self.store, self.payments)
        self.invoices = Invoices(self.store, self.invoice_payments)
        self.money_back = MoneyBack(self.store)
        self.credit_notes = CreditNotes(self.store, self.invoices, self.money_back)
        self.collection = Collection(self.store, self.invoices, self.cards)
        self.subscriptions = Subscriptions(self.store, self.invoices, self.collection)
        self.customers = Customers(self.store)
        self.customers.on_deleted.append(self._end_everything_of)
        self.payments.on_success.append(self._contested)

    @property
    def id(self) -> str:
        """The account's id."""
        key: str = self.account["id"]
        return key

    # Time

    def run_due(self) -> None:
        """Do what has become due because time passed: finalize, renew, retry."""
        with self.lock:
            self.subscriptions.run_due()
            self.collection.run_due()

    def advance(self, seconds: float) -> None:
        """Move the clock, stopping at each instant at which something is due; ValueError to go back."""
        if seconds < 0:
            raise ValueError(f"the clock only moves forward, not by {seconds} s")
        with self.lock:
            target = self.clock.timestamp() + seconds
            self.run_due()
            while True:
                due = [
                    t for t in (self.collection.next_due(), self.subscriptions.next_due()) if t is not None
                ]
                step = min(due, default=None)
                if step is None or step > target:
                    break
                self.clock.move(max(0.0, step - self.clock.timestamp()))
                self.run_due()
            self.clock.move(max(0.0, target - self.clock.timestamp()))
        self.deliveries.wake()

    # Customers and cards

    def create_customer(self, **params: Any) -> Obj:
        """A customer; `email`, `name`, `metadata` and the like as in the API."""
        return self._do(self.customers.create, params)

    def delete_customer(self, customer: str) -> Obj:
        """Delete a customer; its subscriptions end."""
        return self._do(self.customers.delete, customer)

    def add_card(self, customer: str, card: str = "pm_card_visa", *, default: bool = True) -> Obj:
        """Save a test card for a customer, as its default unless told otherwise."""
        method = self._do(self.cards.attach, card, customer)
        if default:
            settings = {"default_payment_method": method["id"]}
            self._do(self.customers.update, customer, {"invoice_settings": settings})
        return method

    def save_card(self, setup_intent: str, card: str = "pm_card_visa") -> Obj:
        """The customer enters a card in the browser; passes 3-D Secure if the bank wants it. Returns the setup."""
        with self.lock:
            setup = self.cards.confirm_setup(setup_intent, {"payment_method": card})
            if setup["status"] == "requires_action":
                self.cards.authenticate_setup(setup_intent)
            return deepcopy(setup)

    def renew_card(self, card: str, **changes: Any) -> Obj:
        """The network tells of a card's new expiry or number: `exp_month`, `exp_year`, `last4`, `fingerprint`."""
        return self._do(self.cards.renew, card, changes)

    def detach_card(self, card: str) -> Obj:
        """Somebody takes a card from its customer."""
        return self._do(self.cards.detach, card)

    def answer_next(self, *outcomes: Outcome) -> None:
        """Script what the bank answers to the next attempts at charging any card."""
        with self.lock:
            self.payments.scripted.extend(outcomes)

    def complete_payment(self, payment_intent: str, outcome: Outcome = SUCCEEDS) -> Obj:
        """The bank answers at last for a payment that is processing."""
        return self._do(self.payments.complete, payment_intent, outcome)

    def confirm_payment(self, payment_intent: str, card: str) -> Obj:
        """The customer confirms a payment in the browser, and passes 3-D Secure if the bank wants it."""
        with self.lock:
            intent = self.payments.confirm(payment_intent, {"payment_method": card})
            if intent["status"] == "requires_action":
                self.payments.authenticate(payment_intent)
            return deepcopy(intent)

    # Invoices

    def create_invoice(
        self,
        customer: str,
        amount: int,
        currency: str = "eur",
        collection_method: str = "send_invoice",
        *,
        due_date: Instant | None = None,
        finalize: bool = True,
        **params: Any,
    ) -> Obj:
        """An invoice over one amount in minor units; finalized, and with a card charged, by default.

        Without `due_date` a `send_invoice` invoice is due in 30 days.
        """
        fields: Obj = {"customer": customer, "currency": currency, "collection_method": collection_method}
        if due_date is not None:
            fields["due_date"] = int(due_date.timestamp()) if isinstance(due_date, datetime) else due_date
        elif collection_method == "send_invoice":
            fields["days_until_due"] = 30
        automatic = collection_method == "charge_automatically"
        with self.lock:
            made = self.invoices.create({"auto_advance": automatic, **fields, **params})
            item = {"customer": customer, "amount": amount, "currency": currency, "invoice": made["id"]}
            self.invoices.create_item(item)
            if finalize:
                self.collection.finalize(made["id"], {})
            return deepcopy(made)

    def finalize_invoice(self, invoice: str) -> Obj:
        """Open a draft."""
        return self._do(self.collection.finalize, invoice, {})

    def pay_invoice(self, invoice: str, *, out_of_band: bool = False) -> Obj:
        """The customer pays the whole remainder with a good card, or outside Stripe."""
        if out_of_band:
            return self._do(self.collection.pay, invoice, {"paid_out_of_band": True})
        return self._attempt(invoice, SUCCEEDS, automatic=False)

    def fail_payment(
        self, invoice: str, decline_code: str = "generic_decline", *, automatic: bool = True
    ) -> Obj:
        """The bank refuses an attempt, by default one that Stripe makes by itself."""
        return self._attempt(invoice, declines(decline_code), automatic=automatic)

    def require_action(self, invoice: str, *, automatic: bool = True) -> Obj:
        """The bank wants the customer to authenticate before it pays."""
        return self._attempt(invoice, REQUIRES_ACTION, automatic=automatic)

    def authenticate(self, payment_intent: str, *, succeed: bool = True) -> Obj:
        """The customer authenticates, or fails to."""
        return self._do(self.payments.authenticate, payment_intent, succeed=succeed)

    def void_invoice(self, invoice: str) -> Obj:
        """Void an open invoice that was not paid in part."""
        return self._do(self.invoices.void, invoice)

    def mark_uncollectible(self, invoice: str) -> Obj:
        """Give an open invoice up; it can still be paid."""
        return self._do(self.invoices.mark_uncollectible, invoice)

    def report_payment(self, invoice: str, amount: int) -> Obj:
        """Money from outside Stripe in minor units, attached to an invoice as a payment record."""
        with self.lock:
            currency = self.store.get("invoice", invoice)["currency"]
            record = self.payments.report(
                {
                    "amount_requested": {"currency": currency, "value": amount},
                    "outcome": "guaranteed",
                    "guaranteed": {"guaranteed_at": self.store.now()},
                    "payment_method_details": {"type": "custom"},
                }
            )
            return deepcopy(self.invoice_payments.attach(invoice, {"payment_record": record["id"]}))

    # Money back

    def credit(self, invoice: str, amount: int, **params: Any) -> Obj:
        """A credit note over an amount in minor units."""
        return self._do(self.credit_notes.create, {"invoice": invoice, "amount": amount, **params})

    def void_credit_note(self, credit_note: str) -> Obj:
        """Void a credit note of an open invoice."""
        return self._do(self.credit_notes.void, credit_note)

    def refund(self, invoice: str, amount: int | None = None) -> Obj:
        """Give back the charge that paid an invoice, whole or in part."""
        params: Obj = {"charge": self.charge_of(invoice)}
        return self._do(self.money_back.refund, params if amount is None else {**params, "amount": amount})

    def open_dispute(self, invoice: str, *, amount: int | None = None, inquiry: bool = False) -> Obj:
        """The cardholder contests the charge that paid an invoice."""
        return self._do(self.money_back.open_dispute, self.charge_of(invoice), amount=amount, inquiry=inquiry)

    def close_dispute(self, dispute: str, *, won: bool) -> Obj:
        """The bank decides for (`won`) or against the merchant."""
        return self._do(self.money_back.close_dispute, dispute, won=won)

    def charge_of(self, invoice: str) -> str:
        """The id of the charge that paid an invoice; LookupError when no card did."""
        with self.lock:
            for payment in self.invoice_payments.of(self.store.get("invoice", invoice)):
                intent = self.store.find(payment["payment"].get("payment_intent") or "")
                if intent is not None and payment["status"] == "paid":
                    return str(intent["latest_charge"])
        raise LookupError(f"no card paid invoice {invoice}")

    # Subscriptions

    def create_subscription(self, customer: str, amount: int, **params: Any) -> Obj:
        """A subscription of an amount per month (or `interval`); its first invoice is open or paid."""
        return self._do(self.subscriptions.create, {"customer": customer, "amount": amount, **params})

    def end_subscription(self, subscription: str, *, at_period_end: bool = False) -> Obj:
        """End a subscription now, or when its period is over."""
        if at_period_end:
            return self._do(self.subscriptions.update, subscription, {"cancel_at_period_end": True})
        return self._do(self.subscriptions.cancel, subscription)

    # Reading

    def get(self, kind: str, key: str) -> Obj:
        """A copy of one object."""
        with self.lock:
            return deepcopy(self.store.get(kind, key))

    def events(self, kind: str | None = None) -> list[Obj]:
        """Copies of all listable events, oldest first, of one type or all."""
        with self.lock:
            found = reversed(self.store.newest_first("event"))
            return [deepcopy(event) for event in found if kind in {None, event["type"]}]

    @contextmanager
    def requested(self, request_id: str, idempotency_key: str | None) -> Iterator[None]:
        """Events of this block name the API request that made them."""
        with self.lock:
            self.store.request = {"id": request_id, "idempotency_key": idempotency_key}
            try:
                yield
            finally:
                self.store.request = {"id": None, "idempotency_key": None}

    def _attempt(self, key: str, outcome: Any, *, automatic: bool) -> Obj:
        with self.lock:
            invoice = self.store.get("invoice", key)
            method = None if outcome is SUCCEEDS else self.collection.method_for(invoice)
            self.collection.attempt(invoice, method, automatic=automatic, forced=outcome)
            return deepcopy(invoice)

    def _do(self, act: Callable[..., Obj], *args: Any, **kwargs: Any) -> Obj:
        with self.lock:
            return deepcopy(act(*args, **kwargs))

    def _contested(self, intent: Obj) -> None:
        if self.cards.contesting(intent["payment_method"]):
            self.money_back.open_dispute(intent["latest_charge"])

    def _end_everything_of(self, owner: Obj) -> None:
        for subscription in self.store.newest_first("subscription"):
            if subscription["customer"] == owner["id"] and subscription["status"] != "canceled":
                self.subscriptions.cancel(subscription["id"])
        for method in self.store.newest_first("payment_method"):
            if method["customer"] == owner["id"]:
                self.cards.detach(method["id"])
        for invoice in self.store.newest_first("invoice"):
            if invoice["customer"] == owner["id"] and invoice["status"] in {"draft", "open"}:
                with self.store.change(invoice, "invoice.updated"):
                    invoice |= {
                        "auto_advance": False,
                        "automatically_finalizes_at": None,
                        "next_payment_attempt": None,
                    }
