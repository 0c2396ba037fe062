"""Cards: saved through Stripe, unique per account, one of them the default; and what Stripe says of them later.

The only writer of `card`. A card's number never comes near us: browsers give it to Stripe alone. Charging is
`billing.charges`; settling after a change is the caller's.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

import structlog
from tortoise.expressions import Q
from tortoise.transactions import in_transaction

from billing import audit, card_rows
from billing.accounts import note_fact
from billing.card_setups import saved_card
from billing.clock import Clock
from billing.invoice_parts import hold
from billing.models import Account
from billing.money_models import Card
from billing.refusal import RefusalCode, RefusalError, refusal
from billing.rules import cards as rules
from billing.rules.words import phrase
from billing.stripe.card_gateway import CardGateway, CardReading, SetupReading
from billing.stripe.gateway import GoneError, NeedsHumanError, RejectedError, RetryLaterError

MOST_CARDS = 10
"""Cards of one account: more than anybody needs, and few enough to be of no use for trying out stolen numbers."""

NeedsCard = Callable[[int], Awaitable[bool]]
"""Whether an account has servers that no purse covers; asked inside the transaction, so it only reads the database."""

_CHUNK = 5_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Expiring:
    """A card that its owner should be told about before it expires."""

    account_id: int
    card_id: int
    version: int
    brand: str
    last4: str
    expires_at: datetime


@contextmanager
def provider() -> Iterator[None]:
    """Turn Stripe not answering into the refusal that people are shown."""
    try:
        yield
    except (RetryLaterError, NeedsHumanError) as error:
        raise refusal(
            RefusalCode.PROVIDER_UNAVAILABLE,
            phrase("The payment provider does not answer now; try again later."),
        ) from error


# -- questions -----------------------------------------------------------------------------------------------------


async def of_account(account_id: int) -> list[Card]:
    """Return the account's cards, expired ones too, the default first, then by age."""
    return await Card.filter(account_id=account_id, removed_at__isnull=True).order_by(
        "-is_default", "added_at", "id"
    )


async def in_order(account_id: int, *, now: datetime) -> list[Card]:
    """Return the usable cards in the order in which they are charged: the default, then the others by age."""
    account = await Account.get(id=account_id)
    rows = {row.id: row for row in await of_account(account_id)}
    ordered = rules.in_order(map(_fact, rows.values()), zone=account.time_zone, now=now)
    return [rows[fact.id] for fact in ordered]


async def with_usable(account_ids: Iterable[int], *, now: datetime) -> set[int]:
    """Return which of these accounts have a card that may be charged."""
    ids, found = list(account_ids), set()
    for start in range(0, len(ids), _CHUNK):
        rows = await Card.filter(
            account_id__in=ids[start : start + _CHUNK], removed_at__isnull=True
        ).select_related("account")
        found |= {row.account_id for row in rows if usable(row, row.account.time_zone, now=now)}
    return found


def usable(card: Card, zone: str, *, now: datetime) -> bool:
    """Whether the card may be charged: neither removed nor expired in its owner's zone."""
    return card.removed_at is None and rules.usable(_fact(card), zone=zone, now=now)


async def expiring(*, now: datetime, within: timedelta, account_id: int | None = None) -> list[Expiring]:
    """Return the cards, of one account or all, that expire before long and have not yet; by account and card."""
    last = now + within
    rows = await Card.filter(
        *([Q(account_id=account_id)] if account_id is not None else []),
        removed_at__isnull=True,
        exp_year__gte=now.year - 1,
        exp_year__lte=last.year,
    ).select_related("account")
    found = [
        Expiring(
            account_id=row.account_id,
            card_id=row.id,
            version=row.version,
            brand=row.brand,
            last4=row.last4,
            expires_at=rules.expires_at(row.exp_year, row.exp_month, row.account.time_zone),
        )
        for row in rows
    ]
    return sorted(
        (card for card in found if now < card.expires_at <= last),
        key=lambda card: (card.account_id, card.card_id),
    )


# -- adding --------------------------------------------------------------------------------------------------------


async def begin_setup(gateway: CardGateway, clock: Clock, account_id: int, *, actor: str) -> SetupReading:
    """Begin to save a card; the portal finishes it with the client secret, which is kept nowhere.

    Makes the Stripe customer of an account that has none. Refuses an account with too many cards or whose customer was
    deleted at Stripe, and while Stripe does not answer.
    """
    if await Card.filter(account_id=account_id, removed_at__isnull=True).count() >= MOST_CARDS:
        raise refusal(
            RefusalCode.CONFLICT,
            phrase("There are %(number)s cards already; remove one first.", number=MOST_CARDS),
            "accountId",
        )
    with provider():
        account = await _with_customer(gateway, clock, account_id, actor=actor)
        try:
            return await gateway.begin_setup(str(account.stripe_customer_id), account=account.external_id)
        except (GoneError, RejectedError) as error:
            # A customer that is named in a request and gone is answered with 400, unlike one that is read.
            if isinstance(error, RejectedError) and error.code != "resource_missing":
                raise
            raise _deleted() from None


