"""When Stripe collects by itself: after finalization, then on the retry schedule, then no more.

Owns the account's collection settings and everything that happens only because time passed. The
amounts and transitions themselves belong to `invoices` and `subscriptions`.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

from simulators.stripe.cards import HARD_DECLINES, Cards, Outcome, Verdict, declined
from simulators.stripe.errors import ApiError, card_error, invalid
from simulators.stripe.invoice_payments import already_paid
from simulators.stripe.invoices import Invoices
from simulators.stripe.store import Obj, Store, previous_attributes

_DAY = 86400
_NO_METHOD = Outcome(verdict=Verdict.DECLINED, code="missing_payment_method")


@dataclass(kw_only=True)
class CollectionSettings:
    """The account's billing settings (dashboard: Billing, Revenue recovery)."""

    retry_after: tuple[int, ...] = (3 * _DAY, 5 * _DAY, 7 * _DAY)
    """Seconds from each failed attempt to the next; after the last one Stripe gives up."""

    invoice_in_the_end: str = "open"
    """What becomes of the invoice then: `open` or `uncollectible`."""

    subscription_in_the_end: str = "past_due"
    """What becomes of its subscription then: `past_due`, `unpaid` or `canceled`."""


class Collection:
    """Attempts to collect, by request and by schedule."""

    def __init__(self, store: Store, invoices: Invoices, cards: Cards) -> None:
        self.store = store
        self.invoices = invoices
        self.cards = cards
        self.settings = CollectionSettings()
        self.on_failure: list[Callable[[Obj], None]] = []
        self.on_giving_up: list[Callable[[Obj, str], None]] = []
        invoices.payments.on_paid.append(self._no_longer_delinquent)

    def finalize(self, key: str, params: Obj) -> Obj:
        """Open a draft; with automatic advancement collect at once, or mail it."""
        invoice = self.invoices.finalize(key, params)
        if invoice["status"] == "open" and invoice["auto_advance"]:
            if invoice["collection_method"] == "send_invoice":
                self.store.emit("invoice.sent", invoice)
            else:
                self.attempt(invoice, self.method_for(invoice), automatic=True)
        return invoice

    def pay(self, key: str, params: Obj) -> Obj:
        """`POST /v1/invoices/{id}/pay`: 402 when the card is refused or needs its owner."""
        invoice = self.store.get("invoice", key)
        if invoice["status"] == "draft":
            self.invoices.finalize(key, {})
        if invoice["status"] == "paid":
            raise already_paid()
        if invoice["status"] == "void":
            raise invalid("Void invoices can't be paid.", code="invoice_not_editable")
        if params.get("paid_out_of_band"):
            return self.invoices.pay_out_of_band(invoice)
        method = self._chosen(invoice, params)
        if method is None:
            raise invalid(
                "There is no default_payment_method set on this Customer or Invoice.", "payment_method"
            )
        outcome = self.attempt(invoice, method, automatic=False)
        if outcome.verdict is Verdict.DECLINED:
            raise declined(outcome)
        if outcome.verdict is Verdict.REQUIRES_ACTION:
            raise _needs_customer()
        return invoice

    def method_for(self, invoice: Obj) -> Obj | None:
        """The card that Stripe charges: the invoice's, the subscription's, the customer's default."""
        owner = self.store.get("customer", invoice["customer"])
        details = (invoice["parent"] or {}).get("subscription_details")
        subscription = self.store.find(details["subscription"]) if details else None
        chosen = (
            invoice["default_payment_method"]
            or (subscription and subscription["default_payment_method"])
            or (not owner.get("deleted") and owner["invoice_settings"]["default_payment_method"])
        )
        return self.store.get("payment_method", chosen) if chosen else None

    def attempt(
        self, invoice: Obj, method: Obj | None, *, automatic: bool, forced: Outcome | None = None
    ) -> Outcome:
        """Charge a card for what remains; without a card the attempt fails without a charge.

        `attempt_count` follows the retry schedule: the first attempt of any kind counts, afterwards
        only automatic ones (docs.stripe.com/api/invoices/object).
        """
        before = deepcopy(invoice)
        intent = self.invoices.payments.default_intent(invoice)
        follows_schedule = automatic or invoice["attempt_count"] == 0
        invoice["attempted"] = True
        invoice["attempt_count"] += follows_schedule
        if method is None and forced is None:
            outcome = _NO_METHOD
        else:
            charged = method or self.cards.issue("pm_card_visa")
            outcome = self.invoices.payments.payments.attempt(intent, charged, forced)
        if outcome.verdict in {Verdict.DECLINED, Verdict.REQUIRES_ACTION}:
            self._failed(invoice, outcome, before, follows_schedule=follows_schedule)
        return outcome

    def run_due(self) -> None:
        """Finalize the drafts and retry the payments whose time has come."""
        now = self.store.now()
        for invoice in self.store.oldest_first("invoice"):
            if _reached(invoice["automatically_finalizes_at"], now):
                self.finalize(invoice["id"], {})
            elif invoice["status"] == "open" and _reached(invoice["next_payment_attempt"], now):
                self._retry(invoice)

    def next_due(self) -> int | None:
        """The next second at which `run_due` has work."""
        times = [
            time
            for invoice in self.store.oldest_first("invoice")
            for time in (invoice["automatically_finalizes_at"], invoice["next_payment_attempt"])
            if time is not None
        ]
        return min(times, default=None)

    def _retry(self, invoice: Obj) -> None:
        method = self.method_for(invoice)
        error = self.invoices.payments.default_intent(invoice)["last_payment_error"] or {}
        same_card = method is not None and error.get("payment_method", {}).get("id") == method["id"]
        if same_card and error.get("decline_code") in HARD_DECLINES:
            # The schedule goes on and counts, but that card is not charged again.
            with self.store.change(invoice, "invoice.updated"):
                invoice["attempt_count"] += 1
                self._schedule(invoice)
        else:
            self.attempt(invoice, method, automatic=True)

    def _failed(self, invoice: Obj, outcome: Outcome, before: Obj, *, follows_schedule: bool) -> None:
        if follows_schedule and invoice["collection_method"] == "charge_automatically":
            self._schedule(invoice)
        self.store.emit("invoice.updated", invoice, previous_attributes(before, invoice))
        self.store.emit("invoice.payment_failed", invoice)
        if outcome.verdict is Verdict.REQUIRES_ACTION:
            self.store.emit("invoice.payment_action_required", invoice)
        owner = self.store.get("customer", invoice["customer"])
        if invoice["collection_method"] == "charge_automatically" and not owner.get("deleted"):
            with self.store.change(owner, "customer.updated"):
                owner["delinquent"] = True
        for tell in self.on_failure:
            tell(invoice)
        if follows_schedule and invoice["auto_advance"] and invoice["next_payment_attempt"] is None:
            self._give_up(invoice)

    def _schedule(self, invoice: Obj) -> None:
        done = invoice["attempt_count"]
        waits = self.settings.retry_after if invoice["auto_advance"] else ()
        next_attempt = self.store.now() + waits[done - 1] if done <= len(waits) else None
        invoice["next_payment_attempt"] = next_attempt

    def _give_up(self, invoice: Obj) -> None:
        if invoice["collection_method"] != "charge_automatically":
            return
        if self.settings.invoice_in_the_end == "uncollectible":
            self.invoices.mark_uncollectible(invoice["id"])
        for tell in self.on_giving_up:
            tell(invoice, self.settings.subscription_in_the_end)

    def _no_longer_delinquent(self, invoice: Obj) -> None:
        owner = self.store.get("customer", invoice["customer"])
        if not owner.get("delinquent"):
            return
        rest = [
            other
            for other in self.store.oldest_first("invoice")
            if (other["customer"], other["status"], other["attempted"]) == (owner["id"], "open", True)
        ]
        with self.store.change(owner, "customer.updated"):
            owner["delinquent"] = bool(rest)

    def _chosen(self, invoice: Obj, params: Obj) -> Obj | None:
        if "payment_method" not in params:
            return self.method_for(invoice)
        method = self.cards.resolve(params["payment_method"])
        if method["customer"] not in {None, invoice["customer"]}:
            raise invalid("The customer does not have a payment method with that ID.", "payment_method")
        return method


def _reached(time: int | None, now: int) -> bool:
    return time is not None and time <= now


def _needs_customer() -> ApiError:
    return card_error(
        "This payment requires additional user action before it can be completed successfully.",
        "invoice_payment_intent_requires_action",
    )
