"""Amounts and their exact decimal text."""

import pytest
from babel.numbers import list_currencies
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.money import (
    MAX_MINOR,
    THREE_DECIMAL,
    TWO_DECIMAL,
    ZERO_DECIMAL,
    Money,
    MoneyError,
    exponent,
    format_amount,
    parse_amount,
)

ALL = sorted(ZERO_DECIMAL | TWO_DECIMAL | THREE_DECIMAL)


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("12.50", "EUR", 1250),
        ("0.01", "USD", 1),
        ("0.00", "EUR", 0),
        ("500", "JPY", 500),
        ("5.124", "KWD", 5124),
        ("5.00", "ISK", 500),
        ("5.00", "UGX", 500),
        ("92233720368547758.07", "EUR", MAX_MINOR),
    ],
)
def test_it_reads_and_writes_exactly_the_digits_of_the_currency(text: str, currency: str, minor: int) -> None:
    """Two, none or three, as Stripe counts them."""
    assert parse_amount(text, currency) == minor
    assert format_amount(minor, currency) == text
    assert Money.parse(text, currency) == Money(minor, currency)
    assert str(Money(minor, currency)) == f"{text} {currency}"


@pytest.mark.parametrize(
    ("text", "currency", "says"),
    [
        ("12.5", "EUR", "exactly 2 digits"),
        ("12", "EUR", "exactly 2 digits"),
        ("12.505", "EUR", "such as 12.50"),
        ("500.0", "JPY", "no digits after the point"),
        ("5.12", "KWD", "exactly 3 digits"),
        ("-1.00", "EUR", "is negative"),
        ("+1.00", "EUR", "is not a decimal"),
        ("1,00", "EUR", "is not a decimal"),
        ("1e2", "EUR", "is not a decimal"),
        (" 1.00", "EUR", "is not a decimal"),
        ("1.00\n", "EUR", "is not a decimal"),
        (".50", "EUR", "is not a decimal"),
        ("", "EUR", "is not a decimal"),
        ("NaN", "EUR", "is not a decimal"),
        ("١.٠٠", "EUR", "is not a decimal"),
        ("9" * 10_000, "EUR", "is not a decimal"),
        ("92233720368547758.08", "EUR", "too large"),
        ("1.00", "eur", "no currency we know"),
        ("1.00", "XXX", "no currency we know"),
        ("1.00", "", "no currency we know"),
    ],
)
def test_it_refuses_everything_else_and_says_what_would_be_right(text: str, currency: str, says: str) -> None:
    """The message is short, whatever was typed."""
    with pytest.raises(MoneyError, match=says) as refused:
        parse_amount(text, currency)
    assert len(str(refused.value)) < 200


@given(minor=st.integers(-MAX_MINOR - 1, MAX_MINOR), currency=st.sampled_from(ALL))
def test_it_loses_nothing_on_the_way_to_text_and_back(minor: int, currency: str) -> None:
    """Every 64-bit amount of every currency survives; a negative one is written and never read."""
    text = format_amount(minor, currency)
    if minor >= 0:
        assert parse_amount(text, currency) == minor
    else:
        assert text == f"-{format_amount(-minor, currency)}"
    assert len(text.partition(".")[2]) == exponent(currency)


@pytest.mark.parametrize("minor", [MAX_MINOR + 1, -MAX_MINOR - 2])
def test_it_holds_no_more_than_64_bits(minor: int) -> None:
    """What no column can hold is refused before it gets there."""
    with pytest.raises(MoneyError, match="too large"):
        Money(minor, "EUR")
    with pytest.raises(MoneyError, match="no currency"):
        Money(1, "BTC")


def test_it_knows_each_currency_once_and_only_real_ones() -> None:
    """The three lists do not overlap, and every code is one that Unicode's data knows too."""
    assert len(ALL) == len(ZERO_DECIMAL) + len(TWO_DECIMAL) + len(THREE_DECIMAL)
    assert set(ALL) <= set(list_currencies("en"))
