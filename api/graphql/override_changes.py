"""Placing and revoking overrides."""

from __future__ import annotations

from datetime import datetime

import strawberry

from api.graphql import ids
from api.graphql.accounts import Account, account_by_key
from api.graphql.approvals import Approval, show_approval, voter
from api.graphql.context import Context, Info
from api.graphql.errors import UserError, refusable
from api.graphql.nodes import OverrideKind, Stage
from api.graphql.overrides import Override, show_overrides
from api.graphql.own_account import account_of
from api.graphql.policies import policy_named
from api.graphql.subjects import refuse_other_stage
from api.models import Role
from billing import models, overrides
from billing.overrides import Authority, Placement
from billing.refusal import RefusalCode, refusal
from reconciler import suspend_now


@strawberry.input
class OverridePlaceInput:
    """A decision about an account, or about one of its servers."""

    account_id: strawberry.ID
    server_id: strawberry.ID | None = None
    kind: OverrideKind
    reason: str
    expires_at: datetime | None = None
    expected_stage: Stage | None = None


@strawberry.input
class OverrideRevokeInput:
    """The end of a decision."""

    override_id: strawberry.ID
    reason: str


@strawberry.input
class GraceRequestInput:
    """A promise to pay; without an account the customer's only one is meant."""

    account_id: strawberry.ID | None = None
    until: datetime
    reason: str | None = None


@strawberry.type
class OverridePayload:
    """The decision as it now stands, or why nothing was done."""

    override: Override | None = None
    account: Account | None = None
    approval: Approval | None = None
    errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class OverrideMutations:
    """The part of the mutation type that is about overrides."""

    @strawberry.mutation
    @refusable(OverridePayload)
    async def override_place(
        self,
        info: Info,
        input: OverridePlaceInput,  # noqa: A002  # the contract's name
    ) -> OverridePayload:
        """Record a decision with its reason and its end; `SUSPEND_NOW` takes the votes of two persons."""
        context = info.context
        account = await account_of(context, input.account_id)
        server_id = await _server_key(context, account, input.server_id)
        await refuse_other_stage(context, account.id, input.expected_stage)
        if input.kind is OverrideKind.SUSPEND_NOW:
            return await _vote_to_suspend(context, account, input)
        row = await overrides.place(
            Placement(
                account_id=account.id,
                server_id=server_id,
                kind=input.kind,
                reason=input.reason,
                expires_at=input.expires_at,
            ),
            actor=context.principal.actor,
            authority=Authority(context.principal.role.value),
            now=context.now,
        )
        return await _answered(context, row)

    @strawberry.mutation
    @refusable(OverridePayload)
    async def override_revoke(
        self,
        info: Info,
        input: OverrideRevokeInput,  # noqa: A002  # the contract's name
    ) -> OverridePayload:
        """End a decision now."""
        context = info.context
        row = await overrides.revoke(
            ids.key_of("Override", input.override_id) or 0,
            reason=input.reason,
            actor=context.principal.actor,
            authority=Authority(context.principal.role.value),
            now=context.now,
        )
        return await _answered(context, row)

    @strawberry.mutation
    @refusable(OverridePayload)
    async def grace_request(
        self,
        info: Info,
        input: GraceRequestInput,  # noqa: A002  # the contract's name
    ) -> OverridePayload:
        """Give the customer more time on its own word, where its policy allows it."""
        context = info.context
        account = await account_of(context, input.account_id)
        row = await overrides.request_grace(
            account.id,
            input.until,
            reason=input.reason,
            policy=policy_named(info, account.policy),
            actor=context.principal.actor,
            now=context.now,
        )
        return await _answered(context, row)


async def _vote_to_suspend(
    context: Context, account: models.Account, asked: OverridePlaceInput
) -> OverridePayload:
    if context.principal.role is not Role.ADMIN:
        raise refusal(RefusalCode.FORBIDDEN, f"only an admin places {asked.kind}", "kind")
    if asked.server_id is not None:
        raise refusal(RefusalCode.INVALID, f"{asked.kind} is placed on a whole account", "serverId")
    if asked.expires_at is not None:
        raise refusal(RefusalCode.INVALID, f"{asked.kind} ends with the episode: give no end", "expiresAt")
    approval = await suspend_now.vote(
        account.id,
        voter(context),
        reason=asked.reason,
        rule=context.ports.second_person,
        policies=context.ports.policies(),
        now=context.now,
    )
    context.woken(account.id)
    placed = await models.Override.filter(account_id=account.id, kind=asked.kind, placed_at=context.now)
    return OverridePayload(
        override=next(iter(await show_overrides(context, placed)), None),
        account=await account_by_key(context, account.id),
        approval=await show_approval(context, approval),
    )


async def _answered(context: Context, row: models.Override) -> OverridePayload:
    context.woken(row.account_id)
    return OverridePayload(
        override=(await show_overrides(context, [row]))[0],
        account=await account_by_key(context, row.account_id),
    )


async def _server_key(context: Context, account: models.Account, server_id: str | None) -> int | None:
    if server_id is None:
        return None
    key = ids.key_of("Server", server_id) or 0
    row = await context.scope.servers().get_or_none(id=key, account_id=account.id, retired_at__isnull=True)
    if row is None:
        raise refusal(RefusalCode.NOT_FOUND, "the account has no such server", "serverId")
    return int(row.id)
