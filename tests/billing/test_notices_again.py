"""Sending again what was given up: the newest of each kind, and nothing that is past."""

from datetime import timedelta
from typing import Any

import pytest

from billing.models import Notice
from billing.notices import GIVE_UP_AFTER
from billing.notices_again import send_again
from billing.rules.terms import NoticeState, Stage

pytestmark = pytest.mark.usefixtures("sqlite_database")
FAILED = {"state": NoticeState.FAILED, "attempts": 9, "error": "no such mailbox"}


async def test_the_newest_of_each_kind_is_sent_again(factory: Any, clock: Any) -> None:
    """An older one of the same kind stays given up, and so does one that a delivered one has followed."""
    account, other = await factory.account(), await factory.account()
    old = await factory.notice(account, **FAILED)
    new = await factory.notice(account, **FAILED)
    final = await factory.notice(account, stage=Stage.FINAL_NOTICE, template="final_notice", **FAILED)
    followed = await factory.notice(account, template="restored", stage=None, **FAILED)
    done = {"state": NoticeState.DELIVERED, "delivered_at": clock.now()}
    await factory.notice(account, template="restored", stage=None, **done)
    strange = await factory.notice(other, **FAILED)
    clock.advance(timedelta(hours=1))

    assert await send_again(account.id, now=clock.now()) == 2

    waiting = await Notice.filter(state=NoticeState.PENDING)
    assert {row.id for row in waiting} == {new.id, final.id}
    assert {(row.attempts, row.error, row.next_attempt_at) for row in waiting} == {(0, None, clock.now())}
    left = {row.id for row in await Notice.filter(state=NoticeState.FAILED)}
    assert left == {old.id, followed.id, strange.id}


async def test_what_is_too_old_is_left_alone(factory: Any, clock: Any) -> None:
    """It would be given up at once; what is still owed is asked for anew by the ladder."""
    account = await factory.account()
    await factory.notice(account, **FAILED)
    clock.advance(GIVE_UP_AFTER)
    assert await send_again(account.id, now=clock.now()) == 0


async def test_messages_to_staff_are_sent_again(factory: Any, clock: Any) -> None:
    """All of the last days: each says something else."""
    for _ in range(2):
        await factory.notice(None, channel="staff", template="staff", stage=None, **FAILED)
    await factory.notice(await factory.account(), **FAILED)
    assert await send_again(None, now=clock.now()) == 2
