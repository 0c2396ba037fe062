"""What an account could pay with: may it deploy, do its purses cover its servers, until when do they last.

Pure. Every answer is as if all that is open had just been settled, by `billing.rules.settlement` itself, so that none
depends on whether settling had its turn. Standing and holds are `billing.rules.gates`' part.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from billing.rules.gates import Gate
from billing.rules.metering import monthly
from billing.rules.money import Money
from billing.rules.policy import Policy
from billing.rules.runway import (
    COMING_MONTH,
    Consequences,
    LastsUntil,
    OpenUsage,
    after_month,
    consequences,
    cost_until,
    lasts_until,
)
from billing.rules.settlement import Payable, Purses, settlement
from billing.rules.terms import GateCode
from billing.rules.words import phrase

NOTHING = Purses()


@dataclass(frozen=True, kw_only=True)
class OpenInvoice:
    """One open invoice of the account's currency: how it is settled, and when it is overdue."""

    payable: Payable
    overdue_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Funds:
    """Everything that an account could pay with, and what it has to pay for."""

    currency: str
    #: Whether there is a card that may be charged.
    has_card: bool = False
    purses: Purses = NOTHING
    invoices: tuple[OpenInvoice, ...] = ()
    #: Null: nothing of it was ever metered.
    usage: OpenUsage | None = None

    @property
    def runs(self) -> bool:
        """Whether a server runs that costs anything by the hour."""
        return self.usage is not None and any(span.rate for span in self.usage.running)


