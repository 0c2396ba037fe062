"""Which endpoint takes which parameters and which part of the account answers it.

Owns the table of the API's paths. It decides nothing: each handler hands over to a part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulators.stripe.account import Account
from simulators.stripe.errors import invalid
from simulators.stripe.lists import PAGING, matching, page
from simulators.stripe.params import MAP, RANGE, Spec
from simulators.stripe.store import Obj

Handler = Callable[[Account, str, Obj], Obj]
"""Answers a request given the id in the path (empty without one) and the checked parameters."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One method and path of the API."""

    method: str
    path: str
    spec: Spec
    handler: Handler


_DETAILS: Spec = {"description": str, "metadata": MAP}
_CUSTOMER: Spec = {
    **_DETAILS,
    "balance": int,
    "email": str,
    "name": str,
    "phone": str,
    "preferred_locales": [str],
    "invoice_settings": {"default_payment_method": str},
}
_BALANCE: Spec = {**_DETAILS, "amount!": int, "currency!": str}
_INVOICE: Spec = {
    **_DETAILS,
    "auto_advance": bool,
    "collection_method": str,
    "days_until_due": int,
    "default_payment_method": str,
    "due_date": int,
    "footer": str,
    "statement_descriptor": str,
}
_NEW_INVOICE: Spec = {
    **_INVOICE,
    "customer!": str,
    "currency": str,
    "pending_invoice_items_behavior": str,
    "subscription": str,
}
_INTENT: Spec = {
    **_DETAILS,
    "amount!": int,
    "currency!": str,
    "allowed_payment_method_types": [str],
    "automatic_payment_methods": {"enabled!": bool, "allow_redirects": str},
    "confirm": bool,
    "customer": str,
    "off_session": bool,
    "payment_method": str,
    "return_url": str,
    "setup_future_usage": str,
}
_CONFIRM: Spec = {"payment_method": str, "off_session": bool, "return_url": str}
_SETUP: Spec = {
    **_DETAILS,
    "allowed_payment_method_types": [str],
    "automatic_payment_methods": {"enabled!": bool, "allow_redirects": str},
    "confirm": bool,
    "customer": str,
    "payment_method": str,
    "return_url": str,
    "usage": str,
}
_CREDIT_NOTE: Spec = {
    "invoice!": str,
    "amount!": int,
    "credit_amount": int,
    "email_type": str,
    "memo": str,
    "metadata": MAP,
    "out_of_band_amount": int,
    "reason": str,
    "refund_amount": int,
}
_REPORT: Spec = {
    **_DETAILS,
    "amount_requested!": {"currency!": str, "value!": int},
    "initiated_at!": int,
    "payment_method_details!": {
        "type": str,
        "payment_method": str,
        "custom": {"display_name": str, "type": str},
    },
    "processor_details": {"type!": str, "custom": {"payment_reference!": str}},
    "customer_details": {"customer": str, "email": str, "name": str, "phone": str},
    "customer_presence": str,
    "outcome": str,
    "guaranteed": {"guaranteed_at!": int},
    "failed": {"failed_at!": int},
    "canceled": {"canceled_at!": int},
}
_SUBSCRIPTION: Spec = {**_DETAILS, "cancel_at_period_end": bool, "default_payment_method": str}


def _reading(plural: str, kind: str, **filters: Any) -> list[Endpoint]:
    """The two reading endpoints of a resource: one object, and a filtered list."""

    def one(account: Account, key: str, params: Obj) -> Obj:
        return account.store.get(kind, key)

    def every(account: Account, key: str, params: Obj) -> Obj:
        live = [obj for obj in account.store.newest_first(kind) if not obj.get("deleted")]
        return page(matching(live, params, filters), params, f"/v1/{plural}")

    return [
        Endpoint(method="GET", path=f"/v1/{plural}", spec={**PAGING, **filters}, handler=every),
        Endpoint(method="GET", path=f"/v1/{plural}/{{id}}", spec={}, handler=one),
    ]


def _post(path: str, spec: Spec, handler: Handler) -> Endpoint:
    return Endpoint(method="POST", path=f"/v1/{path}", spec=spec, handler=handler)


