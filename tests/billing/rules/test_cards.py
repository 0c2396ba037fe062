"""Which cards may be charged, in which order, when again, and for how much."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.cards import (
    ATTEMPTS_AFTER,
    Asking,
    Attempt,
    CardFact,
    NotAsked,
    amount_problem,
    chargeable,
    due_attempt,
    expires_at,
    in_order,
    is_hard,
    is_last_usable,
    renews,
    scheduled,
    usable,
    why_not,
)
from billing.rules.money import Money
from billing.rules.words import english

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)


def card(number: int, **given: Any) -> CardFact:
    """A card that is valid for years, the older the lower its number."""
    values = {
        "is_default": False,
        "added_at": NOW + timedelta(days=number),
        "exp_year": 2034,
        "exp_month": 12,
    }
    return CardFact(id=number, **(values | given))


@pytest.mark.parametrize(
    ("year", "month", "zone", "end"),
    [
        (2026, 11, "UTC", datetime(2026, 12, 1, tzinfo=UTC)),
        (2026, 12, "UTC", datetime(2027, 1, 1, tzinfo=UTC)),
        (2028, 2, "Europe/Berlin", datetime(2028, 2, 29, 23, tzinfo=UTC)),
        (2026, 11, "Pacific/Auckland", datetime(2026, 11, 30, 11, tzinfo=UTC)),
    ],
)
def test_it_lets_a_card_expire_at_the_end_of_its_month(
    year: int, month: int, zone: str, end: datetime
) -> None:
    """Where its owner lives, to the second."""
    assert expires_at(year, month, zone) == end
    mine = card(1, exp_year=year, exp_month=month)
    assert usable(mine, zone=zone, now=end - timedelta(seconds=1))
    assert not usable(mine, zone=zone, now=end)


def test_it_takes_the_default_first_and_then_the_oldest() -> None:
    """Expired cards are left out, the default too."""
    cards = [card(3), card(2, is_default=True), card(1), card(4, exp_year=2026, exp_month=10)]
    assert [one.id for one in in_order(cards, zone="UTC", now=NOW)] == [2, 1, 3]
    expired = [card(1, is_default=True, exp_year=2020), card(2)]
    assert [one.id for one in in_order(expired, zone="UTC", now=NOW)] == [2]


def test_it_knows_the_last_usable_card() -> None:
    """An expired card is never the last usable one, and does not count beside it."""
    cards = [card(1), card(2, exp_year=2020)]
    assert is_last_usable(cards, 1, zone="UTC", now=NOW)
    assert not is_last_usable(cards, 2, zone="UTC", now=NOW)
    assert not is_last_usable([card(1), card(2)], 1, zone="UTC", now=NOW)


def test_it_tells_a_renewed_card_from_a_duplicate() -> None:
    """Only a later month is a renewal."""
    assert renews(old=(2026, 12), new=(2027, 1))
    assert not renews(old=(2027, 1), new=(2027, 1))
    assert not renews(old=(2027, 1), new=(2026, 12))


def test_it_asks_at_once_and_after_three_seven_and_fourteen_days() -> None:
    """One occasion each; nothing before the invoice is overdue, nothing new after the last."""
    assert scheduled(NOW, NOW - timedelta(seconds=1)) is None
    names = [scheduled(NOW, NOW + after) for after in ATTEMPTS_AFTER]
    assert names == ["schedule:1", "schedule:2", "schedule:3", "schedule:4"]
    assert scheduled(NOW, NOW + timedelta(days=400)) == "schedule:4"


@given(st.integers(0, 40 * 86400), st.integers(0, 40 * 86400))
def test_it_never_goes_back_on_the_schedule(first: int, second: int) -> None:
    """Later is never an earlier occasion, and between two instants of the schedule the occasion stays."""
    early, late = sorted((NOW + timedelta(seconds=first), NOW + timedelta(seconds=second)))
    before, after = scheduled(NOW, early), scheduled(NOW, late)
    assert before is not None
    assert after is not None
    assert before <= after
    assert (before == after) == (due_attempt(NOW, last=early, now=late) is None)


def test_it_owes_an_attempt_since_the_last_instant_of_the_schedule_that_nobody_used() -> None:
    """Whoever asked a card since then, on whatever occasion, has used it."""
    day = timedelta(days=1)
    assert due_attempt(NOW, last=None, now=NOW - timedelta(seconds=1)) is None
    assert due_attempt(NOW, last=None, now=NOW) == NOW
    assert due_attempt(NOW, last=NOW - day, now=NOW + day) == NOW
    assert due_attempt(NOW, last=NOW, now=NOW + 3 * day - timedelta(seconds=1)) is None
    assert due_attempt(NOW, last=NOW, now=NOW + 8 * day) == NOW + 7 * day
    assert due_attempt(NOW, last=NOW + 14 * day, now=NOW + 400 * day) is None


def tried(**given: Any) -> Attempt:
    """An earlier attempt with the same card that was declined softly."""
    return Attempt(**({"card_id": 1, "card_version": 1, "occasion": "fact:1"} | given))


@pytest.mark.parametrize(
    ("before", "asked", "why"),
    [
        ([], {}, None),
        ([tried()], {}, None),
        ([tried(occasion="fact:2")], {}, NotAsked.TRIED),
        ([tried(card_id=2, occasion="fact:2")], {}, None),
        ([tried(card_id=2, in_flight=True)], {}, NotAsked.IN_FLIGHT),
        ([tried(in_flight=True)], {"by_customer": True}, NotAsked.IN_FLIGHT),
        ([tried(awaits_customer=True)], {}, NotAsked.AWAITS_CUSTOMER),
        ([tried(card_id=2, awaits_customer=True)], {}, None),
        ([tried(hard_decline=True)], {}, NotAsked.HARD_DECLINED),
        ([tried(hard_decline=True)], {"by_customer": True}, NotAsked.HARD_DECLINED),
        ([tried(hard_decline=True)], {"card_version": 2}, None),
        ([tried(hard_decline=True, card_id=2)], {}, None),
        ([], {"stripe_collects": True, "next_attempt_at": NOW}, NotAsked.STRIPE_COLLECTS),
        ([], {"stripe_collects": True, "next_attempt_at": NOW, "by_customer": True}, None),
        ([], {"stripe_collects": True}, None),
        ([tried()], {"stripe_collects": True}, NotAsked.TRIED),
        ([tried()], {"stripe_collects": True, "card_version": 2}, None),
        ([tried()], {"stripe_collects": True, "by_customer": True}, None),
        ([tried(by_customer=True)], {"stripe_collects": True}, None),
    ],
)
def test_it_says_why_a_card_is_not_asked(
    before: list[Attempt], asked: dict[str, Any], why: NotAsked | None
) -> None:
    """Each rule, and what it does not reach."""
    asking = {"card_id": 1, "card_version": 1, "occasion": "fact:2", "before": tuple(before)}
    assert why_not(Asking(**(asking | asked))) is why


@pytest.mark.parametrize(
    "code",
    [
        "lost_card",
        "stolen_card",
        "pickup_card",
        "expired_card",
        "incorrect_number",
        "revocation_of_authorization",
    ],
)
def test_it_takes_some_declines_for_good(code: str) -> None:
    """What only another card can turn."""
    assert is_hard(code)


@pytest.mark.parametrize(
    "code", [None, "insufficient_funds", "generic_decline", "do_not_honor", "processing_error", "unheard_of"]
)
def test_it_takes_other_declines_for_passing(code: str | None) -> None:
    """Also what is new to us; the network's advice has the last word."""
    assert not is_hard(code)
    assert is_hard(code, "do_not_try_again")
    assert not is_hard(code, "try_again_later")


