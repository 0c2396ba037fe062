"""Numbers of invoices of ours: one series per calendar year, without a gap.

The only writer of `number_series`. Numbers are taken in the transaction that issues the invoices, as late in it as
can be: until it ends, everybody else who issues waits; when it is rolled back, its numbers were never taken.
"""

from tortoise.expressions import F

from billing.money_models import NumberSeries


async def take(year: int, count: int = 1) -> list[str]:
    """Return the next numbers of a year, such as `2026-000123`, inside the caller's transaction.

    Take them after every other lock of the transaction, and years in ascending order, so that nobody waits in a circle.
    """
    name = f"invoice-{year}"
    if not await _advance(name, count):
        # Whoever else begins the series at this moment is waited for, and then nothing is inserted.
        await NumberSeries.bulk_create([NumberSeries(name=name, next=1)], ignore_conflicts=True)
        await _advance(name, count)
    beyond = (await NumberSeries.get(name=name)).next
    return [f"{year:04d}-{number:06d}" for number in range(beyond - count, beyond)]


async def _advance(name: str, count: int) -> int:
    return await NumberSeries.filter(name=name).update(next=F("next") + count)
