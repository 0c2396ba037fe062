"""Which accounts' access has to be closed, by site: what planning and the last look before the act both ask.

Reads only. Access belongs to account and site; it stays open while a server there is free or exempt.
"""

from collections.abc import Iterable
from datetime import datetime

from billing.rules.terms import HoldCause
from reconciler import reach
from reconciler.chunks import chunks
from reconciler.models import Hold, Server

#: An account's id and the name of a site.
Pair = tuple[int, str]


async def wanted_closed(now: datetime, account_ids: Iterable[int] | None = None) -> set[Pair]:
    """Return the accounts and sites whose access a billing hold wants closed; `account_ids` narrows the question."""
    holds = Hold.filter(
        cause=HoldCause.BILLING,
        locks_account=True,
        lifted_at=None,
        server__retired_at=None,
    )
    if account_ids is not None:
        holds = holds.filter(server__account_id__in=list(account_ids))
    locking = set(await holds.distinct().values_list("server__account_id", "server__site"))
    return locking - await _spared(locking, now) if locking else set()


async def _spared(pairs: set[Pair], now: datetime) -> set[Pair]:
    """Return the accounts and sites with a live server there that is free or exempt: its people keep their access."""
    found: set[Pair] = set()
    for ids in chunks(account_id for account_id, _ in pairs):
        untouched = Server.filter(reach.spared(now), account_id__in=ids, retired_at=None)
        found |= set(await untouched.distinct().values_list("account_id", "site"))
    return pairs & found
