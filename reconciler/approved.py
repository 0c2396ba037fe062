"""Approvals that time decides: those that one person's vote is enough for by now, and those that nobody joined.

Owns which module does what each kind approves. A vote that decides at once does it in its own transaction.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial

import structlog

from billing import approvals
from billing.approval_models import Approval
from billing.rules.approvals import ApprovalKind, SecondPerson
from billing.rules.policy import Policy
from reconciler import breaker, decommission, suspend_now

log = structlog.get_logger(__name__)

TakeEffect = Callable[[Approval, Mapping[str, Policy], datetime], Awaitable[None]]

_EFFECTS: Mapping[ApprovalKind, TakeEffect] = {
    ApprovalKind.SUSPEND_NOW: suspend_now.take_effect,
    ApprovalKind.BREAKER_RELEASE: breaker.take_effect,
    ApprovalKind.DECOMMISSION: decommission.take_effect,
}


async def follow(rule: SecondPerson, policies: Mapping[str, Policy], now: datetime) -> None:
    """Carry out what may be carried out by now and end what is too old; a fault in one keeps nothing else waiting."""
    try:
        await approvals.expire_due(now)
        waiting = await approvals.ripe(rule, now)
    except Exception:
        log.exception("approvals.not_read")
        return
    for approval in waiting:
        try:
            effect = partial(_take_effect, policies=policies, now=now)
            await approvals.give_alone(approval, effect, now=now)
        except Exception:
            log.exception("approval.not_given", approval_id=approval.id)


async def _take_effect(approval: Approval, *, policies: Mapping[str, Policy], now: datetime) -> None:
    await _EFFECTS[approval.kind](approval, policies, now)
