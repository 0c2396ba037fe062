"""The work queue: everything that waits for a person.

The only writer of `work_item`. One open item per `dedupe_key`: the same trouble never queues twice while it lasts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tortoise.transactions import in_transaction

from billing.models import WorkItem, WorkState
from billing.pages import pages


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


async def waiting() -> tuple[int, WorkItem | None]:
    """Return how many items nobody has taken up yet, and the oldest of them; null: there is none."""
    untouched = WorkItem.filter(state=WorkState.OPEN)
    return await untouched.count(), await untouched.order_by("since", "id").first()


async def resolve(dedupe_key: str, *, at: datetime, by: str, resolution: str) -> bool:
    """Close the open item under this key because its reason is gone; return whether there was one."""
    changed = (
        await WorkItem.filter(dedupe_key=dedupe_key)
        .exclude(state=WorkState.RESOLVED)
        .update(state=WorkState.RESOLVED, resolved_at=at, resolved_by=by, resolution=resolution)
    )
    return changed > 0


async def resolve_kind(kind: str, *, but: str, at: datetime, by: str, resolution: str) -> int:
    """Close every open item of a kind except the one under the key `but`; return how many."""
    standing = WorkItem.filter(kind=kind).exclude(dedupe_key=but).exclude(state=WorkState.RESOLVED)
    return await standing.update(
        state=WorkState.RESOLVED, resolved_at=at, resolved_by=by, resolution=resolution
    )


async def resolve_server(server_id: int, *, at: datetime, by: str, resolution: str) -> int:
    """Close every open item about a server because it is nobody's any more; return how many."""
    standing = WorkItem.filter(server_id=server_id).exclude(state=WorkState.RESOLVED)
    return await standing.update(
        state=WorkState.RESOLVED, resolved_at=at, resolved_by=by, resolution=resolution
    )


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something found by looking that needs a person; `key` tells it from others of its kind, for ever."""

    key: str
    title: str
    detail: str
    account_id: int | None = None
    server_id: int | None = None


async def follow(kind: str, found: Sequence[Trouble], *, at: datetime, by: str) -> None:
    """Let the open items of a kind be what was found now: open what is new, close what is over.

    Whatever had an item before gets no second one, so that what a person closed stays closed.
    """
    wanted = {f"{kind}:{trouble.key}": trouble for trouble in found}
    standing = WorkItem.filter(kind=kind).exclude(state=WorkState.RESOLVED)
    there = dict(await standing.values_list("dedupe_key", "id"))
    known = set(there)
    for keys in pages(wanted.keys() - known):
        known |= {key for (key,) in await WorkItem.filter(dedupe_key__in=keys).values_list("dedupe_key")}
    async with in_transaction():
        await WorkItem.bulk_create(
            WorkItem(
                kind=kind,
                dedupe_key=key,
                since=at,
                title=trouble.title,
                detail=trouble.detail,
                account_id=trouble.account_id,
                server_id=trouble.server_id,
            )
            for key, trouble in wanted.items()
            if key not in known
        )
        for ids in pages(there[key] for key in there.keys() - wanted.keys()):
            await (
                WorkItem.filter(id__in=ids)
                .exclude(state=WorkState.RESOLVED)
                .update(state=WorkState.RESOLVED, resolved_at=at, resolved_by=by, resolution="it is over")
            )
