"""The smallest payment that is enough: it is, and one unit less is not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rules.facts import AccountFacts, InvoiceFact
from billing.rules.ladder import debt
from billing.rules.restoring import debt_after, pay_to_restore
from billing.rules.settlement import Payable, Purses

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Case:
    """Open invoices as settling and as the ladder see them, and what the purses hold."""

    invoices: tuple[Payable, ...]
    facts: tuple[InvoiceFact, ...]
    purses: Purses
    tolerance: int

    @property
    def overdue(self) -> tuple[InvoiceFact, ...]:
        """The facts of what is overdue, as the ladder says."""
        owed = debt(AccountFacts(account_id=1, currency="EUR", invoices=self.facts), NOW)
        return tuple(fact for fact in self.facts if owed and fact.id in owed.invoice_ids)

    def answer(self) -> int:
        """The smallest payment."""
        return pay_to_restore(self.invoices, self.overdue, self.purses, tolerance=self.tolerance)

    def debt_with(self, more: int) -> int:
        """The debt that is left with so much more balance."""
        purses = replace(self.purses, balance=self.purses.balance + more)
        return debt_after(self.invoices, self.overdue, purses)


def one(ident: int, amount: int, *, overdue: bool = True, **given: object) -> tuple[Payable, InvoiceFact]:
    """An open invoice, overdue since yesterday or due tomorrow."""
    at = NOW - timedelta(days=1) if overdue else NOW + timedelta(days=1)
    disputed = given.pop("disputed", 0)
    values: dict[str, object] = {"id": ident, "total": amount, "due_on": at.date(), "amount_due": amount}
    payable = Payable(**(values | given))  # type: ignore[arg-type]
    fact = InvoiceFact(
        id=ident,
        currency="EUR",
        amount_due=payable.amount_due,
        amount_paid=max(0, payable.total - payable.amount_due),
        disputed_amount=disputed,  # type: ignore[arg-type]
        overdue_at=at,
        counts_from=at if overdue else None,
    )
    return payable, fact


def case(
    *invoices: tuple[Payable, InvoiceFact], voucher: int = 0, balance: int = 0, tolerance: int = 0
) -> Case:
    """Return a case of these invoices."""
    payables, facts = zip(*invoices, strict=True)
    return Case(payables, facts, Purses(voucher=voucher, balance=balance), tolerance)


@pytest.mark.parametrize(
    ("given_case", "amount"),
    [
        (case(one(1, 500)), 500),
        (case(one(1, 500), tolerance=100), 400),
        (case(one(1, 500), voucher=120, balance=80), 300),
        (case(one(1, 500), balance=500), 0),
        # Settling pays the smaller one first, although it is not due yet.
        (case(one(1, 500), one(2, 200, overdue=False)), 700),
        (case(one(1, 500), one(2, 900, overdue=False)), 500),
        # An invoice that takes no part has to be together, to the last unit.
        (case(one(1, 500, takes_parts=False), tolerance=100), 500),
        (case(one(1, 500, takes_parts=False, set_aside=450)), 50),
        # Vouchers do not pay what was taken back.
        (case(one(1, 500, takes_vouchers=False), voucher=500), 500),
        # What is on its way arrives.
        (case(one(1, 500, reserved=200)), 300),
        # Of what was paid already, a dispute takes nothing more from what is owed; of a payment to come it would.
        (case(one(1, 800, amount_due=500, disputed=300)), 500),
        (case(one(1, 500, disputed=200)), 500),
    ],
)
def test_it_is_the_smallest_amount(given_case: Case, amount: int) -> None:
    """Enough in every kind of case."""
    assert given_case.answer() == amount


def test_an_invoice_that_nothing_settles_stays_owed() -> None:
    """It is not mistaken for one that the purses pay."""
    _, fact = one(1, 500)
    assert debt_after([], [fact], Purses(balance=500)) == 500


@st.composite
def cases(draw: st.DrawFn, most: int = 100_000) -> Case:
    """Any open invoices, some overdue, disputed, partly paid or with money under way."""
    invoices = []
    for ident in range(1, draw(st.integers(1, 6)) + 1):
        total = draw(st.integers(1, most))
        due = draw(st.integers(1, total))
        invoices.append(
            one(
                ident,
                total,
                overdue=draw(st.booleans()),
                amount_due=due,
                due_on=draw(st.none() | st.dates(date(2026, 9, 1), date(2026, 12, 1))),
                reserved=draw(st.integers(0, due)) if draw(st.booleans()) else 0,
                set_aside=draw(st.integers(0, due)) if draw(st.booleans()) else 0,
                takes_parts=draw(st.booleans()),
                takes_vouchers=draw(st.booleans()),
                disputed=draw(st.integers(0, total)) if draw(st.booleans()) else 0,
            )
        )
    return case(
        *invoices,
        voucher=draw(st.integers(0, most)),
        balance=draw(st.integers(0, most)),
        tolerance=draw(st.sampled_from([0, 1, most // 100, most])),
    )


@settings(max_examples=200, deadline=None)
@given(cases())
def test_paying_it_is_enough_and_one_unit_less_is_not(found: Case) -> None:
    """With it settling leaves at most the tolerance; with one unit less it leaves more."""
    amount = found.answer()
    assert found.debt_with(amount) <= found.tolerance
    assert amount == 0 or found.debt_with(amount - 1) > found.tolerance


def _coin_by_coin(invoices: Sequence[Payable], voucher: int, balance: int) -> dict[int, int]:
    """What is left to pay of each invoice, told once more: one coin after the other goes where the order says."""
    lacks = {each.id: each.amount_due - each.reserved - each.set_aside for each in invoices}
    order = sorted(invoices, key=lambda each: (each.total, each.due_on or date.max, each.id))
    for each in order:
        while lacks[each.id] > 0 and (balance or (voucher and each.takes_vouchers)):
            if voucher and each.takes_vouchers:
                voucher -= 1
            else:
                balance -= 1
            lacks[each.id] -= 1
    return {
        each.id: max(0, lacks[each.id])
        if each.takes_parts or lacks[each.id] <= 0
        else each.amount_due - each.reserved
        for each in invoices
    }


@settings(max_examples=80, deadline=None)
@given(cases(most=12))
def test_it_agrees_with_coins_tried_one_by_one(found: Case) -> None:
    """The first number of coins that is enough, tried from none on."""
    for coins in range(100):
        rest = _coin_by_coin(found.invoices, found.purses.voucher, found.purses.balance + coins)
        owed = sum(
            replace(
                fact, amount_due=rest[fact.id], amount_paid=fact.amount_paid + fact.amount_due - rest[fact.id]
            ).owed
            for fact in found.overdue
        )
        if owed <= found.tolerance:
            assert found.answer() == coins
            return
    raise AssertionError("a hundred coins are more than all invoices together")
