"""Field names and types against the example objects that Stripe publishes with its API description."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from simulators.stripe import Account

EXAMPLES = "*/data/stripe-fixtures.json"
"""Where Stripe's `fixtures3.json` may lie beside the checkout; it is not part of it."""

REMOVED = {"invoice": {"subscription"}}
"""Fields that the published example still has although the API of 2025-03-31 took them away."""


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    found = next(Path(__file__).parents[4].glob(EXAMPLES), None)
    if found is None:
        pytest.skip(f"Stripe's example objects are not beside the checkout ({EXAMPLES})")
    resources: dict[str, Any] = json.loads(found.read_text())["resources"]
    return resources


def lived_in() -> Account:
    """An account in which something of every kind has happened."""
    account = Account()
    customer = account.create_customer(email="a@example.com", metadata={"external_id": "acct-1"})["id"]
    account.add_card(customer)
    account.cards.create_setup({"customer": customer})
    account.create_subscription(customer, 900)
    paid = account.create_invoice(customer, 1000, "eur", "charge_automatically")["id"]
    account.credit(paid, 100, refund_amount=100)
    account.open_dispute(account.create_invoice(customer, 50, "eur", "charge_automatically")["id"])
    opened = account.create_invoice(customer, 1000)["id"]
    account.report_payment(opened, 10)
    account.fail_payment(opened)
    account.mark_uncollectible(opened)
    account.advance(timedelta(days=40).total_seconds())
    return account


def kind_of(value: Any) -> str:
    return "number" if isinstance(value, int) and not isinstance(value, bool) else type(value).__name__


def differences(ours: Any, theirs: Any, where: str) -> list[str]:
    """Where a value of ours has another type than the example, or lacks a field of it."""
    if ours is None or theirs is None:
        return []
    if kind_of(ours) != kind_of(theirs):
        return [f"{where}: {kind_of(ours)} instead of {kind_of(theirs)}"]
    if isinstance(ours, dict) and theirs and where.rsplit(".", 1)[-1] not in {"metadata", "fraud_details"}:
        shared = ours.keys() & theirs.keys()
        return [
            line for key in sorted(shared) for line in differences(ours[key], theirs[key], f"{where}.{key}")
        ]
    if isinstance(ours, list) and ours and theirs:
        return [line for item in ours for line in differences(item, theirs[0], f"{where}[]")]
    return []


KINDS = [
    "account",
    "charge",
    "credit_note",
    "customer",
    "dispute",
    "event",
    "invoice",
    "invoice_payment",
    "invoiceitem",
    "payment_intent",
    "payment_method",
    "payment_record",
    "refund",
    "setup_intent",
    "subscription",
]


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_the_fields_and_types_that_stripe_publishes(published: dict[str, Any], kind: str) -> None:
    """Every published field is there with its type or null; nothing that was removed is."""
    account = lived_in()
    found = [account.account] if kind == "account" else account.store.oldest_first(kind)
    theirs = published[kind]
    assert found
    for ours in found:
        assert theirs.keys() - ours.keys() - REMOVED.get(kind, set()) == set()
        assert not ours.keys() & REMOVED.get(kind, set())
        compared = {key: value for key, value in theirs.items() if key != "data"}
        assert differences(ours, compared, kind) == []


@pytest.mark.parametrize("kind", ["line_item", "subscription_item", "price", "plan", "credit_note_line_item"])
def test_it_has_the_published_fields_in_nested_objects(published: dict[str, Any], kind: str) -> None:
    """Lines, items and prices carry every published field too."""
    account = lived_in()
    invoice_lines = [line for i in account.store.oldest_first("invoice") for line in i["lines"]["data"]]
    items = [item for s in account.store.oldest_first("subscription") for item in s["items"]["data"]]
    nested = {
        "line_item": invoice_lines,
        "subscription_item": items,
        "price": [item["price"] for item in items],
        "plan": [item["plan"] for item in items],
        "credit_note_line_item": [
            n for c in account.store.oldest_first("credit_note") for n in c["lines"]["data"]
        ],
    }[kind]
    assert nested
    for ours in nested:
        assert published[kind].keys() - ours.keys() - {"aggregate_usage"} == set()
        assert differences(ours, published[kind], kind) == []


def test_it_gives_every_kind_of_object_the_fields_that_it_starts_with() -> None:
    """No transition adds or drops a field: two invoices of different fates have equal fields."""
    account = lived_in()
    for kind in ("invoice", "subscription", "charge", "payment_intent", "invoice_payment"):
        assert len({frozenset(obj) for obj in account.store.oldest_first(kind)}) == 1, kind
