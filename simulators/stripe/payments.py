"""Payment intents, charges and payments reported from outside Stripe.

Owns whether a card was charged. Which invoice a payment belongs to is not known here: the
intent's users are told through `on_success`.
"""

from __future__ import annotations

from collections.abc import Callable

from simulators.stripe import payment_shapes as shapes
from simulators.stripe.cards import Cards, Outcome, Verdict, declined, sdk_action
from simulators.stripe.errors import ApiError, card_error, invalid
from simulators.stripe.store import Obj, Store

MINIMUM = {"chf": 50, "eur": 50, "gbp": 30, "jpy": 50, "usd": 50}
"""The least that is charged, of some currencies (docs.stripe.com/currencies#minimum-and-maximum-charge-amounts)."""

_CONFIRMABLE = {"requires_payment_method", "requires_confirmation", "requires_action"}


class Payments:
    """Intents and what became of them."""

    def __init__(self, store: Store, cards: Cards) -> None:
        self.store = store
        self.cards = cards
        self.on_success: list[Callable[[Obj], None]] = []
        self.records_enabled = True
        self.scripted: list[Outcome] = []
        """What the bank answers to the next attempts, whatever the card."""

    def create(self, params: Obj) -> Obj:
        """`POST /v1/payment_intents`, confirmed at once if asked; 402 when the card is refused."""
        if params["amount"] <= 0:
            raise invalid(
                "This value must be greater than or equal to 1.", "amount", "parameter_invalid_integer"
            )
        if params["amount"] < MINIMUM.get(params["currency"].lower(), 1):
            raise invalid("Amount is below the minimum charge amount.", "amount", "amount_too_small")
        if "customer" in params:
            self.store.get("customer", params["customer"], param="customer")
        intent = self.intent(
            amount=params["amount"], currency=params["currency"].lower(), customer=params.get("customer")
        )
        intent |= {key: params[key] for key in ("description", "metadata") if key in params}
        if "payment_method" in params:
            self._choose(intent, params["payment_method"])
        if not params.get("confirm"):
            return intent
        return self.confirm(intent["id"], {"off_session": params.get("off_session", False)})

    def intent(self, *, amount: int, currency: str, customer: str | None) -> Obj:
        """A new intent over an amount in minor units."""
        made = shapes.payment_intent(
            self.store.new_id("pi"),
            self.store.now(),
            amount=amount,
            currency=currency,
            secret=self.store.new_id("s")[2:],
        )
        made["customer"] = customer
        return self.store.add(made, "payment_intent.created")

    def confirm(self, key: str, params: Obj) -> Obj:
        """`POST /v1/payment_intents/{id}/confirm`; off-session needs of the customer answer 402."""
        intent = self.store.get("payment_intent", key)
        if intent["status"] not in _CONFIRMABLE:
            raise _unexpected_state(intent)
        if "payment_method" in params:
            self._choose(intent, params["payment_method"])
        if intent["payment_method"] is None:
            raise invalid(
                "You cannot confirm this PaymentIntent because it's missing a payment method.",
                code="payment_intent_unexpected_state",
            )
        method = self.store.get("payment_method", intent["payment_method"])
        outcome = self.attempt(intent, method)
        if outcome.verdict is Verdict.DECLINED:
            raise declined(outcome, payment_intent=dict(intent), charge=intent["latest_charge"])
        if outcome.verdict is Verdict.REQUIRES_ACTION and params.get("off_session"):
            # Nobody is there to act: the attempt counts as failed (docs.stripe.com/payments/save-and-reuse).
            intent |= {"status": "requires_payment_method", "next_action": None, "payment_method": None}
            refusal = card_error(
                "Your card was declined. This transaction requires authentication.",
                "authentication_required",
                decline_code="authentication_required",
                payment_intent=dict(intent),
            )
            intent["last_payment_error"] = _plain(refusal) | {"payment_method": dict(method)}
            self.store.emit("payment_intent.payment_failed", intent)
            raise refusal
        return intent

    def attempt(self, intent: Obj, method: Obj, forced: Outcome | None = None) -> Outcome:
        """Charge a card for an intent; `forced` stands for what a scripted bank answers."""
        outcome = forced or (self.scripted.pop(0) if self.scripted else self.cards.charging(method))
        intent["payment_method"] = method["id"]
        if outcome.verdict is Verdict.PROCESSING:
            intent |= {"status": "processing", "next_action": None}
            self.store.emit("payment_intent.processing", intent)
        elif outcome.verdict is Verdict.REQUIRES_ACTION:
            intent |= {"status": "requires_action", "next_action": sdk_action()}
            self.store.emit("payment_intent.requires_action", intent)
        elif outcome.verdict is Verdict.DECLINED:
            self._fail(intent, method, outcome)
        else:
            self._succeed(intent, method)
        return outcome

    def complete(self, key: str, outcome: Outcome) -> Obj:
        """The bank answers at last for an intent that is processing."""
        intent = self.store.get("payment_intent", key)
        if intent["status"] != "processing":
            raise _unexpected_state(intent)
        method = self.store.get("payment_method", intent["payment_method"])
        if outcome.verdict is Verdict.SUCCEEDED:
            self._succeed(intent, method)
        else:
            self._fail(intent, method, outcome)
        return intent

    def authenticate(self, key: str, *, succeed: bool = True) -> Obj:
        """The customer passes (or fails) 3-D Secure for an intent that asked for it."""
        intent = self.store.get("payment_intent", key)
        if intent["status"] != "requires_action":
            raise _unexpected_state(intent)
        method = self.store.get("payment_method", intent["payment_method"])
        if succeed:
            self._succeed(intent, method)
        else:
            code = "payment_intent_authentication_failure"
            self._fail(intent, method, Outcome(verdict=Verdict.DECLINED, code=code))
        return intent

    def cancel(self, key: str, params: Obj) -> Obj:
        """`POST /v1/payment_intents/{id}/cancel`."""
        intent = self.store.get("payment_intent", key)
        if intent["status"] not in _CONFIRMABLE:
            raise _unexpected_state(intent)
        intent |= {"status": "canceled", "canceled_at": self.store.now(), "next_action": None}
        intent["cancellation_reason"] = params.get("cancellation_reason")
        self.store.emit("payment_intent.canceled", intent)
        return intent

    def report(self, params: Obj) -> Obj:
        """`POST /v1/payment_records/report_payment`: money that arrived outside Stripe."""
        if not self.records_enabled:
            raise ApiError("This account is not enabled for Payment Records.", status=403)
        asked, outcome = params["amount_requested"], params.get("outcome")
        if asked["value"] <= 0:
            raise invalid("This value must be greater than or equal to 1.", "amount_requested[value]")
        if outcome is not None and outcome not in params:
            raise invalid(f"Missing required param: {outcome}.", outcome, "parameter_missing")
        amount = {"currency": asked["currency"].lower(), "value": asked["value"]}
        record = shapes.payment_record(self.store.new_id("pr"), self.store.now(), currency=amount["currency"])
        record |= {"amount": dict(amount), "amount_requested": dict(amount)}
        if outcome is not None:
            record[f"amount_{outcome}"] = dict(amount)
        for key in ("customer_details", "customer_presence", "description", "metadata", "processor_details"):
            if key in params:
                record[key] = params[key]
        record["payment_method_details"] |= params["payment_method_details"]
        return self.store.add(record)

    def _choose(self, intent: Obj, key: str) -> None:
        method = self.cards.resolve(key)
        if method["customer"] is not None and method["customer"] != intent["customer"]:
            raise invalid("The customer does not have a payment method with that ID.", "payment_method")
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}

    def _charge(self, intent: Obj, method: Obj) -> Obj:
        made = shapes.charge(self.store.new_id("ch"), self.store.now(), intent=intent, method=method)
        intent["latest_charge"] = made["id"]
        return made

    def _succeed(self, intent: Obj, method: Obj) -> None:
        charge = self._charge(intent, method)
        charge |= {"status": "succeeded", "paid": True, "captured": True, "amount_captured": intent["amount"]}
        charge["outcome"] |= {"network_status": "approved_by_network", "seller_message": "Payment complete."}
        self.store.add(charge, "charge.succeeded")
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        intent |= {"last_payment_error": None, "next_action": None}
        self.store.emit("payment_intent.succeeded", intent)
        for tell in self.on_success:
            tell(intent)

    def _fail(self, intent: Obj, method: Obj, outcome: Outcome) -> None:
        refusal = declined(outcome)
        charge = self._charge(intent, method)
        charge |= {"status": "failed", "failure_code": outcome.code, "failure_message": str(refusal)}
        charge["outcome"] |= {
            "network_status": "declined_by_network",
            "reason": outcome.decline_code,
            "type": "issuer_declined",
        }
        self.store.add(charge, "charge.failed")
        intent |= {"status": "requires_payment_method", "payment_method": None, "next_action": None}
        intent["last_payment_error"] = _plain(refusal) | {
            "charge": charge["id"],
            "payment_method": dict(method),
        }
        self.store.emit("payment_intent.payment_failed", intent)


def _plain(refusal: ApiError) -> Obj:
    return {key: value for key, value in refusal.details.items() if key != "payment_intent"}


def _unexpected_state(intent: Obj) -> ApiError:
    return invalid(
        f"This PaymentIntent's status is {intent['status']}, so it cannot be changed that way.",
        code="payment_intent_unexpected_state",
    )
