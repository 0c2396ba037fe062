"""What usage costs: the time of spans within a month, times a rate, rounded half up once per line.

Owns the arithmetic of rates and the lines of an invoice. A rate is an integer of 10^-6 minor units per hour.
Everything is an integer until the one rounding; nothing here knows the present instant.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from billing.rules.money import MoneyError, exponent

#: A rate counts these parts of a minor unit.
PARTS = 1_000_000
_PART_DIGITS = 6
_HOUR = 3_600
_SECOND = timedelta(seconds=1)
#: What a price for a month means: a twelfth of a year of 8,760 hours. For display alone.
HOURS_OF_A_MONTH = 730
#: A billion minor units an hour: a month of it stays far within 64 bits.
MAX_RATE = 10**9 * PARTS

_DECIMAL = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,20}))?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A half-open span of instants in which one server ran at one rate; it has not ended while `ended_at` is null."""

    server_id: int
    server_name: str
    sku: str
    rate: int
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one server cost at one rate: `amount` follows from `seconds` and `rate` alone."""

    server_id: int
    server_name: str
    sku: str
    rate: int
    seconds: int
    amount: int


def elapsed(span: Span, since: datetime, until: datetime) -> timedelta:
    """Return the exact time of a span between two instants; never negative."""
    end = until if span.ended_at is None else min(span.ended_at, until)
    return max(end - max(span.started_at, since), timedelta(0))


def amount_of(seconds: int, rate: int) -> int:
    """Return the minor units of so many seconds at a rate, rounded half up."""
    return _half_up(seconds * rate, _HOUR * PARTS)


def lines_of(spans: Iterable[Span], since: datetime, until: datetime) -> tuple[Line, ...]:
    """Return what the spans cost between two instants: a line per server and rate, by server and first use.

    The time of a line is summed before anything is rounded, so it does not matter into how many spans it fell. Parts of
    a second are dropped, once. A rate of 0 and a server that did not run have no line; name and size are those of the
    last span.
    """
    ordered = sorted(spans, key=lambda span: (span.server_id, span.started_at))
    last: dict[tuple[int, int], Span] = {}
    times: dict[tuple[int, int], timedelta] = {}
    for span in ordered:
        time = elapsed(span, since, until)
        if span.rate > 0 and time > timedelta(0):
            key = (span.server_id, span.rate)
            last[key] = span
            times[key] = times.get(key, timedelta(0)) + time
    return tuple(_line(last[key], time) for key, time in times.items())


def monthly(rate: int) -> int:
    """Return what 730 hours at a rate cost, in minor units rounded half up: for display, never for an invoice."""
    return amount_of(HOURS_OF_A_MONTH * _HOUR, rate)


def parse_rate(text: str, currency: str) -> int:
    """Return the rate of a decimal of major units per hour, such as `0.00685` for EUR.

    Up to six digits finer than the currency's smallest unit, exactly. Raises `MoneyError` for anything else: a sign, an
    exponent, more digits, more than a billion minor units an hour.
    """
    digits = exponent(currency) + _PART_DIGITS
    found = _DECIMAL.fullmatch(text)
    if not found:
        raise MoneyError(
            f"{text[:40]!r} is not a price per hour; write it like {format_rate(685_000, currency)}"
        )
    whole, fraction = found[1], (found[2] or "").rstrip("0")
    if len(fraction) > digits:
        raise MoneyError(
            f"{text[:40]} is too fine; a price per hour in {currency} has up to {digits} decimals"
        )
    rate = int(whole + fraction.ljust(digits, "0"))
    if rate > MAX_RATE:
        raise MoneyError(
            f"{text[:40]} is too large; the largest price is {format_rate(MAX_RATE, currency)} an hour"
        )
    return rate


def format_rate(rate: int, currency: str) -> str:
    """Return a rate as the exact decimal of major units per hour, with at least the currency's own digits."""
    digits = exponent(currency)
    padded = str(rate).rjust(digits + _PART_DIGITS + 1, "0")
    whole, fraction = padded[: -digits - _PART_DIGITS], padded[-digits - _PART_DIGITS :]
    kept = fraction[:digits] + fraction[digits:].rstrip("0")
    return f"{whole}.{kept}" if kept else whole


def _line(span: Span, time: timedelta) -> Line:
    seconds = time // _SECOND
    return Line(
        server_id=span.server_id,
        server_name=span.server_name,
        sku=span.sku,
        rate=span.rate,
        seconds=seconds,
        amount=amount_of(seconds, span.rate),
    )


def _half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
