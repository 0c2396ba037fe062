"""The monthly invoices: one per account with usage in its past local month, issued once, their numbers without a gap.

The only writer of invoices of origin `USAGE` until they are settled, of their lines, and of how far an account is
invoiced. An account's claim of its month, the number, the invoice, its lines, notice and audit row are one transaction.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from tortoise.expressions import F, Q
from tortoise.transactions import in_transaction

from billing import audit, notices, numbers, work_queue
from billing.clock import Clock
from billing.models import Account, Invoice
from billing.money_models import InvoiceLine, MeteredAccount, UsageInterval
from billing.notice_recheck import INVOICE_ISSUED
from billing.notice_request import NamedServer, NoticeRequest
from billing.rules import due
from billing.rules.metering import Line, elapsed, lines_of
from billing.rules.months import due_day, end_of, following
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.usage import span_of

log = structlog.get_logger(__name__)

ACTOR = "system:issuing"
#: Accounts per transaction: few enough that nobody waits long for the numbers, enough that reading them is cheap.
PAGE = 50
#: When an account whose invoice could not be made is tried again; the others go on.
TRY_AGAIN = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Issued:
    """What one turn did: ids of the new invoices, of the accounts that got them, and how many months it looked at."""

    invoice_ids: tuple[int, ...] = ()
    account_ids: frozenset[int] = frozenset()
    looked_at: int = 0

    def __add__(self, other: "Issued") -> "Issued":
        """Return both turns as one."""
        return Issued(
            invoice_ids=self.invoice_ids + other.invoice_ids,
            account_ids=self.account_ids | other.account_ids,
            looked_at=self.looked_at + other.looked_at,
        )


@dataclass(frozen=True, kw_only=True)
class _Month:
    """One claimed month of one account, and what is to be issued for it."""

    account: Account
    since: datetime
    until: datetime
    currency: str
    lines: tuple[Line, ...]

    @property
    def total(self) -> int:
        """What the lines come to."""
        return sum(line.amount for line in self.lines)


async def issue_due(clock: Clock, policies: Mapping[str, Policy], *, limit: int = 1_000) -> Issued:
    """Issue the invoices of at most `limit` ended months, oldest first; missed months are caught up one by one.

    A month in which nothing was used, or too little to pay anything, gets no invoice. An account that cannot be
    invoiced becomes a work item and is tried again later. Any number of processes may do this at once. Never call
    it inside a transaction; call it again while `looked_at` reaches the limit, and settle the accounts that it names.
    """
    done = Issued()
    while done.looked_at < limit:
        rows = MeteredAccount.filter(due_at__lte=clock.now()).order_by("due_at", "account_id")
        ids: Sequence[int] = await rows.limit(min(PAGE, limit - done.looked_at)).values_list(
            "account_id", flat=True
        )  # type: ignore[assignment]
        if not ids:
            break
        done += await _issue_somehow(ids, policies, clock.now())
    return done


async def recompute(invoice: Invoice) -> tuple[Line, ...]:
    """Return the lines of a monthly invoice anew from the usage: to the cent what it was issued with."""
    if invoice.period_start is None or invoice.period_end is None:
        raise ValueError(f"invoice {invoice.id} has no period: it was not issued from usage")
    spans = await _spans([invoice.account_id], invoice.period_start, invoice.period_end)
    return lines_of(map(span_of, spans), invoice.period_start, invoice.period_end)


async def _issue_somehow(ids: Sequence[int], policies: Mapping[str, Policy], now: datetime) -> Issued:
    """Issue a page at once; where that fails, account by account, so that one keeps no other waiting."""
    try:
        return await _issue(ids, policies, now)
    except Exception as error:
        if len(ids) > 1:
            log.warning("invoices.page_failed", accounts=len(ids), error=type(error).__name__)
            turns = [await _issue_somehow([account_id], policies, now) for account_id in ids]
            return sum(turns, Issued())
        log.exception("invoice.not_issued", account=ids[0])
        await _put_off(ids[0], type(error).__name__, now)
        return Issued(looked_at=1)


async def try_now(account_id: int, now: datetime) -> bool:
    """Let an invoice that could not be issued be tried at the next turn; return whether one waits."""
    return bool(await MeteredAccount.filter(account_id=account_id, due_at__gt=now).update(due_at=now))


async def _put_off(account_id: int, problem: str, now: datetime) -> None:
    async with in_transaction():
        await MeteredAccount.filter(account_id=account_id).update(due_at=now + TRY_AGAIN)
        await work_queue.open_item(
            "invoice_not_issued",
            f"invoice_not_issued:{account_id}",
            at=now,
            title="A monthly invoice could not be issued",
            detail=f"{problem}; the log says where. It is tried again every hour, and nothing is lost meanwhile.",
            account_id=account_id,
        )


async def _issue(ids: Sequence[int], policies: Mapping[str, Policy], now: datetime) -> Issued:
    async with in_transaction():
        months = await _claim(ids, now)
        months = [month for month in months if month.total > 0]
        if not months:
            return Issued(looked_at=len(ids))
        invoices = await _create(months, policies, now)
        accounts = frozenset(month.account.id for month in months)
        await Account.filter(id__in=accounts).update(facts_version=F("facts_version") + 1, next_change_at=now)
        for month, invoice in zip(months, invoices, strict=True):
            await _tell(month, invoice, now)
        return Issued(
            invoice_ids=tuple(invoice.id for invoice in invoices), account_ids=accounts, looked_at=len(ids)
        )


async def _claim(ids: Sequence[int], now: datetime) -> list[_Month]:
    """Take the oldest ended month of each account, if nobody else did, and return what was used in it.

    The accounts' rows are written first, in one order: what changes usage does the same, so that nothing is changed
    between the reading of a month and its invoice.
    """
    for account_id in sorted(ids):
        await Account.filter(id=account_id).update(facts_version=F("facts_version"))
    accounts = await Account.in_bulk(ids, "id")
    claimed: dict[int, tuple[datetime, datetime]] = {}
    for row in await MeteredAccount.filter(account_id__in=ids, due_at__lte=now).order_by("account_id"):
        zone = accounts[row.account_id].time_zone
        until = end_of(row.month, zone)
        if until > now:  # the account moved to another zone: its month ends later there
            await MeteredAccount.filter(id=row.id, month=row.month).update(due_at=until)
            continue
        upcoming = following(row.month)
        moved = await MeteredAccount.filter(id=row.id, month=row.month).update(
            month=upcoming, invoiced_until=until, due_at=end_of(upcoming, zone)
        )
        if moved:
            claimed[row.account_id] = (row.invoiced_until, until)
    return await _months(claimed, accounts)


async def _months(
    claimed: Mapping[int, tuple[datetime, datetime]], accounts: Mapping[int, Account]
) -> list[_Month]:
    if not claimed:
        return []
    earliest = min(since for since, _ in claimed.values())
    latest = max(until for _, until in claimed.values())
    by_account: dict[int, list[UsageInterval]] = defaultdict(list)
    for row in await _spans(claimed, earliest, latest):
        by_account[row.account_id].append(row)
    found = []
    for account_id, rows in sorted(by_account.items()):
        since, until = claimed[account_id]
        spans = [(row.currency, span_of(row)) for row in rows]
        currencies = {currency for currency, span in spans if elapsed(span, since, until)}
        if len(currencies) > 1:
            raise ValueError(f"account {account_id} has usage in {', '.join(sorted(currencies))}")
        if not currencies:
            continue
        found.append(
            _Month(
                account=accounts[account_id],
                since=since,
                until=until,
                currency=currencies.pop(),
                lines=lines_of((span for _, span in spans), since, until),
            )
        )
    return found


async def _spans(account_ids: Iterable[int], since: datetime, until: datetime) -> list[UsageInterval]:
    runs_into = Q(ended_at=None) | Q(ended_at__gt=since)
    return await UsageInterval.filter(
        runs_into, account_id__in=list(account_ids), started_at__lt=until
    ).order_by("id")


async def _create(months: Sequence[_Month], policies: Mapping[str, Policy], now: datetime) -> list[Invoice]:
    """Write the invoices of a page with their lines; return them in the order of the months."""
    by_year: dict[int, list[_Month]] = defaultdict(list)
    for month in months:
        by_year[due.local_day(now, month.account.time_zone).year].append(month)
    numbered: dict[int, str] = {}
    for year, of_year in sorted(by_year.items()):
        taken = await numbers.take(year, len(of_year))
        numbered |= {month.account.id: number for month, number in zip(of_year, taken, strict=True)}
    await Invoice.bulk_create(
        [_invoice(month, numbered[month.account.id], policies, now) for month in months]
    )
    rows = Invoice.filter(origin=InvoiceOrigin.USAGE, number__in=list(numbered.values()))
    invoices = {row.account_id: row for row in await rows}
    ordered = [invoices[month.account.id] for month in months]
    await InvoiceLine.bulk_create(
        [_line(invoice, line) for invoice, month in zip(ordered, months, strict=True) for line in month.lines]
    )
    return ordered


def _invoice(month: _Month, number: str, policies: Mapping[str, Policy], now: datetime) -> Invoice:
    account = month.account
    policy = policies.get(account.policy) or policies["standard"]
    due_on = due_day(now, policy.billing.payment_term, account.time_zone)
    return Invoice(
        account_id=account.id,
        origin=InvoiceOrigin.USAGE,
        status=InvoiceStatus.OPEN,
        number=number,
        currency=month.currency,
        total=month.total,
        amount_due=month.total,
        issued_at=now,
        due_on=due_on,
        due_zone=account.time_zone,
        overdue_at=due.overdue_at(due_on=due_on, zone=account.time_zone),
        period_start=month.since,
        period_end=month.until,
    )


def _line(invoice: Invoice, line: Line) -> InvoiceLine:
    return InvoiceLine(
        invoice_id=invoice.id,
        server_id=line.server_id,
        sku=line.sku,
        description=f"{line.server_name} ({line.sku})",
        seconds=line.seconds,
        rate=line.rate,
        amount=line.amount,
    )


async def _tell(month: _Month, invoice: Invoice, now: datetime) -> None:
    """Queue the customer's mail and write the audit row; nothing is left to do for a person."""
    names = {line.server_id: line.server_name for line in month.lines}
    await notices.queue(
        NoticeRequest(
            account=month.account,
            template=INVOICE_ISSUED,
            dedupe_key=f"{INVOICE_ISSUED}:{invoice.id}",
            invoices=[invoice],
            servers=[NamedServer(id=server_id, name=name) for server_id, name in names.items()],
        ),
        now=now,
    )
    await audit.record(
        "invoice.issued",
        ("Invoice", invoice.id),
        at=now,
        actor=ACTOR,
        reason=f"usage from {month.since:%Y-%m-%d %H:%M} to {month.until:%Y-%m-%d %H:%M} UTC",
        account_id=month.account.id,
        after={"number": invoice.number, "total": invoice.total, "currency": invoice.currency},
    )
    await work_queue.resolve(
        f"invoice_not_issued:{month.account.id}", at=now, by=ACTOR, resolution="it was issued"
    )
