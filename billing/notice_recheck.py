"""Whether a notice that waited in the outbox is still true when its turn comes.

Reads alone. What is told ahead of trouble depends on policies and money and is `billing.advance_notices`' to look at.
"""

from datetime import datetime

from tortoise.expressions import Q

from billing.models import Episode, Invoice, Notice, Override
from billing.rules.notices import BEFORE_DUE, GIVEN_BACK, RESTORED, SERVER_GIVEN_BACK
from billing.rules.terms import InvoiceStatus, OverrideKind

#: Brings the invoice itself, and so is sent when it was paid meanwhile; not when it was taken back.
INVOICE_ISSUED = "invoice_issued"
#: The same for money that was taken back from us.
ADJUSTMENT_ISSUED = "adjustment_issued"


#: They give back, and letters say until when.
_MERCIES = (OverrideKind.EXEMPT, OverrideKind.EXTEND_GRACE)


async def still_asks(notice: Notice, now: datetime) -> bool:
    """Return whether a notice is still true: most ask for money, and some of it must still be owed.

    The good news asks for nothing and is sent whatever became of its invoices. What belongs to an episode is not sent
    after its end, and what tells of a stage not once the stage is another one: the new one has a letter of its own.
    What staff gave and took back, or what ended, before the letter went is told nobody.
    """
    if notice.template == RESTORED:
        return True
    if notice.episode_id and await _is_over(notice):
        return False
    if notice.template in {GIVEN_BACK, SERVER_GIVEN_BACK} and await _was_taken_back(notice, now):
        return False
    if not notice.invoice_ids:
        return True
    named = Invoice.filter(id__in=notice.invoice_ids)
    if notice.template in {INVOICE_ISSUED, ADJUSTMENT_ISSUED}:
        return await named.exclude(status=InvoiceStatus.VOID).exists()
    return await named.filter(amount_due__gt=0).exists()


async def _is_over(notice: Notice) -> bool:
    """Return whether the episode of a notice has ended, or stands at another stage than when it was written."""
    episode = await Episode.get(id=notice.episode_id)
    if episode.ended_at is not None:
        return True
    return notice.template not in {BEFORE_DUE, SERVER_GIVEN_BACK} and episode.admitted_at > notice.created_at


async def _was_taken_back(notice: Notice, now: datetime) -> bool:
    """Return whether a decision that gave back what the letter tells of has ended since it was written."""
    ended = Q(revoked_at__gte=notice.created_at) | Q(expires_at__gte=notice.created_at, expires_at__lte=now)
    about = Q(server_id__isnull=True) | Q(server_id__in=list(notice.server_ids))
    placed = Override.filter(account_id=notice.account_id, kind__in=_MERCIES)
    return await placed.filter(about, ended, placed_at__lte=notice.created_at).exists()
