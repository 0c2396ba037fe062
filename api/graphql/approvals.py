"""Approvals: what takes two persons, who voted, and taking it back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import strawberry
from tortoise.expressions import Q

from api.graphql import ids
from api.graphql.context import Context, Info
from api.graphql.errors import UserError, refusable
from api.graphql.nodes import ApprovalState, Node
from billing import approval_models, approvals
from billing.approvals import Voter
from billing.rules.approvals import NEEDS

#: A list without pages still has an end.
_MOST = 100


@strawberry.type
class ApprovalVote:
    """One person's vote."""

    person: str
    at: datetime
    reason: str


@strawberry.type
class Approval(Node):
    """The recorded votes of persons on one thing that needs two of them."""

    kind: str
    subject: strawberry.ID = strawberry.field(
        description="The account that it is about; of a release of the breaker, the digest of the plan."
    )
    reason: str
    requested_by: str
    requested_at: datetime
    needs: int
    votes: list[ApprovalVote]
    state: ApprovalState
    expires_at: datetime | None


@strawberry.input
class ApprovalWithdrawInput:
    """The end of an approval, by one person."""

    approval_id: strawberry.ID
    reason: str


@strawberry.type
class ApprovalPayload:
    """The approval as it now stands, or why nothing was done."""

    approval: Approval | None = None
    errors: list[UserError] = strawberry.field(default_factory=list)


def voter(context: Context) -> Voter:
    """Return whose vote the caller's is."""
    return Voter(actor=context.principal.actor, person=context.principal.person)


async def show_approvals(context: Context, rows: Sequence[approval_models.Approval]) -> list[Approval]:
    """Return rows as they go on the wire, with their votes, in one statement."""
    given: dict[int, list[ApprovalVote]] = {row.id: [] for row in rows}
    for vote in await approval_models.ApprovalVote.filter(approval_id__in=list(given)).order_by("id"):
        given[vote.approval_id].append(ApprovalVote(person=vote.person, at=vote.at, reason=vote.reason))
    return [
        Approval(
            id=ids.global_id("Approval", row.id),
            kind=row.kind,
            subject=_subject(row),
            reason=row.reason,
            requested_by=row.requested_by,
            requested_at=row.requested_at,
            needs=NEEDS,
            votes=given[row.id],
            state=approvals.shown_state(row, context.now),
            expires_at=row.expires_at,
        )
        for row in rows
    ]


async def show_approval(context: Context, row: approval_models.Approval) -> Approval:
    """Return one row as it goes on the wire."""
    return (await show_approvals(context, [row]))[0]


async def approval_by_key(context: Context, key: int) -> Approval | None:
    """Return the approval of this key if the principal may see it."""
    row = await context.scope.approvals().get_or_none(id=key)
    return await show_approval(context, row) if row is not None else None


def _subject(row: approval_models.Approval) -> strawberry.ID:
    """A plan is no node: its digest is what the next vote has to name."""
    if row.subject_type == "Plan":
        return strawberry.ID(row.subject_id)
    return ids.global_id(row.subject_type, row.subject_id)


def _shown_as(state: ApprovalState, now: datetime) -> Q:
    """As a condition on rows: where an approval is at this instant."""
    over = Q(state=ApprovalState.PENDING, expires_at__lte=now)
    if state is ApprovalState.EXPIRED:
        return Q(state=state) | over
    return Q(state=state) & ~over if state is ApprovalState.PENDING else Q(state=state)


@strawberry.type
class ApprovalQueries:
    """The part of the query type that is about approvals."""

    @strawberry.field
    async def approvals(self, info: Info, state: ApprovalState | None = None) -> list[Approval]:
        """What takes two persons, the newest first, at most a hundred."""
        query = info.context.scope.approvals()
        if state is not None:
            query = query.filter(_shown_as(state, info.context.now))
        return await show_approvals(info.context, await query.order_by("-id").limit(_MOST))


@strawberry.type
class ApprovalMutations:
    """The part of the mutation type that takes votes back; they are given by the mutations that need them."""

    @strawberry.mutation
    @refusable(ApprovalPayload)
    async def approval_withdraw(
        self,
        info: Info,
        input: ApprovalWithdrawInput,  # noqa: A002  # the contract's name
    ) -> ApprovalPayload:
        """End an approval that waits, or one that was given and goes on having an effect."""
        context = info.context
        row = await approvals.withdraw(
            ids.key_of("Approval", input.approval_id) or 0,
            reason=input.reason,
            actor=context.principal.actor,
            now=context.now,
        )
        context.woken(row.account_id)
        return ApprovalPayload(approval=await show_approval(context, row))
