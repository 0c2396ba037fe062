"""Usage: which server cost which account which rate, and when."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from tortoise.exceptions import BaseORMException
from tortoise.transactions import in_transaction

from billing import usage
from billing.clock import ManualClock
from billing.models import Account
from billing.money_models import MeteredAccount, Price, UsageInterval

on_both = pytest.mark.usefixtures("database")
on_sqlite = pytest.mark.usefixtures("sqlite_database")

HOUR = timedelta(hours=1)


@dataclass(kw_only=True)
class Server:
    """What usage knows of a server."""

    account_id: int
    id: int = 7
    name: str = "web"
    sku: str = "small"
    rate: int = 500_000
    free: bool = False
    stripe_subscription_id: str | None = None
    deployed_at: datetime | None = datetime(2026, 11, 20, 8, tzinfo=UTC)
    retired_at: datetime | None = None
    missing_since: datetime | None = None


async def _follow(server: Server, at: datetime, **more: Any) -> bool:
    async with in_transaction():
        return await usage.follow(server, at=at, **({"now": at} | more))


async def _intervals() -> list[tuple[datetime, datetime | None, str | None, int]]:
    rows = await UsageInterval.all().order_by("id")
    return [(row.started_at, row.ended_at, row.ended_because, row.rate) for row in rows]


@on_sqlite
async def test_it_runs_from_the_deployment_on(clock: ManualClock, factory: Any) -> None:
    """In the account's currency, at the rate and under the name of the server; again, nothing happens."""
    account = await factory.account(currency="JPY")
    server = Server(account_id=account.id)
    assert await _follow(server, clock.now()) is True
    assert await _follow(server, clock.now() + HOUR) is False
    row = await UsageInterval.get()
    assert (row.account_id, row.server_id, row.server_name, row.sku) == (account.id, 7, "web", "small")
    assert (row.currency, row.rate, row.started_at, row.ended_at) == ("JPY", 500_000, clock.now(), None)
    assert await usage.running([7, 8]) == {7}


@on_sqlite
async def test_it_begins_the_first_month_of_an_account(clock: ManualClock, factory: Any) -> None:
    """The local one that the first interval begins in; its invoice is due when it has ended there."""
    account = await factory.account(time_zone="Pacific/Kiritimati")
    await _follow(Server(account_id=account.id), clock.now())
    row = await MeteredAccount.get(account_id=account.id)
    assert str(row.month) == "2026-11-01"
    assert row.invoiced_until == datetime(2026, 10, 31, 10, tzinfo=UTC)
    assert row.due_at == datetime(2026, 11, 30, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"retired_at": datetime(2026, 11, 20, tzinfo=UTC)}, "retired"),
        ({"missing_since": datetime(2026, 11, 20, tzinfo=UTC)}, "missing"),
        ({"free": True}, "free"),
        ({"free": True, "rate": 0}, "free"),
        ({"stripe_subscription_id": "sub_1"}, "subscribed"),
        ({"rate": 0, "sku": "unpriced"}, "resized"),
        ({"deployed_at": None}, "failed"),
    ],
)
@on_sqlite
async def test_it_ends_for_each_reason(
    clock: ManualClock, factory: Any, change: dict[str, Any], because: str
) -> None:
    """At the instant it happened, once; and such a server never begins."""
    server = Server(account_id=(await factory.account()).id)
    assert await _follow(replace(server, **change), clock.now()) is False
    await _follow(server, clock.now())
    end = clock.now() + HOUR
    assert await _follow(replace(server, **change), end) is True
    assert await _follow(replace(server, **change), end + HOUR) is False
    assert await _intervals() == [(clock.now(), end, because, 500_000)]


@pytest.mark.parametrize(("how", "because"), [("held", "held"), ("failed", "failed")])
@on_sqlite
async def test_it_stops_and_goes_on(clock: ManualClock, factory: Any, how: str, because: str) -> None:
    """Under a hold or after a failed deployment, and again afterwards, in an interval of its own."""
    server = Server(account_id=(await factory.account()).id)
    start = clock.now()
    await _follow(server, start)
    await _follow(server, start + HOUR, **{how: True})
    await _follow(server, start + 2 * HOUR, **{how: True})
    await _follow(server, start + 3 * HOUR)
    assert await _intervals() == [
        (start, start + HOUR, because, 500_000),
        (start + 3 * HOUR, None, None, 500_000),
    ]


@pytest.mark.parametrize("change", [{"sku": "large", "rate": 900_000}, {"sku": "other"}, {"rate": 900_000}])
@on_sqlite
async def test_it_is_cut_by_another_size(clock: ManualClock, factory: Any, change: dict[str, Any]) -> None:
    """One interval ends where the next begins."""
    server = Server(account_id=(await factory.account()).id)
    await _follow(server, clock.now())
    at = clock.now() + HOUR
    await _follow(replace(server, **change), at)
    first, second = await UsageInterval.all().order_by("id")
    assert (first.ended_at, first.ended_because, second.started_at, second.ended_at) == (
        at,
        "resized",
        at,
        None,
    )
    assert (second.sku, second.rate) == (change.get("sku", "small"), change.get("rate", 500_000))


@on_sqlite
async def test_it_moves_with_the_server_to_another_account(clock: ManualClock, factory: Any) -> None:
    """The old account pays until then, the new one from then on, in its currency."""
    old, new = await factory.account(), await factory.account(currency="USD")
    server = Server(account_id=old.id)
    await _follow(server, clock.now())
    at = clock.now() + HOUR
    await _follow(replace(server, account_id=new.id), at)
    first, second = await UsageInterval.all().order_by("id")
    assert (first.account_id, first.ended_at, first.ended_because) == (old.id, at, "transferred")
    assert (second.account_id, second.started_at, second.currency) == (new.id, at, "USD")


