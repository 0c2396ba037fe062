"""Fresh billing objects with every field that Stripe's API shows, at their starting values.

Owns field names and types (API 2026-10-28.endive) and nothing else: no state, no rule. Left out are
the fields that only an expansion brings, such as an invoice's `payments`.
"""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]


def fields(names: str, value: object = None) -> Obj:
    """Fields that start with the same value, null unless given."""
    return dict.fromkeys(names.split(), value)


def listing(url: str, data: list[Obj] | None = None) -> Obj:
    """A list object that holds everything it has."""
    return {"object": "list", "data": data or [], "has_more": False, "url": url}


def account(key: str, created: int, *, country: str, currency: str) -> Obj:
    """A standard account that may take payments."""
    requirements = ("currently_due", "errors", "eventually_due", "past_due", "pending_verification")
    nothing_due: Obj = {"alternatives": [], "current_deadline": None, "disabled_reason": None}
    nothing_due |= {name: [] for name in requirements}
    return {
        "id": key,
        "object": "account",
        "business_profile": {"name": "Simulated account", "support_email": None, "url": None, "mcc": None},
        "business_type": "company",
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": country,
        "created": created,
        "default_currency": currency,
        "details_submitted": True,
        "email": "billing@example.com",
        "external_accounts": listing(f"/v1/accounts/{key}/external_accounts"),
        "future_requirements": dict(nothing_due),
        "metadata": {},
        "payouts_enabled": True,
        "requirements": dict(nothing_due),
        "settings": {"dashboard": {"display_name": "Simulated account", "timezone": "Etc/UTC"}},
        "tos_acceptance": {"date": created, "ip": None, "user_agent": None},
        "type": "standard",
    }


def customer(key: str, created: int, *, invoice_prefix: str) -> Obj:
    """A customer without money, cards or currency."""
    return {
        "id": key,
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": created,
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": invoice_prefix,
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }


_INVOICE_NULLS = fields(
    "account_name account_tax_ids application automatically_finalizes_at custom_fields customer_account "
    "customer_address customer_phone customer_shipping default_payment_method default_source description "
    "due_date effective_at ending_balance footer from_invoice hosted_invoice_url invoice_pdf "
    "last_finalization_error latest_revision next_payment_attempt number on_behalf_of parent receipt_number "
    "rendering shipping_cost shipping_details statement_descriptor test_clock total_pretax_credit_amounts "
    "total_taxes webhooks_delivered_at"
)
_INVOICE_ZEROS = fields(
    "amount_due amount_overpaid amount_paid amount_paid_off_stripe amount_remaining amount_shipping "
    "attempt_count post_payment_credit_notes_amount pre_payment_credit_notes_amount starting_balance "
    "subtotal subtotal_excluding_tax total total_excluding_tax",
    0,
)


def invoice(key: str, created: int, *, owner: Obj, currency: str) -> Obj:
    """An empty draft for a customer."""
    return {
        "id": key,
        "object": "invoice",
        **_INVOICE_NULLS,
        **_INVOICE_ZEROS,
        "account_country": "DE",
        "attempted": False,
        "auto_advance": False,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "billing_reason": "manual",
        "collection_method": "charge_automatically",
        "created": created,
        "currency": currency,
        "customer": owner["id"],
        "customer_email": owner["email"],
        "customer_name": owner["name"],
        "customer_tax_exempt": owner["tax_exempt"],
        "customer_tax_ids": [],
        "default_tax_rates": [],
        "discounts": [],
        "issuer": {"type": "self"},
        "lines": listing(f"/v1/invoices/{key}/lines"),
        "livemode": False,
        "metadata": {},
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": created,
        "period_start": created,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "total_discount_amounts": [],
    }


def line_item(key: str, item: Obj, *, invoice: str, parent: Obj) -> Obj:
    """An invoice's line over an item's amount."""
    return {
        "id": key,
        "object": "line_item",
        "amount": item["amount"],
        "currency": item["currency"],
        "description": item["description"],
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice,
        "livemode": False,
        "metadata": dict(item["metadata"]),
        "parent": parent,
        "period": dict(item["period"]),
        "pretax_credit_amounts": [],
        "pricing": dict(item["pricing"]),
        "quantity": 1,
        "quantity_decimal": "1",
        "subscription": None,
        "subtotal": item["amount"],
        "taxes": [],
    }


def pricing(amount: int) -> Obj:
    """How an amount was priced."""
    return {"type": "price_details", "unit_amount_decimal": str(amount)}


def invoice_item(key: str, created: int, *, customer: str, amount: int, currency: str) -> Obj:
    """An amount to be invoiced, not yet on an invoice."""
    return {
        "id": key,
        "object": "invoiceitem",
        "amount": amount,
        "currency": currency,
        "customer": customer,
        "customer_account": None,
        "date": created,
        "description": None,
        "discountable": True,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "net_amount": amount,
        "parent": None,
        "period": {"end": created, "start": created},
        "pricing": pricing(amount),
        "proration": False,
        "quantity": 1,
        "quantity_decimal": "1",
        "tax_rates": [],
        "test_clock": None,
    }


def invoice_payment(key: str, created: int, *, invoice: Obj, payment: Obj, is_default: bool) -> Obj:
    """A payment intended towards an invoice."""
    return {
        "id": key,
        "object": "invoice_payment",
        "amount_paid": None,
        "amount_requested": invoice["amount_remaining"],
        "created": created,
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": is_default,
        "livemode": False,
        "payment": payment,
        "status": "open",
        "status_transitions": {"canceled_at": None, "paid_at": None},
    }


def credit_note(key: str, created: int, *, invoice: Obj, amount: int) -> Obj:
    """An issued reduction of an invoice, as one line over the whole amount."""
    line = {
        "id": key.replace("cn_", "cnli_", 1),
        "object": "credit_note_line_item",
        "amount": amount,
        "description": "Credit",
        "discount_amount": 0,
        "discount_amounts": [],
        "invoice_line_item": None,
        "livemode": False,
        "metadata": None,
        "pretax_credit_amounts": [],
        "quantity": 1,
        "tax_rates": [],
        "taxes": [],
        "type": "custom_line_item",
        "unit_amount": amount,
        "unit_amount_decimal": str(amount),
    }
    return {
        "id": key,
        "object": "credit_note",
        **fields("amount subtotal subtotal_excluding_tax total total_excluding_tax", amount),
        **fields("amount_shipping discount_amount post_payment_amount pre_payment_amount", 0),
        "created": created,
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "customer_account": None,
        "customer_balance_transaction": None,
        "discount_amounts": [],
        "effective_at": created,
        "invoice": invoice["id"],
        "lines": listing(f"/v1/credit_notes/{key}/lines", [line]),
        "livemode": False,
        "memo": None,
        "metadata": {},
        "number": f"{invoice['number']}-CN-01",
        "out_of_band_amount": None,
        "pdf": f"https://pay.stripe.invalid/credit_notes/{key}/pdf",
        "pretax_credit_amounts": [],
        "reason": None,
        "refunds": [],
        "shipping_cost": None,
        "status": "issued",
        "total_taxes": [],
        "type": "pre_payment",
        "voided_at": None,
    }


def balance_transaction(key: str, created: int, *, customer: str, currency: str) -> Obj:
    """A change of the credit that a customer has with the merchant, made by hand."""
    return {
        "id": key,
        "object": "customer_balance_transaction",
        "created": created,
        "currency": currency,
        "customer": customer,
        "livemode": False,
        "metadata": {},
        "type": "adjustment",
        **fields("amount ending_balance", 0),
        **fields("checkout_session credit_note customer_account description invoice"),
    }
