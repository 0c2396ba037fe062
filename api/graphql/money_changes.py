"""Money that staff book: transfers that arrived, credits, entries that are taken back, invoices that are forgiven.

Each settles at once and wakes the reconciler. What is booked is kept together with the answer to its request.
"""

from __future__ import annotations

from datetime import datetime

import strawberry

from api.graphql import ids
from api.graphql.account_changes import AccountPayload
from api.graphql.accounts import account_by_key
from api.graphql.amounts import MoneyInput
from api.graphql.context import Info
from api.graphql.errors import refusable
from api.graphql.invoices import invoice_by_key
from api.graphql.nodes import PaymentState, Stage
from api.graphql.own_account import account_of
from api.graphql.payments import InvoicePayload
from api.graphql.settled import settle_for
from api.graphql.subjects import refuse_other_stage
from api.idempotency import Keep, Request, once_within
from billing import money_back
from billing.forgiving import forgive
from billing.money_back import BankPayment
from billing.money_models import LedgerTransaction
from billing.refusal import RefusalCode, refusal


@strawberry.input(
    description="With `invoiceId` it pays that invoice first; what is left pays what else is open or stays as balance. "
    "Without `receivedAt` it arrived now."
)
class PaymentRecordInput:
    """Money that arrived outside Stripe, such as a bank transfer."""

    account_id: strawberry.ID
    invoice_id: strawberry.ID | None = None
    amount: MoneyInput
    reference: str
    received_at: datetime | None = None
    idempotency_key: str


@strawberry.input
class CreditGrantInput:
    """Money of the house for an account; the customer reads the reason in the ledger."""

    account_id: strawberry.ID
    amount: MoneyInput
    reason: str
    idempotency_key: str


@strawberry.input
class LedgerReverseInput:
    """A ledger entry that turned out to be wrong; the customer reads the reason in the ledger."""

    entry_id: strawberry.ID
    reason: str
    idempotency_key: str


@strawberry.input
class InvoiceForgiveInput:
    """An invoice whose rest nobody has to pay, why (its customer reads it), and at which stage alone."""

    invoice_id: strawberry.ID
    reason: str
    expected_stage: Stage | None = None


@strawberry.type
class MoneyMutations:
    """The part of the mutation type with which staff book money."""

    @strawberry.mutation
    @refusable(InvoicePayload)
    async def payment_record(
        self,
        info: Info,
        input: PaymentRecordInput,  # noqa: A002  # the contract's name
    ) -> InvoicePayload:
        """Record money that arrived outside Stripe, and pay what is open. The same transfer is taken once."""
        context = info.context
        account = await account_of(context, input.account_id)
        # An id that is none of ours names no invoice, which is not the same as naming none.
        invoice_id = ids.key_of("Invoice", input.invoice_id) or 0 if input.invoice_id is not None else None
        payment = BankPayment(
            account_id=account.id,
            amount=input.amount.read("amount"),
            reference=input.reference,
            received_at=input.received_at or context.now,
            invoice_id=invoice_id,
        )
        request = Request(
            actor=context.principal.actor,
            operation="paymentRecord",
            key=input.idempotency_key,
            body={
                "account": account.id,
                "invoice": invoice_id,
                "amount": str(payment.amount),
                "reference": payment.reference,
                "received_at": input.received_at,
            },
        )

        async def act(keep: Keep) -> None:
            await money_back.record_payment(
                payment, actor=context.principal.actor, means=context.ports.means(), within=_kept_by(keep)
            )

        await once_within(request, now=context.now, act=act)
        context.woken(account.id)
        return InvoicePayload(
            invoice=await invoice_by_key(context, invoice_id),
            account=await account_by_key(context, account.id),
            state=PaymentState.SUCCEEDED,
        )

    @strawberry.mutation
    @refusable(AccountPayload)
    async def credit_grant(
        self,
        info: Info,
        input: CreditGrantInput,  # noqa: A002  # the contract's name
    ) -> AccountPayload:
        """Put money of the house on an account's balance, and pay what is open."""
        context = info.context
        account = await account_of(context, input.account_id)
        amount = input.amount.read("amount")
        request = Request(
            actor=context.principal.actor,
            operation="creditGrant",
            key=input.idempotency_key,
            body={"account": account.id, "amount": str(amount), "reason": input.reason},
        )

        async def act(keep: Keep) -> None:
            await money_back.grant_credit(
                account.id,
                amount,
                reason=input.reason,
                key=request.name,
                actor=context.principal.actor,
                means=context.ports.means(),
                within=_kept_by(keep),
            )

        await once_within(request, now=context.now, act=act)
        context.woken(account.id)
        return AccountPayload(account=await account_by_key(context, account.id))

    @strawberry.mutation
    @refusable(AccountPayload)
    async def ledger_reverse(
        self,
        info: Info,
        input: LedgerReverseInput,  # noqa: A002  # the contract's name
    ) -> AccountPayload:
        """Take back an entry that brought money in. What the balance has not any more is owed anew, with a fresh grace.

        Money of vouchers is never taken, and what the entry had paid stays paid.
        """
        context = info.context
        row = await context.scope.ledger().get_or_none(id=ids.key_of("LedgerEntry", input.entry_id) or 0)
        if row is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such ledger entry", "entryId")
        request = Request(
            actor=context.principal.actor,
            operation="ledgerReverse",
            key=input.idempotency_key,
            body={"entry": row.id, "reason": input.reason},
        )

        async def act(keep: Keep) -> None:
            await money_back.take_back(
                row.id,
                reason=input.reason,
                actor=context.principal.actor,
                means=context.ports.means(),
                within=_kept_by(keep),
            )

        await once_within(request, now=context.now, act=act)
        context.woken(row.account_id)
        return AccountPayload(account=await account_by_key(context, row.account_id))

    @strawberry.mutation
    @refusable(InvoicePayload)
    async def invoice_forgive(
        self,
        info: Info,
        input: InvoiceForgiveInput,  # noqa: A002  # the contract's name
    ) -> InvoicePayload:
        """Close an open invoice without the money that is left to pay: ours is written off, Stripe's ended there."""
        context = info.context
        row = await context.scope.invoices().get_or_none(id=ids.key_of("Invoice", input.invoice_id) or 0)
        if row is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such invoice", "invoiceId")
        await refuse_other_stage(context, row.account_id, input.expected_stage)
        await forgive(row.id, reason=input.reason, actor=context.principal.actor, means=context.ports.means())
        # What was set aside for it may pay others now.
        await settle_for(context, row.account_id, None)
        return InvoicePayload(
            invoice=await invoice_by_key(context, row.id),
            account=await account_by_key(context, row.account_id),
        )


def _kept_by(keep: Keep) -> money_back.Within:
    async def within(booked: LedgerTransaction) -> None:
        await keep({"entry": booked.id})

    return within