async def add(
    gateway: CardGateway,
    clock: Clock,
    account_id: int,
    *,
    setup_intent_id: str,
    make_default: bool = False,
    actor: str,
) -> Card:
    """Save the card of a finished SetupIntent; the same one again changes nothing more. The first is the default.

    Refuses what is not finished or not this account's. A number that the account has already is refused as
    `CARD_DUPLICATE` and let go of at Stripe, unless it expires later: then it takes the old card's place.
    """
    with provider():
        account = await Account.get(id=account_id)
        return await _add(gateway, clock, account, setup_intent_id, make_default=make_default, actor=actor)


async def adopt(gateway: CardGateway, clock: Clock, setup_intent_id: str) -> bool | None:
    """Save the card of a SetupIntent that an event spoke of, in case its owner's browser never came back.

    Returns whether there is a new card; null for a setup that we did not begin. Raises `StripeReadError`.
    """
    setup = await gateway.fetch_setup(setup_intent_id)
    account = await Account.get_or_none(external_id=setup.account or "")
    if account is None or setup.customer_id is None or account.stripe_customer_id != setup.customer_id:
        return None
    known = await Card.exists(stripe_payment_method_id=setup.payment_method_id)
    try:
        await _add(gateway, clock, account, setup_intent_id, actor="stripe")
    except RefusalError:
        return False
    return not known


async def _add(
    gateway: CardGateway,
    clock: Clock,
    account: Account,
    setup_intent_id: str,
    *,
    make_default: bool = False,
    actor: str,
) -> Card:
    found = await saved_card(gateway, account, setup_intent_id)
    card, replaced = await _save(account, found, actor=actor, now=clock.now())
    if card is None:
        await gateway.detach(found.id)
        raise refusal(
            RefusalCode.CARD_DUPLICATE, phrase("This card is among your cards already."), "setupIntentId"
        )
    others = Card.filter(account_id=account.id, is_default=True, removed_at__isnull=True)
    if make_default or card.is_default or not await others.exists():
        card = await _make_default(gateway, clock, card, customer=found.customer_id, actor=actor)
    if replaced is not None:
        await _let_go(gateway, clock, replaced)
    return card


async def _save(
    account: Account, found: CardReading, *, actor: str, now: datetime
) -> tuple[Card | None, Card | None]:
    """Write the row; return it (null: a duplicate) and the row whose place it took."""
    async with in_transaction():
        await hold(account.id)
        known = await Card.get_or_none(stripe_payment_method_id=found.id)
        if known is not None and known.removed_at is not None:
            raise refusal(
                RefusalCode.INVALID, phrase("This card was removed; enter it anew."), "setupIntentId"
            )
        if known is not None:
            return known, None
        same = await Card.get_or_none(
            account_id=account.id, fingerprint=found.fingerprint, removed_at__isnull=True
        )
        was_default = same is not None and same.is_default
        if same is not None:
            if not rules.renews(old=(same.exp_year, same.exp_month), new=(found.exp_year, found.exp_month)):
                return None, None
            await card_rows.mark_removed(same, actor=actor, reason="renewed by its owner", now=now)
        card = await Card.create(
            account_id=account.id,
            stripe_payment_method_id=found.id,
            is_default=was_default,
            added_at=now,
            **{name: getattr(found, name) for name in card_rows.SHOWN},
        )
        await note_fact(account.id, now=now)
        await card_rows.record(
            "card.added",
            card,
            actor=actor,
            reason="saved through Stripe",
            now=now,
            after=card_rows.shown(card),
        )
        return card, same


# -- changing ------------------------------------------------------------------------------------------------------


async def set_default(
    gateway: CardGateway, clock: Clock, card_id: int, *, account_id: int, actor: str
) -> Card:
    """Make a card the one that is charged first, here and at Stripe; refuses one that is not usable."""
    card = await _theirs(card_id, account_id)
    account = await Account.get(id=account_id)
    if not usable(card, account.time_zone, now=clock.now()):
        raise refusal(RefusalCode.INVALID, phrase("This card has expired; choose another."), "cardId")
    with provider():
        return await _make_default(gateway, clock, card, customer=account.stripe_customer_id, actor=actor)


