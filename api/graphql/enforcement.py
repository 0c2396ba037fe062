"""The brakes of enforcement: pausing, resuming, releasing breaker and safe mode. Giving back has no brake."""

from __future__ import annotations

import strawberry

from api.graphql.approvals import Approval, show_approval, voter
from api.graphql.context import Context, Info
from api.graphql.errors import UserError, refusable
from api.graphql.reconciler import ReconcilerHealth, health_of
from billing import approval_models
from reconciler import breaker, pause, safety


@strawberry.input
class ReasonInput:
    """Why."""

    reason: str


@strawberry.input
class BreakerReleaseInput:
    """The plan of the last 24 hours that was found to be right, by its digest."""

    plan_digest: str
    reason: str


@strawberry.type
class ReconcilerPayload:
    """How the reconciler now stands, or why nothing was done."""

    reconciler: ReconcilerHealth | None = None
    approval: Approval | None = None
    errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class EnforcementMutations:
    """The part of the mutation type that is about the whole of enforcement."""

    @strawberry.mutation
    @refusable(ReconcilerPayload)
    async def enforcement_pause(
        self,
        info: Info,
        input: ReasonInput,  # noqa: A002  # the contract's name
    ) -> ReconcilerPayload:
        """Hold every climb and every restriction."""
        await pause.pause(reason=input.reason, actor=info.context.principal.actor, now=info.context.now)
        return await _answered(info.context)

    @strawberry.mutation
    @refusable(ReconcilerPayload)
    async def enforcement_resume(
        self,
        info: Info,
        input: ReasonInput,  # noqa: A002  # the contract's name
    ) -> ReconcilerPayload:
        """Let enforcement go on."""
        await pause.resume(reason=input.reason, actor=info.context.principal.actor, now=info.context.now)
        return await _answered(info.context)

    @strawberry.mutation
    @refusable(ReconcilerPayload)
    async def breaker_release(
        self,
        info: Info,
        input: BreakerReleaseInput,  # noqa: A002  # the contract's name
    ) -> ReconcilerPayload:
        """Let whom a plan held back climb after all, within the limits and for seven days; takes two persons."""
        context = info.context
        approval = await breaker.vote(
            input.plan_digest,
            voter(context),
            reason=input.reason,
            rule=context.ports.second_person,
            now=context.now,
        )
        return await _answered(context, approval)

    @strawberry.mutation
    @refusable(ReconcilerPayload)
    async def safe_mode_release(
        self,
        info: Info,
        input: ReasonInput,  # noqa: A002  # the contract's name
    ) -> ReconcilerPayload:
        """Let safe mode end as soon as all facts were read again."""
        await safety.release(reason=input.reason, actor=info.context.principal.actor, now=info.context.now)
        return await _answered(info.context)


async def _answered(context: Context, approval: approval_models.Approval | None = None) -> ReconcilerPayload:
    context.woken(None)
    return ReconcilerPayload(
        reconciler=await health_of(context),
        approval=await show_approval(context, approval) if approval is not None else None,
    )
