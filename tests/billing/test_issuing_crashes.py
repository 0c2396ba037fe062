"""Issuing while the process dies, or the connection fails, at every statement and at every commit."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime
from typing import Any

import pytest
from tortoise.exceptions import OperationalError
from tortoise.transactions import in_transaction

from billing import issuing
from billing.clock import ManualClock
from billing.models import AuditEntry, Invoice, Notice, WorkItem
from billing.money_models import InvoiceLine, MeteredAccount, UsageInterval
from billing.rules.metering import amount_of
from billing.rules.months import following, start_of
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceStatus

POLICIES = {"standard": Policy(name="standard", stages=())}
FIRST = datetime(2026, 11, 1, tzinfo=UTC)
RATE = 50_000_000
ACCOUNTS = 3


async def _servers(factory: Any) -> None:
    """Servers that run for ever, one per account."""
    for number in range(1, ACCOUNTS + 1):
        account = await factory.account(time_zone="UTC")
        await MeteredAccount.create(
            account=account,
            month=FIRST.date(),
            invoiced_until=FIRST,
            due_at=start_of(date(2026, 12, 1), "UTC"),
        )
        await UsageInterval.create(
            account=account, server_id=number, server_name="web", sku="small", currency="EUR", rate=RATE,
            started_at=FIRST,
        )  # fmt: skip


async def _months(clock: ManualClock, deaths: Any, *, every: int) -> int:
    """Let each month's issuing fail at another place, until it gets through; return how many months that took."""
    month, months = date(2026, 12, 1), 0
    for place in deaths.places(every=every):
        clock.advance(start_of(month, "UTC") - clock.now())
        deaths.arm(place)
        with suppress(deaths.error):
            await issuing.issue_due(clock, POLICIES)
        deaths.disarm()
        await issuing.issue_due(clock, POLICIES)
        month, months = following(month), months + 1
    return months


async def _faults(months: int) -> list[str]:
    """Return everything that is wrong with what was issued."""
    rows = await Invoice.all().order_by("number")
    found = []
    if len(rows) != ACCOUNTS * months:
        found.append(f"{len(rows)} invoices for {ACCOUNTS} accounts and {months} months")
    doubles = Counter((row.account_id, row.period_start) for row in rows)
    found += [f"{count} invoices of {what}" for what, count in doubles.items() if count > 1]
    series: dict[str, list[int]] = {}
    for row in rows:
        year, _, number = (row.number or "").partition("-")
        series.setdefault(year, []).append(int(number))
    found += [f"gap in {year}" for year, taken in series.items() if taken != list(range(1, len(taken) + 1))]
    for row in rows:
        lines = await InvoiceLine.filter(invoice_id=row.id)
        hours = ((row.period_end or FIRST) - (row.period_start or FIRST)).total_seconds()
        if [line.amount for line in lines] != [row.total] or row.total != amount_of(int(hours), RATE):
            found.append(f"lines of {row.number}")
    for kind, count in (
        ("notices", await Notice.all().count()),
        ("audit rows", await AuditEntry.filter(kind="invoice.issued").count()),
    ):
        if count != len(rows):
            found.append(f"{count} {kind}")
    return found


@pytest.mark.parametrize("error", [None, OperationalError], ids=["dies", "fails"])
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.nightly)], ids=["some", "all"])
async def test_it_survives_a_failure_at_every_statement(
    database: str,
    clock: ManualClock,
    factory: Any,
    deaths: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException] | None,
    every: int,
) -> None:
    """Every month is issued once, whole, without a gap in the numbers, wherever the one before broke off."""
    await _servers(factory)
    monkeypatch.setattr(issuing, "TRY_AGAIN", issuing.TRY_AGAIN * 0)
    deaths.error = error or deaths.Died
    months = await _months(clock, deaths, every=every)
    assert {"commit", "execute_query", "execute_many"} <= deaths.reached
    assert await _faults(months) == []
    assert not await WorkItem.exclude(state="RESOLVED").exists()


@asynccontextmanager
async def _no_transaction() -> AsyncIterator[None]:
    yield


async def test_it_would_be_noticed_if_it_were_no_transaction(
    sqlite_database: str, clock: ManualClock, factory: Any, deaths: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the one transaction the same failures leave gaps and halves: the test above can fail."""
    await _servers(factory)
    monkeypatch.setattr(issuing, "in_transaction", _no_transaction)
    assert await _faults(await _months(clock, deaths, every=3)) != []


async def test_it_leaves_the_claim_to_whoever_was_first(
    database: str, clock: ManualClock, factory: Any
) -> None:
    """A month that was issued between the reading of what is due and its claim is not issued again."""
    await _servers(factory)
    clock.advance(start_of(date(2026, 12, 1), "UTC") - clock.now())
    ids = [row.account_id for row in await MeteredAccount.all()]
    await issuing.issue_due(clock, POLICIES)
    assert await issuing._issue(ids, POLICIES, clock.now()) == issuing.Issued(looked_at=ACCOUNTS)
    assert await Invoice.filter(status=InvoiceStatus.OPEN).count() == ACCOUNTS
    async with in_transaction():  # and the lock is free again
        await MeteredAccount.filter(account_id=ids[0]).update(due_at=clock.now())
