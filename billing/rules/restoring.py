"""The smallest payment that brings servers back, or keeps them up.

Pure. Owns the search alone: how money is spread is `billing.rules.settlement`'s, what of it is debt the facts'.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from billing.rules.facts import InvoiceFact
from billing.rules.settlement import Payable, Purses, Settlement, settlement


def pay_to_restore(
    invoices: Sequence[Payable], overdue: Iterable[InvoiceFact], purses: Purses, *, tolerance: int
) -> int:
    """Return the smallest top-up of the balance, in minor units, after which settling leaves at most the tolerance.

    `invoices` are all open ones, since settling pays them in its own order, whether overdue or not. What is on its way
    to an invoice counts as arrived. 0 when what the purses hold already is enough.
    """
    facts = tuple(overdue)
    low, high = 0, sum(settlement(invoices, purses).uncovered.values())
    # More money never leaves more debt, so the smallest amount can be searched by halves.
    while low < high:
        middle = (low + high) // 2
        if debt_after(invoices, facts, replace(purses, balance=purses.balance + middle)) <= tolerance:
            high = middle
        else:
            low = middle + 1
    return low


def debt_after(invoices: Sequence[Payable], overdue: Iterable[InvoiceFact], purses: Purses) -> int:
    """Return what stays of a debt, in minor units, once the purses are spent and what is on its way has arrived."""
    done = settlement(invoices, purses)
    payables = {one.id: one for one in invoices}
    return sum(_owed_after(fact, payables.get(fact.id), done) for fact in overdue)


def _owed_after(fact: InvoiceFact, payable: Payable | None, done: Settlement) -> int:
    """Return what is still owed of one invoice; nothing of what is set aside counts before the whole is together."""
    if payable is None:
        return fact.owed
    lacking = done.uncovered.get(payable.id, 0)
    due = lacking if payable.takes_parts or not lacking else payable.amount_due - payable.reserved
    return replace(fact, amount_due=due, amount_paid=fact.amount_paid + fact.amount_due - due).owed
