"""Issuing, revoking and redeeming vouchers.

A code is in one answer, once: nothing that is kept of a request could reveal it. Redeeming settles at once.
"""

from __future__ import annotations

from datetime import datetime

import strawberry
from tortoise.transactions import in_transaction

from api.graphql import ids
from api.graphql.account_changes import AccountPayload
from api.graphql.accounts import account_by_key
from api.graphql.amounts import MoneyInput
from api.graphql.context import Context, Info
from api.graphql.errors import UserError, refusable, user_errors
from api.graphql.own_account import account_of
from api.graphql.settled import settle_for
from api.graphql.vouchers import Voucher, show_voucher
from api.idempotency import Keep, Request, once_within
from billing import money_models, vouchers
from billing.refusal import RefusalCode, refusal
from billing.rules.voucher_codes import code_hash, normalised
from billing.vouchers import Batch, Issued


@strawberry.input(
    description="Case, blanks and dashes of the code do not matter. Without `accountId` the caller's only account."
)
class VoucherRedeemInput:
    """A code, and whose purse it fills."""

    code: str
    account_id: strawberry.ID | None = None
    idempotency_key: str


@strawberry.input
class VouchersIssueInput:
    """Vouchers of one value: 1 to 1000 at once, until `expiresAt` or for ever, with a note for staff."""

    count: int
    value: MoneyInput
    expires_at: datetime | None = None
    note: str | None = None
    idempotency_key: str


@strawberry.input
class VoucherRevokeInput:
    """A voucher that is to be worthless."""

    voucher_id: strawberry.ID
    reason: str


@strawberry.type(description="Codes are shown once, here, and stored only as hashes.")
class VouchersIssuePayload:
    """The vouchers and, in the same order, their codes; or why there are none."""

    vouchers: list[Voucher] = strawberry.field(default_factory=list)
    codes: list[str] = strawberry.field(
        default_factory=list, description="Empty when this request was answered before."
    )
    errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class VoucherPayload:
    """The voucher as it now is, or why nothing was done."""

    voucher: Voucher | None = None
    errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class VoucherMutations:
    """The part of the mutation type that is about vouchers."""

    @strawberry.mutation
    @refusable(AccountPayload)
    async def voucher_redeem(
        self,
        info: Info,
        input: VoucherRedeemInput,  # noqa: A002  # the contract's name
    ) -> AccountPayload:
        """Fill the voucher purse with a code, once for ever, and pay what is open. Wrong codes are counted."""
        context = info.context
        account = await account_of(context, input.account_id)
        code = normalised(input.code)
        request = Request(
            # Tokens of two customers may bear the same person's name.
            actor=f"{context.principal.actor} {account.id}",
            operation="voucherRedeem",
            key=input.idempotency_key,
            # Of a code its hash alone, which is kept of the voucher as well; what is no code is never kept.
            body={"account": account.id, "code": code_hash(code) if code is not None else None},
        )

        async def act(keep: Keep) -> None:
            await vouchers.redeem(
                input.code,
                account_id=account.id,
                address=context.address,
                actor=context.principal.actor,
                now=context.now,
                within=lambda voucher: keep({"voucher": voucher.id}),
            )

        answer = await once_within(request, now=context.now, act=act)
        await settle_for(context, account.id, f"voucher:{answer['voucher']}")
        return AccountPayload(account=await account_by_key(context, account.id))

    @strawberry.mutation
    @refusable(VouchersIssuePayload)
    async def vouchers_issue(
        self,
        info: Info,
        input: VouchersIssueInput,  # noqa: A002  # the contract's name
    ) -> VouchersIssuePayload:
        """Issue vouchers. The same key again issues none, and cannot show their codes a second time."""
        context = info.context
        batch = Batch(
            count=input.count,
            value=input.value.read("value"),
            expires_at=input.expires_at,
            note=input.note,
        )
        request = Request(
            actor=context.principal.actor,
            operation="vouchersIssue",
            key=input.idempotency_key,
            body={
                "count": batch.count,
                "value": str(batch.value),
                "expires_at": batch.expires_at,
                "note": batch.note,
            },
        )
        issued: list[Issued] = []

        async def act(keep: Keep) -> None:
            async with in_transaction():
                fresh = await vouchers.issue(
                    batch,
                    random_below=context.ports.random_below,
                    actor=context.principal.actor,
                    now=context.now,
                )
                await keep({"vouchers": [one.voucher.id for one in fresh]})
            issued.extend(fresh)

        answer = await once_within(request, now=context.now, act=act)
        if issued:
            return VouchersIssuePayload(
                vouchers=[show_voucher(context, one.voucher) for one in issued],
                codes=[one.code for one in issued],
            )
        return await _issued_before(context, answer["vouchers"])

    @strawberry.mutation
    @refusable(VoucherPayload)
    async def voucher_revoke(
        self,
        info: Info,
        input: VoucherRevokeInput,  # noqa: A002  # the contract's name
    ) -> VoucherPayload:
        """Make a voucher that was not redeemed worthless for ever."""
        context = info.context
        row = await vouchers.revoke(
            ids.key_of("Voucher", input.voucher_id) or 0,
            reason=input.reason,
            actor=context.principal.actor,
            now=context.now,
        )
        return VoucherPayload(voucher=show_voucher(context, row))


async def _issued_before(context: Context, keys: list[int]) -> VouchersIssuePayload:
    """Return the vouchers of an earlier request without their codes, and say what to do about that."""
    rows = await money_models.Voucher.filter(id__in=keys).order_by("id")
    told = refusal(
        RefusalCode.CONFLICT,
        "the first request with this key issued these; their codes were in its answer alone. If it never arrived, "
        "revoke them and issue others under another key",
        "idempotencyKey",
    )
    return VouchersIssuePayload(
        vouchers=[show_voucher(context, row) for row in rows], errors=await user_errors(context, told)
    )
