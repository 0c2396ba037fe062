"""The four scalars of the contract and money on the wire.

Owns how instants, days, amounts and durations are written and read; refuses naive instants.
"""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

from billing.rules.money import exponent, format_amount

_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)


def written_instant(value: datetime) -> str:
    """Return an instant as it goes on the wire."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _read_instant(value: object) -> datetime:
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise GraphQLError('give an instant with its offset, such as "2026-11-20T05:00:00Z"')
    return instant.astimezone(UTC)


def _read_day(value: object) -> date:
    try:
        return date.fromisoformat(value if isinstance(value, str) and len(value) == len("2026-11-20") else "")
    except ValueError:
        raise GraphQLError('give a day such as "2026-11-20"') from None


def _read_decimal(value: object) -> Decimal:
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise GraphQLError('give a decimal as a string, such as "12.50"')
    return Decimal(value)


def _written_duration(value: timedelta) -> str:
    """Write whole days from a week on as days and everything else in hours, as the shipped policies do."""
    if value >= timedelta(days=7) and value % timedelta(days=1) == timedelta(0):
        return f"P{value.days}D"
    hours, rest = divmod(int(value.total_seconds()), 3600)
    minutes, seconds = divmod(rest, 60)
    parts = "".join(
        f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if number
    )
    return f"PT{parts or '0S'}"


def _read_duration(_: object) -> timedelta:
    raise GraphQLError("durations are only ever answered")


SCALARS: dict[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="An instant: aware, UTC, ISO 8601.",
        serialize=written_instant,
        parse_value=_read_instant,
    ),
    date: strawberry.scalar(
        name="Date",
        description='A calendar day of the account: "2026-11-20".',
        serialize=lambda value: value.isoformat(),
        parse_value=_read_day,
    ),
    Decimal: strawberry.scalar(
        name="Decimal",
        description='A string: "12.50"; an amount has exactly its currency\'s digits.',
        serialize=lambda value: format(value, "f"),
        parse_value=_read_decimal,
    ),
    timedelta: strawberry.scalar(
        name="Duration",
        description='ISO 8601: "PT72H", "P7D".',
        serialize=_written_duration,
        parse_value=_read_duration,
    ),
}


@strawberry.type
class Money:
    """An amount of one currency."""

    amount: Decimal
    currency: str

    @classmethod
    def of(cls, minor: int, currency: str) -> "Money":
        """Return an amount of minor units with exactly the currency's digits."""
        return cls(amount=Decimal(format_amount(minor, currency)), currency=currency)


@strawberry.type(description="A price per hour, finer than the currency's smallest unit.")
class Rate:
    """A price per hour."""

    amount: Decimal
    currency: str

    @classmethod
    def of(cls, rate: int, currency: str) -> "Rate":
        """Return a rate of 10^-6 minor units per hour."""
        return cls(amount=Decimal(rate).scaleb(-6 - exponent(currency)), currency=currency)