@pytest.mark.parametrize(
    ("amount", "currency", "right"),
    [
        (49, "EUR", False), (50, "EUR", True), (99_999_999, "EUR", True), (100_000_000, "EUR", False),
        (49, "JPY", False), (50, "JPY", True), (29, "GBP", False), (30, "GBP", True), (0, "SEK", False),
        (1_000, "KWD", True), (1_001, "KWD", False), (50_000, "ISK", True), (50_050, "ISK", False),
        (100_000_000, "IDR", True), (10**12, "IDR", False), (1, "TWD", True), (-50, "EUR", False),
    ],
)  # fmt: skip
def test_it_knows_which_amounts_a_card_can_be_charged(amount: int, currency: str, right: bool) -> None:
    """Stripe's least and most, and the digits that must be zero."""
    problem = amount_problem(Money(amount, currency))
    assert (problem is None) is right
    assert problem is None or currency in english(problem)


@pytest.mark.parametrize(
    ("amount", "currency", "charged"),
    [
        (0, "EUR", 0), (49, "EUR", 0), (50, "EUR", 50), (12_345, "EUR", 12_345), (100_000_001, "EUR", 99_999_999),
        (12_345, "KWD", 12_340), (9, "KWD", 0), (50_050, "ISK", 50_000), (29, "GBP", 0), (1, "TWD", 1), (-50, "EUR", 0),
    ],
)  # fmt: skip
def test_it_charges_as_much_as_stripe_takes(amount: int, currency: str, charged: int) -> None:
    """The most of an amount that a card can be charged at once, which Stripe then takes."""
    assert chargeable(amount, currency) == charged
    assert charged == 0 or amount_problem(Money(charged, currency)) is None
