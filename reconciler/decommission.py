"""Decommissioning: asked for by the last stage, approved by two persons, done by people outside this software.

Owns when it may be approved, what an approval rests on and what voids it. Its only effect is a work item: no server, no
guest and no backup is touched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from billing import approvals, audit, notices, work_queue
from billing.approval_models import Approval
from billing.approvals import Ask, Voter
from billing.models import Account
from billing.refusal import RefusalCode, refusal
from billing.rules.approvals import ApprovalKind, ApprovalState, SecondPerson
from billing.rules.facts import AccountFacts
from billing.rules.overrides import HOLDS_THE_CLIMB, climb_held_until, is_active
from billing.rules.policy import Policy
from billing.rules.terms import Stage
from reconciler import subjects
from reconciler.models import Server
from reconciler.subjects import Subject

KIND = ApprovalKind.DECOMMISSION
REVIEW = Stage.DECOMMISSION_REVIEW

Policies = Mapping[str, Policy]


@dataclass(frozen=True, kw_only=True)
class Review:
    """How far an account at the last stage is."""

    requested_at: datetime
    #: When the final warning that names the present debt was delivered; null: not yet.
    warned_at: datetime | None
    #: From when two persons may approve; null while that is not known.
    approvable_at: datetime | None


def review(subject: Subject, now: datetime) -> Review | None:
    """Return how far the account is; null while it does not stand at the last stage."""
    facts, debt = subject.facts, subject.eligibility.debt
    if subject.episode is None or subject.standing is not REVIEW or debt is None:
        return None
    if not isinstance(facts, AccountFacts):
        return None
    fresh_from = max(
        at
        for at in (
            subject.episode.admitted_at,
            climb_held_until(facts.overrides, now),
            facts.notices_void_before,
        )
        if at
    )
    warned = min(
        (
            notice.delivered_at
            for notice in facts.notices
            if notice.stage is REVIEW
            and notice.sent_at >= fresh_from
            and debt.anchor_id in notice.invoice_ids
            and notice.delivered_at is not None
            and notice.delivered_at <= now
        ),
        default=None,
    )
    rung = subject.policy.at(REVIEW)
    wait = rung.approve_after if rung and rung.approve_after is not None else timedelta(0)
    held = any(one.kind in HOLDS_THE_CLIMB and is_active(one, now) for one in facts.overrides)
    return Review(
        requested_at=subject.episode.admitted_at,
        warned_at=warned,
        approvable_at=warned + wait if warned is not None and not held else None,
    )


async def vote(
    account_id: int, voter: Voter, *, reason: str, rule: SecondPerson, policies: Policies, now: datetime
) -> Approval:
    """Ask to let people decommission an account by hand, or join who asked; `CONFLICT` before it is due."""

    async def examine() -> Ask:
        return await _examine(account_id, policies, now)

    async def effect(approval: Approval) -> None:
        await take_effect(approval, policies, now)

    return await approvals.vote(examine, effect, voter, reason=reason, rule=rule, now=now)


async def take_effect(approval: Approval, policies: Policies, now: datetime) -> None:
    """Ask people to do what was approved, in the transaction of the caller; nothing else follows from it."""
    account_id = approval.account_id or 0
    ask = await _examine(account_id, policies, now, giving=approval.id)
    if ask.digest != approval.digest:
        raise refusal(RefusalCode.CONFLICT, "the debt that it was approved for has changed", "accountId")
    servers = Server.filter(account_id=account_id, retired_at=None).order_by("id")
    names = ", ".join(str(name) for name in await servers.values_list("external_id", flat=True)) or "none"
    title = f"Two persons approved: {ask.what}"
    detail = (
        f"{approval.reason}. Live servers: {names}. Abeyance does nothing more and destroys nothing; "
        "a payment closes this item."
    )
    await work_queue.open_item(
        "decommission", _item(account_id), at=now, title=title, detail=detail, account_id=account_id
    )
    await notices.queue_staff(
        title, detail, dedupe_key=f"decommission:{approval.id}", now=now, account_id=account_id
    )
    await audit.record(
        "decommission.approved",
        ("Account", account_id),
        at=now,
        actor=approval.requested_by,
        reason=approval.reason,
        account_id=account_id,
        after={"approval": approval.id},
    )


async def follow(subject: Subject, *, by: str, now: datetime) -> None:
    """Void what was approved, or waits for it, as soon as the account left the stage or any of the debt was paid.

    Belongs inside the transaction that settles the account; costs nothing for accounts at other stages.
    """
    if subject.server is not None or subject.episode is None or subject.episode.admitted is not REVIEW:
        return
    standing = [ApprovalState.PENDING, ApprovalState.GIVEN]
    for approval in await Approval.filter(kind=KIND, account_id=subject.account.id, state__in=standing):
        if subject.standing is REVIEW and not _paid_since(approval, subject):
            continue
        why = "some of the debt was paid" if subject.standing is REVIEW else "the account left the last stage"
        await approvals.void(subject.account.id, {KIND}, reason=why, by=by, now=now)
        await work_queue.resolve(_item(subject.account.id), at=now, by=by, resolution=why)
        return


def _paid_since(approval: Approval, subject: Subject) -> bool:
    owed = _owed(subject)
    approved: Mapping[str, int] = approval.about["owed"]
    return any(owed.get(invoice_id, 0) < amount for invoice_id, amount in approved.items())


def _owed(subject: Subject) -> Mapping[str, int]:
    """Return what is owed of each overdue invoice; keys are text, as JSON keeps them."""
    facts, debt = subject.facts, subject.eligibility.debt
    if not isinstance(facts, AccountFacts) or debt is None:
        return {}
    return {str(one.id): one.owed for one in facts.invoices if one.id in debt.invoice_ids}


async def _examine(account_id: int, policies: Policies, now: datetime, giving: int = 0) -> Ask:
    """Return what is voted on; the account's row is locked until the end of the transaction."""
    account = await Account.filter(id=account_id).select_for_update(no_key=True).first()
    if account is None:
        raise refusal(RefusalCode.NOT_FOUND, "there is no such account", "accountId")
    subject = next(one for one in await subjects.load([account_id], policies, now) if one.server is None)
    found = review(subject, now)
    if found is None or subject.episode is None:
        raise refusal(
            RefusalCode.CONFLICT, f"the account stands at {subject.standing}, not at {REVIEW}", "accountId"
        )
    if found.approvable_at is None or found.approvable_at > now:
        due = (
            f"it can be approved from {found.approvable_at:%Y-%m-%d %H:%M UTC}"
            if found.approvable_at
            else (
                "the final warning was not delivered yet"
                if found.warned_at is None
                else "an override protects the account"
            )
        )
        raise refusal(RefusalCode.CONFLICT, due, "accountId")
    given = Approval.filter(kind=KIND, account_id=account_id, state=ApprovalState.GIVEN)
    if await given.exclude(id=giving).exists():
        raise refusal(RefusalCode.CONFLICT, "two persons have approved that already", "accountId")
    return Ask(
        kind=KIND,
        subject=("Account", account_id),
        account_id=account_id,
        what=f"decommission {account.external_id} by hand",
        about={
            "episode": subject.episode.id,
            "requested_at": found.requested_at.isoformat(),
            "warned_at": found.warned_at.isoformat() if found.warned_at else None,
            "owed": _owed(subject),
        },
    )


def _item(account_id: int) -> str:
    return f"decommission:{account_id}"
