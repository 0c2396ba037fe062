"""How the money of the purses is spread over open invoices.

Pure. Owns the order and the shares; carrying them out is `billing.settling`. The order rests on what never changes
about an invoice, so that one more payment can never leave any invoice with less than it would have had.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum


class Purse(StrEnum):
    """Money that an account holds with us, in the order in which it is spent."""

    VOUCHER = "VOUCHER"
    BALANCE = "BALANCE"


class Use(StrEnum):
    """What becomes of a share."""

    #: It pays a part of the invoice, or what is left of it.
    PAY = "PAY"
    #: It waits for the rest, because the invoice takes no part.
    SET_ASIDE = "SET_ASIDE"


@dataclass(frozen=True, kw_only=True)
class Payable:
    """One open invoice of the account's currency, in minor units."""

    id: int
    #: As issued, before credit notes and payments.
    total: int
    due_on: date | None
    amount_due: int
    #: Purse money on its way to it; settling neither adds to it twice nor takes it back.
    reserved: int = 0
    #: Purse money that waits for the rest.
    set_aside: int = 0
    takes_parts: bool = True
    #: Money that was taken back is owed in cash: settling spends no voucher on it.
    takes_vouchers: bool = True


@dataclass(frozen=True, kw_only=True)
class Purses:
    """What the purses hold, in minor units."""

    voucher: int = 0
    balance: int = 0


@dataclass(frozen=True, kw_only=True)
class Share:
    """Money of one purse for one invoice."""

    invoice_id: int
    purse: Purse
    amount: int
    use: Use


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What to do, in this order: the shares, then the invoices whose set-aside money pays them now."""

    shares: tuple[Share, ...]
    #: Invoices with money set aside, the shares above included, that pays now.
    ready: tuple[int, ...]
    #: What no open invoice takes; it stays the customer's.
    rest: Purses
    #: What of each invoice no purse covers, for the cards.
    uncovered: dict[int, int]


def in_order(invoices: Iterable[Payable]) -> list[Payable]:
    """Return the invoices in the order of settling: total as issued, due date (none comes last), id."""
    return sorted(invoices, key=lambda one: (one.total, one.due_on or date.max, one.id))


def settlement(invoices: Iterable[Payable], purses: Purses) -> Settlement:
    """Spread the purses: for each invoice in order the voucher purse, then the balance; a purse may pay a part.

    For an invoice that takes no part the money is set aside as if it had paid a part: smaller invoices that come later
    do not take it back, and it pays once the whole is together.
    """
    shares: list[Share] = []
    ready: list[int] = []
    uncovered: dict[int, int] = {}
    for invoice in in_order(invoices):
        use = Use.PAY if invoice.takes_parts else Use.SET_ASIDE
        missing = max(0, invoice.amount_due - invoice.reserved - invoice.set_aside)
        held = invoice.set_aside
        for purse, there in ((Purse.VOUCHER, purses.voucher), (Purse.BALANCE, purses.balance)):
            amount = min(missing, there)
            if amount <= 0 or (purse is Purse.VOUCHER and not invoice.takes_vouchers):
                continue
            shares.append(Share(invoice_id=invoice.id, purse=purse, amount=amount, use=use))
            purses = _less(purses, purse, amount)
            missing -= amount
            held += amount if use is Use.SET_ASIDE else 0
        # While other money is on its way, nobody can say yet what the whole will be.
        together = held >= invoice.amount_due and not invoice.reserved
        if held and (invoice.takes_parts or together):
            ready.append(invoice.id)
        if missing:
            uncovered[invoice.id] = missing
    return Settlement(shares=tuple(shares), ready=tuple(ready), rest=purses, uncovered=uncovered)


def _less(purses: Purses, purse: Purse, amount: int) -> Purses:
    if purse is Purse.VOUCHER:
        return replace(purses, voucher=purses.voucher - amount)
    return replace(purses, balance=purses.balance - amount)
