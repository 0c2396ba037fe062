"""Several processes issue the same months at once, on PostgreSQL, while usage goes on changing."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from api.database import open_database
from billing import issuing
from billing.clock import ManualClock
from billing.models import Account, Invoice, Notice
from billing.money_models import InvoiceLine, MeteredAccount, UsageInterval
from billing.rules.policy import Policy

pytestmark = pytest.mark.postgres
nightly = pytest.mark.nightly

ACCOUNTS, PROCESSES = 50, 4
MONTHS = 3
START = datetime(2026, 11, 1, tzinfo=UTC)
POLICIES = {"standard": Policy(name="standard", stages=())}


async def _race(url: str, *parts: str, accounts: int = ACCOUNTS) -> list[str]:
    """Let one process per part begin at the same moment; return what they said on standard error."""
    async with open_database(url):
        for number in range(1, accounts + 1):
            account = await Account.create(
                external_id=f"c-{number}", name="C", email="c@example.org", currency="EUR", created_at=START
            )
            await MeteredAccount.create(
                account=account,
                month=START.date(),
                invoiced_until=START,
                due_at=datetime(2026, 12, 1, tzinfo=UTC),
            )
            for server in (2 * number, 2 * number + 1):
                await UsageInterval.create(
                    account=account, server_id=server, server_name="web", sku="small", currency="EUR",
                    rate=50_000_000, started_at=START,
                )  # fmt: skip
    return _run(url, parts)


def _run(url: str, parts: Sequence[str]) -> list[str]:
    program = Path(__file__).parent / "issue_in_process.py"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [
        subprocess.Popen([sys.executable, str(program), url, what, str(seed)], text=True, **pipes)
        for seed, what in enumerate(parts)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(parts), "\n".join(said)
    return said


async def _gaps_and_doubles(accounts: int) -> list[str]:
    rows = await Invoice.all().order_by("number")
    wanted = [f"2027-{number:06d}" for number in range(1, accounts * MONTHS + 1)]
    months = Counter((row.account_id, row.period_start) for row in rows)
    return [
        *(f"double {what}" for what, count in months.items() if count != 1),
        *sorted(set(wanted) ^ {row.number or "" for row in rows}),
    ]


@pytest.mark.parametrize("part", ["issue", "share"])
@pytest.mark.parametrize("accounts", [10, pytest.param(ACCOUNTS, marks=nightly)])
async def test_it_issues_each_month_once_from_four_processes(
    postgres_url: str, part: str, accounts: int, told_rounds: Callable[[int, int], None]
) -> None:
    """Accounts, three months, four processes, all over each other or side by side: no double and no gap."""
    told_rounds(accounts * MONTHS, PROCESSES)
    await _race(postgres_url, *[part] * PROCESSES, accounts=accounts)
    async with open_database(postgres_url):
        assert await _gaps_and_doubles(accounts) == []
        assert await Notice.all().count() == accounts * MONTHS
        assert await InvoiceLine.all().count() == 2 * accounts * MONTHS
        assert {row.total for row in await Invoice.all()} == {2 * days * 24 * 50 for days in (30, 31)}
        assert set(await MeteredAccount.all().values_list("month", flat=True)) == {date(2027, 2, 1)}


@nightly
async def test_it_bills_what_the_usage_says_while_that_changes(postgres_url: str) -> None:
    """News told late in the same moment change what is not invoiced yet, and nothing that is."""
    await _race(postgres_url, "change", "issue", "change", "issue")
    async with open_database(postgres_url):
        await issuing.issue_due(ManualClock(datetime(2027, 3, 1, tzinfo=UTC)), POLICIES)
        invoices = await Invoice.all()
        assert len({(row.account_id, row.period_start) for row in invoices}) == len(invoices)
        for invoice in invoices:
            issued = [
                (row.server_id, row.rate, row.seconds, row.amount)
                for row in await InvoiceLine.filter(invoice_id=invoice.id).order_by("id")
            ]
            again = [
                (line.server_id, line.rate, line.seconds, line.amount)
                for line in await issuing.recompute(invoice)
            ]
            assert issued == again
            assert invoice.total == sum(amount for *_, amount in issued)
        spans = await UsageInterval.all().order_by("server_id", "started_at", "id")
        for one, other in pairwise(spans):
            if one.server_id == other.server_id:
                assert one.ended_at is not None
                assert one.ended_at <= other.started_at


@nightly
async def test_it_would_be_noticed_if_numbers_were_taken_naively(postgres_url: str) -> None:
    """With a read and a later write of the next number, the same race does not come out clean."""
    with pytest.raises(AssertionError, match=r"duplicate key|IntegrityError"):
        await _race(postgres_url, *["share_naively"] * PROCESSES, accounts=8)
