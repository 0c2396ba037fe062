"""Fresh payment objects with every field that Stripe's API shows, at their starting values.

Owns field names and types (API 2026-10-28.endive) and nothing else: no state, no rule.
"""

from __future__ import annotations

from typing import Any

from simulators.stripe.billing_shapes import fields, listing

Obj = dict[str, Any]
_ADDRESS = fields("city country line1 line2 postal_code state")
_BILLING: Obj = {"address": _ADDRESS, "email": None, "name": None, "phone": None}
_CHECKS: Obj = {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"}


def payment_method(key: str, created: int, *, brand: str, last4: str, fingerprint: str) -> Obj:
    """A card that belongs to nobody yet."""
    return {
        "id": key,
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": {**_BILLING, "tax_id": None},
        "card": {
            "brand": brand,
            "checks": dict(_CHECKS),
            "country": "DE",
            "display_brand": brand,
            "exp_month": 12,
            "exp_year": 2034,
            "fingerprint": fingerprint,
            "funding": "credit",
            "generated_from": None,
            "last4": last4,
            "networks": {"available": [brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        },
        "created": created,
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
    }


_INTENT_NULLS = fields(
    "application application_fee_amount canceled_at cancellation_reason customer customer_account description "
    "excluded_payment_method_types last_payment_error latest_charge next_action on_behalf_of payment_method "
    "payment_method_configuration_details processing receipt_email review setup_future_usage shipping source "
    "statement_descriptor statement_descriptor_suffix transfer_data transfer_group"
)


def payment_intent(key: str, created: int, *, amount: int, currency: str, secret: str) -> Obj:
    """An intent that waits for a payment method."""
    return {
        "id": key,
        "object": "payment_intent",
        **_INTENT_NULLS,
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "automatic_payment_methods": None,
        "capture_method": "automatic",
        "client_secret": f"{key}_secret_{secret}",
        "confirmation_method": "automatic",
        "created": created,
        "currency": currency,
        "livemode": False,
        "managed_payments": {"enabled": False},
        "metadata": {},
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
    }


_CHARGE_NULLS = fields(
    "application application_fee application_fee_amount balance_transaction calculated_statement_descriptor "
    "customer description failure_balance_transaction failure_code failure_message on_behalf_of receipt_email "
    "receipt_number receipt_url review shipping source source_transfer statement_descriptor "
    "statement_descriptor_suffix transfer_data transfer_group"
)


def charge(key: str, created: int, *, intent: Obj, method: Obj) -> Obj:
    """A charge of a card on behalf of an intent, not decided yet."""
    card = method["card"]
    shown = ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4")
    hidden = "amount_authorized authorization_code installments mandate network_transaction_id three_d_secure"
    return {
        "id": key,
        "object": "charge",
        **_CHARGE_NULLS,
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "billing_details": dict(method["billing_details"]),
        "captured": False,
        "created": created,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "disputed": False,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "outcome": {
            "advice_code": None,
            "network_advice_code": None,
            "network_decline_code": None,
            "network_status": None,
            "reason": None,
            "seller_message": None,
            "type": "authorized",
        },
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {
            "card": {
                **{name: card[name] for name in shown},
                **fields(hidden),
                "network": card["brand"],
                "network_token": {"used": False},
                "regulated_status": card["regulated_status"],
                "transaction_link_id": None,
                "wallet": None,
            },
            "type": "card",
        },
        "refunded": False,
        "refunds": listing(f"/v1/charges/{key}/refunds"),
        "status": "pending",
    }


def setup_intent(key: str, created: int, *, secret: str, usage: str) -> Obj:
    """An intent to save a card."""
    nulls = fields(
        "application automatic_payment_methods cancellation_reason customer description "
        "excluded_payment_method_types flow_directions last_setup_error latest_attempt mandate next_action "
        "on_behalf_of payment_method payment_method_configuration_details single_use_mandate"
    )
    return {
        "id": key,
        "object": "setup_intent",
        **nulls,
        "client_secret": f"{key}_secret_{secret}",
        "created": created,
        "livemode": False,
        "metadata": {},
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
        "usage": usage,
    }


def refund(key: str, created: int, *, charge: Obj, amount: int) -> Obj:
    """Money on its way back to the card."""
    nulls = fields("customer_account reason receipt_number source_transfer_reversal transfer_reversal")
    return {
        "id": key,
        "object": "refund",
        **nulls,
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "customer": charge["customer"],
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "status": "succeeded",
    }


_EVIDENCE = fields(
    "access_activity_log billing_address cancellation_policy cancellation_policy_disclosure "
    "cancellation_rebuttal customer_communication customer_email_address customer_name customer_purchase_ip "
    "customer_signature duplicate_charge_documentation duplicate_charge_explanation duplicate_charge_id "
    "product_description receipt refund_policy refund_policy_disclosure refund_refusal_explanation "
    "service_date service_documentation shipping_address shipping_carrier shipping_date "
    "shipping_documentation shipping_tracking_number uncategorized_file uncategorized_text"
)


def dispute(key: str, created: int, *, charge: Obj, amount: int, due_by: int) -> Obj:
    """A cardholder's dispute that waits for an answer."""
    return {
        "id": key,
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [],
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**_EVIDENCE, "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": due_by,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {
                "brand": charge["payment_method_details"]["card"]["brand"],
                "case_type": "chargeback",
                "network": charge["payment_method_details"]["card"]["network"],
                "network_reason_code": "10.4",
            },
            "type": "card",
        },
        "reason": "general",
        "status": "needs_response",
    }


def payment_record(key: str, created: int, *, currency: str) -> Obj:
    """A payment that was made outside Stripe, with all its amounts at zero."""
    amounts = ("", "_authorized", "_canceled", "_failed", "_guaranteed", "_refunded", "_requested")
    return {
        "id": key,
        "object": "payment_record",
        **{f"amount{name}": {"currency": currency, "value": 0} for name in amounts},
        "application": None,
        "created": created,
        "customer_details": None,
        "customer_presence": None,
        "description": None,
        "latest_payment_attempt_record": None,
        "livemode": False,
        "metadata": {},
        "payment_method_details": {
            "billing_details": dict(_BILLING),
            "payment_method": None,
            "type": "custom",
        },
        "processor_details": {"type": "custom"},
        "reported_by": "self",
        "shipping_details": None,
    }
