"""Cards as values: which may be charged, in which order, when again, and what a bank's refusal means.

Pure. Owns the expiry of a card, the schedule of attempts, the table of declines and Stripe's limits of amounts. Knows
no database, and no Stripe beyond its words.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from billing.rules.due import end_of_day
from billing.rules.money import THREE_DECIMAL, Money
from billing.rules.words import Phrase, phrase


@dataclass(frozen=True, kw_only=True)
class CardFact:
    """One saved card that was not removed."""

    id: int
    is_default: bool
    added_at: datetime
    exp_year: int
    exp_month: int


def expires_at(exp_year: int, exp_month: int, zone: str) -> datetime:
    """Return the first instant at which a card is no longer valid: the end of its expiry month in its owner's zone."""
    following = date(exp_year + exp_month // 12, exp_month % 12 + 1, 1)
    return end_of_day(following - timedelta(days=1), zone)


def usable(card: CardFact, *, zone: str, now: datetime) -> bool:
    """Whether the card may be charged: it has not expired."""
    return now < expires_at(card.exp_year, card.exp_month, zone)


def in_order(cards: Iterable[CardFact], *, zone: str, now: datetime) -> tuple[CardFact, ...]:
    """Return the usable cards in the order in which they are charged: the default, then the others by age."""
    found = [card for card in cards if usable(card, zone=zone, now=now)]
    return tuple(sorted(found, key=lambda card: (not card.is_default, card.added_at, card.id)))


def is_last_usable(cards: Iterable[CardFact], card_id: int, *, zone: str, now: datetime) -> bool:
    """Whether this card is usable and no other one is."""
    return [card.id for card in in_order(cards, zone=zone, now=now)] == [card_id]


def renews(*, old: tuple[int, int], new: tuple[int, int]) -> bool:
    """Whether the same number with another expiry, as (year, month), is the renewed card and no duplicate."""
    return new > old


# -- attempts ------------------------------------------------------------------------------------------------------

ATTEMPTS_AFTER = (timedelta(0), timedelta(days=3), timedelta(days=7), timedelta(days=14))
"""How long after an invoice became overdue the cards are asked for it, whatever was tried before."""


def scheduled(overdue_at: datetime, now: datetime) -> str | None:
    """Return the occasion of the schedule that an overdue invoice has reached; null before it is overdue.

    Depends on the invoice alone. After an outage only the latest one counts, so that nothing is asked in a burst.
    """
    reached = sum(overdue_at + after <= now for after in ATTEMPTS_AFTER)
    return f"schedule:{reached}" if reached else None


def due_attempt(overdue_at: datetime, *, last: datetime | None, now: datetime) -> datetime | None:
    """Return since when the schedule calls for an attempt that nobody has made yet; null when it does not.

    `last` is when a card was last asked for the invoice, on whatever occasion; null: never.
    """
    reached = max((at for after in ATTEMPTS_AFTER if (at := overdue_at + after) <= now), default=None)
    return reached if reached is not None and (last is None or last < reached) else None


class NotAsked(StrEnum):
    """Why a card is not asked for an invoice now."""

    #: The invoice is not open any more, or less is owed than was to be charged.
    NOT_OPEN = "NOT_OPEN"
    #: The card was removed, has expired, or belongs to somebody else.
    NOT_USABLE = "NOT_USABLE"
    #: An attempt for this invoice has not ended yet.
    IN_FLIGHT = "IN_FLIGHT"
    #: The bank wants the customer to confirm what this card was asked before.
    AWAITS_CUSTOMER = "AWAITS_CUSTOMER"
    #: The card was asked on this occasion already.
    TRIED = "TRIED"
    #: The bank refused this card for good, and it has not changed since.
    HARD_DECLINED = "HARD_DECLINED"
    #: Stripe has an attempt of its own planned.
    STRIPE_COLLECTS = "STRIPE_COLLECTS"
    #: Stripe takes no such amount.
    AMOUNT = "AMOUNT"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One earlier attempt for the same invoice."""

    card_id: int
    card_version: int
    occasion: str
    #: Whether it may still succeed without anybody.
    in_flight: bool = False
    #: Whether it waits for the customer.
    awaits_customer: bool = False
    hard_decline: bool = False
    by_customer: bool = False


@dataclass(frozen=True, kw_only=True)
class Asking:
    """One card that is to be asked for one invoice."""

    card_id: int
    card_version: int
    #: An occasion of the schedule, or the fact that could help.
    occasion: str
    #: Whether the customer asks for it here and now.
    by_customer: bool = False
    #: Whether Stripe charges this invoice by itself, and when next; null: it gave up.
    stripe_collects: bool = False
    next_attempt_at: datetime | None = None
    before: tuple[Attempt, ...] = ()


def why_not(asking: Asking) -> NotAsked | None:
    """Return why this card must not be asked now; null when it may.

    One attempt at a time for an invoice; once per card and occasion, and not again while its customer is asked to
    confirm. A hard decline holds until the card changes, for everybody. Where Stripe collects by itself, we wait while
    it has an attempt planned, and ask each card once after it gave up; the customer may always.
    """
    same = [
        attempt
        for attempt in asking.before
        if (attempt.card_id, attempt.card_version) == (asking.card_id, asking.card_version)
    ]
    if any(attempt.in_flight for attempt in asking.before):
        return NotAsked.IN_FLIGHT
    if any((tried.card_id, tried.occasion) == (asking.card_id, asking.occasion) for tried in asking.before):
        return NotAsked.TRIED
    if any(attempt.awaits_customer for attempt in same):
        return NotAsked.AWAITS_CUSTOMER
    if any(attempt.hard_decline for attempt in same):
        return NotAsked.HARD_DECLINED
    if asking.stripe_collects and not asking.by_customer:
        if asking.next_attempt_at is not None:
            return NotAsked.STRIPE_COLLECTS
        if any(not attempt.by_customer for attempt in same):
            return NotAsked.TRIED
    return None


# -- declines ------------------------------------------------------------------------------------------------------

AUTHENTICATION = "authentication_required"
"""The bank wants its customer: a task for them and no decline (docs.stripe.com/declines/codes)."""

#: After these Stripe itself does not charge the same card again:
#: https://docs.stripe.com/billing/revenue-recovery/smart-retries (there with `authentication_required`).
_NEVER_RETRIED = """
    highest_risk_level incorrect_number lost_card pickup_card revocation_of_all_authorizations
    revocation_of_authorization stolen_card transaction_not_allowed
"""
#: Whose next step is another card, or the same with other details: https://docs.stripe.com/declines/codes.
_OTHER_CARD = """
    card_not_supported currency_not_supported expired_card fraudulent incorrect_cvc invalid_account invalid_cvc
    invalid_expiry_month invalid_expiry_year invalid_number merchant_blacklist restricted_card stop_payment_order
    testmode_decline
"""
HARD_DECLINES = frozenset((_NEVER_RETRIED + _OTHER_CARD).split())

#: The network's advice beside a decline: https://docs.stripe.com/declines/card#retrying-issuer-declines.
_HARD_ADVICE = frozenset({"do_not_try_again", "confirm_card_data"})


def is_hard(decline_code: str | None, advice_code: str | None = None) -> bool:
    """Whether only a change of the card could turn this decline; what we have never heard of is soft."""
    return decline_code in HARD_DECLINES or advice_code in _HARD_ADVICE


# -- amounts -------------------------------------------------------------------------------------------------------

LIMITS_PAGE = "https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts"

_MINIMUM = {
    "AED": 200, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50, "GBP": 30,
    "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50, "PLN": 200,
    "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50,
}  # fmt: skip
"""The least that Stripe charges, in minor units (`LIMITS_PAGE`). Other currencies are bound to the minimum of the
currency that Stripe pays out in, which is not known here: there the least is one minor unit and Stripe decides."""

_MOST, _MOST_IDR = 99_999_999, 999_999_999_999
"""Eight digits, and twelve for IDR (`LIMITS_PAGE`)."""

#: Stripe writes these with two decimals that must be zero (docs.stripe.com/currencies#special-cases).
_WHOLE = frozenset({"ISK", "UGX"})


def amount_problem(amount: Money) -> Phrase | None:
    """Return what is wrong with charging this amount by card, and what would be right; null when Stripe takes it."""
    least, most, step = _limits(amount.currency)
    if amount.minor < least:
        return phrase("A card can be charged %(least)s or more.", least=Money(least, amount.currency))
    if amount.minor > most:
        return phrase("A card can be charged at most %(most)s at once.", most=Money(most, amount.currency))
    if amount.minor % step:
        # docs.stripe.com/currencies#three-decimal: the last digit must be 0.
        return phrase("Cards are charged in steps of %(step)s.", step=Money(step, amount.currency))
    return None


def chargeable(minor: int, currency: str) -> int:
    """Return the most, of an amount in minor units, that a card can be charged at once; 0 when that is nothing."""
    least, most, step = _limits(currency)
    found = min(minor, most)
    found -= found % step
    return found if found >= least else 0


def in_steps(minor: int, currency: str) -> int:
    """Return an amount in minor units without what is below the steps in which cards are charged."""
    return minor - minor % _limits(currency)[2]


def at_least(minor: int, currency: str) -> int:
    """Return the smallest amount, in minor units, that a card can be charged with so that this much arrives."""
    least, _, step = _limits(currency)
    found = max(minor, least) if minor > 0 else 0
    return found + -found % step


def _limits(currency: str) -> tuple[int, int, int]:
    """Return the least and the most that a card is charged, and in which steps, in minor units."""
    step = 100 if currency in _WHOLE else 10 if currency in THREE_DECIMAL else 1
    return _MINIMUM.get(currency, 1), _MOST_IDR if currency == "IDR" else _MOST, step
