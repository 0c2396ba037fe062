"""Pausing and resuming enforcement. Pausing never pauses giving back."""

from __future__ import annotations

import strawberry

from api.graphql.context import Context, Info
from api.graphql.errors import UserError, refusable
from api.graphql.reconciler import ReconcilerHealth, health_of
from reconciler import pause


@strawberry.input
class ReasonInput:
    """Why."""

    reason: str


@strawberry.type
class ReconcilerPayload:
    """How the reconciler now stands, or why nothing was done."""

    reconciler: ReconcilerHealth | None = None
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


async def _answered(context: Context) -> ReconcilerPayload:
    context.woken(None)
    return ReconcilerPayload(reconciler=await health_of(context))
