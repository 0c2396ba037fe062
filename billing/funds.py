"""What accounts could pay with and have to pay for, read for many at once.

Reads alone, in a fixed number of statements; what follows from it is decided by `billing.rules.funds`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from tortoise.expressions import Q

from billing import cards, ledger, reservations
from billing.models import Account, Invoice
from billing.money_models import MeteredAccount, Reservation, UsageInterval
from billing.rules import funds as rules
from billing.rules.funds import Funds, OpenInvoice
from billing.rules.metering import Span
from billing.rules.runway import OpenUsage
from billing.rules.settlement import Purses
from billing.rules.terms import InvoiceStatus
from billing.settling import Means, payable
from billing.usage import span_of

_CHUNK = 5_000
"""Ids per query: both databases limit the parameters of one statement to about 32,000."""


async def of_accounts(account_ids: Iterable[int], means: Means, *, now: datetime) -> Mapping[int, Funds]:
    """Return the funds of each account that exists, in eight statements."""
    every = sorted(set(account_ids))
    found: dict[int, Funds] = {}
    for start in range(0, len(every), _CHUNK):
        found |= await _of_chunk(every[start : start + _CHUNK], means, now)
    return found


async def needs_card(account_id: int, means: Means, *, now: datetime) -> bool:
    """Whether the account has metered servers that no purse covers for the coming month.

    Servers under a Stripe subscription are not metered: whether Stripe charges a card for them is the caller's to ask.
    """
    return rules.needs_card((await of_accounts([account_id], means, now=now))[account_id], now)


async def _of_chunk(ids: Sequence[int], means: Means, now: datetime) -> dict[int, Funds]:
    accounts = await Account.filter(id__in=ids)
    held = await ledger.purses(ids)
    with_card = await cards.with_usable(ids, now=now)
    invoices = await _invoices({account.id: account for account in accounts}, means)
    usage = await _usage(accounts)
    return {
        account.id: Funds(
            currency=account.currency,
            has_card=account.id in with_card,
            purses=Purses(voucher=held[account.id].voucher, balance=held[account.id].balance),
            invoices=tuple(invoices[account.id]),
            usage=usage.get(account.id),
        )
        for account in accounts
    }


async def _invoices(accounts: Mapping[int, Account], means: Means) -> Mapping[int, list[OpenInvoice]]:
    reserved: dict[int, list[Reservation]] = defaultdict(list)
    for row in await Reservation.filter(account_id__in=list(accounts), state__in=reservations.OPEN):
        reserved[row.account_id].append(row)
    found: dict[int, list[OpenInvoice]] = defaultdict(list)
    rows = Invoice.filter(account_id__in=list(accounts), status=InvoiceStatus.OPEN, amount_due__gt=0)
    for invoice in await rows.order_by("id"):
        account = accounts[invoice.account_id]
        if invoice.currency == account.currency:
            settled = payable(invoice, reserved[account.id], account, means)
            found[account.id].append(OpenInvoice(payable=settled, overdue_at=invoice.overdue_at))
    return found


async def _usage(accounts: Sequence[Account]) -> Mapping[int, OpenUsage]:
    zones = {account.id: account.time_zone for account in accounts}
    metered = {row.account_id: row for row in await MeteredAccount.filter(account_id__in=list(zones))}
    spans: dict[int, list[Span]] = defaultdict(list)
    if metered:
        # Few end before the earliest of these instants and after their own: all are the last month's end somewhere.
        earliest = min(row.invoiced_until for row in metered.values())
        open_since = Q(ended_at=None) | Q(ended_at__gt=earliest)
        rows = UsageInterval.filter(open_since, account_id__in=list(metered))
        for interval in await rows.order_by("id"):
            spans[interval.account_id].append(span_of(interval))
    return {
        account_id: OpenUsage(
            invoiced_until=row.invoiced_until,
            month=row.month,
            zone=zones[account_id],
            spans=tuple(spans[account_id]),
        )
        for account_id, row in metered.items()
    }
