"""`SUSPEND_NOW`: two persons let an account be suspended without waiting.

Owns what it takes and what it places. What it does to the ladder is `billing.rules.climb`'s; votes are
`billing.approvals`'.
"""

from collections.abc import Mapping
from datetime import datetime

from billing import approvals, overrides
from billing.approval_models import Approval, ApprovalVote
from billing.approvals import Ask, Voter
from billing.models import Account
from billing.refusal import RefusalCode, refusal
from billing.rules.approvals import ApprovalKind, SecondPerson
from billing.rules.overrides import suspend_now
from billing.rules.policy import Policy
from reconciler import subjects

Policies = Mapping[str, Policy]


async def vote(
    account_id: int, voter: Voter, *, reason: str, rule: SecondPerson, policies: Policies, now: datetime
) -> Approval:
    """Ask to suspend an account now, or join who asked; the override is placed once enough persons did.

    Refuses an account without overdue debt, and one that is to be suspended already (`CONFLICT`).
    """

    async def examine() -> Ask:
        return await _examine(account_id, policies, now)

    async def effect(approval: Approval) -> None:
        await take_effect(approval, policies, now)

    return await approvals.vote(examine, effect, voter, reason=reason, rule=rule, now=now)


async def take_effect(approval: Approval, policies: Policies, now: datetime) -> None:
    """Place what was approved, in the transaction of the caller; refuses what the facts do not allow any more."""
    account_id = approval.account_id or 0
    ask = await _examine(account_id, policies, now)
    if ask.digest != approval.digest:
        raise refusal(RefusalCode.CONFLICT, "the episode that it was approved for has ended", "accountId")
    votes = await ApprovalVote.filter(approval_id=approval.id).order_by("id")
    await overrides.place_suspend_now(
        account_id, reason=approval.reason, actors=[row.actor for row in votes], now=now
    )


async def _examine(account_id: int, policies: Policies, now: datetime) -> Ask:
    """Return what is voted on; the account's row is locked until the end of the transaction."""
    account = await Account.filter(id=account_id).select_for_update(no_key=True).first()
    if account is None:
        raise refusal(RefusalCode.NOT_FOUND, "there is no such account", "accountId")
    subject = next(one for one in await subjects.load([account_id], policies, now) if one.server is None)
    if subject.episode is None or not subject.eligibility.in_episode:
        raise refusal(
            RefusalCode.CONFLICT,
            "the account has no overdue debt that the ladder follows: only then can it be suspended",
            "accountId",
        )
    if suspend_now(subject.facts.overrides, subject.episode.started_at, now):
        raise refusal(RefusalCode.CONFLICT, "two persons have decided that already", "accountId")
    return Ask(
        kind=ApprovalKind.SUSPEND_NOW,
        subject=("Account", account_id),
        account_id=account_id,
        what=f"suspend {account.external_id} without waiting",
        about={"episode": subject.episode.id},
    )
