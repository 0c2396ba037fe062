"""Which servers the stop of an account passes over: those that are free or exempt, where it is stopped or would be.

Reads only, in a fixed number of statements. That billing leaves them alone is `reconciler.billing_holds`' doing.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from tortoise.queryset import QuerySet

from billing.models import Override
from billing.rules.policy import Policy
from billing.rules.terms import Effect, OverrideKind, Stage
from reconciler import reach, subjects
from reconciler.billing_holds import ended_at, is_active
from reconciler.chunks import chunks
from reconciler.models import Server
from reconciler.rules.world import PassedOver
from reconciler.subjects import Subject

_COLUMNS = ("id", "account_id", "site", "site_node", "free")
_OWN = "account__episodes__"
_ENDLESS = datetime.max.replace(tzinfo=UTC)


async def load(
    climbing: Iterable[Subject], *, policies: Mapping[str, Policy], now: datetime
) -> tuple[PassedOver, ...]:
    """Return them in the order of their ids, each with the stage that stops its account."""
    stages = {
        one.account.id: one.eligibility.stage
        for one in climbing
        if one.server is None and Effect.STOP_SERVERS in one.policy.effects_at(one.eligibility.stage)
    }
    rows: list[tuple[Any, Stage]] = []
    for ids in chunks(stages):
        spared = await _spared(now).filter(account_id__in=ids).values_list(*_COLUMNS)
        rows += [(row, stages[row[1]]) for row in spared]
    rows += await _of_the_stopped(policies, now)
    ends = await _exempt_until([row[0] for row, _ in rows if not row[-1]], now)
    found = {
        key: PassedOver(
            server_id=key,
            account_id=account_id,
            site=site,
            node=node,
            stage=stage,
            free=free,
            until=ends.get(key),
        )
        for (key, account_id, site, node, free), stage in rows
    }
    return tuple(found[key] for key in sorted(found))


def _spared(now: datetime) -> QuerySet[Server]:
    return reach.present().filter(reach.spared(now))


async def _of_the_stopped(policies: Mapping[str, Policy], now: datetime) -> list[tuple[Any, Stage]]:
    stopping = [
        stage
        for stage in Stage
        if any(Effect.STOP_SERVERS in policy.effects_at(stage) for policy in policies.values())
    ]
    of_stopped = _spared(now).filter(
        **{f"{_OWN}ended_at": None, f"{_OWN}server_id": None, f"{_OWN}admitted__in": stopping}
    )
    columns = ("account__policy", f"{_OWN}admitted", f"{_OWN}granted")
    found = []
    for *row, name, stage, granted in await of_stopped.values_list(*_COLUMNS, *columns):
        effects = policies.get(name, policies["standard"]).effects_at(stage)
        may = subjects.granted_in(granted)
        if Effect.STOP_SERVERS in (effects if may is None else effects & may):
            found.append((tuple(row), stage))
    return found


async def _exempt_until(server_ids: Iterable[int], now: datetime) -> Mapping[int, datetime]:
    """Return when the exemptions of these servers end; one without end is left out."""
    ends: dict[int, datetime] = {}
    for ids in chunks(server_ids):
        for row in await Override.filter(kind=OverrideKind.EXEMPT, server_id__in=ids):
            if is_active(row, now):
                key = row.server_id or 0
                ends[key] = max(ended_at(row), ends.get(key, now))
    return {key: at for key, at in ends.items() if at < _ENDLESS}
