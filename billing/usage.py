"""Usage: in which spans which server cost its account which rate.

The only writer of `usage_interval`. Level, not edge: it is told what a server is from an instant on and opens or
closes what differs, inside the caller's transaction. What has been invoiced never changes: late news holds from
there on.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from tortoise.expressions import F

from billing.models import Account
from billing.money_models import MeteredAccount, UsageInterval
from billing.prices import in_force
from billing.rules.metering import Span
from billing.rules.months import end_of, month_of, start_of


class Ended(StrEnum):
    """Why an interval ended."""

    RETIRED = "retired"
    MISSING = "missing"
    FAILED = "failed"
    FREE = "free"
    SUBSCRIBED = "subscribed"
    HELD = "held"
    TRANSFERRED = "transferred"
    RESIZED = "resized"


class MeteredServer(Protocol):
    """What usage has to know of a server."""

    id: int
    account_id: int
    name: str
    sku: str
    rate: int
    free: bool
    stripe_subscription_id: str | None
    deployed_at: datetime | None
    retired_at: datetime | None
    missing_since: datetime | None


async def rate_to_save(account_id: int, sku: str, *, at: datetime) -> int:
    """Return the rate that a server deployed or resized at an instant keeps: the price then, 0 where there was none."""
    account = await Account.get(id=account_id).only("id", "currency")
    price = await in_force(sku, account.currency, at=at)
    return price.rate if price else 0


async def running(server_ids: Iterable[int]) -> frozenset[int]:
    """Return those of the servers whose hours run."""
    rows = UsageInterval.filter(server_id__in=list(server_ids), ended_at=None)
    return frozenset(await rows.values_list("server_id", flat=True))  # type: ignore[arg-type]


def span_of(interval: UsageInterval) -> Span:
    """Return an interval as the rules of metering take it."""
    return Span(
        server_id=interval.server_id,
        server_name=interval.server_name,
        sku=interval.sku,
        rate=interval.rate,
        started_at=interval.started_at,
        ended_at=interval.ended_at,
    )


def stands_against(server: MeteredServer, *, failed: bool = False, held: bool = False) -> Ended | None:
    """Return why no hours run for a server as it is; null when they do."""
    reasons = {
        Ended.RETIRED: server.retired_at is not None,
        Ended.MISSING: server.missing_since is not None,
        Ended.FAILED: failed or server.deployed_at is None,
        Ended.FREE: server.free,
        Ended.SUBSCRIBED: server.stripe_subscription_id is not None,
        Ended.RESIZED: server.rate == 0,  # its size has no price
        Ended.HELD: held,
    }
    return next((reason for reason, stands in reasons.items() if stands), None)


async def follow(
    server: MeteredServer, *, at: datetime, now: datetime, failed: bool = False, held: bool = False
) -> bool:
    """Let the usage of a server be what the server is, from `at` on; return whether anything changed.

    Belongs inside the transaction of the change. `failed`: its deployment did. `held`: a hold that stops the hours
    stands. An instant in the future counts as now; one before the present interval or before what is invoiced
    counts from there, so spans never overlap and the past of an invoice stands.
    """
    against = stands_against(server, failed=failed, held=held)
    before = await _present(server.id)
    if _is_right(server, before, against):
        return False
    await _take_turns({server.account_id, before.account_id if before else server.account_id})
    present = await _present(server.id)
    since = min(at, now)
    if present is not None:
        moved = present.account_id != server.account_id
        await _close(present, against or (Ended.TRANSFERRED if moved else Ended.RESIZED), since)
    if against is None:
        await _open(server, since)
    return True


def _is_right(server: MeteredServer, present: UsageInterval | None, against: Ended | None) -> bool:
    if present is None or against is not None:
        return present is None and against is not None
    return (present.account_id, present.sku, present.rate) == (server.account_id, server.sku, server.rate)


async def _present(server_id: int) -> UsageInterval | None:
    return await UsageInterval.get_or_none(server_id=server_id, ended_at=None)


async def _take_turns(account_ids: set[int]) -> None:
    """Write the accounts' rows first, in one order: usage and its invoicing wait for each other there."""
    for account_id in sorted(account_ids):
        await Account.filter(id=account_id).update(facts_version=F("facts_version"))


async def _close(present: UsageInterval, because: Ended, since: datetime) -> None:
    invoiced_until = (await MeteredAccount.get(account_id=present.account_id)).invoiced_until
    end = max(since, present.started_at, invoiced_until)
    await UsageInterval.filter(id=present.id, ended_at=None).update(ended_at=end, ended_because=because)


async def _open(server: MeteredServer, since: datetime) -> None:
    account = await Account.get(id=server.account_id)
    metered = await _metered(account, since)
    last = await UsageInterval.filter(server_id=server.id).order_by("-ended_at").first()
    ends = [last.ended_at] if last and last.ended_at else []
    await UsageInterval.create(
        account_id=account.id,
        server_id=server.id,
        server_name=server.name,
        sku=server.sku,
        currency=account.currency,
        rate=server.rate,
        started_at=max(since, metered.invoiced_until, *ends),
    )


async def _metered(account: Account, since: datetime) -> MeteredAccount:
    """Return how far the account is invoiced; the first interval of an account begins its row."""
    there = await MeteredAccount.get_or_none(account_id=account.id)
    if there is not None:
        return there
    month = month_of(since, account.time_zone)
    return await MeteredAccount.create(
        account_id=account.id,
        month=month,
        invoiced_until=start_of(month, account.time_zone),
        due_at=end_of(month, account.time_zone),
    )
