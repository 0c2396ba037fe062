"""Saving, choosing and removing cards: the customer's mutations.

Only customers have them, for accounts of their own. What a browser saves a card with is handed on and kept nowhere.
"""

from __future__ import annotations

from functools import partial

import strawberry

from api.graphql import ids
from api.graphql.accounts import Account, account_by_key
from api.graphql.cards import Card, show_card
from api.graphql.context import Context, Info
from api.graphql.errors import UserError, refusable
from api.graphql.own_account import account_of
from api.graphql.settled import settle_for
from billing import card_attempts, cards, models
from billing.attempt_models import AttemptKind
from billing.money_models import Card as CardRow
from billing.refusal import RefusalCode, refusal
from billing.rules.words import phrase
from billing.stripe.card_gateway import CardGateway
from reconciler.card_needs import needs_card


@strawberry.input
class CardSetupBeginInput:
    """For which account a card is to be saved; only whoever has several needs to say."""

    account_id: strawberry.ID | None = None


@strawberry.input
class CardAddInput:
    """A setup that the customer's browser has finished."""

    setup_intent_id: str
    account_id: strawberry.ID | None = None
    make_default: bool | None = None


@strawberry.input
class CardInput:
    """One saved card."""

    card_id: strawberry.ID


@strawberry.type
class CardSetupBeginPayload:
    """What the browser saves a card with, or why there is nothing."""

    setup_intent_id: str | None = None
    client_secret: str | None = None
    errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class CardPayload:
    """The card as it now is, a removed one too, or why nothing was done."""

    card: Card | None = None
    account: Account | None = None
    errors: list[UserError] = strawberry.field(default_factory=list)


def gateway_of(context: Context) -> CardGateway:
    """Return the way to the payment provider; without one no card can be taken."""
    if context.ports.cards is None:
        message = phrase("Cards are not taken here; pay by voucher or bank transfer, or write to us.")
        raise refusal(RefusalCode.PROVIDER_UNAVAILABLE, message)
    return context.ports.cards


@strawberry.type
class CardMutations:
    """The part of the mutation type that is about cards."""

    @strawberry.mutation
    @refusable(CardSetupBeginPayload)
    async def card_setup_begin(
        self,
        info: Info,
        input: CardSetupBeginInput,  # noqa: A002  # the contract's name
    ) -> CardSetupBeginPayload:
        """Begin to save a card; the browser finishes it with the client secret, and `cardAdd` keeps it."""
        context, actor = info.context, info.context.principal.actor
        gateway, account = gateway_of(context), await account_of(context, input.account_id)
        clock = context.ports.clock
        async with card_attempts.counted(account.id, AttemptKind.SETUP, clock=clock, actor=actor):
            setup = await cards.begin_setup(gateway, clock, account.id, actor=actor)
        return CardSetupBeginPayload(setup_intent_id=setup.id, client_secret=setup.client_secret)

    @strawberry.mutation
    @refusable(CardPayload)
    async def card_add(
        self,
        info: Info,
        input: CardAddInput,  # noqa: A002  # the contract's name
    ) -> CardPayload:
        """Keep the card of a finished setup, and pay with it what is overdue. The first card is the default."""
        context, actor = info.context, info.context.principal.actor
        gateway, account = gateway_of(context), await account_of(context, input.account_id)
        clock = context.ports.clock
        async with card_attempts.counted(account.id, AttemptKind.ADDING, clock=clock, actor=actor) as attempt:
            card = await cards.add(
                gateway,
                clock,
                account.id,
                setup_intent_id=input.setup_intent_id,
                make_default=bool(input.make_default),
                actor=actor,
            )
            await card_attempts.forget(attempt)
        await settle_for(context, account.id, f"card:{card.id}:{card.version}")
        return await _answered(context, account, card)

    @strawberry.mutation
    @refusable(CardPayload)
    async def card_set_default(
        self,
        info: Info,
        input: CardInput,  # noqa: A002  # the contract's name
    ) -> CardPayload:
        """Have a card charged before the others, and pay with it what is overdue unless it was asked already."""
        context, gateway = info.context, gateway_of(info.context)
        row = await _card(context, input.card_id)
        actor = context.principal.actor
        card = await cards.set_default(
            gateway, context.ports.clock, row.id, account_id=row.account_id, actor=actor
        )
        await settle_for(context, card.account_id, f"card:{card.id}:{card.version}")
        return await _answered(context, row.account, card)

    @strawberry.mutation
    @refusable(CardPayload)
    async def card_remove(
        self,
        info: Info,
        input: CardInput,  # noqa: A002  # the contract's name
    ) -> CardPayload:
        """Remove a card. The last one that can be charged stays while servers run that no purse covers."""
        context, gateway = info.context, gateway_of(info.context)
        row = await _card(context, input.card_id)
        card = await cards.remove(
            gateway,
            context.ports.clock,
            row.id,
            account_id=row.account_id,
            needs_card=partial(needs_card, means=context.ports.means(), now=context.now),
            actor=context.principal.actor,
        )
        context.woken(card.account_id)
        return await _answered(context, row.account, card)


async def _card(context: Context, card_id: str) -> CardRow:
    """Return the named card with its account, if the principal may see it."""
    rows = context.scope.cards().select_related("account")
    row = await rows.get_or_none(id=ids.key_of("Card", card_id) or 0)
    if row is None:
        raise refusal(RefusalCode.NOT_FOUND, phrase("There is no such card."), "cardId")
    return row


async def _answered(context: Context, account: models.Account, card: CardRow) -> CardPayload:
    return CardPayload(
        card=show_card(context, await CardRow.get(id=card.id), account.time_zone),
        account=await account_by_key(context, account.id),
    )