async def remove(
    gateway: CardGateway,
    clock: Clock,
    card_id: int,
    *,
    account_id: int,
    needs_card: NeedsCard,
    actor: str,
) -> Card:
    """Remove a card, here at once and at Stripe as soon as it answers; a removed default hands over to the next.

    Refuses the last usable one while the account has servers that no purse covers.
    """
    card, now = await _theirs(card_id, account_id), clock.now()
    async with in_transaction():
        await hold(account_id)
        account = await Account.get(id=account_id)
        facts = [_fact(row) for row in await of_account(account_id)]
        last = rules.is_last_usable(facts, card_id, zone=account.time_zone, now=now)
        if last and await needs_card(account_id):
            raise refusal(
                RefusalCode.CARD_LAST_IN_USE,
                phrase(
                    "Your servers are paid with this card; first add another one, or a voucher that covers them."
                ),
                "cardId",
            )
        if not await card_rows.mark_removed(card, actor=actor, reason="removed by its owner", now=now):
            raise refusal(RefusalCode.NOT_FOUND, phrase("There is no such card."), "cardId")
        rest = rules.in_order([fact for fact in facts if fact.id != card_id], zone=account.time_zone, now=now)
        if card.is_default and rest:
            await Card.filter(id=rest[0].id, removed_at__isnull=True).update(is_default=True)
        await note_fact(account_id, now=now)
    # Without an answer it is charged no more all the same; the sweep tells Stripe.
    with suppress(RetryLaterError, NeedsHumanError):
        await _let_go(gateway, clock, card)
    return await Card.get(id=card_id)


async def finish_removals(gateway: CardGateway, clock: Clock) -> int:
    """Let go at Stripe of every removed card that it may still have; return of how many it did.

    A card that Stripe does not let go of keeps no other waiting. Raises `StripeReadError` while Stripe does not answer.
    """
    left, done = await Card.filter(removed_at__isnull=False, detached_at__isnull=True).order_by("id"), 0
    for card in left:
        try:
            await _let_go(gateway, clock, card)
            done += 1
        except (RejectedError, GoneError) as error:
            log.warning("card.not_let_go", card=card.id, error=str(error))
    return done


# -- parts ---------------------------------------------------------------------------------------------------------


async def _with_customer(gateway: CardGateway, clock: Clock, account_id: int, *, actor: str) -> Account:
    account = await Account.get(id=account_id)
    if account.stripe_deleted:
        raise _deleted()
    if account.stripe_customer_id is not None:
        return account
    told = f"{account.external_id}\n{account.name}\n{account.email}\n{account.created_at.isoformat()}"
    made = await gateway.create_customer(
        account.external_id,
        name=account.name,
        email=account.email,
        # The same for two who ask at once, and another when what is told has changed.
        key=f"customer:{sha256(told.encode()).hexdigest()}",
    )
    now = clock.now()
    async with in_transaction():
        mine = Account.filter(id=account_id, stripe_customer_id__isnull=True)
        if await mine.update(stripe_customer_id=made, stripe_fetched_at=None):
            await note_fact(account_id, now=now)
            await audit.record(
                "account.changed",
                ("Account", account_id),
                at=now,
                actor=actor,
                reason="a customer at Stripe was made to save a card",
                account_id=account_id,
                before={"stripe_customer_id": None},
                after={"stripe_customer_id": made},
            )
    return await Account.get(id=account_id)


def _deleted() -> RefusalError:
    message = phrase("Your account with the payment provider was deleted; write to us.")
    return refusal(RefusalCode.CONFLICT, message, "accountId")


async def _make_default(
    gateway: CardGateway, clock: Clock, card: Card, *, customer: str | None, actor: str
) -> Card:
    """At Stripe first: a crash in between is mended by the event that this causes there."""
    await gateway.set_default(str(customer), card.stripe_payment_method_id)
    async with in_transaction():
        await hold(card.account_id)
        now = clock.now()
        if not await Card.filter(id=card.id, is_default=True).exists():
            await card_rows.write_default(card, actor=actor, reason="chosen", now=now)
            await note_fact(card.account_id, now=now)
    return await Card.get(id=card.id)


async def _let_go(gateway: CardGateway, clock: Clock, card: Card) -> None:
    """Detach at Stripe what was removed here; the new default first, so that Stripe is never without one."""
    account = await Account.get(id=card.account_id)
    default = await Card.get_or_none(account_id=card.account_id, is_default=True, removed_at__isnull=True)
    if default is not None and account.stripe_customer_id is not None and not account.stripe_deleted:
        await gateway.set_default(account.stripe_customer_id, default.stripe_payment_method_id)
    with suppress(GoneError):
        await gateway.detach(card.stripe_payment_method_id)
    await Card.filter(id=card.id, detached_at__isnull=True).update(detached_at=clock.now())


async def _theirs(card_id: int, account_id: int) -> Card:
    card = await Card.get_or_none(id=card_id, account_id=account_id, removed_at__isnull=True)
    if card is None:
        raise refusal(RefusalCode.NOT_FOUND, phrase("There is no such card."), "cardId")
    return card


def _fact(card: Card) -> rules.CardFact:
    return rules.CardFact(
        id=card.id,
        is_default=card.is_default,
        added_at=card.added_at,
        exp_year=card.exp_year,
        exp_month=card.exp_month,
    )
