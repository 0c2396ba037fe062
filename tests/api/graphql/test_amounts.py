"""Amounts and rates as a client may write them, from the wire to integers."""

from decimal import Decimal

import pytest
from graphql import GraphQLError

from api.graphql.amounts import MoneyInput, RateInput
from api.graphql.scalars import SCALARS
from billing.refusal import RefusalCode, RefusalError
from billing.rules.money import Money


def _wire(text: object) -> Decimal:
    """Read the scalar as the schema does."""
    read = SCALARS[Decimal].parse_value
    assert read is not None
    value = read(text)
    assert isinstance(value, Decimal)
    return value


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("12.50", "EUR", 1250),
        ("0.01", "EUR", 1),
        ("1250", "JPY", 1250),
        ("1.250", "KWD", 1250),
        ("92233720368547758.07", "EUR", 2**63 - 1),
    ],
)
def test_it_reads_exactly_the_digits_of_the_currency(text: str, currency: str, minor: int) -> None:
    """Two, none or three of them."""
    assert MoneyInput(amount=_wire(text), currency=currency).read() == Money(minor, currency)


@pytest.mark.parametrize(
    ("text", "currency", "field", "told"),
    [
        ("12.5", "EUR", "amount", "exactly 2 digits after the point, such as 12.50"),
        ("12", "EUR", "amount", "exactly 2 digits"),
        ("12.500", "EUR", "amount", "exactly 2 digits"),
        ("12.50", "JPY", "amount", "no digits after the point, such as 12"),
        ("12.50", "KWD", "amount", "exactly 3 digits"),
        ("-12.50", "EUR", "amount", "negative"),
        ("92233720368547758.08", "EUR", "amount", "too large"),
        ("9" * 60, "JPY", "amount", "not a decimal"),
        ("12.50", "eur", "currency", "upper-case ISO 4217"),
        ("12.50", "XYZ", "currency", "upper-case ISO 4217"),
    ],
)
def test_it_says_which_field_is_wrong_and_what_would_be_right(
    text: str, currency: str, field: str, told: str
) -> None:
    """It refuses any other amount and currency below the path that it was given."""
    with pytest.raises(RefusalError) as refused:
        MoneyInput(amount=_wire(text), currency=currency).read("value")
    (problem,) = refused.value.problems
    assert (problem.code, problem.path) == (RefusalCode.INVALID, ("value", field))
    assert told in problem.english


def test_a_rate_is_finer_than_the_smallest_unit() -> None:
    """It takes six digits more, and no seventh."""
    assert RateInput(amount=_wire("0.00685"), currency="EUR").read("hourly") == 685_000
    assert RateInput(amount=_wire("0.000001"), currency="JPY").read("hourly") == 1
    for text, currency, field in (
        ("0.000000001", "EUR", "amount"),
        ("-1", "EUR", "amount"),
        ("1", "€", "currency"),
    ):
        with pytest.raises(RefusalError) as refused:
            RateInput(amount=_wire(text), currency=currency).read("hourly")
        assert refused.value.problems[0].path == ("hourly", field)


@pytest.mark.parametrize(
    "text", [".-5", "-", ".", "", "1e3", "1_0", "٣", "12,50", " 1", "1\n", "NaN", 12, 1.5, None]
)
def test_the_scalar_takes_decimals_as_strings_and_nothing_else(text: object) -> None:
    """It refuses every other text, and numbers, whose digits a client's language may have changed."""
    with pytest.raises(GraphQLError, match="give a decimal as a string"):
        _wire(text)
