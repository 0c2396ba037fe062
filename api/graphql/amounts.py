"""Amounts and rates as they are asked for.

Owns the way from an input to exact integers, and the path of what is wrong with it. Whether an amount is one that may
be asked for is the services' to say.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

import strawberry

from billing.refusal import RefusalCode, refusal
from billing.rules.metering import parse_rate
from billing.rules.money import Money, MoneyError, exponent

Read = TypeVar("Read")


@strawberry.input
class MoneyInput:
    """An amount of one currency; the decimal has exactly the currency's digits: "12.50" of EUR, "1250" of JPY."""

    amount: Decimal
    currency: str

    def read(self, *path: str) -> Money:
        """Return the amount in minor units; refuses, below `path`, an unknown currency and digits that are not its."""
        return _read(self, lambda text: Money.parse(text, self.currency), path)


@strawberry.input
class RateInput:
    """A price per hour, up to six digits finer than the currency's smallest unit: "0.00685" of EUR."""

    amount: Decimal
    currency: str

    def read(self, *path: str) -> int:
        """Return the rate in 10^-6 minor units per hour; refuses, below `path`, what `MoneyInput` does."""
        return _read(self, lambda text: parse_rate(text, self.currency), path)


def _read(asked: MoneyInput | RateInput, read: Callable[[str], Read], path: tuple[str, ...]) -> Read:
    field = "currency"
    try:
        exponent(asked.currency)
        field = "amount"
        return read(format(asked.amount, "f"))
    except MoneyError as error:
        raise refusal(RefusalCode.INVALID, str(error), *path, field) from None
