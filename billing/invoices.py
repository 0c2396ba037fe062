"""Questions about invoices, of whatever origin, asked for many accounts at once.

Owns no rule: when an invoice is overdue is decided in `billing.rules.due`, what follows from it on the ladder. Writes
one column alone: the moment an invoice was first seen open and overdue because time passed.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from billing.models import Invoice
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
