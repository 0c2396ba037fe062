"""Votes of persons on what takes two of them: asked for, joined, given, withdrawn, expired, void.

The only writer of `approval` and `approval_vote`. What a given approval does is its kind's module's; it is done in the
transaction of the vote that gave it.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tortoise.expressions import Q
from tortoise.transactions import in_transaction

from billing import audit, notices, work_queue
from billing.approval_models import Approval, ApprovalVote
from billing.models import Account
from billing.refusal import RefusalCode, RefusalError, refusal, required_reason
from billing.rules.approvals import LASTS, NEEDS, ApprovalKind, ApprovalState, SecondPerson

ACTOR = "system:approvals"
#: Given approvals of these kinds go on having an effect, which a withdrawal ends.
_LASTING = frozenset({ApprovalKind.DECOMMISSION})


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is voted on, as it is at this moment."""

    kind: ApprovalKind
    subject: audit.Subject
    account_id: int | None = None
    #: What would be done, for people: "suspend customer-7 now".
    what: str
    #: The facts that the vote is about: a vote on other facts begins anew.
    about: Mapping[str, object]

    @property
    def digest(self) -> str:
        """SHA-256 over the facts."""
        return hashlib.sha256(json.dumps(self.about, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Voter:
    """Who votes. `person` null: nobody knows which human being it is, and so the vote cannot count."""

    actor: str
    person: str | None


#: Looks at what is asked for inside the transaction of the vote; refuses what cannot be. It locks its subject first, so
#: that of two votes at the same moment the later one sees the earlier.
Examine = Callable[[], Awaitable[Ask]]
#: Does what was approved, inside the same transaction.
Effect = Callable[[Approval], Awaitable[None]]


async def vote(
    examine: Examine, effect: Effect, voter: Voter, *, reason: str, rule: SecondPerson, now: datetime
) -> Approval:
    """Ask for an approval or join one that waits; return it, `GIVEN` with its effect once enough persons voted.

    Refuses an empty reason, a caller without a person (`FORBIDDEN`), and the same person twice (`SAME_PERSON`).
    """
    told = required_reason(reason)
    if voter.person is None:
        raise refusal(
            RefusalCode.FORBIDDEN,
            "this takes the votes of two persons and your token names none: "
            "make one with `abeyance token create --person`",
        )
    async with in_transaction():
        return await _vote(await examine(), effect, voter, reason=told, rule=rule, now=now)


async def _vote(
    ask: Ask, effect: Effect, voter: Voter, *, reason: str, rule: SecondPerson, now: datetime
) -> Approval:
    approval = await _pending(ask, now)
    if approval is None:
        approval = await _request(ask, voter, reason=reason, rule=rule, now=now)
    persons = await _persons(approval)
    if voter.person not in persons:
        await ApprovalVote.create(
            approval_id=approval.id, person=voter.person, actor=voter.actor, reason=reason, at=now
        )
        await _record("approval.voted", approval, by=voter.actor, reason=reason, now=now)
        persons.append(str(voter.person))
    elif not rule.enough(persons, approval.alone_at, now):
        alone = rule.wait is not None and approval.alone_at
        raise refusal(
            RefusalCode.SAME_PERSON,
            f"you have voted already; it counts alone from {alone:%Y-%m-%d %H:%M UTC}"
            if alone
            else "you have voted already; another person has to",
        )
    if rule.enough(persons, approval.alone_at, now):
        await _give(approval, effect, by=voter.actor, reason=reason, now=now)
    return approval


async def ripe(rule: SecondPerson, now: datetime) -> Sequence[Approval]:
    """Return the approvals that one person's vote is enough for by now; none where two persons are required."""
    if rule.wait is None:
        return ()
    return await Approval.filter(state=ApprovalState.PENDING, alone_at__lte=now, expires_at__gt=now).order_by(
        "id"
    )


async def give_alone(approval: Approval, effect: Effect, *, now: datetime) -> None:
    """Let one person's vote count because its time has come; what cannot be done any more is void."""
    why = f"no second person objected until {now:%Y-%m-%d %H:%M UTC}"
    try:
        async with in_transaction():
            # In the order of a vote, so that neither waits for the other in a circle.
            await Account.filter(id=approval.account_id or 0).select_for_update(no_key=True).first()
            held = await _locked(approval.id)
            if held is not None and held.state is ApprovalState.PENDING:
                await _give(held, effect, by=ACTOR, reason=why, now=now)
    except RefusalError as refused:
        async with in_transaction():
            held = await _locked(approval.id)
            if held is not None and held.state is ApprovalState.PENDING:
                await _end(held, ApprovalState.VOID, by=ACTOR, reason=str(refused), now=now)


async def withdraw(approval_id: int, *, reason: str, actor: str, now: datetime) -> Approval:
    """End an approval that waits, or one that was given and goes on having an effect."""
    told = required_reason(reason)
    async with in_transaction():
        approval = await _locked(approval_id)
        if approval is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such approval", "approvalId")
        given = approval.state is ApprovalState.GIVEN
        if given and approval.kind not in _LASTING:
            raise refusal(RefusalCode.CONFLICT, "it was given and carried out already", "approvalId")
        if shown_state(approval, now) not in {ApprovalState.PENDING, ApprovalState.GIVEN}:
            raise refusal(RefusalCode.CONFLICT, f"it is {approval.state.lower()} already", "approvalId")
        await _end(approval, ApprovalState.WITHDRAWN, by=actor, reason=told, now=now)
    return approval


async def void(
    account_id: int, kinds: Collection[ApprovalKind], *, reason: str, by: str, now: datetime
) -> bool:
    """End the approvals about one account, waiting or still having an effect, because their ground is gone.

    Belongs inside the transaction of what took the ground away; returns whether there was one.
    """
    standing = Q(state=ApprovalState.PENDING) | Q(state=ApprovalState.GIVEN, kind__in=list(_LASTING))
    rows = await Approval.filter(standing, kind__in=list(kinds), account_id=account_id).order_by("id")
    for approval in rows:
        await _end(approval, ApprovalState.VOID, by=by, reason=reason, now=now)
    return bool(rows)


async def expire_due(now: datetime) -> None:
    """End what nobody joined in time."""
    for due in await Approval.filter(state=ApprovalState.PENDING, expires_at__lte=now).order_by("id"):
        async with in_transaction():
            approval = await _locked(due.id)
            if approval is not None and approval.state is ApprovalState.PENDING:
                await _expire(approval, now)


def shown_state(approval: Approval, now: datetime) -> ApprovalState:
    """Return where an approval is at `now`, also when nobody has written down yet that its time is over."""
    over = approval.state is ApprovalState.PENDING and approval.expires_at <= now
    return ApprovalState.EXPIRED if over else approval.state


async def _locked(approval_id: int) -> Approval | None:
    return await Approval.filter(id=approval_id).select_for_update().first()


async def _persons(approval: Approval) -> list[str]:
    rows = await ApprovalVote.filter(approval_id=approval.id).order_by("id")
    return [row.person for row in rows]


async def _pending(ask: Ask, now: datetime) -> Approval | None:
    """Return the request that a vote on these facts joins; ends one that is too old or about other facts."""
    noun, key = ask.subject
    approval = (
        await Approval.filter(
            kind=ask.kind, subject_type=noun, subject_id=str(key), state=ApprovalState.PENDING
        )
        .select_for_update()
        .first()
    )
    if approval is None:
        return None
    if approval.expires_at <= now:
        await _expire(approval, now)
        return None
    if approval.digest != ask.digest:
        await _end(approval, ApprovalState.VOID, by=ACTOR, reason="the facts have changed since", now=now)
        return None
    return approval


async def _request(ask: Ask, voter: Voter, *, reason: str, rule: SecondPerson, now: datetime) -> Approval:
    noun, key = ask.subject
    approval = await Approval.create(
        kind=ask.kind,
        subject_type=noun,
        subject_id=str(key),
        account_id=ask.account_id,
        about=dict(ask.about),
        digest=ask.digest,
        reason=reason,
        requested_by=voter.actor,
        requested_at=now,
        expires_at=now + LASTS,
        alone_at=rule.alone_at(now),
    )
    await _record("approval.requested", approval, by=voter.actor, reason=reason, now=now)
    alone = f", and it counts alone from {approval.alone_at:%Y-%m-%d %H:%M UTC}" if approval.alone_at else ""
    detail = (
        f"{voter.actor} asks to {ask.what}: {reason}. It takes {NEEDS} persons until "
        f"{approval.expires_at:%Y-%m-%d %H:%M UTC}{alone}. Vote by asking for the same, or withdraw it."
    )
    title = f"An approval waits: {ask.what}"
    await notices.queue_staff(
        title, detail, dedupe_key=f"approval:{approval.id}", now=now, account_id=ask.account_id
    )
    await work_queue.open_item(
        "approval", _item(approval), at=now, title=title, detail=detail, account_id=ask.account_id
    )
    return approval


async def _give(approval: Approval, effect: Effect, *, by: str, reason: str, now: datetime) -> None:
    approval.state, approval.given_at = ApprovalState.GIVEN, now
    await approval.save(update_fields=["state", "given_at"])
    await _record("approval.given", approval, by=by, reason=reason, now=now)
    await work_queue.resolve(_item(approval), at=now, by=by, resolution="it was given")
    await effect(approval)


async def _expire(approval: Approval, now: datetime) -> None:
    await _end(approval, ApprovalState.EXPIRED, by=ACTOR, reason="nobody joined it in time", now=now)


async def _end(approval: Approval, state: ApprovalState, *, by: str, reason: str, now: datetime) -> None:
    approval.state, approval.ended_at = state, now
    await approval.save(update_fields=["state", "ended_at"])
    await _record(f"approval.{state.lower()}", approval, by=by, reason=reason, now=now)
    await work_queue.resolve(_item(approval), at=now, by=by, resolution=reason)


def _item(approval: Approval) -> str:
    return f"approval:{approval.id}"


async def _record(kind: str, approval: Approval, *, by: str, reason: str, now: datetime) -> None:
    await audit.record(
        kind,
        ("Approval", approval.id),
        at=now,
        actor=by,
        reason=reason,
        account_id=approval.account_id,
        after={"kind": approval.kind, "subject": approval.subject_id, "digest": approval.digest},
    )
