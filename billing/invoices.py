"""Questions about invoices, of whatever origin, asked for many accounts at once.

Owns no rule: when an invoice is overdue is decided in `billing.rules.due`, what follows from it on the ladder. Writes
one column alone: the moment an invoice was first seen open and overdue because time passed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from tortoise.functions import Sum

from billing.models import Invoice
from billing.rules.due import counts_from
from billing.rules.facts import InvoiceFact
from billing.rules.terms import InvoiceStatus

_CHUNK = 5_000
"""Ids per query: both databases limit the parameters of one statement to about 32,000."""


async def note_overdue(account_ids: Iterable[int], *, now: datetime) -> int:
    """Note `now` on the invoices that became overdue by the passing of time; return how many.

    Call it before the facts of these accounts are loaded: a debt counts from the moment it was first seen, so an outage
    of ours shortens nobody's grace.
    """
    noted = 0
    for chunk in _chunks(account_ids):
        noted += await Invoice.filter(
            account_id__in=chunk,
            status=InvoiceStatus.OPEN,
            amount_due__gt=0,
            overdue_at__lte=now,
            overdue_seen_at__isnull=True,
        ).update(overdue_seen_at=now)
    return noted


async def open_invoices(account_ids: Iterable[int], *, now: datetime) -> dict[int, tuple[InvoiceFact, ...]]:
    """Return the open invoices with something left to pay of each account, in the order of their ids.

    An account without any is left out. One that is overdue and was not seen so yet counts from `now`.
    """
    found: defaultdict[int, list[InvoiceFact]] = defaultdict(list)
    columns = (
        "account_id",
        "id",
        "currency",
        "amount_due",
        "amount_paid",
        "disputed_amount",
        "overdue_at",
        "overdue_seen_at",
    )
    for chunk in _chunks(account_ids):
        rows = (
            await Invoice.filter(account_id__in=chunk, status=InvoiceStatus.OPEN, amount_due__gt=0)
            .order_by("id")
            .values_list(*columns)
        )
        for account_id, invoice_id, currency, due, paid, disputed, overdue_at, seen_at in rows:
            overdue = overdue_at is not None and overdue_at <= now
            found[account_id].append(
                InvoiceFact(
                    id=invoice_id,
                    currency=currency,
                    amount_due=due,
                    amount_paid=paid,
                    disputed_amount=disputed,
                    overdue_at=overdue_at,
                    counts_from=counts_from(overdue_at, seen_at or now) if overdue else None,
                )
            )
    return {account_id: tuple(facts) for account_id, facts in found.items()}


async def disputed_amounts(account_ids: Iterable[int]) -> dict[int, int]:
    """Return, in minor units, what open disputes contest of each account's invoices, paid ones included.

    At Stripe a disputed invoice stays paid, so this is not the sum over the open ones. An account without any is left
    out.
    """
    found: dict[int, int] = {}
    for chunk in _chunks(account_ids):
        rows = (
            await Invoice.filter(account_id__in=chunk, disputed_amount__gt=0)
            .annotate(contested=Sum("disputed_amount"))
            .group_by("account_id")
            .values_list("account_id", "contested")
        )
        found |= {account_id: int(contested) for account_id, contested in rows}
    return found


async def with_uncollectible(account_ids: Iterable[int]) -> frozenset[int]:
    """Return the accounts with an unpaid uncollectible invoice: closed as debt, it still blocks new deployments."""
    found: set[int] = set()
    for chunk in _chunks(account_ids):
        rows = Invoice.filter(account_id__in=chunk, status=InvoiceStatus.UNCOLLECTIBLE, total__gt=0)
        found.update(account_id for (account_id,) in await rows.distinct().values_list("account_id"))
    return frozenset(found)


def _chunks(ids: Iterable[int]) -> Iterator[Sequence[int]]:
    every = list(dict.fromkeys(ids))
    for start in range(0, len(every), _CHUNK):
        yield every[start : start + _CHUNK]
