"""Telling staff that something waits for them: one message for everything that is new, never one for each.

Owns when such a message is due and what it says. It names kinds and titles; whom it is about is in the work queue,
where rights decide who reads it.
"""

from collections import Counter
from datetime import datetime, timedelta

from tortoise.transactions import in_transaction

from billing import notices
from billing.models import Notice, WorkItem, WorkState

#: What comes together is told together.
COLLECT = timedelta(seconds=30)
#: At least so long between two messages.
APART = timedelta(minutes=15)
SHOWN = 10
_KEY = "work_digest:"


async def queue_digest(now: datetime) -> datetime | None:
    """Queue a message to staff about the items nobody was told of; return when one may be due, null for never."""
    fresh = WorkItem.filter(told_at=None, state=WorkState.OPEN)
    first = await fresh.order_by("since").first()
    if first is None:
        return None
    last = await Notice.filter(dedupe_key__startswith=_KEY).order_by("-id").first()
    due = max([first.since + COLLECT, *([last.created_at + APART] if last else [])])
    if now < due:
        return due
    async with in_transaction():
        items = await fresh.order_by("id")
        if items:
            await fresh.filter(id__lte=items[-1].id).update(told_at=now)
            subject, body = _worded(items)
            await notices.queue_staff(subject, body, dedupe_key=f"{_KEY}{items[-1].id}", now=now)
    return None


def _worded(items: list[WorkItem]) -> tuple[str, str]:
    """Return subject and body: how many of each kind, and the first titles."""
    many = f"{len(items)} things wait" if len(items) > 1 else "One thing waits"
    kinds = Counter(item.kind for item in items)
    lines = [f"{count} × {kind}" for kind, count in kinds.most_common(SHOWN)]
    lines += ["", *dict.fromkeys(item.title for item in items[:SHOWN])]
    if len(items) > SHOWN:
        lines.append(f"… and {len(items) - SHOWN} more")
    return f"{many} in the work queue", "\n".join([*lines, "", "The work queue has the details."]) + "\n"
