"""Sending again what was given up, because a person asked for it.

Beside `billing.notices` the only writer of `notice`; it lets them wait to be sent once more and sends nothing itself.
"""

from datetime import datetime

from billing.erasing import ERASED
from billing.models import Notice
from billing.notices import GIVE_UP_AFTER, MAIL, STAFF
from billing.rules.terms import NoticeState


async def send_again(account_id: int | None, *, now: datetime) -> int:
    """Let the newest of each kind of an account's failed mails be sent again; return how many.

    Null stands for the messages to staff. What is older than a message is tried is left alone, as is what
    another of its kind has followed.
    """
    of = {"channel": MAIL, "account_id": account_id} if account_id is not None else {"channel": STAFF}
    recent = await Notice.filter(created_at__gt=now - GIVE_UP_AFTER, **of).exclude(body=ERASED).order_by("id")
    newest = {(row.template, row.stage, row.server_id): row for row in recent}
    if account_id is None:
        newest = {(row.template, row.stage, row.id): row for row in recent}
    ids = [row.id for row in newest.values() if row.state is NoticeState.FAILED]
    return await Notice.filter(id__in=ids, state=NoticeState.FAILED).update(
        state=NoticeState.PENDING, attempts=0, next_attempt_at=now, error=None
    )
