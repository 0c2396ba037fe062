"""Pausing enforcement: every climb and every restricting step waits; giving back goes on.

The only writer of the pause in `reconciler_state`. The guard reads it; nothing here stops what is under way.
"""

from datetime import datetime

from tortoise.transactions import in_transaction

from billing.audit import record
from billing.refusal import required_reason
from reconciler.models import ReconcilerState

_ROW = 1


async def pause(*, reason: str, actor: str, now: datetime) -> None:
    """Hold every climb and every restriction from now on; again: no change, the first reason stays."""
    told = required_reason(reason)
    async with in_transaction():
        await ReconcilerState.get_or_create(id=_ROW)
        changed = await ReconcilerState.filter(id=_ROW, paused_at__isnull=True).update(
            paused_at=now, paused_by=actor, paused_reason=told
        )
        if changed:
            await record("enforcement.paused", ("Reconciler", _ROW), at=now, actor=actor, reason=told)


async def resume(*, reason: str, actor: str, now: datetime) -> None:
    """Let enforcement go on; without a pause nothing changes."""
    told = required_reason(reason)
    async with in_transaction():
        changed = await ReconcilerState.filter(id=_ROW, paused_at__isnull=False).update(
            paused_at=None, paused_by=None, paused_reason=None
        )
        if changed:
            await record("enforcement.resumed", ("Reconciler", _ROW), at=now, actor=actor, reason=told)
