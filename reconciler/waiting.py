"""Who waits for something back: the sign by which a stuck restore shows, whatever keeps it.

Reads only. What is waited for is an open restore record that no hold of its server asks for any more.
"""

from datetime import datetime

from reconciler.hold_effects import in_force
from reconciler.models import Hold, RestorePart
from reconciler.restore_record import BACKUP_PARTS, POWER_PARTS


async def oldest_restore(now: datetime) -> datetime | None:
    """Return since when the server that waits longest could have been given back; null when none waits."""
    since = [
        instant
        for parts, effect in ((POWER_PARTS, {"stops_server": True}), (BACKUP_PARTS, {"locks_backups": True}))
        for instant in await _released(parts, effect, now)
    ]
    return min(since, default=None)


async def _released(parts: tuple[str, ...], effect: dict[str, bool], now: datetime) -> list[datetime]:
    """Return when each server whose `parts` are still taken lost the last hold that asked for them."""
    taken = RestorePart.filter(part__in=parts, closed_at=None, server_id__isnull=False)
    owed = set(await taken.distinct().values_list("server_id", flat=True))
    held = set(await Hold.filter(in_force(now), **effect).distinct().values_list("server_id", flat=True))
    ended: dict[object, datetime] = {}
    for hold in await Hold.filter(server_id__in=list(owed - held), **effect):
        end = hold.lifted_at or hold.expires_at
        if end is not None:
            ended[hold.server_id] = max(end, ended.get(hold.server_id, end))
    return list(ended.values())
