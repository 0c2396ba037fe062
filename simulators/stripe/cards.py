"""Test cards, saved payment methods and setup intents.

Owns what each test card does (docs.stripe.com/testing) and which card belongs to whom. It moves no
money.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Any

from simulators.stripe import payment_shapes as shapes
from simulators.stripe.errors import ApiError, card_error, invalid
from simulators.stripe.store import Obj, Store


class Verdict(Enum):
    """What the bank answers to an attempt."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The bank's answer with the codes of a decline."""

    verdict: Verdict
    code: str = "card_declined"
    decline_code: str | None = None
    advice_code: str | None = None


SUCCEEDS = Outcome(verdict=Verdict.SUCCEEDED)
REQUIRES_ACTION = Outcome(verdict=Verdict.REQUIRES_ACTION, code="authentication_required")
PROCESSING = Outcome(verdict=Verdict.PROCESSING)


def declines(decline_code: str, *, code: str = "card_declined", advice_code: str | None = None) -> Outcome:
    """A decline with Stripe's code, the bank's decline code and the network's advice."""
    return Outcome(verdict=Verdict.DECLINED, code=code, decline_code=decline_code, advice_code=advice_code)


HARD_DECLINES = frozenset(
    [
        "authentication_required",
        "highest_risk_level",
        "incorrect_number",
        "lost_card",
        "pickup_card",
        "revocation_of_all_authorizations",
        "revocation_of_authorization",
        "stolen_card",
        "transaction_not_allowed",
    ]
)
"""Declines after which Stripe charges that card no more by itself (docs.stripe.com/invoicing/automatic-collection)."""


@dataclass(frozen=True, kw_only=True)
class TestCard:
    """A card number of Stripe's test mode: what saving and charging it leads to."""

    __test__ = False

    number: str
    brand: str = "visa"
    saving: Outcome = SUCCEEDS
    charging: Outcome = SUCCEEDS
    #: Whether its owner contests every charge as soon as it was made.
    contesting: bool = False

    @property
    def fingerprint(self) -> str:
        """Equal for equal numbers, as Stripe's is within one account."""
        return hashlib.sha256(self.number.encode()).hexdigest()[:16]


def _refused(number: str, decline_code: str, code: str = "card_declined") -> TestCard:
    return TestCard(
        number=number, saving=declines(decline_code, code=code), charging=declines(decline_code, code=code)
    )


