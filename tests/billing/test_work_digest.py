"""Telling staff of the work queue: one message for all that is new, and no flood."""

from datetime import timedelta
from typing import Any

import pytest

from billing import work_queue
from billing.models import Notice, WorkItem, WorkState
from billing.work_digest import APART, COLLECT, queue_digest

pytestmark = pytest.mark.usefixtures("sqlite_database")


async def _items(clock: Any, count: int, kind: str = "step_failed", title: str = "STOP failed") -> None:
    for _ in range(count):
        key = f"{kind}:{await WorkItem.all().count()}"
        await work_queue.open_item(kind, key, at=clock.now(), title=title, detail="acct 7, kim@example.org")


async def test_it_tells_everything_new_in_one_message(clock: Any) -> None:
    """What comes within half a minute is told together, by kinds and titles and without whom it is about."""
    assert await queue_digest(clock.now()) is None
    await _items(clock, 2)
    assert await queue_digest(clock.now()) == clock.now() + COLLECT
    clock.advance(timedelta(seconds=20))
    await _items(clock, 1, kind="server_missing", title="A guest is missing")
    clock.advance(timedelta(seconds=10))
    assert await queue_digest(clock.now()) is None
    notice = await Notice.get()
    assert (notice.channel, notice.subject) == ("staff", "3 things wait in the work queue")
    assert notice.body.splitlines()[:5] == [
        "2 × step_failed", "1 × server_missing", "", "STOP failed", "A guest is missing",
    ]  # fmt: skip
    assert "kim" not in notice.body
    assert await queue_digest(clock.now() + APART) is None, "nobody is told twice"


async def test_a_thousand_troubles_are_one_message_a_quarter_of_an_hour(clock: Any) -> None:
    """A flood becomes counts; the next message waits its time and tells the rest."""
    await _items(clock, 30)
    clock.advance(COLLECT)
    await queue_digest(clock.now())
    told_at = clock.now()
    assert "… and 20 more" in (await Notice.get()).body
    for _ in range(5):
        clock.advance(timedelta(minutes=1))
        await _items(clock, 10)
        assert await queue_digest(clock.now()) == told_at + APART
    clock.advance(APART)
    await queue_digest(clock.now())
    assert [row.subject for row in await Notice.all().order_by("id")] == [
        "30 things wait in the work queue",
        "50 things wait in the work queue",
    ]


async def test_what_is_dealt_with_is_not_told(clock: Any) -> None:
    """Neither what is over before the message is due, nor what somebody looks at already."""
    await _items(clock, 2)
    first, second = await WorkItem.all().order_by("id")
    await work_queue.resolve(first.dedupe_key, at=clock.now(), by="system:x", resolution="over")
    await WorkItem.filter(id=second.id).update(state=WorkState.ACKNOWLEDGED)
    clock.advance(COLLECT)
    assert await queue_digest(clock.now()) is None
    assert await Notice.all().count() == 0
