"""Prices: what an hour of a SKU costs from an instant on.

The only writer of `price`. A price is never changed, only followed by another one, and never begins in the past:
what was deployed at a price can be checked against it for ever.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from billing import audit
from billing.money_models import Price
from billing.refusal import Problem, RefusalCode, RefusalError, refusal
from billing.rules.metering import MAX_RATE, format_rate
from billing.rules.money import MoneyError, exponent

LONGEST_SKU = 100
LONGEST_DESCRIPTION = 500


@dataclass(frozen=True, kw_only=True)
class NewPrice:
    """A price as an admin sets it; `rate` in 10^-6 minor units per hour, 0 for what costs nothing."""

    sku: str
    currency: str
    rate: int
    #: Null: what the price before it said.
    description: str | None = None
    #: Null: now.
    valid_from: datetime | None = None


async def set_price(asked: NewPrice, *, actor: str, now: datetime) -> Price:
    """Record a price, with its audit row; the same one again returns the row that there is.

    Servers that were deployed before keep the rate that was saved with them. Refuses an instant in the past, and
    another price for the same SKU from the same instant on.
    """
    problems = tuple(problem for problem in _problems(asked) if problem)
    if problems:
        raise RefusalError(*problems)
    valid_from = asked.valid_from or now
    same_instant = Price.filter(sku=asked.sku, currency=asked.currency, valid_from=valid_from)
    if (there := await same_instant.first()) is not None:
        return _same_or_refused(there, asked)
    if valid_from < now:
        told = f"a price cannot begin in the past: it is {now:%Y-%m-%dT%H:%M:%SZ}"
        raise refusal(RefusalCode.INVALID, told, "validFrom")
    try:
        async with in_transaction():
            return await _create(asked, valid_from, actor=actor, now=now)
    except IntegrityError:  # another request was first, at the same instant
        return _same_or_refused(await same_instant.get(), asked)


async def in_force(sku: str, currency: str, *, at: datetime) -> Price | None:
    """Return the price of a SKU at an instant; null when it had none then."""
    return await Price.filter(sku=sku, currency=currency, valid_from__lte=at).order_by("-valid_from").first()


async def rates_in_force(keys: Iterable[tuple[str, str]], *, at: datetime) -> Mapping[tuple[str, str], int]:
    """Return the rate in force of each (SKU, currency) that has a price, in one statement."""
    wanted = set(keys)
    rows = Price.filter(sku__in=list({sku for sku, _ in wanted}), valid_from__lte=at).order_by("valid_from")
    # The last one of each wins: prices are few, and each is followed by the next.
    return {(row.sku, row.currency): row.rate for row in await rows if (row.sku, row.currency) in wanted}


async def current(*, at: datetime, currency: str | None = None) -> Sequence[Price]:
    """Return the price in force of every SKU and currency (or of one currency), by SKU and currency."""
    rows = Price.filter(valid_from__lte=at)
    if currency is not None:
        rows = rows.filter(currency=currency)
    latest = {(row.sku, row.currency): row for row in await rows.order_by("valid_from")}
    return [latest[key] for key in sorted(latest)]


async def _create(asked: NewPrice, valid_from: datetime, *, actor: str, now: datetime) -> Price:
    before = await in_force(asked.sku, asked.currency, at=valid_from)
    description = asked.description
    if description is None:
        description = before.description if before else ""
    price = await Price.create(
        sku=asked.sku,
        description=description,
        currency=asked.currency,
        rate=asked.rate,
        valid_from=valid_from,
        set_by=actor,
    )
    await audit.record(
        "price.set",
        ("Price", price.id),
        at=now,
        actor=actor,
        reason=f"{asked.sku} from {valid_from:%Y-%m-%d %H:%M} UTC on",
        before={"hourly": format_rate(before.rate, before.currency)} if before else None,
        after={
            "sku": price.sku,
            "currency": price.currency,
            "hourly": format_rate(price.rate, price.currency),
            "valid_from": valid_from,
        },
    )
    return price


def _same_or_refused(there: Price, asked: NewPrice) -> Price:
    same_words = asked.description in (None, there.description)
    if there.rate == asked.rate and same_words:
        return there
    raise refusal(
        RefusalCode.CONFLICT,
        f"{there.sku} has another price in {there.currency} from that instant on; prices are followed, never changed",
        "validFrom",
    )


def _problems(asked: NewPrice) -> list[Problem | None]:
    return [
        _text(asked.sku, LONGEST_SKU, "sku"),
        _text(asked.description, LONGEST_DESCRIPTION, "description") if asked.description else None,
        _currency(asked.currency),
        _unless(
            0 <= asked.rate <= MAX_RATE,
            "give a price of 0 or more, and of no fantastic size",
            "hourly",
            "amount",
        ),
    ]


def _currency(code: str) -> Problem | None:
    try:
        exponent(code)
    except MoneyError as error:
        return _unless(False, str(error), "hourly", "currency")
    return None


def _text(value: str, longest: int, *path: str) -> Problem | None:
    right = bool(value) and value == value.strip() and value.isprintable() and len(value) <= longest
    return _unless(right, f"give 1 to {longest} printable characters without blanks around them", *path)


def _unless(right: bool, message: str, *path: str) -> Problem | None:
    return None if right else Problem(code=RefusalCode.INVALID, message=message, path=path)
