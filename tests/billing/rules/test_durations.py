"""Exact ISO 8601 durations."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.durations import DurationError, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("PT0S", timedelta(0)),
        ("PT72H", timedelta(hours=72)),
        ("PT2S", timedelta(seconds=2)),
        ("P7D", timedelta(hours=168)),
        ("P9DT2H", timedelta(days=9, hours=2)),
        ("PT90M", timedelta(minutes=90)),
        ("PT0.5S", timedelta(milliseconds=500)),
        ("P2W", timedelta(days=14)),
    ],
)
def test_it_reads_exact_lengths(text: str, length: timedelta) -> None:
    """A day is 24 hours of real time."""
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is blank"),
        ("  ", "is blank"),
        ("P1M", "has no exact length; write months and years as days, such as P30D"),
        ("P1Y", "has no exact length"),
        ("P1Y2M3D", "has no exact length"),
        ("-P1D", "is negative"),
        ("P-1D", "is negative"),
        ("PT-5S", "is negative"),
        ("P", "is not an ISO 8601 duration"),
        ("PT", "is not an ISO 8601 duration"),
        ("P1DT", "is not an ISO 8601 duration"),
        ("72h", "is not an ISO 8601 duration"),
        ("pt72h", "is not an ISO 8601 duration"),
        ("P1.5D", "is not an ISO 8601 duration"),
        ("P1W2D", "is not an ISO 8601 duration"),
        ("PT1H\n", "is not an ISO 8601 duration"),
        ("PT٣H", "is not an ISO 8601 duration"),
        ("P9999999999D", "is not an ISO 8601 duration"),
    ],
)
def test_it_refuses_what_has_no_exact_length(text: str, says: str) -> None:
    """Months and years differ in length; everything else is a typing error."""
    with pytest.raises(DurationError, match=says):
        parse_duration(text)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3660)))
def test_it_reads_what_it_writes(length: timedelta) -> None:
    """No length is lost, down to the microsecond."""
    assert parse_duration(format_duration(length)) == length


@pytest.mark.parametrize(
    "text", ["PT0S", "PT72H", "PT120H", "P7D", "P30D", "P90D", "PT1H30M", "P10DT12H", "PT0.5S"]
)
def test_it_writes_lengths_as_policies_do(text: str) -> None:
    """Hours up to a week, days from then on."""
    assert format_duration(parse_duration(text)) == text


def test_it_writes_no_negative_length() -> None:
    """There is no text that would be read back."""
    with pytest.raises(DurationError):
        format_duration(timedelta(seconds=-1))
