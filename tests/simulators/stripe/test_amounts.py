"""Sums that hold whatever happens to an invoice, in any order."""

from datetime import UTC, datetime
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.stripe import Account
from simulators.stripe.errors import ApiError


class StandingClock:
    def now(self) -> datetime:
        return datetime(2026, 6, 1, 12, tzinfo=UTC)


amounts = st.sampled_from([1, 250, 500, 750, 999, 1000, 1001, 1500])
acts = st.one_of(
    st.tuples(st.just("report_payment"), amounts),
    st.tuples(st.just("credit"), amounts),
    st.tuples(st.just("void_credit_note"), st.just(0)),
    st.tuples(st.just("fail_payment"), st.just(0)),
    st.tuples(st.just("pay_invoice"), st.just(0)),
    st.tuples(st.just("out_of_band"), st.just(0)),
    st.tuples(st.just("refund"), amounts),
    st.tuples(st.just("open_dispute"), amounts),
    st.tuples(st.just("void_invoice"), st.just(0)),
    st.tuples(st.just("mark_uncollectible"), st.just(0)),
    st.tuples(st.just("advance"), st.integers(min_value=1, max_value=10 * 86400)),
)


def carry_out(account: Account, invoice: str, act: tuple[str, int]) -> None:
    name, number = act
    if name == "advance":
        account.advance(number)
    elif name == "out_of_band":
        account.pay_invoice(invoice, out_of_band=True)
    elif name == "void_credit_note":
        for note in account.store.oldest_first("credit_note"):
            account.void_credit_note(note["id"])
    elif name == "open_dispute":
        account.open_dispute(invoice, amount=number)
    elif number:
        getattr(account, name)(invoice, number)
    else:
        getattr(account, name)(invoice)


def check_sums(account: Account, key: str) -> None:
    invoice: dict[str, Any] = account.get("invoice", key)
    payments = [p for p in account.store.oldest_first("invoice_payment") if p["status"] == "paid"]
    arrived = sum(payment["amount_paid"] for payment in payments)
    applied = invoice["starting_balance"] - invoice["ending_balance"]
    credited = sum(n["amount"] for n in account.store.oldest_first("credit_note") if n["status"] == "issued")

    assert invoice["amount_due"] == invoice["total"] + applied - invoice["pre_payment_credit_notes_amount"]
    assert invoice["amount_due"] == invoice["amount_paid"] + invoice["amount_remaining"]
    assert min(invoice["amount_due"], invoice["amount_paid"], invoice["amount_remaining"]) >= 0
    assert arrived <= invoice["amount_paid"] + invoice["amount_overpaid"]
    notes = invoice["pre_payment_credit_notes_amount"] + invoice["post_payment_credit_notes_amount"]
    assert credited == notes <= invoice["total"]
    assert (invoice["status"] == "paid") == (invoice["status_transitions"]["paid_at"] is not None)
    if invoice["status"] == "paid":
        assert invoice["amount_remaining"] == 0
        assert all(p["status"] != "open" for p in account.store.oldest_first("invoice_payment"))
    if invoice["status"] == "open":
        assert invoice["amount_remaining"] > 0
        [default] = [p for p in account.store.oldest_first("invoice_payment") if p["status"] == "open"]
        assert default["amount_requested"] == invoice["amount_remaining"]
    for charge in account.store.oldest_first("charge"):
        assert 0 <= charge["amount_refunded"] <= charge["amount_captured"] <= charge["amount"]


@settings(max_examples=400, deadline=None)
@given(
    steps=st.lists(acts, min_size=2, max_size=12),
    automatic=st.booleans(),
    balance=st.integers(min_value=-1200, max_value=1200),
    card=st.sampled_from(
        [None, "pm_card_visa", "pm_card_chargeCustomerFail", "pm_card_authenticationRequired"]
    ),
)
def test_it_keeps_every_sum_through_any_history(
    steps: list[tuple[str, int]], automatic: bool, balance: int, card: str | None
) -> None:
    """After each step, allowed or refused, due = paid + remaining and nothing is negative or lost."""
    account = Account(StandingClock(), Random(1))
    customer = account.create_customer(balance=balance)["id"]
    if card:
        account.add_card(customer, card)
    method = "charge_automatically" if automatic else "send_invoice"
    key = account.create_invoice(customer, 1000, "eur", method)["id"]
    check_sums(account, key)
    for step in steps:
        before = account.get("invoice", key)
        try:
            carry_out(account, key, step)
        except (ApiError, LookupError):
            assert account.get("invoice", key)["amount_paid"] == before["amount_paid"]
        check_sums(account, key)


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(acts, max_size=8), seed=st.integers(min_value=0, max_value=2**32))
def test_it_repeats_itself_from_the_same_seed(steps: list[tuple[str, int]], seed: int) -> None:
    """Clock and random source decide everything: two accounts with the same ones write equal events."""

    def history() -> list[dict[str, Any]]:
        account = Account(StandingClock(), Random(seed))
        key = account.create_invoice(account.create_customer()["id"], 1000)["id"]
        for step in steps:
            try:
                carry_out(account, key, step)
            except (ApiError, LookupError):
                continue
        return account.events()

    assert history() == history()
