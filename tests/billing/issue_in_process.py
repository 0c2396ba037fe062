"""One process of the race for monthly invoices: `issue` what is due, a `share` of it, or `change` usage with late news.

Run as a program with the database's URL, what to do, and a seed; waits for a line on standard input, so that all
begin at once.
"""

import asyncio
import random
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from tortoise.transactions import in_transaction

from api.database import open_database
from billing import issuing, numbers, usage
from billing.clock import ManualClock
from billing.models import Invoice
from billing.money_models import MeteredAccount, NumberSeries, UsageInterval
from billing.rules.policy import Policy

NOW = datetime(2027, 2, 1, tzinfo=UTC)
POLICIES = {"standard": Policy(name="standard", stages=())}


@dataclass(kw_only=True)
class Server:
    """What usage knows of a server."""

    id: int
    account_id: int
    rate: int
    retired_at: datetime | None
    name: str = "web"
    sku: str = "small"
    free: bool = False
    stripe_subscription_id: str | None = None
    deployed_at: datetime | None = NOW
    missing_since: datetime | None = None


async def _change(rng: random.Random) -> None:
    """Resize and retire servers, as told late, while their months are being invoiced."""
    rows = await UsageInterval.filter(ended_at=None)
    rng.shuffle(rows)
    for row in rows:
        at = NOW - timedelta(seconds=rng.randrange(80 * 86_400))
        server = Server(
            id=row.server_id,
            account_id=row.account_id,
            rate=rng.randrange(1, 9) * 10_000_000,
            retired_at=rng.choice([None, None, at]),
        )
        async with in_transaction():
            await usage.follow(server, at=at, now=NOW)


async def _take_naively(year: int, count: int = 1) -> list[str]:
    """Read the next number, think, write it back."""
    row = await NumberSeries.get_or_none(name=f"invoice-{year}")
    first = row.next if row else 1
    await asyncio.sleep(0.01)
    if row:
        await NumberSeries.filter(name=row.name).update(next=first + count)
    else:
        await NumberSeries.create(name=f"invoice-{year}", next=first + count)
    return [f"{year}-{number:06d}" for number in range(first, first + count)]


async def _share(seed: int, *, naively: bool) -> None:
    """Issue every fourth account's months alone, so that nothing but the numbers keeps the four from each other."""
    if naively:
        numbers.take = _take_naively
    for row in (await MeteredAccount.all().order_by("id"))[seed::4]:
        for _ in range(3):
            await issuing._issue([row.account_id], POLICIES, NOW)


async def main(url: str, what: str, seed: int) -> None:
    """Do this process's part."""
    async with open_database(url):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        if what == "change":
            await _change(random.Random(seed))
            return
        if what.startswith("share"):
            await _share(seed, naively=what == "share_naively")
            return
        while await MeteredAccount.filter(month__lt=date(2027, 2, 1), due_at__lte=NOW).exists():
            await issuing.issue_due(ManualClock(NOW), POLICIES, limit=10)
        print(await Invoice.all().count())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
