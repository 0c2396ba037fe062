"""After money came in or a card was saved: settle what is open, and have the reconciler look at once.

Owns that order. A payment that stands is never answered as a fault because settling after it went wrong: the sweep
settles as well.
"""

from __future__ import annotations

from api.graphql.context import Context
from api.graphql.errors import log
from billing.settling import Occasion, settle


async def settle_for(context: Context, account_id: int, fact: str | None) -> None:
    """Settle an account because of a fact, such as `card:7:1`, and wake the reconciler; null asks no card."""
    occasion = Occasion(fact=fact, cards=fact is not None)
    try:
        await settle(account_id, occasion=occasion, means=context.ports.means())
    except Exception:  # noqa: BLE001  # what was committed before it must be told, whatever happened here
        log.exception("settling.put_off", account_id=account_id, fact=fact)
    context.woken(account_id)
