"""How many accounts and servers stand on each stage, and what they owe.

Reads only, in a handful of statements whatever the size of the fleet. The stage is the admitted one of the open
episode: every fall lowers it, so it is the standing as of the last pass.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tortoise.expressions import F
from tortoise.functions import Count, Sum
from tortoise.queryset import QuerySet

from billing.models import Account, Episode, Invoice
from billing.rules.facts import InvoiceFact
from billing.rules.terms import InvoiceStatus, Stage
from reconciler.models import Server

#: Narrows a join to the open episode of the account itself.
_OPEN = {
    "account__episodes__ended_at": None,
    "account__episodes__server_id": None,
    "account__episodes__id__isnull": False,
}
_STAGE = "account__episodes__admitted"


@dataclass(frozen=True, kw_only=True)
class StageTotals:
    """One stage and what stands on it; `debt` is what is overdue, in minor units by currency."""

    stage: Stage
    accounts: int
    servers: int
    debt: Mapping[str, int]


async def totals(now: datetime) -> list[StageTotals]:
    """Return one entry for each stage, the mildest first; servers and debts count with their account's stage."""
    raised = Episode.filter(ended_at=None, server_id=None).exclude(admitted=Stage.CURRENT)
    accounts = Counter(dict(await _counted(raised, "admitted")))
    accounts[Stage.CURRENT] = await Account.all().count() - accounts.total()
    live = Server.filter(retired_at=None)
    servers = Counter(dict(await _counted(live.filter(**_OPEN), _STAGE)))
    servers[Stage.CURRENT] += await live.count() - servers.total()
    debt = await _debt(now)
    return [
        StageTotals(
            stage=stage,
            accounts=accounts[stage],
            servers=servers[stage],
            debt={currency: minor for (of, currency), minor in sorted(debt.items()) if of is stage and minor},
        )
        for stage in Stage
    ]


async def _counted(rows: QuerySet[Episode] | QuerySet[Server], by: str) -> list[tuple[Stage, int]]:
    return await rows.annotate(number=Count("id")).group_by(by).values_list(by, "number")


async def _debt(now: datetime) -> Counter[tuple[Stage, str]]:
    """Return what is overdue by stage and currency; what is disputed beyond the part that was paid is no debt."""
    overdue = Invoice.filter(status=InvoiceStatus.OPEN, amount_due__gt=0, overdue_at__lte=now)
    owed: Counter[tuple[Stage, str]] = Counter()
    columns = (_STAGE, "currency", "account__currency")
    sums = overdue.filter(**_OPEN).annotate(owed=Sum("amount_due")).group_by(*columns)
    for stage, currency, of_account, minor in await sums.values_list(*columns, "owed"):
        if currency == of_account:  # one of another currency is a contradiction, and restricts nobody
            owed[stage, currency] += int(minor)
    everything = overdue.annotate(owed=Sum("amount_due")).group_by(*columns[1:])
    for currency, of_account, minor in await everything.values_list(*columns[1:], "owed"):
        if currency == of_account:
            raised = sum(owed[stage, currency] for stage in Stage if stage is not Stage.CURRENT)
            owed[Stage.CURRENT, currency] = int(minor) - raised
    await _take_off_disputes(owed, overdue)
    return owed


async def _take_off_disputes(owed: Counter[tuple[Stage, str]], overdue: QuerySet[Invoice]) -> None:
    """Correct the sums by the few invoices of which a part is contested."""
    contested = await overdue.filter(disputed_amount__gt=F("amount_paid")).prefetch_related("account")
    episodes = Episode.filter(ended_at=None, server_id=None, account__invoices__disputed_amount__gt=0)
    stages = dict(await episodes.values_list("account_id", "admitted"))
    for row in contested:
        if row.currency != row.account.currency:
            continue
        fact = InvoiceFact(
            id=row.id,
            currency=row.currency,
            amount_due=row.amount_due,
            amount_paid=row.amount_paid,
            disputed_amount=row.disputed_amount,
            overdue_at=row.overdue_at,
            counts_from=row.overdue_seen_at,
        )
        owed[stages.get(row.account_id, Stage.CURRENT), row.currency] -= row.amount_due - fact.owed
