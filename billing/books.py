"""The daily look at the books: what the ledger says has to follow from its transfers, to the last unit.

Owns what happens when it does not: a loud log, and a work item that stays until a later look finds nothing. Mends
nothing; a difference is a fault of ours or of somebody with a hand in the database.
"""

import structlog
from tortoise.transactions import in_transaction

from billing import ledger, work_queue
from billing.clock import Clock
from billing.models import WorkItem, WorkState

log = structlog.get_logger(__name__)

ACTOR = "system:books"
UNPROVEN = "ledger_unproven"
"""The kind, and the key, of the one work item."""

_SHOWN = 20


async def check(clock: Clock) -> list[str]:
    """Recompute the whole ledger and return its differences, one line each; staff are told while there are any."""
    found = await ledger.proven()
    now = clock.now()
    async with in_transaction():
        if not found:
            await work_queue.resolve(UNPROVEN, at=now, by=ACTOR, resolution="the ledger adds up again")
            return []
        log.error("ledger.unproven", differences=len(found), first=found[:_SHOWN])
        more = f"\n… and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        await work_queue.open_item(
            UNPROVEN,
            UNPROVEN,
            at=now,
            title="The ledger does not add up",
            detail="\n".join(found[:_SHOWN]) + more,
        )
    return found


async def in_doubt() -> WorkItem | None:
    """Return the open work item about a ledger that does not add up; null while it does."""
    return await WorkItem.filter(kind=UNPROVEN).exclude(state=WorkState.RESOLVED).first()
