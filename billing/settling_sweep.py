"""The sweep of settling: finds the accounts that something may be done for, whoever failed to settle them in time.

Owns which accounts those are, in a fixed number of statements; what is done for each is `billing.settling`'s.
"""

from datetime import datetime

from tortoise.functions import Max

from billing.adjustments import issue_drafts
from billing.models import Invoice
from billing.money_models import Charge, LedgerAccount, LedgerKind, Reservation
from billing.reservations import OPEN
from billing.rules.cards import next_scheduled, scheduled
from billing.rules.terms import InvoiceStatus
from billing.settling import Means, Occasion, settle
from billing.settling_stripe import finish_reservations


async def settle_due(means: Means, *, limit: int = 1_000) -> int:
    """Finish what was left half way and settle whoever has money for what is open; return how many accounts.

    Cards are asked by the schedule of each invoice. Any number of processes may do this at once.
    """
    found = await issue_drafts(means.clock, means.policies)
    if means.stripe is not None:
        found |= await finish_reservations(means.stripe, means.clock)
    found |= await _with_money() | await _with_money_aside()
    if means.ask_card is not None:
        found |= await _with_cards_due(means.clock.now())
    turn = sorted(found)[:limit]
    for account_id in turn:
        await settle(account_id, occasion=Occasion(), means=means)
    return len(turn)


async def _with_money() -> set[int]:
    """Accounts with something in a purse and something to pay."""
    rows = LedgerAccount.filter(
        kind__in=(LedgerKind.BALANCE, LedgerKind.VOUCHER),
        balance__gt=0,
        account__invoices__status=InvoiceStatus.OPEN,
        account__invoices__amount_due__gt=0,
    )
    return {int(account_id) for (account_id,) in await rows.distinct().values_list("account_id")}


async def _with_money_aside() -> set[int]:
    """Accounts with money set aside: it may be all together, or free, or their invoice takes parts by now."""
    rows = Reservation.filter(state__in=OPEN, set_aside=True)
    return {account_id for (account_id,) in await rows.distinct().values_list("account_id")}


async def _with_cards_due(now: datetime) -> set[int]:
    """Accounts with a card and an overdue invoice for which the schedule has come to an attempt that was not made."""
    rows = await Invoice.filter(
        status=InvoiceStatus.OPEN,
        amount_due__gt=0,
        overdue_at__lte=now,
        next_attempt_at__isnull=True,
        account__cards__removed_at__isnull=True,
        account__cards__id__isnull=False,
    ).distinct().values_list("id", "account_id", "overdue_at")  # fmt: skip
    asked = (
        await Charge.filter(invoice_id__in=[ident for ident, _, _ in rows], created_at__lte=now)
        .annotate(last=Max("created_at"))
        .group_by("invoice_id")
        .values_list("invoice_id", "last")
    )
    last = dict(asked)
    return {account_id for ident, account_id, overdue_at in rows if _due(overdue_at, last.get(ident), now)}


def _due(overdue_at: datetime, last: datetime | None, now: datetime) -> bool:
    if last is None:
        return scheduled(overdue_at, now) is not None
    following = next_scheduled(overdue_at, last)
    return following is not None and following <= now