def _delete(path: str, spec: Spec, handler: Handler) -> Endpoint:
    return Endpoint(method="DELETE", path=f"/v1/{path}", spec=spec, handler=handler)


def _list(path: str, filters: Spec, handler: Handler) -> Endpoint:
    return Endpoint(method="GET", path=f"/v1/{path}", spec={**PAGING, **filters}, handler=handler)


def _events(account: Account, key: str, params: Obj) -> Obj:
    if "type" in params and "types" in params:
        raise invalid("You may only specify one of these parameters: type, types.")
    wanted = params.get("types") or [params.get("type", "*")]
    found = [event for event in account.store.newest_first("event") if _any_type(event["type"], wanted)]
    if "delivery_success" in params:
        asked = params["delivery_success"]
        found = [event for event in found if account.deliveries.succeeded(event) is asked]
    return page(matching(found, params, {"created": RANGE}), params, "/v1/events")


def _any_type(kind: str, wanted: list[str]) -> bool:
    return any(kind.startswith(name[:-1]) if name.endswith("*") else kind == name for name in wanted)


def _invoice_payments(account: Account, key: str, params: Obj) -> Obj:
    found = matching(
        account.store.newest_first("invoice_payment"),
        params,
        {"invoice": str, "status": str, "created": RANGE},
    )
    for name, value in params.get("payment", {}).items():
        found = [payment for payment in found if payment["payment"].get(name) == value]
    return page(found, params, "/v1/invoice_payments")


def _subscriptions(account: Account, key: str, params: Obj) -> Obj:
    found = matching(
        account.store.newest_first("subscription"),
        params,
        {"customer": str, "collection_method": str, "created": RANGE},
    )
    asked = params.get("status")
    if asked is None:
        found = [one for one in found if one["status"] != "canceled"]
    elif asked != "all":
        found = [one for one in found if one["status"] == asked]
    return page(found, params, "/v1/subscriptions")


def _invoices(account: Account, key: str, params: Obj) -> Obj:
    filters = _INVOICE_FILTERS
    found = matching(account.store.newest_first("invoice"), params, filters)
    if "subscription" in params:
        found = [
            invoice
            for invoice in found
            if ((invoice["parent"] or {}).get("subscription_details") or {}).get("subscription")
            == params["subscription"]
        ]
    return page(found, params, "/v1/invoices")


def _lines(account: Account, key: str, params: Obj) -> Obj:
    lines = account.store.get("invoice", key)["lines"]["data"]
    return page(lines, params, f"/v1/invoices/{key}/lines")


_INVOICE_FILTERS: Spec = {
    "collection_method": str,
    "created": RANGE,
    "customer": str,
    "due_date": RANGE,
    "status": str,
}
_PAYMENT_FILTER: Spec = {"payment_intent": str, "payment_record": str, "type!": str}