@on_sqlite
async def test_it_takes_late_news_from_their_own_instant(clock: ManualClock, factory: Any) -> None:
    """A deployment and a change told an hour late count from when they were; the future counts as now."""
    server = Server(account_id=(await factory.account()).id)
    now = clock.now()
    await _follow(server, now - 3 * HOUR, now=now)
    await _follow(replace(server, rate=900_000), now - HOUR, now=now)
    await _follow(replace(server, retired_at=now), now + 5 * HOUR, now=now)
    assert await _intervals() == [
        (now - 3 * HOUR, now - HOUR, "resized", 500_000),
        (now - HOUR, now, "retired", 900_000),
    ]


@on_both
async def test_it_never_overlaps_whatever_is_told_late(clock: ManualClock, factory: Any) -> None:
    """News from before the present interval cut it at its beginning."""
    server = Server(account_id=(await factory.account()).id)
    now = clock.now()
    for number, hours in enumerate([9, 5, 7, 1, 8, 0], start=1):
        await _follow(replace(server, rate=number * 500_000), now - hours * HOUR, now=now)
    await _follow(replace(server, missing_since=now), now - 6 * HOUR, now=now)
    await _follow(server, now - 20 * HOUR, now=now)
    spans = await _intervals()
    assert all(ended is not None and started <= ended for started, ended, _, _ in spans[:-1])
    assert all(one[1] is not None and one[1] <= other[0] for one, other in pairwise(spans))
    assert [ended for _, ended, _, _ in spans].count(None) == 1


@on_both
async def test_it_leaves_alone_what_is_invoiced(clock: ManualClock, factory: Any) -> None:
    """News from an invoiced month hold from its end on, for the beginning and for the end of an interval."""
    account = await factory.account()
    server, other = Server(account_id=account.id), Server(account_id=account.id, id=8)
    now = clock.now()
    await _follow(server, now - 3 * HOUR, now=now)
    await MeteredAccount.filter(account_id=account.id).update(invoiced_until=now - HOUR)
    await _follow(replace(server, missing_since=now), now - 2 * HOUR, now=now)
    await _follow(other, now - 2 * HOUR, now=now)
    assert await _intervals() == [
        (now - 3 * HOUR, now - HOUR, "missing", 500_000),
        (now - HOUR, None, None, 500_000),
    ]


@on_both
async def test_it_is_kept_by_the_database_too(clock: ManualClock, factory: Any) -> None:
    """A second open interval, one that begins or ends within an invoice, another rate, a second end: all refused."""
    account = await factory.account()
    await _follow(Server(account_id=account.id), clock.now())
    row = await UsageInterval.get()
    values: dict[str, Any] = {
        "account": account,
        "server_id": 7,
        "server_name": "web",
        "sku": "small",
        "currency": "EUR",
        "rate": 1,
    }
    with pytest.raises(BaseORMException):
        await UsageInterval.create(**values, started_at=clock.now())
    await MeteredAccount.filter(account_id=account.id).update(invoiced_until=clock.now() + HOUR)
    with pytest.raises(BaseORMException, match="begins after what is invoiced"):
        await UsageInterval.create(**(values | {"server_id": 8}), started_at=clock.now())
    with pytest.raises(BaseORMException, match="ends after what is invoiced"):
        await UsageInterval.filter(id=row.id).update(ended_at=clock.now(), ended_because="retired")
    with pytest.raises(BaseORMException, match="never invoiced again"):
        await MeteredAccount.filter(account_id=account.id).update(invoiced_until=clock.now())
    with pytest.raises(BaseORMException, match="never changed"):
        await UsageInterval.filter(id=row.id).update(rate=2)
    end = clock.now() + 2 * HOUR
    await UsageInterval.filter(id=row.id).update(ended_at=end, ended_because="retired")
    with pytest.raises(BaseORMException, match="closed once"):
        await UsageInterval.filter(id=row.id).update(ended_at=end + HOUR)
    assert await _intervals() == [(clock.now(), end, "retired", 500_000)]


@on_both
async def test_it_saves_the_price_of_the_day(clock: ManualClock, factory: Any) -> None:
    """In the account's currency; nothing where there was none."""
    account: Account = await factory.account()
    for hours, rate in ((0, 500_000), (5, 900_000)):
        await Price.create(
            sku="small", currency="EUR", rate=rate, valid_from=clock.now() + hours * HOUR, set_by="eva"
        )
    days = [clock.now() + hours * HOUR for hours in (-1, 0, 4, 5)]
    assert [await usage.rate_to_save(account.id, "small", at=day) for day in days] == [
        0,
        500_000,
        500_000,
        900_000,
    ]
    assert await usage.rate_to_save(account.id, "large", at=days[-1]) == 0


@on_both
async def test_it_is_part_of_its_transaction(clock: ManualClock, factory: Any) -> None:
    """When the change is rolled back, so is its usage."""
    server = Server(account_id=(await factory.account()).id)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the change fails after its usage was written
        async with in_transaction():
            await usage.follow(server, at=clock.now(), now=clock.now())
            raise ZeroDivisionError
    assert not await UsageInterval.exists()
    assert not await MeteredAccount.exists()