CARDS: dict[str, TestCard] = {
    "pm_card_visa": TestCard(number="4242424242424242"),
    "pm_card_mastercard": TestCard(number="5555555555554444", brand="mastercard"),
    "pm_card_amex": TestCard(number="378282246310005", brand="amex"),
    "pm_card_chargeCustomerFail": TestCard(number="4000000000000341", charging=declines("generic_decline")),
    "pm_card_authenticationRequired": TestCard(
        number="4000002760003184", saving=REQUIRES_ACTION, charging=REQUIRES_ACTION
    ),
    "pm_card_authenticationRequiredOnSetup": TestCard(number="4000002500003155", saving=REQUIRES_ACTION),
    "pm_card_createDispute": TestCard(number="4000000000000259", contesting=True),
    "pm_card_visa_chargeDeclined": _refused("4000000000000002", "generic_decline"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": _refused("4000000000009995", "insufficient_funds"),
    "pm_card_visa_chargeDeclinedLostCard": _refused("4000000000009987", "lost_card"),
    "pm_card_visa_chargeDeclinedStolenCard": _refused("4000000000009979", "stolen_card"),
    "pm_card_chargeDeclinedExpiredCard": _refused("4000000000000069", "expired_card", "expired_card"),
}
CARDS |= {key.replace("pm_card_", "tok_"): card for key, card in CARDS.items()}


class Cards:
    """Payment methods and the intents that save them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._numbers: dict[str, TestCard] = {}

    def issue(self, name: str, params: Obj | None = None) -> Obj:
        """A payment method of its own for a test card's name such as `pm_card_visa`."""
        if name not in CARDS:
            raise invalid(f"No such PaymentMethod: '{name}'", "payment_method", "resource_missing")
        card = CARDS[name]
        made = shapes.payment_method(
            self.store.new_id("pm"),
            self.store.now(),
            brand=card.brand,
            last4=card.number[-4:],
            fingerprint=card.fingerprint,
        )
        made["metadata"] = dict((params or {}).get("metadata", {}))
        self._numbers[made["id"]] = card
        return self.store.add(made)

    def create(self, params: Obj) -> Obj:
        """`POST /v1/payment_methods` with a test token; card numbers are for Stripe.js alone."""
        if params.get("type") != "card" or "token" not in params.get("card", {}):
            raise invalid("Only type=card with card[token] is simulated", "card")
        return self.issue(params["card"]["token"], params)

    def resolve(self, key: str) -> Obj:
        """A saved payment method, or a fresh one for a test card's name."""
        return (
            self.issue(key) if key in CARDS else self.store.get("payment_method", key, param="payment_method")
        )

    def contesting(self, key: str) -> bool:
        """Whether the owner of a payment method contests every charge."""
        return self._numbers[key].contesting

    def charging(self, method: Obj) -> Outcome:
        """What charging this payment method leads to."""
        return self._numbers[method["id"]].charging

    def attach(self, key: str, customer: str) -> Obj:
        """Save a card for a customer; declines as the test card says."""
        self.store.get("customer", customer, param="customer")
        method = self.resolve(key)
        outcome = self._numbers[method["id"]].saving
        if outcome.verdict is Verdict.DECLINED:
            raise declined(outcome, payment_method=method)
        if method["customer"] not in {None, customer}:
            raise invalid("The payment method you provided has already been attached to a customer.")
        if method["customer"] is None:
            method["customer"] = customer
            self.store.emit("payment_method.attached", method)
        return method

    def detach(self, key: str) -> Obj:
        """Take a card from its customer, also as its default."""
        method = self.store.get("payment_method", key)
        if method["customer"] is None:
            raise invalid(
                "The payment method you provided is not attached to a customer so detachment is impossible."
            )
        owner = self.store.get("customer", method["customer"])
        if owner["invoice_settings"]["default_payment_method"] == key:
            with self.store.change(owner, "customer.updated"):
                owner["invoice_settings"]["default_payment_method"] = None
        previous = {"customer": method["customer"]}
        method["customer"] = None
        self.store.emit("payment_method.detached", method, previous)
        return method

    def renew(self, key: str, changes: Obj) -> Obj:
        """The network tells of a renewed or replaced card (docs.stripe.com/payments/cards/overview, card updates)."""
        method = self.store.get("payment_method", key)
        with self.store.change(method, "payment_method.automatically_updated"):
            method["card"] |= changes
        return method

    def create_setup(self, params: Obj) -> Obj:
        """`POST /v1/setup_intents`, confirmed at once if asked."""
        if "customer" in params:
            self.store.get("customer", params["customer"], param="customer")
        intent = shapes.setup_intent(
            self.store.new_id("seti"),
            self.store.now(),
            secret=self.store.new_id("s")[2:],
            usage=params.get("usage", "off_session"),
        )
        intent |= {key: params[key] for key in ("customer", "description", "metadata") if key in params}
        self.store.add(intent, "setup_intent.created")
        if "payment_method" in params:
            intent["payment_method"] = self.resolve(params["payment_method"])["id"]
            intent["status"] = "requires_confirmation"
        return self.confirm_setup(intent["id"], {}) if params.get("confirm") else intent

    def confirm_setup(self, key: str, params: Obj) -> Obj:
        """What Stripe.js does when the customer enters a card: save it, decline or ask for more."""
        intent = self.store.get("setup_intent", key)
        if intent["status"] in {"succeeded", "canceled"}:
            raise _unexpected_state(intent)
        chosen = params.get("payment_method") or intent["payment_method"]
        if chosen is None:
            raise invalid("You cannot confirm this SetupIntent because it's missing a payment method.")
        method = self.resolve(chosen)
        intent["payment_method"] = method["id"]
        outcome = self._numbers[method["id"]].saving
        if outcome.verdict is Verdict.DECLINED:
            refusal = declined(outcome, payment_method=method)
            intent |= {"status": "requires_payment_method", "last_setup_error": refusal.details}
            intent["payment_method"] = None
            self.store.emit("setup_intent.setup_failed", intent)
            raise refusal
        if outcome.verdict is Verdict.REQUIRES_ACTION:
            intent |= {"status": "requires_action", "next_action": sdk_action()}
            self.store.emit("setup_intent.requires_action", intent)
            return intent
        return self._saved(intent, method)

    def authenticate_setup(self, key: str) -> Obj:
        """The customer passes 3-D Secure for a setup that asked for it."""
        intent = self.store.get("setup_intent", key)
        if intent["status"] != "requires_action":
            raise _unexpected_state(intent)
        return self._saved(intent, self.store.get("payment_method", intent["payment_method"]))

    def cancel_setup(self, key: str) -> Obj:
        """Give an unfinished setup up."""
        intent = self.store.get("setup_intent", key)
        if intent["status"] in {"succeeded", "canceled"}:
            raise _unexpected_state(intent)
        intent |= {"status": "canceled", "next_action": None}
        self.store.emit("setup_intent.canceled", intent)
        return intent

    def _saved(self, intent: Obj, method: Obj) -> Obj:
        intent |= {"status": "succeeded", "next_action": None, "last_setup_error": None}
        if intent["customer"] is not None and method["customer"] is None:
            method["customer"] = intent["customer"]
            self.store.emit("payment_method.attached", method)
        self.store.emit("setup_intent.succeeded", intent)
        return intent


def sdk_action() -> Obj:
    """The next action that only a browser with Stripe.js can take."""
    return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}


def declined(outcome: Outcome, **details: Any) -> ApiError:
    """The 402 that a decline answers with."""
    words = "expired." if outcome.code == "expired_card" else "declined."
    message = f"Your card has {words}" if outcome.code == "expired_card" else f"Your card was {words}"
    if outcome.advice_code is not None:
        details["advice_code"] = outcome.advice_code
    return card_error(message, outcome.code, decline_code=outcome.decline_code, **details)


def _unexpected_state(intent: Obj) -> ApiError:
    return invalid(
        f"This SetupIntent has a status of {intent['status']} and cannot be changed that way.",
        code="setup_intent_unexpected_state",
    )
