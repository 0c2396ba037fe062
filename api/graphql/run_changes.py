"""Ending a run before its time, and trying again what waits after a failure."""

from __future__ import annotations

import strawberry

from api.graphql import ids
from api.graphql.action_requests import RunPayload
from api.graphql.context import Info
from api.graphql.errors import refusable
from api.graphql.runs import show_run
from api.graphql.server_changes import ServerPayload
from api.graphql.servers import show_servers
from billing.refusal import RefusalCode, refusal
from reconciler import cancelling, retrying


@strawberry.input
class RunCancelInput:
    """A run that is to end."""

    run_id: strawberry.ID
    reason: str


@strawberry.input
class StepRetryInput:
    """A server of which something waits for another try."""

    server_id: strawberry.ID
    reason: str


@strawberry.type
class RunMutations:
    """The part of the mutation type that is about runs."""

    @strawberry.mutation
    @refusable(RunPayload)
    async def run_cancel(
        self,
        info: Info,
        input: RunCancelInput,  # noqa: A002  # the contract's name
    ) -> RunPayload:
        """End a run that looks or restricts; tasks of the hypervisor go on, and no restore is ever cancelled."""
        context = info.context
        row = await context.scope.runs().get_or_none(id=ids.key_of("Run", input.run_id) or 0)
        if row is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such run", "runId")
        wanted = await cancelling.want(
            row.id, reason=input.reason, actor=context.principal.actor, now=context.now
        )
        return RunPayload(run=show_run(wanted))

    @strawberry.mutation
    @refusable(ServerPayload)
    async def step_retry(
        self,
        info: Info,
        input: StepRetryInput,  # noqa: A002  # the contract's name
    ) -> ServerPayload:
        """Let what waits on a server after a failure be tried again at once."""
        context = info.context
        row = await context.scope.servers().get_or_none(id=ids.key_of("Server", input.server_id) or 0)
        if row is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such server", "serverId")
        await retrying.retry(row.id, reason=input.reason, actor=context.principal.actor, now=context.now)
        context.woken(row.account_id)
        return ServerPayload(server=(await show_servers(context, [row]))[0])
