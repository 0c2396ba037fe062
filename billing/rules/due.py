"""When an invoice is overdue, and from when it counts as debt.

Owns calendar days in a zone and the two rules of `overdue_at`. Knows neither a stage nor the present instant.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def zone_of(name: str) -> ZoneInfo:
    """Return the IANA zone of this name; `ValueError` with a remedy for an unknown one."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name[:64]!r} is no time zone; use an IANA name such as Europe/Berlin") from error


def local_day(instant: datetime, zone: str) -> date:
    """Return the calendar day that an instant falls on in a zone.

    Stripe gives an invoice's `due_date` as an instant (https://docs.stripe.com/api/invoices/object#invoice_object-due_date);
    this is the day that it is due on for its owner.
    """
    return _aware(instant).astimezone(zone_of(zone)).date()


def end_of_day(day: date, zone: str) -> datetime:
    """Return the first instant of the following local day, in UTC: exact where midnight is skipped or comes twice."""
    local = zone_of(zone)
    following = day + timedelta(days=1)
    midnight = datetime.combine(following, time.min, tzinfo=local)
    # Where the clocks skip midnight, `fold` tells the offset before and after the gap: the wanted instant is between.
    late, early = midnight.astimezone(UTC), midnight.replace(fold=1).astimezone(UTC)
    if early >= late:
        return late
    while late - early > timedelta(seconds=1):
        middle = early + timedelta(seconds=(late - early) // timedelta(seconds=1) // 2)
        if middle.astimezone(local).date() >= following:
            late = middle
        else:
            early = middle
    return late


def overdue_at(
    *, due_on: date | None, zone: str, unsuccessful_attempts: Iterable[datetime] = ()
) -> datetime | None:
    """Return the instant from which an invoice is overdue; null while there is none.

    With a due date: the end of that local day in the zone stored with the invoice, whatever was attempted. Without one
    (Stripe charging automatically): the first attempt that failed or asked the customer to act, in any order given, so
    Stripe's own retries never move it. Not attempted yet is not overdue. Raises `ValueError` for a naive instant.
    """
    if due_on is not None:
        return end_of_day(due_on, zone)
    return min((_aware(attempt).astimezone(UTC) for attempt in unsuccessful_attempts), default=None)


def counts_from(overdue: datetime, first_seen: datetime) -> datetime:
    """Return from when an invoice counts as debt: the later of `overdue_at` and its first being seen open and overdue.

    A reopened invoice is first seen anew at its reopening.
    """
    return max(_aware(overdue), _aware(first_seen))


def _aware(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError("an instant must be aware, such as datetime(2026, 1, 1, tzinfo=UTC)")
    return instant
