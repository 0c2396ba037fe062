"""The monthly invoices."""

import random
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from tortoise.exceptions import BaseORMException
from tortoise.transactions import in_transaction

from billing import issuing, usage
from billing.clock import ManualClock
from billing.mail import SmtpMailer
from billing.models import Account, AuditEntry, Invoice, Notice, WorkItem, WorkState
from billing.money_models import InvoiceLine, MeteredAccount, NumberSeries, UsageInterval
from billing.notices import deliver_due
from billing.rules.metering import Line, amount_of
from billing.rules.policy import BillingPolicy, Policy
from billing.rules.terms import InvoiceOrigin, InvoiceStatus, NoticeState

on_both = pytest.mark.usefixtures("database")
on_sqlite = pytest.mark.usefixtures("sqlite_database")

HOUR = timedelta(hours=1)
#: The end of November in Berlin.
MONTH_END = datetime(2026, 11, 30, 23, tzinfo=UTC)
POLICIES = {
    "standard": Policy(name="standard", stages=()),
    "patient": Policy(name="patient", stages=(), billing=BillingPolicy(payment_term=timedelta(days=30))),
}


@dataclass(kw_only=True)
class Server:
    """What usage knows of a server."""

    account_id: int
    id: int = 1
    name: str = "web"
    sku: str = "small"
    rate: int = 50_000_000  # 0.50 EUR an hour
    free: bool = False
    stripe_subscription_id: str | None = None
    deployed_at: datetime | None = datetime(2026, 1, 1, tzinfo=UTC)
    retired_at: datetime | None = None
    missing_since: datetime | None = None


async def _run(server: Server, since: datetime, until: datetime | None = None) -> None:
    async with in_transaction():
        await usage.follow(server, at=since, now=since)
        if until is not None:
            await usage.follow(replace(server, retired_at=until), at=until, now=until)


def _to(clock: ManualClock, instant: datetime) -> None:
    clock.advance(instant - clock.now())


async def _lines(invoice: Invoice) -> tuple[Line, ...]:
    return tuple(
        Line(
            server_id=row.server_id or 0,
            server_name=row.description.split(" (")[0],
            sku=row.sku or "",
            rate=row.rate or 0,
            seconds=row.seconds or 0,
            amount=row.amount,
        )
        for row in await InvoiceLine.filter(invoice_id=invoice.id).order_by("id")
    )


@on_both
async def test_it_issues_on_the_first_of_the_accounts_month(clock: ManualClock, factory: Any) -> None:
    """Not a second before midnight there; then with everything that an invoice needs."""
    account = await factory.account()
    await _run(Server(account_id=account.id), clock.now())
    _to(clock, MONTH_END - timedelta(seconds=1))
    assert await issuing.issue_due(clock, POLICIES) == issuing.Issued()
    clock.advance(timedelta(seconds=1))
    done = await issuing.issue_due(clock, POLICIES)
    invoice = await Invoice.get()
    assert (done.invoice_ids, done.account_ids) == ((invoice.id,), {account.id})
    hours = 10 * 24 + 14  # from the 20th, 10:00 in Berlin
    assert (invoice.account_id, invoice.origin, invoice.status) == (
        account.id,
        InvoiceOrigin.USAGE,
        InvoiceStatus.OPEN,
    )
    assert (invoice.number, invoice.currency) == ("2026-000001", "EUR")
    assert invoice.total == invoice.amount_due == hours * 50
    assert invoice.amount_paid == 0
    assert invoice.issued_at == MONTH_END
    assert (invoice.period_start, invoice.period_end) == (datetime(2026, 10, 31, 23, tzinfo=UTC), MONTH_END)
    assert (invoice.due_on, invoice.due_zone) == (date(2026, 12, 15), "Europe/Berlin")
    assert invoice.overdue_at == datetime(2026, 12, 15, 23, tzinfo=UTC)
    [line] = await InvoiceLine.all()
    assert (line.server_id, line.sku, line.seconds, line.rate) == (1, "small", hours * 3_600, 50_000_000)
    assert (line.amount, line.description) == (invoice.total, "web (small)")


@on_sqlite
async def test_it_issues_a_month_once(clock: ManualClock, factory: Any) -> None:
    """Asked again in the same month, nothing happens; a month later the next one follows."""
    await _run(Server(account_id=(await factory.account()).id), clock.now())
    _to(clock, MONTH_END)
    for _ in range(3):
        await issuing.issue_due(clock, POLICIES)
        clock.advance(timedelta(days=3))
    assert await Invoice.all().count() == 1
    _to(clock, datetime(2026, 12, 31, 23, tzinfo=UTC))
    await issuing.issue_due(clock, POLICIES)
    first, second = await Invoice.all().order_by("id")
    assert first.period_end == second.period_start
    # The day of issue is in the new year, and so is the number.
    assert [first.number, second.number] == ["2026-000001", "2027-000001"]


