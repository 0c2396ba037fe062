"""Changing accounts: the control plane's mutation."""

from __future__ import annotations

import strawberry
from strawberry import UNSET

from api.graphql.accounts import Account, show_accounts
from api.graphql.approvals import Approval
from api.graphql.context import Context, Info
from api.graphql.errors import UserError, log, refusable
from api.graphql.optional import told, told_or_cleared
from billing import accounts
from billing.accounts import KEEP, AccountChange
from billing.refusal import RefusalCode


@strawberry.input
class AccountUpsertInput:
    """An account as the control plane tells of it.

    Optional fields that are absent or null stay as they are, except that a null `email` clears the address.
    The currency cannot change once there is money or an invoice.
    """

    external_id: str
    name: str
    email: str | None = UNSET
    billing_emails: list[str] | None = UNSET
    locale: str | None = UNSET
    currency: str
    time_zone: str | None = UNSET
    stripe_customer_id: str | None = UNSET
    policy: str | None = UNSET
    free_plan: bool | None = UNSET


@strawberry.type
class AccountPayload:
    """The account as it now is, or why nothing was done."""

    account: Account | None = None
    approval: Approval | None = None
    errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class AccountMutations:
    """The part of the mutation type that changes accounts."""

    @strawberry.mutation
    @refusable(AccountPayload)
    async def account_upsert(
        self,
        info: Info,
        input: AccountUpsertInput,  # noqa: A002  # the contract's name
    ) -> AccountPayload:
        """Create an account, or change what is named of it."""
        context = info.context
        done = await accounts.upsert(
            _change(input),
            policies=context.ports.policies(),
            actor=context.principal.actor,
            now=context.now,
        )
        errors = await _adopt(context, done)
        context.woken(done.account.id)
        return AccountPayload(account=(await show_accounts(context, [done.account]))[0], errors=errors)


def _change(asked: AccountUpsertInput) -> AccountChange:
    emails = told(asked.billing_emails)
    return AccountChange(
        external_id=asked.external_id,
        name=asked.name,
        currency=asked.currency,
        email=told_or_cleared(asked.email),
        billing_emails=emails if emails is KEEP else tuple(emails),
        locale=told(asked.locale),
        time_zone=told(asked.time_zone),
        stripe_customer_id=told(asked.stripe_customer_id),
        policy=told(asked.policy),
        free_plan=told(asked.free_plan),
    )


async def _adopt(context: Context, done: accounts.Upserted) -> list[UserError]:
    """Read a newly named Stripe customer. The account stands even if Stripe does not answer: a sweep reads it later."""
    if done.adopt_customer is None or context.ports.adopt_customer is None:
        return []
    try:
        await context.ports.adopt_customer(done.account.id, done.adopt_customer)
    except Exception as problem:  # noqa: BLE001  # whatever Stripe does, the account is saved and that must be told
        log.warning(
            "account.customer_not_adopted", account_id=done.account.id, problem=type(problem).__name__
        )
        return [
            UserError(
                code=RefusalCode.PROVIDER_UNAVAILABLE,
                message="The account is saved; Stripe did not confirm the customer yet and is asked again by itself.",
                path=["input", "stripeCustomerId"],
            )
        ]
    return []
