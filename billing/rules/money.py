"""Amounts: integers of a currency's minor unit, and their exact decimal text.

Owns the number of digits of each currency and the way between text and minor units. Never rounds, never uses a float,
never adds two currencies.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

#: The page that the two lists and the special cases are from.
STRIPE_CURRENCIES_PAGE = "https://docs.stripe.com/currencies"

#: https://docs.stripe.com/currencies#zero-decimal. UGX is named there too, but stands with ISK under "special cases" of
#: the same page: amounts of both are written with two decimals for backward compatibility, so they have two here.
_ZERO = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
#: https://docs.stripe.com/currencies#three-decimal
_THREE = "BHD JOD KWD OMR TND"
_TWO = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC
    CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR ISK JMD
    KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR
    NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT
    TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES WST XCD YER ZAR ZMW
"""
ZERO_DECIMAL, TWO_DECIMAL, THREE_DECIMAL = (frozenset(codes.split()) for codes in (_ZERO, _TWO, _THREE))

#: What a signed 64-bit column holds.
MAX_MINOR = 2**63 - 1

_DECIMAL = re.compile(r"-?[0-9]{1,25}(?:\.[0-9]{1,25})?", re.ASCII)


class MoneyFault(StrEnum):
    """What is wrong with an amount as it was written."""

    CURRENCY = "CURRENCY"
    DECIMAL = "DECIMAL"
    NEGATIVE = "NEGATIVE"
    DIGITS = "DIGITS"
    TOO_LARGE = "TOO_LARGE"


class MoneyError(ValueError):
    """An amount or a currency that cannot be taken; the message says what would be right."""

    def __init__(self, message: str, fault: MoneyFault | None = None) -> None:
        super().__init__(message)
        self.fault = fault


def exponent(currency: str) -> int:
    """Return how many digits the currency has after the point, as Stripe counts them (docs.stripe.com/currencies).

    Raises `MoneyError` for a code that is not an upper-case ISO 4217 currency in use.
    """
    if currency in TWO_DECIMAL:
        return 2
    if currency in ZERO_DECIMAL:
        return 0
    if currency in THREE_DECIMAL:
        return 3
    told = f"{currency[:8]!r} is no currency we know; use an upper-case ISO 4217 code such as EUR"
    raise MoneyError(told, MoneyFault.CURRENCY)


def parse_amount(text: str, currency: str) -> int:
    """Return the minor units of a decimal with exactly its currency's digits, such as `12.50` for EUR.

    Raises `MoneyError` for anything else: other digits, a sign, spaces, an exponent, more than 64 bits.
    """
    digits = exponent(currency)
    example = format_amount(1250 if digits else 12, currency)
    if not _DECIMAL.fullmatch(text):
        raise MoneyError(f"{text[:40]!r} is not a decimal; write it like {example}", MoneyFault.DECIMAL)
    if text.startswith("-"):
        told = f"{text[:40]} is negative; an amount is 0 or more, such as {example}"
        raise MoneyError(told, MoneyFault.NEGATIVE)
    whole, _, fraction = text.partition(".")
    if len(fraction) != digits:
        noun = "digit" if digits == 1 else "digits"
        wanted = f"exactly {digits} {noun} after the point" if digits else "no digits after the point"
        told = f"{text[:40]} has {len(fraction)}; {currency} has {wanted}, such as {example}"
        raise MoneyError(told, MoneyFault.DIGITS)
    return _within_64_bits(int(whole + fraction))


def format_amount(minor: int, currency: str) -> str:
    """Return the decimal with exactly the currency's digits: `1250` of EUR is `12.50`, of JPY `1250`."""
    digits = exponent(currency)
    sign = "-" if minor < 0 else ""
    padded = str(abs(minor)).rjust(digits + 1, "0")
    return f"{sign}{padded[:-digits]}.{padded[-digits:]}" if digits else f"{sign}{padded}"


def _within_64_bits(minor: int) -> int:
    if not -MAX_MINOR - 1 <= minor <= MAX_MINOR:
        told = f"{minor} minor units are too large; the largest amount is {MAX_MINOR}"
        raise MoneyError(told, MoneyFault.TOO_LARGE)
    return minor


@dataclass(frozen=True)
class Money:
    """An amount in minor units of one currency; negative only where money moves away, as in a ledger."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        exponent(self.currency)
        _within_64_bits(self.minor)

    @classmethod
    def parse(cls, text: str, currency: str) -> "Money":
        """Return the value of a decimal with exactly its currency's digits; `MoneyError` for anything else."""
        return cls(parse_amount(text, currency), currency)

    @property
    def amount(self) -> str:
        """The decimal with exactly the currency's digits."""
        return format_amount(self.minor, self.currency)

    def __str__(self) -> str:
        """Return the amount with its currency, such as `12.50 EUR`."""
        return f"{self.amount} {self.currency}"