@on_both
async def test_it_catches_up_what_was_missed_oldest_first(clock: ManualClock, factory: Any) -> None:
    """Three months without us become three invoices, each with its own hours, due from today."""
    account = await factory.account(time_zone="UTC")
    await _run(Server(account_id=account.id), datetime(2026, 11, 1, tzinfo=UTC))
    _to(clock, datetime(2027, 2, 3, 12, tzinfo=UTC))
    done = await issuing.issue_due(clock, POLICIES)
    rows = await Invoice.all().order_by("id")
    assert [row.id for row in rows] == list(done.invoice_ids)
    assert [row.number for row in rows] == ["2027-000001", "2027-000002", "2027-000003"]
    assert [row.total for row in rows] == [days * 24 * 50 for days in (30, 31, 31)]
    assert [str(row.period_start)[:7] for row in rows] == ["2026-11", "2026-12", "2027-01"]
    assert {row.due_on for row in rows} == {date(2027, 2, 17)}


@on_sqlite
async def test_it_puts_each_server_and_rate_on_a_line(clock: ManualClock, factory: Any) -> None:
    """Sums of rounded lines, so that the lines add up to the total."""
    account = await factory.account()
    start = clock.now()
    await _run(Server(account_id=account.id, rate=500_000), start, start + HOUR)
    await _run(Server(account_id=account.id, rate=499_999), start + HOUR, start + 2 * HOUR)
    await _run(Server(account_id=account.id, id=2, name="db", sku="large"), start, start + 3 * HOUR)
    _to(clock, MONTH_END)
    await issuing.issue_due(clock, POLICIES)
    invoice = await Invoice.get()
    lines = await _lines(invoice)
    assert [(line.server_name, line.sku, line.seconds, line.amount) for line in lines] == [
        ("web", "small", 3_600, 1),
        ("web", "small", 3_600, 0),
        ("db", "large", 3 * 3_600, 150),
    ]
    assert invoice.total == 151


@pytest.mark.parametrize(
    ("currency", "rate", "total"), [("JPY", 12_345_678, 8_889), ("KWD", 12_345_678, 8_889), ("EUR", 1, 0)]
)
@on_sqlite
async def test_it_counts_in_the_smallest_unit_of_every_currency(
    clock: ManualClock, factory: Any, currency: str, rate: int, total: int
) -> None:
    """Without decimals, with three; a total of nothing is no invoice, and its month is over."""
    account = await factory.account(currency=currency, time_zone="UTC")
    await _run(Server(account_id=account.id, rate=rate), datetime(2026, 11, 1, tzinfo=UTC))
    _to(clock, datetime(2026, 12, 1, tzinfo=UTC))
    await issuing.issue_due(clock, POLICIES)
    assert amount_of(720 * 3_600, rate) == total
    assert [(row.total, row.currency) for row in await Invoice.all()] == (
        [(total, currency)] if total else []
    )
    assert str((await MeteredAccount.get()).month) == "2026-12-01"
    assert await NumberSeries.exists() is bool(total)


@on_sqlite
async def test_it_passes_over_months_without_usage(clock: ManualClock, factory: Any) -> None:
    """No invoice, no number, no mail; a later month with usage has its own."""
    account = await factory.account(time_zone="UTC")
    server = Server(account_id=account.id)
    await _run(server, clock.now(), clock.now() + HOUR)
    _to(clock, datetime(2027, 3, 1, tzinfo=UTC))
    await issuing.issue_due(clock, POLICIES)
    await _run(replace(server, id=2), clock.now(), clock.now() + HOUR)
    _to(clock, datetime(2027, 4, 1, tzinfo=UTC))
    await issuing.issue_due(clock, POLICIES)
    assert [str(row.period_start)[:7] for row in await Invoice.all().order_by("id")] == ["2026-11", "2027-03"]
    assert await Notice.all().count() == 2


