"""How long open disputes shield an account from the harsher stages.

Owns the sum and the sixty days; what a dispute takes from the debt is part of the invoices.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from billing.rules.facts import DisputeFact

#: The longest time within one episode for which disputes keep an account from climbing past `FINAL_NOTICE`.
LONGEST_SHIELD = timedelta(days=60)


def shielded_until(
    disputes: Sequence[DisputeFact], *, tolerance: int, since: datetime, now: datetime
) -> datetime | None:
    """Return until when the disputes open now shield, if nothing about them changes; null when they do not.

    They shield while their sum, in minor units, exceeds the tolerance, for sixty days of the episode in all.
    """
    if _open_amount(disputes, now) <= tolerance:
        return None
    instants = {since, now}
    for dispute in disputes:
        instants.update(
            edge for edge in (dispute.opened_at, dispute.closed_at) if edge and since < edge < now
        )
    marks = sorted(instant for instant in instants if instant <= now)
    used = sum(
        (to - start for start, to in pairwise(marks) if _open_amount(disputes, start) > tolerance),
        timedelta(0),
    )
    return now + LONGEST_SHIELD - used if used < LONGEST_SHIELD else None


def _open_amount(disputes: Sequence[DisputeFact], at: datetime) -> int:
    return sum(
        dispute.amount
        for dispute in disputes
        if dispute.opened_at <= at and (dispute.closed_at is None or at < dispute.closed_at)
    )
