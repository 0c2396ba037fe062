"""Issuing while the process dies, or the connection fails, at every statement and at every commit."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime
from typing import Any

import pytest
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.sqlite.client import SqliteClient, SqliteTransactionWrapper
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

pytestmark = pytest.mark.nightly


POLICIES = {"standard": Policy(name="standard", stages=())}
FIRST = datetime(2026, 11, 1, tzinfo=UTC)
RATE = 50_000_000
ACCOUNTS = 3


class Died(BaseException):
    """The process is gone: nothing catches it."""


class Failing:
    """Counts the statements and commits of every connection, and fails at the chosen one, before or after it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.at = 0
        self.count = 0
        self.after = False
        self.error: type[BaseException] = Died
        classes = (SqliteClient, SqliteTransactionWrapper, AsyncpgDBClient, TransactionWrapper)
        names = ("execute_insert", "execute_many", "execute_query", "execute_query_dict", "commit")
        for owner in classes:
            for name in names:
                if name in vars(owner):
                    patch.setattr(owner, name, self._wrapped(vars(owner)[name]))

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        async def failing(*given: Any, **more: Any) -> Any:
            self.count += 1
            fails = self.count == self.at
            if fails and not self.after:
                raise self.error("before")
            answer = await real(*given, **more)
            if fails:
                raise self.error("after")
            return answer

        return failing

    def arm(self, at: int, *, after: bool, error: type[BaseException]) -> None:
        """Fail at the n-th statement from now on."""
        self.at, self.after, self.error, self.count = at, after, error, 0

    def disarm(self) -> int:
        """Fail no more; return how many statements there were."""
        self.at = 0
        return self.count


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


async def _months(clock: ManualClock, failing: Failing, error: type[BaseException]) -> int:
    """Let each month's issuing fail at another place, until it gets through; return how many months that took."""
    month, number, months = date(2026, 12, 1), 1, 0
    for after in (False, True):
        number = 1
        while True:
            clock.advance(start_of(month, "UTC") - clock.now())
            failing.arm(number, after=after, error=error)
            with suppress(error):
                await issuing.issue_due(clock, POLICIES)
            reached = failing.disarm()
            await issuing.issue_due(clock, POLICIES)
            month, number, months = following(month), number + 1, months + 1
            if reached < number - 1:
                break
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


@pytest.mark.parametrize("error", [Died, OperationalError])
async def test_it_survives_a_failure_at_every_statement(
    database: str,
    clock: ManualClock,
    factory: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    """Every month is issued once, whole, without a gap in the numbers, wherever the one before broke off."""
    await _servers(factory)
    monkeypatch.setattr(issuing, "TRY_AGAIN", issuing.TRY_AGAIN * 0)
    months = await _months(clock, Failing(monkeypatch), error)
    assert months > 40, "fewer places to fail than there are statements"
    assert await _faults(months) == []
    assert not await WorkItem.exclude(state="RESOLVED").exists()


@asynccontextmanager
async def _no_transaction() -> AsyncIterator[None]:
    yield


async def test_it_would_be_noticed_if_it_were_no_transaction(
    sqlite_database: str, clock: ManualClock, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the one transaction the same failures leave gaps and halves: the test above can fail."""
    await _servers(factory)
    failing = Failing(monkeypatch)
    monkeypatch.setattr(issuing, "in_transaction", _no_transaction)
    assert await _faults(await _months(clock, failing, Died)) != []


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