@on_sqlite
async def test_it_gives_the_term_of_the_accounts_policy(clock: ManualClock, factory: Any) -> None:
    """One that is gone counts as the standard one."""
    for policy in ("patient", "gone"):
        await _run(Server(account_id=(await factory.account(policy=policy)).id, id=len(policy)), clock.now())
    _to(clock, MONTH_END)
    await issuing.issue_due(clock, POLICIES)
    rows = await Invoice.all().order_by("account_id")
    assert [row.due_on for row in rows] == [date(2026, 12, 31), date(2026, 12, 15)]


@on_both
async def test_it_numbers_without_a_gap(clock: ManualClock, factory: Any) -> None:
    """Over more accounts than fit on a page, in one turn and with a limit, in each series."""
    for number in range(issuing.PAGE + 7):
        zone = "Pacific/Kiritimati" if number % 3 else "America/Los_Angeles"
        account = await factory.account(time_zone=zone)
        await _run(Server(account_id=account.id, id=number), datetime(2026, 12, 5, tzinfo=UTC))
    _to(clock, datetime(2027, 1, 1, 12, tzinfo=UTC))
    first = await issuing.issue_due(clock, POLICIES, limit=20)
    assert first.looked_at == len(first.invoice_ids) == 20
    await issuing.issue_due(clock, POLICIES)
    rows = await Invoice.all().order_by("number")
    assert [row.number for row in rows] == [f"2027-{number:06d}" for number in range(1, issuing.PAGE + 8)]


@on_both
async def test_it_can_be_computed_again(clock: ManualClock, factory: Any) -> None:
    """From the intervals, to the cent, whatever was told afterwards."""
    account = await factory.account()
    start = clock.now()
    server = Server(account_id=account.id, rate=777_777)
    await _run(server, start)
    await _run(Server(account_id=account.id, id=2, rate=1_234_567), start + 7 * timedelta(minutes=13))
    await _run(replace(server, rate=999_999), start + timedelta(days=3, microseconds=1))
    _to(clock, MONTH_END)
    await issuing.issue_due(clock, POLICIES)
    invoice = await Invoice.get()
    issued = await _lines(invoice)
    assert len(issued) == 3
    assert await issuing.recompute(invoice) == issued
    async with in_transaction():
        late = replace(server, missing_since=clock.now())
        await usage.follow(late, at=start + timedelta(days=1), now=clock.now() + HOUR)
    await _run(Server(account_id=account.id, id=3), start)
    assert await issuing.recompute(invoice) == issued
    assert invoice.total == sum(line.amount for line in issued)
    with pytest.raises(ValueError, match="no period"):
        await issuing.recompute(await factory.invoice(account))


@on_sqlite
async def test_it_leaves_out_no_second_when_the_account_changes_its_zone(
    clock: ManualClock, factory: Any
) -> None:
    """The months still follow on each other, named as before, whether they become longer or shorter."""
    account = await factory.account(time_zone="Europe/Berlin")
    await _run(Server(account_id=account.id), datetime(2026, 10, 31, 23, tzinfo=UTC))
    zones = ["America/Los_Angeles", "Pacific/Kiritimati", "Europe/Berlin"]
    for zone, until in zip(zones, [(12, 1, 8), (12, 31, 10), (1, 31, 23)], strict=True):
        await Account.filter(id=account.id).update(time_zone=zone)
        end = datetime(2027 if until[0] == 1 else 2026, *until, tzinfo=UTC)
        _to(clock, max(end - HOUR, clock.now()))
        await issuing.issue_due(clock, POLICIES)
        _to(clock, end + timedelta(days=1))
        await issuing.issue_due(clock, POLICIES)
    rows = await Invoice.all().order_by("id")
    ends = [
        datetime(2026, 12, 1, 8, tzinfo=UTC),
        datetime(2026, 12, 31, 10, tzinfo=UTC),
        datetime(2027, 1, 31, 23, tzinfo=UTC),
    ]
    assert [row.period_end for row in rows] == ends
    assert [row.period_start for row in rows] == [datetime(2026, 10, 31, 23, tzinfo=UTC), *ends[:-1]]
    assert sum(row.total for row in rows) == (ends[-1] - datetime(2026, 10, 31, 23, tzinfo=UTC)) // HOUR * 50


@on_sqlite
async def test_it_is_a_fact_of_the_account(clock: ManualClock, factory: Any) -> None:
    """The account is looked at anew, and one audit row says what was issued."""
    account = await factory.account(next_change_at=None)
    idle = await factory.account(next_change_at=None)
    await _run(Server(account_id=account.id), clock.now())
    await _run(Server(account_id=idle.id, id=2, rate=1), clock.now())
    _to(clock, MONTH_END)
    await issuing.issue_due(clock, POLICIES)
    after = await Account.get(id=account.id)
    assert (after.facts_version, after.next_change_at) == (account.facts_version + 1, MONTH_END)
    assert (await Account.get(id=idle.id)).facts_version == idle.facts_version
    row = await AuditEntry.get(kind="invoice.issued")
    assert (row.actor, row.account_id, row.subject_id) == (
        issuing.ACTOR,
        account.id,
        str((await Invoice.get()).id),
    )
    assert '"number": "2026-000001"' in (row.after or "")


