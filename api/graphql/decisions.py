"""Decisions of staff about what waits in the work queue, and about notices that never arrived."""

from __future__ import annotations

import strawberry

from api.graphql import ids
from api.graphql.context import Info
from api.graphql.errors import UserError, refusable
from api.graphql.nodes import WorkResolution
from api.graphql.notices import Notice, show_notices
from api.graphql.work_queue import WorkItem, show_item
from billing import notices
from billing.refusal import RefusalCode, refusal
from reconciler import work_decisions

_DECISIONS = {
    WorkResolution.RETRY: work_decisions.retry,
    WorkResolution.ACKNOWLEDGE: work_decisions.acknowledge,
    WorkResolution.DISMISS: work_decisions.dismiss,
}


@strawberry.input
class WorkItemResolveInput:
    """A decision about a work item."""

    work_item_id: strawberry.ID
    resolution: WorkResolution
    reason: str


@strawberry.input
class NoticeMarkDeliveredInput:
    """A customer who was told by other means."""

    notice_id: strawberry.ID
    reason: str


@strawberry.type
class WorkItemPayload:
    """The item as it now stands, or why nothing was done."""

    work_item: WorkItem | None = None
    errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class NoticePayload:
    """The notice as it now stands, or why nothing was done."""

    notice: Notice | None = None
    errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class DecisionMutations:
    """The part of the mutation type that is about what waits for a person."""

    @strawberry.mutation
    @refusable(WorkItemPayload)
    async def work_item_resolve(
        self,
        info: Info,
        input: WorkItemResolveInput,  # noqa: A002  # the contract's name
    ) -> WorkItemPayload:
        """Decide what becomes of a work item."""
        context = info.context
        row = await _DECISIONS[input.resolution](
            ids.key_of("WorkItem", input.work_item_id) or 0,
            reason=input.reason,
            actor=context.principal.actor,
            now=context.now,
        )
        context.woken(row.account_id)
        return WorkItemPayload(work_item=show_item(row))

    @strawberry.mutation
    @refusable(NoticePayload)
    async def notice_mark_delivered(
        self,
        info: Info,
        input: NoticeMarkDeliveredInput,  # noqa: A002  # the contract's name
    ) -> NoticePayload:
        """Count a notice as delivered from now on: the customer was told by other means, by phone or letter."""
        context = info.context
        row = await context.scope.notices().get_or_none(id=ids.key_of("Notice", input.notice_id) or 0)
        if row is None or row.account_id is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such notice", "noticeId")
        new = await notices.mark_delivered(
            row, by=context.principal.actor, reason=input.reason, now=context.now
        )
        if not new:
            raise refusal(RefusalCode.CONFLICT, "the notice was delivered already", "noticeId")
        await row.refresh_from_db()
        context.woken(row.account_id)
        return NoticePayload(notice=(await show_notices(context, [row]))[0])
