"""The work queue: everything that waits for a person.

The only writer of `work_item`. One open item per `dedupe_key`: the same trouble never queues twice while it lasts.
"""

from datetime import datetime

from billing.models import WorkItem, WorkState


async def open_item(
    kind: str,
    dedupe_key: str,
    *,
    at: datetime,
    title: str,
    detail: str,
    account_id: int | None = None,
    server_id: int | None = None,
) -> WorkItem:
    """Open an item, or return the one that is already open (or acknowledged) under this key."""
    standing = await WorkItem.filter(dedupe_key=dedupe_key).exclude(state=WorkState.RESOLVED).first()
    if standing is not None:
        return standing
    return await WorkItem.create(
        kind=kind,
        dedupe_key=dedupe_key,
        since=at,
        title=title,
        detail=detail,
        account_id=account_id,
        server_id=server_id,
    )


async def resolve(dedupe_key: str, *, at: datetime, by: str, resolution: str) -> bool:
    """Close the open item under this key because its reason is gone; return whether there was one."""
    changed = (
        await WorkItem.filter(dedupe_key=dedupe_key)
        .exclude(state=WorkState.RESOLVED)
        .update(state=WorkState.RESOLVED, resolved_at=at, resolved_by=by, resolution=resolution)
    )
    return changed > 0


async def resolve_server(server_id: int, *, at: datetime, by: str, resolution: str) -> int:
    """Close every open item about a server because it is nobody's any more; return how many."""
    standing = WorkItem.filter(server_id=server_id).exclude(state=WorkState.RESOLVED)
    return await standing.update(
        state=WorkState.RESOLVED, resolved_at=at, resolved_by=by, resolution=resolution
    )
