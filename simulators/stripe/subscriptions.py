"""Subscriptions: periods that renew with an invoice each, until they end.

Owns the subscription's status and its items' periods. A subscription has one item with one licensed
price here; that is all that its observers can tell apart.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta

from simulators.stripe import billing_shapes, subscription_shapes
from simulators.stripe.collection import Collection
from simulators.stripe.errors import invalid
from simulators.stripe.invoices import Invoices, merge_metadata, parent_of
from simulators.stripe.store import Obj, Store

_OVER = frozenset({"canceled", "incomplete_expired"})


class Subscriptions:
    """All subscriptions of the account."""

    def __init__(self, store: Store, invoices: Invoices, collection: Collection) -> None:
        self.store = store
        self.invoices = invoices
        self.collection = collection
        collection.on_failure.append(self._payment_failed)
        collection.on_giving_up.append(self._gave_up)
        invoices.payments.on_paid.append(self._paid)

    def create(self, params: Obj) -> Obj:
        """A subscription of `amount` per `interval`, with its first invoice finalized at once."""
        owner = self.invoices.live_customer(params)
        now = self.store.now()
        currency = str(params.get("currency") or owner["currency"] or "eur").lower()
        made = subscription_shapes.subscription(
            self.store.new_id("sub"), now, customer=owner["id"], currency=currency
        )
        kept = [
            "collection_method",
            "days_until_due",
            "default_payment_method",
            "description",
            "cancel_at_period_end",
        ]
        made |= {key: params[key] for key in kept if key in params}
        made["metadata"] = dict(params.get("metadata", {}))
        if made["collection_method"] == "send_invoice" and made["days_until_due"] is None:
            raise invalid("days_until_due is required with collection_method=send_invoice.", "days_until_due")
        price = subscription_shapes.price(
            self.store.new_id("price"),
            now,
            amount=params["amount"],
            currency=currency,
            interval=params.get("interval", "month"),
        )
        period = (now, _period_end(now, made, price["recurring"]["interval"]))
        item = subscription_shapes.subscription_item(
            self.store.new_id("si", 14), now, subscription=made["id"], price=price, period=period
        )
        made["items"]["data"].append(item)
        self.store.add(made, "customer.subscription.created")
        first = self._invoice(made, "subscription_create")
        self.collection.finalize(first["id"], {})
        return made

    def update(self, key: str, params: Obj) -> Obj:
        """`POST /v1/subscriptions/{id}`: metadata, card, ending at the period's end."""
        subscription = self._alive(key)
        with self.store.change(subscription, "customer.subscription.updated"):
            kept = ("cancel_at_period_end", "default_payment_method", "description")
            subscription |= {name: params[name] for name in kept if name in params}
            if "cancel_at_period_end" in params:
                ends = params["cancel_at_period_end"]
                subscription["cancel_at"] = _item(subscription)["current_period_end"] if ends else None
                subscription["canceled_at"] = self.store.now() if ends else None
            if "metadata" in params:
                merge_metadata(subscription, params["metadata"])
        return subscription

    def cancel(self, key: str, *, reason: str = "cancellation_requested") -> Obj:
        """`DELETE /v1/subscriptions/{id}`: over now; its open invoices stop collecting."""
        subscription = self._alive(key)
        now = self.store.now()
        with self.store.change(subscription, "customer.subscription.deleted"):
            subscription |= {"status": "canceled", "ended_at": now}
            subscription["canceled_at"] = subscription["canceled_at"] or now
            subscription["cancellation_details"]["reason"] = reason
        for invoice in self.store.oldest_first("invoice"):
            if _subscription_id(invoice) == key and invoice["status"] in {"draft", "open"}:
                with self.store.change(invoice, "invoice.updated"):
                    invoice |= {"auto_advance": False, "next_payment_attempt": None}
                    invoice["automatically_finalizes_at"] = None
        return subscription

    def run_due(self) -> None:
        """Renew or end what has reached the end of its period."""
        now = self.store.now()
        for subscription in self.store.oldest_first("subscription"):
            if subscription["status"] in _OVER or _item(subscription)["current_period_end"] > now:
                continue
            if subscription["cancel_at_period_end"]:
                self.cancel(subscription["id"])
            else:
                self._renew(subscription)

    def next_due(self) -> int | None:
        """The next second at which `run_due` has work."""
        alive = (s for s in self.store.oldest_first("subscription") if s["status"] not in _OVER)
        return min((_item(subscription)["current_period_end"] for subscription in alive), default=None)

    def _renew(self, subscription: Obj) -> None:
        item = _item(subscription)
        with self.store.change(subscription, "customer.subscription.updated"):
            start = item["current_period_end"]
            interval = item["price"]["recurring"]["interval"]
            item |= {
                "current_period_start": start,
                "current_period_end": _period_end(start, subscription, interval),
            }
        self._invoice(subscription, "subscription_cycle")

    def _invoice(self, subscription: Obj, reason: str) -> Obj:
        item = _item(subscription)
        params = {
            "customer": subscription["customer"],
            "currency": subscription["currency"],
            "collection_method": subscription["collection_method"],
            "auto_advance": subscription["status"] != "unpaid",
        }
        if subscription["collection_method"] == "send_invoice":
            params["days_until_due"] = subscription["days_until_due"]
        invoice = self.invoices.create(params, billing_reason=reason, parent=parent_of(subscription))
        amount, period = (
            item["price"]["unit_amount"],
            (item["current_period_start"], item["current_period_end"]),
        )
        charged = {
            "amount": amount,
            "currency": subscription["currency"],
            "description": f"1 × subscription per {item['price']['recurring']['interval']}",
            "metadata": {},
            "period": {"start": period[0], "end": period[1]},
            "pricing": billing_shapes.pricing(amount),
        }
        details = {
            "invoice_item": None,
            "proration": False,
            "proration_details": {"credited_items": None},
            "subscription": subscription["id"],
            "subscription_item": item["id"],
        }
        with self.store.change(invoice, "invoice.updated"):
            parent = {"subscription_item_details": details, "type": "subscription_item_details"}
            self.invoices.add_line(invoice, charged, parent)
        with self.store.change(subscription, "customer.subscription.updated"):
            subscription["latest_invoice"] = invoice["id"]
        return invoice

    def _of(self, invoice: Obj) -> Obj | None:
        key = _subscription_id(invoice)
        found = self.store.find(key) if key else None
        return found if found is not None and found["status"] not in _OVER else None

    def _payment_failed(self, invoice: Obj) -> None:
        subscription = self._of(invoice)
        if subscription is not None and subscription["status"] == "active":
            self._set_status(subscription, "past_due")

    def _gave_up(self, invoice: Obj, in_the_end: str) -> None:
        subscription = self._of(invoice)
        if subscription is None:
            return
        if in_the_end == "canceled":
            self.cancel(subscription["id"], reason="payment_failed")
        else:
            self._set_status(subscription, in_the_end)

    def _paid(self, invoice: Obj) -> None:
        subscription = self._of(invoice)
        if subscription is not None and subscription["latest_invoice"] == invoice["id"]:
            self._set_status(subscription, "active")

    def _set_status(self, subscription: Obj, status: str) -> None:
        with self.store.change(subscription, "customer.subscription.updated"):
            subscription["status"] = status

    def _alive(self, key: str) -> Obj:
        subscription = self.store.get("subscription", key)
        if subscription["status"] in _OVER:
            raise invalid("A canceled subscription can only update its cancellation_details and metadata.")
        return subscription


def _item(subscription: Obj) -> Obj:
    item: Obj = subscription["items"]["data"][0]
    return item


def _subscription_id(invoice: Obj) -> str | None:
    details = (invoice["parent"] or {}).get("subscription_details")
    return details["subscription"] if details else None


def _period_end(start: int, subscription: Obj, interval: str) -> int:
    """One interval later; months keep the day of the anchor where the month has it."""
    begin = datetime.fromtimestamp(start, UTC)
    if interval in {"day", "week"}:
        return int((begin + timedelta(days=7 if interval == "week" else 1)).timestamp())
    months = {"month": 1, "year": 12}[interval]
    year, month = divmod(begin.year * 12 + begin.month - 1 + months, 12)
    anchor = datetime.fromtimestamp(subscription["billing_cycle_anchor"], UTC)
    day = min(anchor.day, monthrange(year, month + 1)[1])
    return int(begin.replace(year=year, month=month + 1, day=day).timestamp())
