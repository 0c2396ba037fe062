"""Customers: made, changed and deleted.

Owns the customer's own fields. What a deletion ends elsewhere is told through `on_deleted`.
"""

from __future__ import annotations

from collections.abc import Callable

from simulators.stripe import billing_shapes as shapes
from simulators.stripe.errors import ApiError, missing
from simulators.stripe.invoices import merge_metadata
from simulators.stripe.store import Obj, Store

_PLAIN = ("balance", "description", "email", "name", "phone", "preferred_locales")


class Customers:
    """All customers of the account; a deleted one stays as the stub that Stripe shows."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.on_deleted: list[Callable[[Obj], None]] = []

    def create(self, params: Obj) -> Obj:
        """`POST /v1/customers`."""
        prefix = self.store.new_id("x", 8)[2:].upper()
        made = shapes.customer(self.store.new_id("cus", 14), self.store.now(), invoice_prefix=prefix)
        made |= {key: params[key] for key in _PLAIN if key in params}
        made["metadata"] = dict(params.get("metadata", {}))
        return self.store.add(made, "customer.created")

    def update(self, key: str, params: Obj) -> Obj:
        """`POST /v1/customers/{id}`; a default card must be attached to the customer."""
        owner = self.alive(key)
        chosen = params.get("invoice_settings", {}).get("default_payment_method")
        if chosen and self.store.get("payment_method", chosen, param="invoice_settings")["customer"] != key:
            raise ApiError(
                "The customer does not have a payment method with that ID.", code="resource_missing"
            )
        with self.store.change(owner, "customer.updated"):
            owner |= {name: params[name] for name in _PLAIN if name in params}
            if "default_payment_method" in params.get("invoice_settings", {}):
                owner["invoice_settings"]["default_payment_method"] = chosen or None
            if "metadata" in params:
                merge_metadata(owner, params["metadata"])
        return owner

    def adjust_balance(self, key: str, params: Obj) -> Obj:
        """`POST /v1/customers/{id}/balance_transactions`: negative is credit for the next invoices."""
        owner = self.alive(key)
        if params["amount"] == 0:
            raise ApiError("The amount must not be zero.", param="amount")
        made = shapes.balance_transaction(
            self.store.new_id("cbtxn"), self.store.now(), customer=key, currency=params["currency"].lower()
        )
        made |= {name: params[name] for name in ("amount", "description", "metadata") if name in params}
        with self.store.change(owner, "customer.updated"):
            owner["balance"] += params["amount"]
        made["ending_balance"] = owner["balance"]
        return self.store.add(made)

    def delete(self, key: str) -> Obj:
        """`DELETE /v1/customers/{id}`: for good; the event carries the customer as it was."""
        owner = self.alive(key)
        for tell in self.on_deleted:
            tell(owner)
        self.store.emit("customer.deleted", owner)
        owner.clear()
        owner |= {"id": key, "object": "customer", "deleted": True}
        return owner

    def alive(self, key: str) -> Obj:
        """A customer that was not deleted."""
        owner = self.store.get("customer", key)
        if owner.get("deleted"):
            raise missing("customer", key)
        return owner
