"""Decommissioning as it is shown: warned, approvable, approved by two persons, void."""

from __future__ import annotations

from datetime import datetime

import strawberry

from api.graphql.approvals import Approval, show_approval
from api.graphql.context import Context, Info
from api.graphql.subjects import account_subject
from billing import approval_models
from billing.rules.approvals import ApprovalState
from reconciler import decommission


@strawberry.type
class Decommission:
    """How far an account at the last stage is. People decide and act; this software only asks them."""

    requested_at: datetime
    final_warning_delivered_at: datetime | None
    approvable_at: datetime | None
    approved_at: datetime | None
    voided_at: datetime | None
    row: strawberry.Private[approval_models.Approval | None]

    @strawberry.field
    async def approval(self, info: Info) -> Approval | None:
        """The last request for it, with its votes."""
        return await show_approval(info.context, self.row) if self.row is not None else None


async def decommission_of(context: Context, account_id: int) -> Decommission | None:
    """Return how far an account at the last stage is, or that its approval is void; null for every other account."""
    subject = await account_subject(context, account_id)
    review = decommission.review(subject, context.now)
    last = await context.decommissions.load(account_id)
    if review is not None:
        row = last if last is not None and last.requested_at >= review.requested_at else None
        return _shown(row, review)
    if last is None or last.state is not ApprovalState.VOID:
        return None
    warned_at = last.about["warned_at"]
    return _shown(
        last,
        decommission.Review(
            requested_at=datetime.fromisoformat(last.about["requested_at"]),
            warned_at=datetime.fromisoformat(warned_at) if warned_at else None,
            approvable_at=None,
        ),
    )


def _shown(row: approval_models.Approval | None, review: decommission.Review) -> Decommission:
    return Decommission(
        requested_at=review.requested_at,
        final_warning_delivered_at=review.warned_at,
        approvable_at=review.approvable_at,
        approved_at=row.given_at if row else None,
        voided_at=row.ended_at if row and row.state is ApprovalState.VOID else None,
        row=row,
    )
