"""The sending of what is queued in the outbox, beside the requests.

Owns when it is looked at and what each mode lets out; what is written and how it is sent is `billing`'s.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from api.background import Worker
from billing import advance_notices, notices
from billing.clock import Clock
from billing.mail import SmtpMailer
from billing.rules.notices import GOOD_NEWS
from billing.settling import Means
from billing.staff import StaffChannel
from reconciler.rules.terms import Mode

BATCH = 100


@dataclass(kw_only=True)
class MailTurns:
    """The turns that send, for the process that leads."""

    clock: Clock
    rng: random.Random
    #: Null while there is no way to send mail, or to tell the staff.
    mailer: SmtpMailer | None
    staff: StaffChannel | None
    #: The mode in force.
    mode: Callable[[], Awaitable[Mode]]
    #: What settling works with now.
    means: Callable[[], Means]
    #: Asks the reconciler for a pass, which may have waited for a notice to be delivered.
    wake: Callable[[], None]

    def __post_init__(self) -> None:
        self.outbox = Worker(name="outbox", turn=self.deliver)

    async def deliver(self) -> float | None:
        """Send what is due in the outbox; returns when to look again.

        `OFF` sends nothing; in `PLAN` a customer is told that servers are back, and nothing else.
        """
        mode = await self.mode()
        if mode is Mode.OFF:
            return None
        told = None if mode is Mode.APPLY else {*GOOD_NEWS, notices.STAFF}
        delivered = await notices.deliver_due(
            self.clock,
            self.mailer,
            self.staff,
            rng=self.rng,
            limit=BATCH,
            only=told,
            still_due=partial(advance_notices.still_due, means=self.means()),
        )
        if delivered:
            self.wake()
        return None
