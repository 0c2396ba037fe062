"""Paying: the customer's mutations that put money on the balance and pay an invoice.

Only customers have them, for accounts of their own: nobody else charges a card or spends a purse. The secret that a
browser confirms a payment with is read anew for each answer and kept nowhere.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import strawberry

from api.graphql import ids
from api.graphql.accounts import Account, account_by_key
from api.graphql.amounts import MoneyInput
from api.graphql.card_changes import gateway_of
from api.graphql.context import Context, Info
from api.graphql.errors import UserError, refusable, user_errors
from api.graphql.invoices import Invoice, invoice_by_key
from api.graphql.nodes import PaymentState, PayWith
from api.graphql.own_account import account_of
from api.graphql.settled import settle_for
from api.graphql.words import told_in, words_to
from api.idempotency import Request, once, refuse_key
from billing import card_attempts, charge_rows, charges, models, paying
from billing.attempt_models import AttemptKind
from billing.charge_rows import TopUp
from billing.charges import Outcome
from billing.money_models import Charge
from billing.paying import Answer, Wish
from billing.refusal import Problem, RefusalCode, RefusalError, refusal
from billing.rules.settlement import Purse
from billing.rules.terms import InvoiceStatus
from billing.rules.words import phrase
from billing.words import Words

_GIVEN_UP_AFTER = timedelta(minutes=2)
"""When a request of which nothing was heard again is taken for dead: far longer than one may take."""

_PURSES = {PayWith.VOUCHER: Purse.VOUCHER, PayWith.BALANCE: Purse.BALANCE}


@strawberry.input
class BalanceTopUpInput:
    """Money for the balance, from a card; without `cardId` from the default."""

    amount: MoneyInput
    card_id: strawberry.ID | None = None
    account_id: strawberry.ID | None = None
    idempotency_key: str


@strawberry.input
class InvoicePayInput:
    """One invoice, and what pays it: of all `sources` (by default every one) the vouchers, the balance, then a card."""

    invoice_id: strawberry.ID
    sources: list[PayWith] | None = None
    card_id: strawberry.ID | None = None
    idempotency_key: str


@strawberry.type
class BalanceTopUpPayload:
    """The account as it now is and where the payment is, or why there is none."""

    account: Account | None = None
    state: PaymentState | None = None
    client_secret: str | None = strawberry.field(
        default=None, description="With `REQUIRES_ACTION`: what the browser confirms the payment with."
    )
    errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class InvoicePayload:
    """The invoice as it now is and where the payment is, or why nothing was done."""

    invoice: Invoice | None = None
    account: Account | None = None
    state: PaymentState | None = None
    client_secret: str | None = strawberry.field(
        default=None, description="With `REQUIRES_ACTION`: what the browser confirms the payment with."
    )
    errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class PaymentMutations:
    """The part of the mutation type with which customers pay."""

    @strawberry.mutation
    @refusable(BalanceTopUpPayload)
    async def balance_top_up(
        self,
        info: Info,
        input: BalanceTopUpInput,  # noqa: A002  # the contract's name
    ) -> BalanceTopUpPayload:
        """Put money on the balance by card, and pay with it what is open.

        The same key again tells what became of the first request.
        """
        context = info.context
        refuse_key(input.idempotency_key)
        account = await account_of(context, input.account_id)
        wanted = TopUp(
            account_id=account.id,
            amount=input.amount.read("amount"),
            card_id=_card_key(input.card_id),
            idempotency_key=input.idempotency_key,
            actor=context.principal.actor,
        )
        outcome = await _top_up(context, account, wanted)
        if outcome.charge is None:  # only invoices are not asked for
            raise LookupError("a top-up without a charge")
        answer = paying.told(outcome.charge, outcome.client_secret)
        fact = f"top-up:{outcome.charge.id}" if answer.state is PaymentState.SUCCEEDED else None
        await settle_for(context, account.id, fact)
        return BalanceTopUpPayload(
            account=await account_by_key(context, account.id),
            state=answer.state,
            client_secret=answer.client_secret,
            errors=await _errors(context, answer),
        )

    @strawberry.mutation
    @refusable(InvoicePayload)
    async def invoice_pay(
        self,
        info: Info,
        input: InvoicePayInput,  # noqa: A002  # the contract's name
    ) -> InvoicePayload:
        """Pay an open invoice, whole: what the purses that are named do not cover is charged to one card.

        What the purses paid before a card was refused stays paid. The same key again tells what became of the first
        request.
        """
        context = info.context
        invoice = await context.scope.invoices().get_or_none(id=ids.key_of("Invoice", input.invoice_id) or 0)
        if invoice is None:
            raise refusal(RefusalCode.NOT_FOUND, phrase("There is no such invoice."), "invoiceId")
        answer = await _pay_once(context, invoice, _wish(context, invoice, input))
        await settle_for(context, invoice.account_id, None)
        shown = await invoice_by_key(context, invoice.id)
        # What a purse paid at Stripe may have arrived only now; a payment by card has a state of its own.
        waits = answer.state is PaymentState.PROCESSING and answer.charge_id is None
        arrived = waits and shown is not None and shown.status is InvoiceStatus.PAID
        return InvoicePayload(
            invoice=shown,
            account=await account_by_key(context, invoice.account_id),
            state=PaymentState.SUCCEEDED if arrived else answer.state,
            client_secret=answer.client_secret,
            errors=await _errors(context, answer),
        )


async def _top_up(context: Context, account: models.Account, wanted: TopUp) -> Outcome:
    gateway, clock = gateway_of(context), context.ports.clock
    if await charge_rows.top_up_of(account.external_id, wanted.idempotency_key) is not None:
        return await charges.top_up(gateway, clock, wanted)
    counted = card_attempts.counted(account.id, AttemptKind.CHARGE, clock=clock, actor=wanted.actor)
    async with counted as attempt:
        outcome = await charges.top_up(gateway, clock, wanted)
        if outcome.charge is not None:
            await paying.note_try(attempt, paying.told(outcome.charge))
    return outcome


def _wish(context: Context, invoice: models.Invoice, asked: InvoicePayInput) -> Wish:
    sources = list(PayWith) if asked.sources is None else asked.sources
    if not sources:
        raise refusal(
            RefusalCode.INVALID, phrase("Choose what pays: vouchers, balance or a card."), "sources"
        )
    if asked.card_id is not None and PayWith.CARD not in sources:
        message = phrase("A card is chosen, and cards are not among what pays.")
        raise refusal(RefusalCode.INVALID, message, "cardId")
    if set(sources) == {PayWith.CARD}:
        gateway_of(context)
    return Wish(
        invoice_id=invoice.id,
        purses=frozenset(_PURSES[source] for source in sources if source in _PURSES),
        by_card=PayWith.CARD in sources,
        card_id=_card_key(asked.card_id),
        key=asked.idempotency_key,
        actor=context.principal.actor,
    )


async def _pay_once(context: Context, invoice: models.Invoice, wish: Wish) -> Answer:
    """Pay, or tell what became of the first request of this key."""
    request = Request(
        # Tokens of two customers may bear the same name.
        actor=f"{context.principal.actor} {invoice.account_id}",
        operation="invoicePay",
        key=wish.key,
        body={
            "invoice": invoice.id,
            "purses": sorted(wish.purses),
            "card": wish.card_id if wish.by_card else "none",
        },
    )
    first: list[Answer] = []

    async def act(again: bool) -> dict[str, Any]:
        wished = replace(wish, again=again)
        first.append(await paying.pay(context.ports.cards, context.ports.means(), wished))
        return _kept(first[0], await words_to(context))

    kept = await once(request, now=context.now, act=act, given_up_after=_GIVEN_UP_AFTER)
    return first[0] if first else await _present(context, kept)


def _kept(answer: Answer, words: Words) -> dict[str, Any]:
    """Return what is kept of an answer: no secret, and of a payment by card only which one it is."""
    problem = answer.problem
    message = problem.message if problem else ""
    return {
        "state": answer.state,
        "charge": answer.charge_id,
        "problem": problem
        and {
            "code": problem.code,
            "message": told_in(words, message),
            "path": problem.path,
        },
    }


async def _present(context: Context, kept: dict[str, Any]) -> Answer:
    """Return what is to be told now of a request that was answered before."""
    charge = await Charge.get_or_none(id=kept["charge"]) if kept["charge"] is not None else None
    if charge is not None and context.ports.cards is not None:
        return await paying.present(context.ports.cards, context.ports.means(), charge)
    state, problem = PaymentState(kept["state"]), kept["problem"]
    if problem is None:
        return Answer(state=state)
    code, path = RefusalCode(problem["code"]), tuple(problem["path"])
    return Answer(state=state, problem=Problem(code=code, message=problem["message"], path=path))


def _card_key(card_id: str | None) -> int | None:
    """Return the key of a named card; one that is none of ours names no card at all."""
    return None if card_id is None else ids.key_of("Card", card_id) or 0


async def _errors(context: Context, answer: Answer) -> list[UserError]:
    return await user_errors(context, RefusalError(answer.problem)) if answer.problem else []
