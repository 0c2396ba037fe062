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
from billing.rules.money import Money, MoneyError, MoneyFault, exponent, format_amount
from billing.rules.words import Phrase, Value, phrase

Read = TypeVar("Read")


@strawberry.input
class MoneyInput:
    """An amount of one currency; the decimal has exactly the currency's digits: "12.50" of EUR, "1250" of JPY."""

    amount: Decimal
    currency: str

    def read(self, *path: str) -> Money:
        """Return the amount in minor units; refuses, below `path`, an unknown currency and digits that are not its."""
        return _read(self, lambda text: Money.parse(text, self.currency), path, _told)


@strawberry.input
class RateInput:
    """A price per hour, up to six digits finer than the currency's smallest unit: "0.00685" of EUR."""

    amount: Decimal
    currency: str

    def read(self, *path: str) -> int:
        """Return the rate in 10^-6 minor units per hour; refuses, below `path`, what `MoneyInput` does."""
        return _read(self, lambda text: parse_rate(text, self.currency), path, lambda error, *_: str(error))


def _told(error: MoneyError, amount: str, currency: str) -> Phrase | str:
    """Return what is wrong with an amount, as customers read it."""
    if error.fault is MoneyFault.CURRENCY:
        return phrase(
            "%(given)s is no currency that we know; use an upper-case ISO 4217 code such as EUR.",
            given=currency[:8],
        )
    digits = exponent(currency)
    values: dict[str, Value] = {
        "given": amount[:40],
        "currency": currency,
        "digits": digits,
        "example": format_amount(1250 if digits else 12, currency),
    }
    match error.fault:
        case MoneyFault.DECIMAL:
            return phrase("%(given)s is not a decimal; write it like %(example)s.", **values)
        case MoneyFault.NEGATIVE:
            return phrase("%(given)s is negative; an amount is 0 or more, such as %(example)s.", **values)
        case MoneyFault.DIGITS if digits:
            return phrase(
                "An amount of %(currency)s has exactly %(digits)s digits after the point, such as %(example)s.",
                **values,
            )
        case MoneyFault.DIGITS:
            return phrase(
                "An amount of %(currency)s has no digits after the point, such as %(example)s.", **values
            )
        case MoneyFault.TOO_LARGE:
            return phrase("This amount is too large.")
    return str(error)


def _read(
    asked: MoneyInput | RateInput,
    read: Callable[[str], Read],
    path: tuple[str, ...],
    told: Callable[[MoneyError, str, str], Phrase | str],
) -> Read:
    field = "currency"
    try:
        exponent(asked.currency)
        field = "amount"
        return read(format(asked.amount, "f"))
    except MoneyError as error:
        message = told(error, format(asked.amount, "f"), asked.currency)
        raise refusal(RefusalCode.INVALID, message, *path, field) from None