ENDPOINTS: list[Endpoint] = [
    Endpoint(method="GET", path="/v1/account", spec={}, handler=lambda a, k, p: a.account),
    *_reading("customers", "customer", email=str, created=RANGE),
    _post("customers", _CUSTOMER, lambda a, k, p: a.customers.create(p)),
    _post("customers/{id}", _CUSTOMER, lambda a, k, p: a.customers.update(k, p)),
    _delete("customers/{id}", {}, lambda a, k, p: a.customers.delete(k)),
    _post("customers/{id}/balance_transactions", _BALANCE, lambda a, k, p: a.customers.adjust_balance(k, p)),
    _list("invoices", {**_INVOICE_FILTERS, "subscription": str}, _invoices),
    _list("invoices/{id}/lines", {}, _lines),
    *_reading("invoices", "invoice")[1:],
    _post("invoices", _NEW_INVOICE, lambda a, k, p: a.invoices.create(p)),
    _post("invoices/{id}", _INVOICE, lambda a, k, p: a.invoices.update(k, p)),
    _delete("invoices/{id}", {}, lambda a, k, p: a.invoices.delete(k)),
    _post("invoices/{id}/finalize", {"auto_advance": bool}, lambda a, k, p: a.collection.finalize(k, p)),
    _post(
        "invoices/{id}/pay",
        {"off_session": bool, "paid_out_of_band": bool, "payment_method": str},
        lambda a, k, p: a.collection.pay(k, p),
    ),
    _post("invoices/{id}/send", {}, lambda a, k, p: a.invoices.send(k)),
    _post("invoices/{id}/void", {}, lambda a, k, p: a.invoices.void(k)),
    _post("invoices/{id}/mark_uncollectible", {}, lambda a, k, p: a.invoices.mark_uncollectible(k)),
    _post(
        "invoices/{id}/attach_payment",
        {"payment_intent": str, "payment_record": str},
        lambda a, k, p: a.invoice_payments.attach(k, p),
    ),
    *_reading("invoiceitems", "invoiceitem", customer=str, invoice=str),
    _post(
        "invoiceitems",
        {**_DETAILS, "customer!": str, "amount!": int, "currency": str, "invoice": str},
        lambda a, k, p: a.invoices.create_item(p),
    ),
    _list(
        "invoice_payments",
        {"invoice": str, "status": str, "created": RANGE, "payment": _PAYMENT_FILTER},
        _invoice_payments,
    ),
    *_reading("invoice_payments", "invoice_payment")[1:],
    *_reading("payment_records", "payment_record"),
    _post("payment_records/report_payment", _REPORT, lambda a, k, p: a.payments.report(p)),
    *_reading("payment_intents", "payment_intent", customer=str, created=RANGE),
    _post("payment_intents", _INTENT, lambda a, k, p: a.payments.create(p)),
    _post("payment_intents/{id}/confirm", _CONFIRM, lambda a, k, p: a.payments.confirm(k, p)),
    _post(
        "payment_intents/{id}/cancel", {"cancellation_reason": str}, lambda a, k, p: a.payments.cancel(k, p)
    ),
    *_reading("payment_methods", "payment_method", customer=str, type=str),
    _post(
        "payment_methods",
        {"type!": str, "card": {"token": str}, "metadata": MAP},
        lambda a, k, p: a.cards.create(p),
    ),
    _post(
        "payment_methods/{id}/attach", {"customer!": str}, lambda a, k, p: a.cards.attach(k, p["customer"])
    ),
    _post("payment_methods/{id}/detach", {}, lambda a, k, p: a.cards.detach(k)),
    *_reading("setup_intents", "setup_intent", customer=str, payment_method=str, created=RANGE),
    _post("setup_intents", _SETUP, lambda a, k, p: a.cards.create_setup(p)),
    _post("setup_intents/{id}/confirm", _CONFIRM, lambda a, k, p: a.cards.confirm_setup(k, p)),
    _post("setup_intents/{id}/cancel", {}, lambda a, k, p: a.cards.cancel_setup(k)),
    *_reading("credit_notes", "credit_note", customer=str, invoice=str, created=RANGE),
    _post("credit_notes", _CREDIT_NOTE, lambda a, k, p: a.credit_notes.create(p)),
    _post("credit_notes/{id}", {"memo": str, "metadata": MAP}, lambda a, k, p: a.credit_notes.update(k, p)),
    _post("credit_notes/{id}/void", {}, lambda a, k, p: a.credit_notes.void(k)),
    *_reading("refunds", "refund", charge=str, payment_intent=str, created=RANGE),
    _post(
        "refunds",
        {"amount": int, "charge": str, "metadata": MAP, "payment_intent": str, "reason": str},
        lambda a, k, p: a.money_back.refund(p),
    ),
    *_reading("charges", "charge", customer=str, payment_intent=str, created=RANGE),
    *_reading("disputes", "dispute", charge=str, payment_intent=str, created=RANGE),
    _post("disputes/{id}/close", {}, lambda a, k, p: a.money_back.close_dispute(k, won=False)),
    _list(
        "subscriptions",
        {"customer": str, "collection_method": str, "status": str, "created": RANGE},
        _subscriptions,
    ),
    *_reading("subscriptions", "subscription")[1:],
    _post("subscriptions/{id}", _SUBSCRIPTION, lambda a, k, p: a.subscriptions.update(k, p)),
    _delete("subscriptions/{id}", {}, lambda a, k, p: a.subscriptions.cancel(k)),
    _list("events", {"created": RANGE, "delivery_success": bool, "type": str, "types": [str]}, _events),
    *_reading("events", "event")[1:],
]
"""Every endpoint; of two that fit a path the first is taken, so fixed words come before `{id}`."""
