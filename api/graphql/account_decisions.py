"""Decisions of admins about an account: the ladder that it walks, and that people may decommission it."""

from __future__ import annotations

import strawberry

from api.graphql.account_changes import AccountPayload
from api.graphql.accounts import account_by_key
from api.graphql.approvals import show_approval, voter
from api.graphql.context import Info
from api.graphql.errors import refusable
from api.graphql.nodes import Stage
from api.graphql.own_account import account_of
from api.graphql.subjects import refuse_other_stage
from billing import accounts
from reconciler import decommission


@strawberry.input
class PolicyAssignInput:
    """The ladder that an account is to walk from now on."""

    account_id: strawberry.ID
    policy: str
    reason: str


@strawberry.input
class DecommissionApproveInput:
    """One person's word that an account at the last stage may be decommissioned by hand."""

    account_id: strawberry.ID
    reason: str
    expected_stage: Stage | None = None


@strawberry.type
class AccountDecisionMutations:
    """The part of the mutation type that is decided about accounts."""

    @strawberry.mutation
    @refusable(AccountPayload)
    async def policy_assign(
        self,
        info: Info,
        input: PolicyAssignInput,  # noqa: A002  # the contract's name
    ) -> AccountPayload:
        """Let an account walk another ladder; a shorter one begins with a fresh notice."""
        context = info.context
        account = await account_of(context, input.account_id)
        await accounts.assign_policy(
            account.id,
            input.policy,
            policies=context.ports.policies(),
            reason=input.reason,
            actor=context.principal.actor,
            now=context.now,
        )
        context.woken(account.id)
        return AccountPayload(account=await account_by_key(context, account.id))

    @strawberry.mutation
    @refusable(AccountPayload)
    async def decommission_approve(
        self,
        info: Info,
        input: DecommissionApproveInput,  # noqa: A002  # the contract's name
    ) -> AccountPayload:
        """Let people decommission an account by hand; takes two persons and does nothing but ask them."""
        context = info.context
        account = await account_of(context, input.account_id)
        await refuse_other_stage(context, account.id, input.expected_stage)
        approval = await decommission.vote(
            account.id,
            voter(context),
            reason=input.reason,
            rule=context.ports.second_person,
            policies=context.ports.policies(),
            now=context.now,
        )
        context.woken(account.id)
        return AccountPayload(
            account=await account_by_key(context, account.id),
            approval=await show_approval(context, approval),
        )
