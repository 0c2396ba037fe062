"""What usage costs."""

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.due import end_of_day
from billing.rules.metering import (
    MAX_RATE,
    Span,
    amount_of,
    elapsed,
    format_rate,
    lines_of,
    monthly,
    parse_rate,
)
from billing.rules.money import MoneyError
from billing.rules.months import end_of, following, start_of

START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
#: 0.50 EUR an hour.
HALF = 50_000_000
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Santiago",
    "UTC",
)


def _span(since: datetime, until: datetime | None, *, server: int = 1, rate: int = HALF) -> Span:
    return Span(
        server_id=server,
        server_name=f"web-{server}",
        sku="small",
        rate=rate,
        started_at=since,
        ended_at=until,
    )


instants = st.datetimes(datetime(2026, 10, 1), datetime(2026, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
rates = st.integers(1, 10**10)


@pytest.mark.parametrize(
    ("seconds", "rate", "amount"),
    [
        (3_600, HALF, 50),
        (1, 1, 0),
        (3_600, 499_999, 0),
        (3_600, 500_000, 1),  # exactly half a cent goes up
        (3_600, 1_499_999, 1),
        (1_800, 1_000_000, 1),
        (720 * 3_600, 684_932, 493),  # 5 EUR a month is less than a cent an hour
        (744 * 3_600, MAX_RATE, 744 * 10**9),
    ],
)
def test_it_rounds_half_up_once(seconds: int, rate: int, amount: int) -> None:
    """On hours times rate, never on the hour."""
    assert amount_of(seconds, rate) == amount


@given(seconds=st.integers(0, 32 * 86_400), rate=st.integers(0, MAX_RATE))
def test_it_is_never_further_than_half_a_unit_away(seconds: int, rate: int) -> None:
    """From the exact fraction, below which it never stays by a half."""
    exact = Fraction(seconds * rate, 3_600 * 1_000_000)
    assert Fraction(-1, 2) < amount_of(seconds, rate) - exact <= Fraction(1, 2)


def test_it_counts_only_what_is_within_the_month() -> None:
    """Before it, after it and still running."""
    spans = [
        _span(START - 5 * HOUR, START + HOUR),
        _span(END - HOUR, END + 5 * HOUR, server=2),
        _span(END - 2 * HOUR, None, server=3),
        _span(START - 2 * HOUR, START, server=4),
        _span(END, None, server=5),
    ]
    assert [(line.server_id, line.seconds, line.amount) for line in lines_of(spans, START, END)] == [
        (1, 3_600, 50),
        (2, 3_600, 50),
        (3, 7_200, 100),
    ]


def test_it_has_a_line_per_server_and_rate() -> None:
    """Two spans of one rate share a line and its rounding; another rate has its own; a rate of 0 has none."""
    spans = [
        _span(START, START + HOUR, rate=400_000),
        _span(START + HOUR, START + 2 * HOUR, rate=HALF),
        _span(START + 2 * HOUR, START + 3 * HOUR, rate=400_000),
        _span(START, END, rate=0, server=2),
    ]
    assert [(line.rate, line.seconds, line.amount) for line in lines_of(spans, START, END)] == [
        (400_000, 7_200, 1),  # 0.4 + 0.4 cents; rounded one by one, it would be nothing
        (HALF, 3_600, 50),
    ]


@given(data=st.data(), since=instants, length=st.timedeltas(timedelta(0), timedelta(days=70)), rate=rates)
def test_it_does_not_matter_where_an_interval_is_split(
    data: st.DataObject, since: datetime, length: timedelta, rate: int
) -> None:
    """Cut anywhere, to the microsecond, in any order, the lines are the same."""
    cuts = data.draw(st.lists(st.timedeltas(timedelta(0), length), max_size=5))
    bounds = [since, *(since + cut for cut in sorted(cuts)), since + length]
    parts = [_span(a, b, rate=rate) for a, b in pairwise(bounds)]
    shuffled = data.draw(st.permutations(parts))
    assert lines_of(shuffled, START, END) == lines_of([_span(since, since + length, rate=rate)], START, END)


@pytest.mark.parametrize("zone", ZONES)
def test_it_adds_up_from_days_to_months(zone: str) -> None:
    """On every day of 2024 to 2032, hours and exact costs of the days are those of the month."""
    span = _span(
        datetime(2024, 1, 17, 3, 4, 5, 678_901, tzinfo=UTC), datetime(2032, 12, 30, 1, 2, 3, tzinfo=UTC)
    )
    whole = timedelta(0)
    month = date(2024, 1, 1)
    while month.year < 2033:
        days = [month + timedelta(days=number) for number in range((following(month) - month).days)]
        bounds = [start_of(month, zone), *(end_of_day(day, zone) for day in days)]
        by_day = [elapsed(span, a, b) for a, b in pairwise(bounds)]
        of_month = elapsed(span, start_of(month, zone), end_of(month, zone))
        assert sum(by_day, timedelta(0)) == of_month
        assert timedelta(0) <= min(by_day) <= max(by_day) <= timedelta(hours=25)
        for line in lines_of([span], start_of(month, zone), end_of(month, zone)):
            assert line.seconds == of_month // timedelta(seconds=1)
            assert abs(line.amount - Fraction(line.seconds * HALF, 3_600_000_000)) <= Fraction(1, 2)
        whole += of_month
        month = following(month)
    assert span.ended_at is not None
    assert whole == span.ended_at - span.started_at


@given(spans=st.lists(st.tuples(instants, st.none() | instants, st.integers(1, 3), rates), max_size=8))
def test_it_never_counts_below_nothing(
    spans: list[tuple[datetime, datetime | None, int, int]],
) -> None:
    """Whatever it is given, a line has time, and it is at most what the spans hold."""
    made = [_span(since, until, server=server, rate=rate) for since, until, server, rate in spans]
    lines = lines_of(made, START, END)
    assert all(line.seconds >= 0 and line.amount >= 0 for line in lines)
    assert sum(line.seconds for line in lines) <= len(spans) * (END - START).total_seconds()
    assert len({(line.server_id, line.rate) for line in lines}) == len(lines)


@pytest.mark.parametrize(
    ("text", "currency", "rate"),
    [
        ("0.00684932", "EUR", 684_932),
        ("0.00685", "EUR", 685_000),
        ("1", "EUR", 100_000_000),
        ("1.10", "EUR", 110_000_000),
        ("12.5", "JPY", 12_500_000),
        ("0.000001", "JPY", 1),
        ("0.000000001", "KWD", 1),
        ("1.0000000000", "KWD", 1_000_000_000),
        ("0", "EUR", 0),
    ],
)
def test_it_reads_a_price_per_hour(text: str, currency: str, rate: int) -> None:
    """Exactly, in currencies without decimals, with two and with three."""
    assert parse_rate(text, currency) == rate


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("0.000000001", "EUR"),
        ("0.0000001", "JPY"),
        ("-1", "EUR"),
        ("+1", "EUR"),
        ("1e3", "EUR"),
        (" 1", "EUR"),
        ("1,5", "EUR"),
        ("", "EUR"),
        (".5", "EUR"),
        ("NaN", "EUR"),
        ("١", "EUR"),
        ("10000000.01", "EUR"),
        ("1", "eur"),
    ],
)
def test_it_refuses_what_is_no_price(text: str, currency: str) -> None:
    """Nothing is rounded, and nothing is guessed."""
    with pytest.raises(MoneyError):
        parse_rate(text, currency)


@given(rate=st.integers(0, MAX_RATE), currency=st.sampled_from(["EUR", "JPY", "KWD"]))
def test_it_writes_a_price_as_it_reads_it(rate: int, currency: str) -> None:
    """There and back, nothing is lost."""
    assert parse_rate(format_rate(rate, currency), currency) == rate


def test_it_writes_at_least_the_digits_of_the_currency() -> None:
    """`0.50`, not `0.5`; and no digits that say nothing."""
    assert [format_rate(HALF, code) for code in ("EUR", "JPY", "KWD")] == ["0.50", "50", "0.050"]
    assert format_rate(684_932, "EUR") == "0.00684932"


def test_it_shows_what_a_month_costs() -> None:
    """730 hours, rounded."""
    assert monthly(684_932) == 500
    assert monthly(HALF) == 36_500
