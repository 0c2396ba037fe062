"""Prices."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tortoise.exceptions import BaseORMException

from billing import prices
from billing.clock import ManualClock
from billing.models import AuditEntry
from billing.money_models import Price
from billing.prices import NewPrice
from billing.refusal import RefusalCode, RefusalError

on_both = pytest.mark.usefixtures("database")
on_sqlite = pytest.mark.usefixtures("sqlite_database")

SMALL = NewPrice(sku="small", currency="EUR", rate=684_932, description="Small server")


async def _set(asked: NewPrice, clock: ManualClock) -> Price:
    return await prices.set_price(asked, actor="admin:eva", now=clock.now())


@on_both
async def test_it_is_in_force_from_its_instant_on(clock: ManualClock) -> None:
    """Now by default; a microsecond before, the price before it still is."""
    assert await prices.in_force("small", "EUR", at=clock.now()) is None
    first = await _set(SMALL, clock)
    begins = clock.now() + timedelta(days=3)
    second = await _set(replace(SMALL, rate=700_000, description=None, valid_from=begins), clock)
    assert await prices.in_force("small", "EUR", at=clock.now()) == first
    assert await prices.in_force("small", "EUR", at=begins - timedelta(microseconds=1)) == first
    assert await prices.in_force("small", "EUR", at=begins) == second
    assert second.description == "Small server"
    assert await prices.in_force("small", "USD", at=begins) is None


@on_sqlite
async def test_it_lists_what_is_in_force(clock: ManualClock) -> None:
    """One price per SKU and currency, by name; those of later are not shown yet."""
    await _set(SMALL, clock)
    await _set(replace(SMALL, sku="large", rate=2_000_000), clock)
    await _set(replace(SMALL, currency="USD", rate=800_000), clock)
    clock.advance(timedelta(days=1))
    await _set(replace(SMALL, rate=690_000), clock)
    await _set(replace(SMALL, rate=1, valid_from=clock.now() + timedelta(days=1)), clock)
    listed = [(row.sku, row.currency, row.rate) for row in await prices.current(at=clock.now())]
    assert listed == [("large", "EUR", 2_000_000), ("small", "EUR", 690_000), ("small", "USD", 800_000)]
    assert [row.sku for row in await prices.current(at=clock.now(), currency="USD")] == ["small"]


@on_sqlite
async def test_it_leaves_an_audit_row(clock: ManualClock) -> None:
    """Who, what, from when; and what it was before."""
    await _set(SMALL, clock)
    clock.advance(timedelta(hours=1))
    price = await _set(replace(SMALL, rate=700_000), clock)
    row = await AuditEntry.get(kind="price.set", subject_id=str(price.id))
    assert row.actor == "admin:eva"
    assert '"hourly": "0.00684932"' in (row.before or "")
    assert '"hourly": "0.007"' in (row.after or "")


@on_both
async def test_it_changes_nothing_when_it_is_told_the_same_again(clock: ManualClock) -> None:
    """Even when its instant is past by then."""
    asked = replace(SMALL, valid_from=clock.now() + timedelta(hours=1))
    first = await _set(asked, clock)
    clock.advance(timedelta(hours=2))
    assert await _set(asked, clock) == first
    assert await Price.all().count() == 1
    assert await AuditEntry.filter(kind="price.set").count() == 1


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"sku": ""}, ("sku",)),
        ({"sku": " small"}, ("sku",)),
        ({"sku": "x" * 101}, ("sku",)),
        ({"description": "a\nb"}, ("description",)),
        ({"currency": "EURO"}, ("hourly", "currency")),
        ({"rate": -1}, ("hourly", "amount")),
        ({"rate": 10**15 + 1}, ("hourly", "amount")),
    ],
)
@on_sqlite
async def test_it_refuses_what_is_no_price(clock: ManualClock, given: dict[str, Any], path: Any) -> None:
    """With the path of the field, and nothing is written."""
    with pytest.raises(RefusalError) as refused:
        await _set(replace(SMALL, **given), clock)
    assert [problem.path for problem in refused.value.problems] == [path]
    assert not await Price.exists()
    assert not await AuditEntry.exists()


@on_both
async def test_it_never_changes_the_past(clock: ManualClock) -> None:
    """Neither by beginning there, nor by another price from an instant that has one, nor by hand."""
    price = await _set(SMALL, clock)
    with pytest.raises(RefusalError) as refused:
        await _set(replace(SMALL, valid_from=clock.now() - timedelta(microseconds=1)), clock)
    assert [problem.path for problem in refused.value.problems] == [("validFrom",)]
    with pytest.raises(RefusalError) as refused:
        await _set(replace(SMALL, rate=1), clock)
    assert [problem.code for problem in refused.value.problems] == [RefusalCode.CONFLICT]
    with pytest.raises(BaseORMException, match="never changed"):
        await Price.filter(id=price.id).update(rate=1)
    assert (await Price.get()).rate == SMALL.rate