@dataclass(frozen=True, kw_only=True)
class Left:
    """What is left of the purses once everything open is settled, in minor units."""

    voucher: int
    balance: int
    #: What no purse covers, by invoice; without money taken back, which no voucher pays and usage does not wait for.
    lacking: dict[int, int]

    @property
    def money(self) -> int:
        """What pays for usage from here on; below zero by what open invoices lack."""
        return self.voucher + self.balance - sum(self.lacking.values())


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Until when the purses pay, and what follows at the earliest when nothing is added."""

    lasts_until: datetime
    follows: Consequences


@dataclass(frozen=True, kw_only=True)
class MoneyTrouble:
    """What a customer is told of an account in good standing whose servers are not paid for in the long run."""

    outlook: Outlook
    #: Whether there is money, which ends soon; else there is neither a card nor voucher money.
    ends: bool
    #: Since when there is something to say; the same while nothing about it changes.
    since: datetime


def left(funds: Funds) -> Left:
    """Return what is left of the purses once everything open is settled."""
    done = settlement((one.payable for one in funds.invoices), funds.purses)
    takes = {one.payable.id for one in funds.invoices if one.payable.takes_vouchers}
    return Left(
        voucher=done.rest.voucher,
        balance=done.rest.balance,
        lacking={ident: amount for ident, amount in done.uncovered.items() if ident in takes},
    )


# -- new servers ---------------------------------------------------------------------------------------------------


def shortfall(funds: Funds, rate: int, now: datetime) -> int:
    """Return what the voucher purse lacks to pay for one more server for the coming month, in minor units.

    What runs already comes first: its usage until now and in the coming month, and what open invoices lack. The balance
    does not count: a new server needs a card or a voucher.
    """
    after = left(funds)
    taken = sum(after.lacking.values())
    if funds.usage is not None:
        taken += cost_until(funds.usage, now + COMING_MONTH)
    return max(0, taken + monthly(rate) - after.voucher)


def may_deploy(gate: Gate, funds: Funds, rate: int | None, now: datetime) -> Gate:
    """Return whether a server of this rate may be deployed; `gate` is the answer of the account's gate `DEPLOY`.

    The gate goes first, then a SKU without a price (null). A usable card is enough, and so is a voucher purse without
    shortfall; what costs nothing needs neither.
    """
    if not gate.allowed:
        return gate
    if rate is None:
        return replace(
            gate,
            allowed=False,
            code=GateCode.UNKNOWN_SKU,
            message=phrase("There is no price for a server of this kind."),
            remedy=phrase("Choose a kind from the price list."),
        )
    missing = shortfall(funds, rate, now) if rate and not funds.has_card else 0
    if not missing:
        return gate
    amount = Money(missing, funds.currency)
    code = GateCode.INSUFFICIENT_FUNDS if funds.purses.voucher else GateCode.NO_PAYMENT_METHOD
    return replace(
        gate,
        allowed=False,
        code=code,
        message=replace(_LACKING_AMOUNT[code], values={"amount": amount}),
        remedy=phrase("Add a card, or redeem vouchers over %(amount)s or more.", amount=amount),
        missing=amount,
    )


_LACKING = {
    GateCode.NO_PAYMENT_METHOD: phrase("The account has neither a card nor voucher balance."),
    GateCode.INSUFFICIENT_FUNDS: phrase(
        "The voucher balance does not cover this server and the others for a month."
    ),
}
_LACKING_AMOUNT = {
    GateCode.NO_PAYMENT_METHOD: phrase(
        "The account has neither a card nor voucher balance. %(amount)s of voucher balance are missing."
    ),
    GateCode.INSUFFICIENT_FUNDS: phrase(
        "The voucher balance does not cover this server and the others for a month."
        " %(amount)s of voucher balance are missing."
    ),
}


def without_amounts(gate: Gate) -> Gate:
    """Return the same answer for those who are not shown amounts."""
    if gate.missing is None:
        return gate
    remedy = phrase("Add a card, or redeem more vouchers.")
    return replace(gate, message=_LACKING[gate.code], remedy=remedy, missing=None)


# -- servers that run ----------------------------------------------------------------------------------------------


def needs_card(funds: Funds, now: datetime) -> bool:
    """Whether servers run that no purse covers for the coming month: then the last card stays."""
    if funds.usage is None or not funds.runs:
        return False
    return left(funds).money < cost_until(funds.usage, now + COMING_MONTH)


def lacks_means(funds: Funds) -> bool:
    """Whether servers run and there is neither a card nor voucher money."""
    return funds.runs and not funds.has_card and not funds.purses.voucher


def runway(funds: Funds, now: datetime) -> datetime | None:
    """Return until when the purses pay for the servers as they run now; null when a card does or none runs."""
    lasting = _lasting(funds, left(funds).money, now)
    return lasting.at if lasting else None


def outlook(funds: Funds, policy: Policy, now: datetime) -> Outlook | None:
    """Return until when the purses pay and what follows; null where `runway` is.

    The debt begins with the first invoice by which more than the tolerance stays unpaid: an open one, or that of the
    month in which the money is used up by so much more.
    """
    after = left(funds)
    lasting = _lasting(funds, after.money, now)
    if lasting is None or funds.usage is None:
        return None
    tolerated = policy.tolerated(funds.currency)
    begins = _first_debt(funds, after, tolerated)
    if begins is not None:
        return Outlook(lasts_until=lasting.at, follows=consequences(max(begins, now), policy))
    unpaid = _lasting(funds, after.money + tolerated, now) or lasting
    return Outlook(
        lasts_until=lasting.at,
        follows=after_month(unpaid.month_ends_at, policy, zone=funds.usage.zone, now=now),
    )


def runs_short(funds: Funds, policy: Policy, now: datetime) -> Outlook | None:
    """Return the outlook when the customer is to be told of it: money is there and ends within the policy's span."""
    span: timedelta | None = policy.before_runway_end
    if (
        span is None
        or funds.has_card
        or funds.usage is None
        or not funds.purses.voucher + funds.purses.balance
    ):
        return None
    if (
        cost_until(funds.usage, now + span) <= left(funds).money
    ):  # the usual case, cheaper than to find the end
        return None
    seen = outlook(funds, policy, now)
    return seen if seen is not None and seen.lasts_until < now + span else None


def money_trouble(funds: Funds, policy: Policy, now: datetime) -> MoneyTrouble | None:
    """Return what is to be said about the money of running servers; null when a card or enough money is there."""
    span, short = policy.before_runway_end, runs_short(funds, policy, now)
    if short is not None and span is not None:
        return MoneyTrouble(outlook=short, ends=True, since=short.lasts_until - span)
    seen = outlook(funds, policy, now) if lacks_means(funds) else None
    if seen is None or funds.usage is None:
        return None
    began = min(one.started_at for one in funds.usage.running if one.rate)
    return MoneyTrouble(outlook=seen, ends=False, since=began)


def _lasting(funds: Funds, money: int, now: datetime) -> LastsUntil | None:
    if funds.has_card or funds.usage is None:
        return None
    return lasts_until(funds.usage, money, now=now)


def _first_debt(funds: Funds, after: Left, tolerated: int) -> datetime | None:
    """Return when what open invoices lack exceeds the tolerance; null when it never does by itself."""
    dated = [
        (one.overdue_at, after.lacking.get(one.payable.id, 0)) for one in funds.invoices if one.overdue_at
    ]
    lacking = 0
    for overdue_at, amount in sorted(dated):
        lacking += amount
        if lacking > tolerated:
            return overdue_at
    return None
