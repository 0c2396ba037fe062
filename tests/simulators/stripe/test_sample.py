"""The demonstration account."""

from datetime import timedelta

import pytest

from simulators.stripe import Account
from simulators.stripe.sample import NAMES, OVERDUE, fill


def test_it_has_one_customer_per_stage_without_a_card(account: Account) -> None:
    """Overdue customers owe an invoice past its due date; the others owe nothing that is due."""
    made = fill(account)
    assert made.keys() == NAMES.keys()
    now = account.store.now()
    for external_id, sample in made.items():
        customer = account.get("customer", sample.customer)
        assert customer["metadata"] == {"external_id": external_id}
        late = 0
        if sample.invoice:
            invoice = account.get("invoice", sample.invoice)
            assert (invoice["status"], invoice["collection_method"]) == ("open", "send_invoice")
            late = now - invoice["due_date"]
        assert max(late, 0) == OVERDUE.get(external_id, timedelta()).total_seconds()
    assert account.store.oldest_first("payment_method") == []


def test_it_takes_its_delays_from_the_caller(account: Account) -> None:
    """A demonstration with a compressed policy chooses how late everybody is."""
    made = fill(account, {"acct-story": timedelta(seconds=90)}, amount=100, currency="usd")
    invoice = account.get("invoice", str(made["acct-story"].invoice))
    assert (invoice["amount_due"], invoice["currency"]) == (100, "usd")
    assert account.store.now() - invoice["due_date"] == 90
    assert made["acct-suspended"].invoice is None
    with pytest.raises(KeyError, match="acct-nobody"):
        fill(account, {"acct-nobody": timedelta(0)})
