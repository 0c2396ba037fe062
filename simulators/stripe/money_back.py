"""Refunds and disputes: money that leaves again after a charge succeeded.

Owns how much of a charge was given back or is contested. It never touches the invoice: at Stripe a
refunded or disputed invoice stays paid.
"""

from __future__ import annotations

from simulators.stripe import payment_shapes as shapes
from simulators.stripe.errors import invalid
from simulators.stripe.store import Obj, Store

_ANSWER_TIME = 14 * 86400
"""Seconds until a dispute must be answered; the schemes give 7 to 21 days."""


class MoneyBack:
    """Refunds and disputes of charges."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def refund(self, params: Obj) -> Obj:
        """`POST /v1/refunds` for a charge or an intent; the rest of the charge by default."""
        charge = self._charge_of(params)
        rest = charge["amount_captured"] - charge["amount_refunded"]
        if charge["refunded"]:
            raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
        if charge["disputed"]:
            raise invalid(f"Charge {charge['id']} has been charged back.", code="charge_disputed")
        amount = params.get("amount", rest)
        if not 0 < amount <= rest:
            raise invalid(f"Refund amount ({amount}) is not between 1 and the unrefunded {rest}.", "amount")
        refund = shapes.refund(self.store.new_id("re"), self.store.now(), charge=charge, amount=amount)
        refund |= {key: params[key] for key in ("metadata", "reason") if key in params}
        self.store.add(refund, "refund.created")
        with self.store.change(charge, "charge.refunded"):
            charge["amount_refunded"] += amount
            charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
        return refund

    def fail_refund(self, key: str) -> Obj:
        """The bank sends a refund back; the money is the merchant's again."""
        refund = self.store.get("refund", key)
        if refund["status"] != "succeeded":
            raise invalid(f"Refund {key} is {refund['status']}.")
        with self.store.change(refund, "refund.updated", "refund.failed"):
            refund |= {"status": "failed", "failure_reason": "expired_or_canceled_card"}
        charge = self.store.get("charge", refund["charge"])
        with self.store.change(charge, "charge.updated"):
            charge["amount_refunded"] -= refund["amount"]
            charge["refunded"] = False
        return refund

    def open_dispute(self, charge_id: str, *, amount: int | None = None, inquiry: bool = False) -> Obj:
        """The cardholder contests a charge; an inquiry withdraws no money yet."""
        charge = self.store.get("charge", charge_id, param="charge")
        if not charge["captured"] or charge["disputed"]:
            raise invalid(f"Charge {charge_id} cannot be disputed.", "charge")
        contested = charge["amount"] if amount is None else amount
        if not 0 < contested <= charge["amount"]:
            raise invalid(f"The contested amount must be between 1 and {charge['amount']}.", "amount")
        now = self.store.now()
        dispute = shapes.dispute(
            self.store.new_id("dp"), now, charge=charge, amount=contested, due_by=now + _ANSWER_TIME
        )
        if inquiry:
            dispute |= {"status": "warning_needs_response", "is_charge_refundable": True}
            dispute["payment_method_details"]["card"]["case_type"] = "inquiry"
        self.store.add(dispute, "charge.dispute.created")
        with self.store.change(charge, "charge.updated"):
            charge["disputed"] = True
        if not inquiry:
            self.store.emit("charge.dispute.funds_withdrawn", dispute)
        return dispute

    def close_dispute(self, key: str, *, won: bool) -> Obj:
        """The bank decides; an inquiry closes without a verdict. Closing twice is refused."""
        dispute = self.store.get("dispute", key)
        status: str = dispute["status"]
        if status in {"won", "lost", "warning_closed"}:
            raise invalid(f"This dispute is already {status}.")
        inquiry = status.startswith("warning_")
        with self.store.change(dispute, "charge.dispute.updated", "charge.dispute.closed"):
            dispute["status"] = "warning_closed" if inquiry else "won" if won else "lost"
        if won and not inquiry:
            self.store.emit("charge.dispute.funds_reinstated", dispute)
        return dispute

    def _charge_of(self, params: Obj) -> Obj:
        if "charge" in params:
            return self.store.get("charge", params["charge"], param="charge")
        if "payment_intent" not in params:
            raise invalid("One of charge or payment_intent is required.", code="parameter_missing")
        intent = self.store.get("payment_intent", params["payment_intent"], param="payment_intent")
        if intent["status"] != "succeeded":
            raise invalid(f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.")
        return self.store.get("charge", intent["latest_charge"])
