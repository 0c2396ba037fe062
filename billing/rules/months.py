"""The months of an account: calendar months of its own zone, as spans of instants, and the day an invoice is due on.

A month is named by its first day and is half-open: its end is the beginning of the next one. Knows no money and not the
present instant.
"""

from datetime import UTC, date, datetime, timedelta

from billing.rules.due import end_of_day, local_day

ONE_DAY = timedelta(days=1)


def month_of(instant: datetime, zone: str) -> date:
    """Return the first day of the month that an instant falls into in a zone. `ValueError` for a naive instant."""
    return local_day(instant, zone).replace(day=1)


def following(month: date) -> date:
    """Return the first day of the next month."""
    return (month.replace(day=28) + 4 * ONE_DAY).replace(day=1)


def start_of(month: date, zone: str) -> datetime:
    """Return the first instant of a month in a zone, in UTC; exact where the clocks change that night."""
    return end_of_day(month.replace(day=1) - ONE_DAY, zone).astimezone(UTC)


def end_of(month: date, zone: str) -> datetime:
    """Return the first instant after a month in a zone, in UTC."""
    return start_of(following(month), zone)


def due_day(issued_at: datetime, term: timedelta, zone: str) -> date:
    """Return the day, in a zone, at whose end an invoice becomes overdue: never before the whole term has passed.

    Whole days of the term are calendar days, so that 14 days end on the 15th whatever the clocks do; what is left of it
    is time.
    """
    return local_day(issued_at + term % ONE_DAY, zone) + ONE_DAY * (term // ONE_DAY)