@pytest.mark.parametrize(
    ("status", "sent"), [(InvoiceStatus.OPEN, True), (InvoiceStatus.PAID, True), (InvoiceStatus.VOID, False)]
)
@on_sqlite
async def test_it_mails_the_invoice(
    clock: ManualClock, factory: Any, postbox: Any, status: InvoiceStatus, sent: bool
) -> None:
    """Also when a card has paid it before the mail went out; not when it was taken back."""
    account = await factory.account(name="Ada", locale="en")
    await _run(Server(account_id=account.id), clock.now())
    _to(clock, MONTH_END)
    await issuing.issue_due(clock, POLICIES)
    await Invoice.all().update(status=status, amount_due=0 if status != InvoiceStatus.OPEN else 12_700)
    mailer = SmtpMailer(postbox.url, "billing@hoster.example", patience=60)
    assert await deliver_due(clock, mailer, None, rng=random.Random(1)) == int(sent)
    notice = await Notice.get()
    assert (notice.state is NoticeState.DELIVERED) is sent
    assert (notice.stage, notice.episode_id, notice.template) == (None, None, "invoice_issued")
    assert [letter["Subject"] for letter in postbox.letters] == ["Your invoice 2026-000001: €127.00"] * sent
    assert ["15 December 2026" in letter.get_content() for letter in postbox.letters] == [True] * sent


@on_both
async def test_it_keeps_nobody_waiting_for_an_account_in_trouble(clock: ManualClock, factory: Any) -> None:
    """The others are issued, without a gap; a person is asked, and once it is mended its invoice follows."""
    accounts = [await factory.account() for _ in range(4)]
    for account in accounts:
        await _run(Server(account_id=account.id, id=account.id), clock.now())
    await Account.filter(id=accounts[1].id).update(time_zone="Nowhere/Atlantis")
    _to(clock, MONTH_END)
    done = await issuing.issue_due(clock, POLICIES)
    assert done.account_ids == {accounts[0].id, accounts[2].id, accounts[3].id}
    item = await WorkItem.get()
    assert (item.kind, item.account_id, item.state) == ("invoice_not_issued", accounts[1].id, WorkState.OPEN)
    assert await issuing.issue_due(clock, POLICIES) == issuing.Issued()
    await Account.filter(id=accounts[1].id).update(time_zone="Europe/Berlin")
    clock.advance(issuing.TRY_AGAIN)
    await issuing.issue_due(clock, POLICIES)
    numbers = await Invoice.all().order_by("number").values_list("number", flat=True)
    assert numbers == [f"2026-{number:06d}" for number in range(1, 5)]
    assert (await WorkItem.get()).state is WorkState.RESOLVED
    assert {row.period_end for row in await Invoice.all()} == {MONTH_END}


@on_sqlite
async def test_it_never_mixes_currencies(clock: ManualClock, factory: Any) -> None:
    """What should not be there is asked about and not added up."""
    account = await factory.account()
    await _run(Server(account_id=account.id), clock.now(), clock.now() + HOUR)
    await Account.filter(id=account.id).update(currency="USD")
    await _run(Server(account_id=account.id, id=2), clock.now())
    _to(clock, MONTH_END)
    await issuing.issue_due(clock, POLICIES)
    assert not await Invoice.exists()
    assert (await WorkItem.get()).kind == "invoice_not_issued"


@on_both
async def test_it_cannot_be_changed_or_deleted(clock: ManualClock, factory: Any) -> None:
    """Neither a line nor the month nor the series, by anybody."""
    await _run(Server(account_id=(await factory.account()).id), clock.now())
    _to(clock, MONTH_END)
    await issuing.issue_due(clock, POLICIES)
    for change in (
        InvoiceLine.all().update(amount=1),
        InvoiceLine.all().delete(),
        Invoice.all().delete(),
        UsageInterval.all().delete(),
        NumberSeries.all().update(next=1),
        MeteredAccount.all().delete(),
    ):
        with pytest.raises(BaseORMException, match=r"never|(?i:foreign key)"):
            await change
